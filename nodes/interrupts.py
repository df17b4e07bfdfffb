"""Ctrl-C and SIGTERM that are not lost.

A handler's exception arises wherever Python happens to be: inside an import or a callback of some library that catches
everything it vanishes, and a daemon would wait on for minutes. So the wish is kept as well, and whoever waits looks.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from nodes.errors import Interrupted

__all__ = ["from_terminal_and_supervisor", "hold", "require_none", "sleep"]

_SAID = "interrupted; nothing is lost: start the same command again to go on"
_asked = threading.Event()


def hold() -> None:
    """From here on Ctrl-C and SIGTERM are kept and raise nothing, until `from_terminal_and_supervisor`.

    For the seconds in which compiled libraries are imported: some end the process if a handler raises inside them.
    """
    _asked.clear()
    _install(lambda *_: _asked.set())


def from_terminal_and_supervisor() -> None:
    """From here on Ctrl-C and SIGTERM raise `Interrupted`, at once or where somebody waits.

    Raises:
        Interrupted: it was asked for before.
    """
    _install(_interrupt)
    require_none()


def require_none() -> None:
    """Raise `Interrupted` if that was asked for."""
    if _asked.is_set():
        raise Interrupted(_SAID)


def sleep(seconds: float) -> None:
    """As `time.sleep`, for those who wait in a loop.

    Raises:
        Interrupted: it was asked for, perhaps while nobody heard it.
    """
    require_none()
    time.sleep(seconds)


def _install(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    _asked.set()
    raise Interrupted(_SAID)
