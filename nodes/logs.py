"""Structured logs that cannot carry a patient: an allow-list of field names, everything else is dropped.

A log leaves the machine sooner than anyone thinks (a support ticket, a collector), so that it is held to the
same rule as the wire: names, counters and our own sentences. Four things enforce it:

* a field whose name is not in `FIELDS`, or whose value is not a plain short one, is dropped and counted
  (``dropped`` in the line, `dropped` in the process);
* an event is a few lower-case words written in the source, never a formatted string;
* an exception leaves its class and the places in the source, never its text: parsers quote records;
* other libraries' log lines and Python warnings keep their logger's name and level, never their text.
"""

import logging
import math
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO

import structlog

from nodes.config import LogFormat, LogLevel
from nodes.errors import NodeError

__all__ = ["FIELDS", "configure", "dropped", "get", "log_fault", "notice"]

FIELDS: Final[Mapping[str, str]] = {
    "account": "training or holdout",
    "address": "host:port of this program or the coordinator",
    "bytes": "size of a message",
    "code": "stable word for a refusal",
    "component": "part of haemfed that speaks",
    "deadline": "seconds",
    "epsilon": "ε that was spent or reserved",
    "error": "class of an exception",
    "exit_code": "see exit-codes.md",
    "fingerprint": "of a public key",
    "frames": "places in the source, innermost last",
    "kind": "kind of query or message",
    "logger": "name of a library's logger",
    "member": "index of a site in the study",
    "newcomers": "sites that join in a wave of set-up: their number",
    "ok": "whether a run completed",
    "patience": "seconds",
    "peer": "name of another site",
    "port": "TCP port",
    "process": "its number in the operating system",
    "profile": "name of a data profile",
    "reason": "our own sentence",
    "roster": "sites in a round: their number or their names",
    "round": "round number",
    "run": "run id, hex",
    "seconds": "duration",
    "site": "name of a site",
    "step": "completed sums of a stage",
    "steps": "wanted sums of a stage",
    "study": "name of a study",
    "sums": "completed sums of a run",
    "survivors": "sites whose uploads are in a sum: their number",
    "uploads": "uploads of a run",
    "version": "of haemfed",
    "wave": "number of a wave of set-up",
    "words": "length of a vector in 64-bit words",
}
"""Every field a log line may have besides ``event``, ``level``, ``timestamp`` and ``dropped``."""

_EVENT: Final = re.compile(r"[a-z]+(?:[ _.-][a-z]+){0,7}")
_LONGEST: Final = 300
_MOST: Final = 64
_Fields = MutableMapping[str, Any]

_dropped: Counter[str] = Counter()


def configure(level: LogLevel, style: LogFormat, stream: TextIO | None = None) -> None:
    """Set the process's logs up; call it once, before anything speaks.

    Args:
        level: The least important level that is written.
        style: JSON lines, or aligned text for a terminal.
        stream: Where to; standard error by default, so that standard output stays the command's answer.
    """
    target = _Quiet(sys.stderr if stream is None else stream)
    number = logging.getLevelNamesMapping()[level.upper()]
    last: Any = structlog.processors.JSONRenderer(sort_keys=True)
    if style is LogFormat.CONSOLE:
        last = structlog.dev.ConsoleRenderer(colors=target.terminal, exception_formatter=_no_exception)
    structlog.configure(
        processors=[
            _allow,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: target,
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(capture=True)
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)


def get(component: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger: ``get("site").info("connected", round=3)``."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(component=component)
    return logger


def notice(component: str) -> Callable[[str, Mapping[str, Any]], None]:
    """Return a plain function for code that takes one: event, then fields."""
    logger = get(component)

    def tell(event: str, fields: Mapping[str, Any]) -> None:
        # Named arguments are for structlog itself; a field called "event" must not collide with the event.
        logger.info(event, **{name: value for name, value in fields.items() if name != "event"})

    return tell


def log_fault(error: BaseException) -> None:
    """Record an unexpected exception: its class and where it happened, not what it said.

    The sentence of a `NodeError` is ours and is kept.
    """
    fields: dict[str, Any] = {"error": f"{type(error).__module__}.{type(error).__qualname__}"}
    if isinstance(error, NodeError):
        fields |= {"reason": str(error), "exit_code": error.exit_code}
    frames = traceback.extract_tb(error.__traceback__)[-_MOST:]
    fields["frames"] = [f"{_module(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
    get("fault").error("unexpected error", **fields)


def dropped() -> Mapping[str, int]:
    """Return how often a value was dropped, by field name if that is a plain one."""
    return dict(_dropped)


def _allow(_logger: Any, _method: str, fields: _Fields) -> _Fields:
    kept: dict[str, Any] = {}
    lost = 0
    event = fields.pop("event", None)
    if isinstance(event, str) and _EVENT.fullmatch(event):
        kept["event"] = event
    else:
        kept["event"] = "unnamed"
        _dropped["event"] += 1
        lost += 1
    for name, value in fields.items():
        if name in FIELDS and (plain := _plain(value)) is not None:
            kept[name] = plain
        else:
            # A name could be data, too: one that is no word of the source is counted as such, not kept.
            _dropped[name if name in FIELDS or re.fullmatch(r"[a-z_]{1,30}", name) else "?"] += 1
            lost += 1
    if lost:
        kept["dropped"] = lost
    return kept


def _plain(value: object) -> str | float | list[Any] | None:
    match value:
        case bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            text = "".join(letter if letter.isprintable() else " " for letter in value)
            return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
        case list() | tuple() if len(value) <= _MOST:
            items = [_plain(item) for item in value if isinstance(item, str | int | float)]
            return items if len(items) == len(value) else None
    return None


def _module(filename: str) -> str:
    """Shorten a path to what is below the interpreter's or the project's folders."""
    return "/".join(filename.replace("\\", "/").split("/")[-2:])


def _no_exception(*_: object) -> None:
    """Print nothing: `_allow` has dropped the exception already."""


class _Libraries(logging.Handler):
    """Says that a library had something to say, and not what."""

    def emit(self, record: logging.LogRecord) -> None:
        name = record.name if re.fullmatch(r"[A-Za-z0-9_.]{1,80}", record.name) else "?"
        get("library").log(record.levelno, "library message", logger=name)


class _Quiet:
    """A stream whose failure (full disk, closed pipe) stops no study; the lines lost are lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.terminal = stream.isatty()

    def msg(self, line: str) -> None:
        """Write one line."""
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = warn = error = critical = fatal = exception = log = msg
