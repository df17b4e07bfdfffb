"""No line carries what is not on the list."""

import errno
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from nodes import logs
from nodes.config import LogFormat, LogLevel
from nodes.errors import StorageProblem

SECRET = "Mrs Smith, born 1950-02-03, WBC 112"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = logging.getLogger().handlers[:]
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    logging.basicConfig(handlers=before, force=True)


def speak(style: LogFormat = LogFormat.JSON, level: LogLevel = LogLevel.INFO) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, style, stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line() -> None:
    stream = speak()

    logs.get("site").info("round completed", round=7, roster=("alder", "birch"), epsilon=0.25, ok=True)

    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "round completed",
        "component": "site",
        "level": "info",
        "round": 7,
        "roster": ["alder", "birch"],
        "epsilon": 0.25,
        "ok": True,
    }


@pytest.mark.parametrize("style", list(LogFormat))
@pytest.mark.parametrize(
    "fields",
    [
        {"patient": SECRET},
        {"round": {"pid": SECRET}},
        {"roster": [{"pid": SECRET}]},
        {"reason": ValueError(SECRET)},
        {"error": io.StringIO(SECRET)},
        {"exception": SECRET},
        {"stack": SECRET},
        {SECRET: 1},
    ],
)
def test_what_is_not_listed_is_dropped_and_counted(style: LogFormat, fields: dict[str, Any]) -> None:
    stream = speak(style)
    before = sum(logs.dropped().values())

    logs.get("site").info("sum", **fields)

    assert "Smith" not in stream.getvalue()
    assert "dropped" in stream.getvalue()
    assert sum(logs.dropped().values()) == before + 1
    assert not any("Smith" in name for name in logs.dropped())


@pytest.mark.parametrize("event", [SECRET, "patient 4711", "Sum", "", "x" * 5 + " y" * 9, 7])
def test_an_event_is_words_of_the_source(event: Any) -> None:
    stream = speak()

    logs.get("site").info(event)

    assert lines(stream)[0]["event"] == "unnamed"
    assert "Smith" not in stream.getvalue()


@pytest.mark.parametrize("style", list(LogFormat))
def test_an_exception_leaves_its_class_and_place_only(style: LogFormat) -> None:
    stream = speak(style)

    try:
        float(SECRET)
    except ValueError as error:
        logs.log_fault(error)
        logs.get("site").exception("conversion failed")
        logs.get("site").error("conversion failed", exc_info=True)

    text = stream.getvalue()
    assert "Smith" not in text
    assert "builtins.ValueError" in text
    assert "nodes/test_logs.py" in text


def test_our_own_sentence_is_kept() -> None:
    stream = speak()

    logs.log_fault(StorageProblem("disk: no space left"))

    assert lines(stream)[0]["reason"] == "disk: no space left"
    assert lines(stream)[0]["exit_code"] == 19


def test_libraries_and_warnings_lose_their_text() -> None:
    stream = speak()

    logging.getLogger("pandas.core").warning("bad value %s", SECRET)
    logging.getLogger("alembic").info("chatter")
    warnings.warn(SECRET, RuntimeWarning, stacklevel=1)

    assert [(line["event"], line["logger"]) for line in lines(stream)] == [
        ("library message", "pandas.core"),
        ("library message", "py.warnings"),
    ]
    assert "Smith" not in stream.getvalue()


def test_levels() -> None:
    stream = speak(level=LogLevel.ERROR)

    logs.get("site").info("sum")
    logs.get("site").warning("sum")
    logs.get("site").error("stopped")

    assert [line["level"] for line in lines(stream)] == ["error"]


def test_notice_takes_a_mapping() -> None:
    stream = speak()

    logs.notice("coordinator")("connected", {"member": 3, "event": "x", "hospital_size": 41})

    (line,) = lines(stream)
    assert (line["event"], line["member"], line["component"], line["dropped"]) == (
        "connected",
        3,
        "coordinator",
        1,
    )


def test_a_full_disk_stops_no_study() -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    logs.configure(LogLevel.INFO, LogFormat.JSON, Full())
    logs.get("site").info("sum")


@given(text=st.text(max_size=2000))
def test_every_line_is_one_short_line(text: str) -> None:
    stream = speak()

    logs.get("site").info("stopped", reason=text, epsilon=math.nan)

    assert len(stream.getvalue().splitlines()) == 1
    assert len(lines(stream)[0]["reason"]) <= 300


def test_no_field_invites_a_patient() -> None:
    forbidden = {"pid", "patient", "value", "record", "row", "name", "message", "data", "exc_info", "path"}

    assert not forbidden & set(logs.FIELDS)
