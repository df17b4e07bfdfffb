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
    interrupts.from_terminal()
    interrupts.from_terminal_and_supervisor()
    interrupts.sleep(0)
    with contextlib.suppress(Exception):
        os.kill(os.getpid(), number)
    with pytest.raises(Interrupted):
        interrupts.sleep(0)


def test_what_was_asked_for_before_the_daemon_began_counts() -> None:
    interrupts.from_terminal()
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted):
        interrupts.from_terminal_and_supervisor()


def test_a_job_in_the_background_goes_on_ignoring_the_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.from_terminal()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
