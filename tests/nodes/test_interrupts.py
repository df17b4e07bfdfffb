"""A wish to stop that some library's callback swallowed is heard where somebody waits."""

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from nodes import interrupts
from nodes.errors import Interrupted


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interrupts._asked.clear()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_interrupt_is_raised_where_a_daemon_waits(number: signal.Signals) -> None:
    interrupts.hold()
    interrupts.from_terminal_and_supervisor()
    interrupts.sleep(0)
    with contextlib.suppress(Exception):
        os.kill(os.getpid(), number)
    with pytest.raises(Interrupted):
        interrupts.sleep(0)


def test_while_libraries_load_nothing_is_raised_and_nothing_forgotten() -> None:
    interrupts.hold()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted):
        interrupts.from_terminal_and_supervisor()
