"""Ctrl-C and SIGTERM that are not lost.

A handler's exception arises wherever Python happens to be: inside an import or a callback of some library that catches
everything it vanishes, and a daemon would wait on for minutes. So the wish is kept as well, and whoever waits looks.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from nodes.errors import Interrupted

__all__ = ["from_terminal", "from_terminal_and_supervisor", "require_none", "sleep"]

_SAID = "interrupted; nothing is lost: start the same command again to go on"
_asked = threading.Event()


def from_terminal() -> None:
    """Keep Ctrl-C from here on; `KeyboardInterrupt` is raised as ever. Without effect outside the main thread."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        _asked.set()
        signal.default_int_handler(number, frame)

    _asked.clear()
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as for a shell's background job: it stays so
    if not ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)


def from_terminal_and_supervisor() -> None:
    """From here on Ctrl-C and SIGTERM raise `Interrupted`, at once or where somebody waits. In the main thread alone.

    Raises:
        Interrupted: it was asked for before.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
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


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    _asked.set()
    raise Interrupted(_SAID)
