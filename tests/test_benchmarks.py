"""The pure parts of benchmarks/: rows, the table, the unit of time. Nothing here measures."""

import json
import os
import random
import subprocess
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import calibrate, report, timing
from benchmarks.report import Row
from benchmarks.secagg import flower_process, parties, run
from benchmarks.secagg.assembly import Assembly
from benchmarks.secagg.contributions import Narrow, Wide
from benchmarks.secagg.fuzz_site import Recorder
from benchmarks.secagg.meddler import Meddler
from secagg import masks
from secagg.messages import Step


@pytest.mark.parametrize(
    ("value", "bar", "better", "passed"),
    [
        (1.2, 1.2, "higher", True),
        (1.1999, 1.2, "higher", False),
        (50.0, 50.0, "lower", True),
        (50.001, 50.0, "lower", False),
        (0.0, None, "higher", None),
    ],
)
def test_a_bar_is_reached_on_its_own_side(value: float, bar: float | None, better: Any, passed: bool | None) -> None:
    assert Row("3.1", "x", value, "times", bar, better).passed is passed


def test_a_missed_bar_stays_in_the_table_and_is_named_again() -> None:
    rows = [Row("3.1", "masks", 1.1999, "times", 1.2, aim=1.4), Row("3.6", "trips", 1, "trips", 1, "lower")]
    text = report.table("secagg", rows)

    assert report.missed(rows) == rows[:1]
    assert "1 of 2 bars reached" in text
    assert "MISSED 3.1 masks: 1.2 times, bar ≥ 1.2" not in text  # it must not look as if it had been reached
    assert "MISSED 3.1 masks: 1.1999 times, bar ≥ 1.2" in text
    assert text.count("3.6") == 1


def test_a_results_file_has_rows_machine_and_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    path = report.write("secagg", [Row("3.5", "b = 16", 2.01, "B/parameter", 2.01, "lower")], {"seeds": [1]})
    record = json.loads(path.read_text())

    assert path == tmp_path / "results" / "secagg.json"
    assert record["rows"] == [
        {
            "figure": "3.5",
            "name": "b = 16",
            "value": 2.01,
            "unit": "B/parameter",
            "bar": 2.01,
            "better": "lower",
            "aim": None,
            "passed": True,
        }
    ]
    assert record["seeds"] == [1]
    assert {"date", "versions", "cores", "cpu", "cpu_flags"} <= record.keys()
    assert {"python", "numpy", "cryptography", "openssl"} <= record["versions"].keys()


def test_the_unit_of_time_is_the_same_work_everywhere() -> None:
    known = "e52a80ac8e12a53d0fca125451b562eac85b5baa8e2ceb2b87e09db7261bccd0"
    assert calibrate.work(1).hex() == known
    assert calibrate.work(2) != calibrate.work(1)


def test_drift_is_the_change_from_before_to_after() -> None:
    taken = calibrate.Calibration(1.0, 1.1)
    assert taken.unit == pytest.approx(1.05)
    assert taken.drift == pytest.approx(0.1)


def test_candidates_take_turns() -> None:
    order: list[str] = []
    taken = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)

    assert order == ["a", "b"] * 3  # the first turn is not timed
    assert {name: len(values) for name, values in taken.items()} == {"a": 2, "b": 2}


@pytest.fixture(autouse=True)
def _core() -> Iterator[None]:
    """Whatever a test pins, the next one has all cores again."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


def test_pinning_leaves_one_core() -> None:
    core = timing.own_core()
    assert os.sched_getaffinity(0) == {core}


def test_times_become_units_and_nothing_else_does() -> None:
    rows = [Row("3.3", "client", 0.5, "CPU s"), Row("3.1", "masks", 0.5, "times", 0.4)]
    converted = run._in_units(rows, calibrate.Calibration(0.5, 1.5))

    assert converted == [Row("3.3", "client", 0.5, "s-eq"), rows[1]]
    assert run._in_units(rows, calibrate.Calibration(0.25, 0.25))[0].value == 2.0


def used(recorder: Recorder, member: int, key: bytes, vector: list[int]) -> None:
    recorder.begin(member)
    masks.expand(key, 3)  # not under our eyes
    masks.pad(3, add=(key,), subtract=(), backend=recorder.backend(member))
    assert recorder.bind(member, np.array(vector)) == 1


@pytest.mark.parametrize(("contribution", "bits"), [(Wide, 64), (Narrow, 16)])
def test_an_assembly_compares_every_sum_with_plain_integers(contribution: Any, bits: int) -> None:
    assembly = Assembly(parties.manifest(4, bits=bits), contribution(50, masks.CTR), masks.CTR)
    assembly.set_up()
    turns = assembly.turns()
    for _ in range(9):  # two rounds of four uploads, and the first of a third
        next(turns)
    assert (len(assembly.sums), len(assembly.costs.accept)) == (2, 8)

    upload = assembly._upload

    def told_another(member: int, step: Step) -> Any:
        sent, coordinates = upload(member, step)
        return sent, coordinates + (member == 4)

    assembly._upload = told_another  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="plain integers"):
        deque(islice(turns, 4), maxlen=0)


def test_the_recorder_sees_a_key_that_serves_twice() -> None:
    recorder, key = Recorder(), bytes(32)
    used(recorder, 1, key, [1, 2])
    used(recorder, 1, key, [1, 2])  # the same vector again shows nobody anything
    used(recorder, 2, key, [3, 4])  # the other end of the pair
    assert (recorder.keys, recorder.reused) == (2, 0)

    used(recorder, 1, key, [1, 3])
    assert recorder.reused == 1


def test_the_recorder_leaves_out_what_masks_nothing() -> None:
    recorder = Recorder()
    recorder.backend(1).start(bytes(32), 0)
    recorder.begin(1)
    assert recorder.bind(1, np.zeros(1)) == 0


def test_the_man_in_the_middle_invents_nothing() -> None:
    meddler, held = Meddler(random.Random(1), rate=0.5), deque[int]()
    sent = list(range(500))
    came = [each for message in sent for each in meddler.meddle("up", message, held)]

    assert set(came) <= set(sent)
    assert came != sorted(came)  # reordered, delayed or replayed
    assert len(came) != len(set(came))  # duplicated or replayed
    assert set(sent) - set(came)  # dropped
    assert all(meddler.tricks[trick] > 20 for trick in ("duplicate", "delay", "reorder", "replay", "drop"))


def test_a_man_in_the_middle_who_waits_changes_nothing() -> None:
    meddler, held = Meddler(random.Random(1)), deque[int]()
    assert [each for message in range(50) for each in meddler.meddle("down", message, held)] == list(range(50))


def test_a_peer_that_cannot_be_installed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: list[Any], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, int("pip" in command), "", "looking\nERROR: no such host")

    monkeypatch.setattr(flower_process, "_ROOT", tmp_path)
    monkeypatch.setattr(flower_process.subprocess, "run", fails)
    with pytest.raises(flower_process.NotInstallable, match=r"PyPI.*no such host.*every other row"):
        flower_process.interpreter()
