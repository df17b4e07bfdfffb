"""`haemfed study plan`: what it asks, what it says, and that it says so again."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp import gdp
from dp.budget import Budget
from dp.queries import Query, SecureSum
from dp.rows import clipped_rows
from models.data import SurvivalData
from models.presets import Preset, preset
from models.training import Trained
from nodes import cli, planning
from nodes.cli import terminal
from nodes.errors import ConfigError, DataProblem, StorageProblem
from nodes.planning import LEFT_OUT, Asked, plan, views
from nodes.planning_source import described, read_table
from secagg.manifest import Mode

SHORT = replace(preset("aml-small"), steps=4, uploads=5, hidden=(2,))
SIZES = (60, 40, 30, 20)


def asked(**changes: Any) -> Asked:
    numbers: dict[str, Any] = {"sizes": SIZES, "epsilons": (1.0, 8.0), "preset": SHORT, "runs": 2} | changes
    return Asked(**numbers)


def invented() -> Any:
    return described("aml_core", 0.7, 1.0, 3.0, 0.1)


def one_step(
    preset_: Preset,
    features: int,
    weights: bytes,
    data: SurvivalData,
    secure_sum: SecureSum,
    query: Callable[[int], Query],
) -> Trained:
    """Training that takes no time: a linear model from one clipped sum, through the same door."""
    first = query(0)

    def contribution() -> np.ndarray:
        rows = np.zeros((len(data), first.length))
        early = data.event - data.event.mean()
        rows[:, preset_.intervals : preset_.intervals + features] = early[:, None] * np.where(
            data.observed, data.x, 0.0
        )
        return clipped_rows(rows, first.sensitivity)

    model = np.frombuffer(weights) + secure_sum(first, contribution) / preset_.normaliser
    return Trained(model.tobytes(), 1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "fit", one_step)
    monkeypatch.setattr(planning, "_TEST", 150)


@pytest.mark.usefixtures("quick")
def test_a_plan_has_every_column_and_ends_where_it_said() -> None:
    steps: list[tuple[int, int]] = []
    found = plan(asked(), invented(), lambda done, of: steps.append((done, of)))
    total = 2 * (2 * 2 + 1 + 4)

    assert [row.epsilon for row in found.rows] == [1.0, 8.0]
    assert [size for size, _ in found.alone] == [60, 40, 30, 20]
    every = [found.pooled, *(r for _, r in found.alone)]
    every += [each for row in found.rows for each in (row.federation, row.site_noise)]
    assert all(0.3 < each.low <= each.mean <= each.high < 0.9 for each in every)
    assert steps == [(done, total) for done in range(1, total + 1)]


@pytest.mark.usefixtures("quick")
def test_the_same_seed_gives_the_same_plan_and_another_one_does_not() -> None:
    found = plan(asked(), invented())

    assert plan(asked(), invented()).to_json() == found.to_json()
    assert plan(asked(seed=1), invented()).pooled != found.pooled


@pytest.mark.usefixtures("quick")
def test_hospitals_of_one_size_are_one_line() -> None:
    assert len(plan(asked(sizes=(40,) * 5), invented()).alone) == 1


@pytest.mark.usefixtures("quick")
def test_the_record_says_that_it_is_a_simulation() -> None:
    record = json.loads(json.dumps(plan(asked(), invented()).to_json()))

    assert record["schema"] == "haemfed/plan/v1"
    assert "no evidence" in record["simulation"]
    assert record["patients"]["patients"] == "invented"
    assert record["left_out"] == list(LEFT_OUT)
    assert record["at_epsilon"][0]["noise_multipliers"].keys() == {"gradient", "breslow", "score-histogram-members"}
    assert record["honest_shares"] == 3


class Listening:
    """A `CentralSum` that remembers how much noise it was made for."""

    made: ClassVar[list[tuple[int, int, int]]] = []

    def __init__(self, entropy: Any, *, roster_size: int, collusion: int, shares: int) -> None:
        del entropy
        self.made.append((roster_size, roster_size - collusion, shares))

    def __call__(self, query: Query, contribution: Callable[[], np.ndarray]) -> np.ndarray:
        del query
        return contribution()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("mode", "honest"), [(Mode.A, 8), (Mode.B, 5)])
def test_sums_carry_the_noise_of_a_study(mode: Mode, honest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CentralSum", Listening)
    Listening.made.clear()
    plan(asked(sizes=(30,) * 10, epsilons=(1.0,), mode=mode), invented())

    # Ten shares of variance 1/h each; and ten sites with two shares of variance 1/2 each.
    assert set(Listening.made) == {(10, honest, 10), (10, 2, 20)}


@pytest.mark.slow
def test_less_noise_learns_more() -> None:
    longer = replace(SHORT, steps=30, uploads=33)
    found = plan(asked(epsilons=(0.05, 50.0), preset=longer, sizes=(120,) * 4, runs=3), invented())

    assert found.rows[1].federation.mean > found.rows[0].federation.mean + 0.03
    assert found.rows[1].federation.mean == pytest.approx(found.pooled.mean, abs=0.05)


@pytest.mark.parametrize(("mode", "honest"), [(Mode.A, 8), (Mode.B, 5)])
def test_shares_that_count_are_those_of_the_protocol(mode: Mode, honest: int) -> None:
    # Mode A: 10 - 2. Mode B: max(2·10 // 3 + 1, (10 + 2) // 2 + 1) - 2.
    assert asked(sizes=(50,) * 10, mode=mode).honest == honest


@given(
    epsilon=st.floats(0.05, 20),
    sites=st.integers(4, 20),
    mode=st.sampled_from([Mode.A, Mode.B]),
)
@settings(max_examples=20, deadline=None)
def test_views_are_those_of_one_guarantee(epsilon: float, sites: int, mode: Mode) -> None:
    question = asked(sizes=(50,) * sites, epsilons=(epsilon,), mode=mode)
    main, outside, everyone, replaced = views(question, epsilon)
    c, h = question.uncounted, question.honest

    assert main.epsilon == pytest.approx(epsilon, rel=1e-6)
    assert main.epsilon <= epsilon
    assert main.mu <= Budget(epsilon, 1e-5).mu_max
    assert outside.mu == pytest.approx(main.mu * math.sqrt(h / (h + c)))
    assert everyone.mu == pytest.approx(main.mu * math.sqrt(h))
    assert replaced.mu == 2 * main.mu
    for view in (main, outside, everyone, replaced):
        assert view.epsilon < view.epsilon_6 or view.epsilon_6 == 0
        assert view.epsilon == pytest.approx(gdp.epsilon(view.mu, 1e-5 * (1 - 2.0**-10)), rel=1e-9)


def test_runs_are_a_function_of_the_question() -> None:
    small, large = asked(runs=None), asked(runs=None, sizes=(4000,) * 16)

    assert small.repetitions == asked(runs=None).repetitions
    assert 3 == large.repetitions < small.repetitions <= 20
    assert asked(runs=7).repetitions == 7


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"sizes": (100, 50, 20)}, "3 hospitals"),
        ({"sizes": (100, 50, 20, 4)}, "hospital of 4 patients"),
        ({"sizes": (100, 50, 20, 5000)}, "patient cap"),
        ({"epsilons": ()}, "epsilon"),
        ({"epsilons": (1.0, 1.0)}, "different"),
        ({"epsilons": (0.0,)}, "0.01"),
        ({"epsilons": (math.nan,)}, "epsilon nan"),
        ({"delta": 0.5}, "delta"),
        ({"collusion": 0}, "collusion must be at least 1"),
        ({"collusion": 3}, "may collude"),
        ({"runs": 1}, "2 to 200"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_planned_is_named(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        asked(**changes)


def table(path: Path, rows: int = 90, **columns: Any) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(50, 10, rows)
    values: dict[str, Any] = {
        "days": np.maximum(rng.exponential(400 * np.exp(-(x - 50) / 10)), 1).round(),
        "event": (rng.random(rows) < 0.7).astype(int),
        "age": x.round(1),
    } | columns
    lines = [",".join(values), *(",".join(map(str, row)) for row in zip(*values.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_public_table_is_resampled_without_its_test_patients(tmp_path: Path) -> None:
    source = read_table(table(tmp_path / "public.csv", age=np.arange(90) / 1.0))
    parts, test = source.draw((30, 20, 20, 10), 1000, np.random.default_rng(3))

    assert source.features == 1
    assert [len(part) for part in parts] == [30, 20, 20, 10]
    assert len(test) == 30
    seen = {value for part in parts for value in part.x[:, 0]}
    assert not seen & set(test.x[:, 0])
    assert np.abs(source.table.x).max() <= 3.0


def test_a_table_is_dealt_without_replacement_where_it_suffices(tmp_path: Path) -> None:
    source = read_table(table(tmp_path / "public.csv", age=np.arange(90) * 1.0))
    parts, _ = source.draw((20, 20, 10, 10), 30, np.random.default_rng(3))

    assert len({value for part in parts for value in part.x[:, 0]}) == 60


def test_missing_values_and_unknown_outcomes(tmp_path: Path) -> None:
    age: list[Any] = ["" if i % 3 == 0 else i for i in range(90)]
    days: list[Any] = [-5 if i == 1 else "" if i == 2 else 100 + i for i in range(90)]
    source = read_table(table(tmp_path / "public.csv", age=age, days=days))

    assert len(source.table) == 88
    assert int((~source.table.observed).sum()) == 30


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"event": [2] * 90}, "0 or 1"),
        ({"age": ["old"] * 90}, "'age' is not numeric"),
        ({"event": [0] * 90}, "10 of whom died"),
        ({"days": [0] * 90}, "60 patients"),
    ],
)
def test_a_table_that_will_not_do_is_named(tmp_path: Path, columns: dict[str, Any], names: str) -> None:
    with pytest.raises(DataProblem, match=names):
        read_table(table(tmp_path / "public.csv", **columns))


def test_a_table_needs_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "public.csv"
    path.write_text("days,age\n1,2\n")
    with pytest.raises(DataProblem, match="no column 'event'"):
        read_table(path)
    path.write_text("days,event\n1,1\n")
    with pytest.raises(DataProblem, match="0 columns beside"):
        read_table(path)
    path.write_bytes(b"")
    with pytest.raises(DataProblem, match="not a CSV"):
        read_table(path)
    with pytest.raises(StorageProblem):
        read_table(tmp_path / "absent.csv")


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(terminal.out, "width", 200)
    monkeypatch.setattr(sys, "argv", ["haemfed", "study", "plan", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    spoken = capsys.readouterr()
    return int(ended.value.code or 0), spoken.out, spoken.err


@pytest.mark.usefixtures("quick")
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("models.presets.PRESETS", {"short": replace(SHORT, name="short")})
    out = tmp_path / "plan.json"
    shape = ("--sizes", "40,30,20,20", "--epsilon", "1,2", "--runs", "2", "--preset", "short", "--out", str(out))
    code, text, _ = run(monkeypatch, capsys, *shape)

    assert code == 0
    assert "A simulation." in text
    assert "invented" in text
    assert "nothing is charged" in text
    for word in (
        "federation",
        "noise of every site",
        "a hospital of 40 alone",
        "anyone outside",
        "replacing a patient",
    ):
        assert word in text
    assert "Left out:" in text
    assert json.loads(out.read_text())["sizes"] == [40, 30, 20, 20]


@pytest.mark.parametrize(
    ("arguments", "code", "names"),
    [
        (("--sizes", "40,30"), 10, "2 hospitals"),
        (("--sizes", "40,30,20,x"), 10, "--sizes '40,30,20,x'"),
        (("--sizes", "40,30,20,20", "--epsilon", "1;2"), 10, "--epsilon '1;2'"),
        (("--sizes", "40,30,20,20", "--preset", "none"), 12, "no preset 'none'"),
        (("--sizes", "40,30,20,20", "--concordance", "0.99"), 12, "C-index of 0.99"),
        (("--sizes", "40,30,20,20", "--profile", "none"), 10, "not found"),
        (("--sizes", "40,30,20,20", "--table", "absent.csv"), 19, "absent.csv"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: tuple[str, ...],
    code: int,
    names: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended, _, errors = run(monkeypatch, capsys, *arguments)

    assert ended == code
    assert names in " ".join(errors.split())


def test_nothing_is_trained_before_the_question_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "fit", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ConfigError):
        asked(sizes=(1, 2, 3, 4))
