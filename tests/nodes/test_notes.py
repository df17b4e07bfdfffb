"""Notes are passed on unread, in order, and nobody's notes take the place of another's."""

from __future__ import annotations

from collections import Counter, defaultdict, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.notes import NOTE, Mailbox, Note
from secagg.errors import MalformedMessage


@pytest.mark.parametrize(("member", "octets"), [(0, b"x"), (256, b"x"), (1, b""), (1, bytes(NOTE + 1)), (1, "x")])
def test_a_note_has_an_addressee_and_a_length(member: int, octets: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Note(member, octets)


def test_a_flood_takes_no_place_from_others() -> None:
    mailbox = Mailbox()
    while mailbox.put(1, bytes(NOTE // 4)):
        pass

    assert mailbox.put(2, bytes(NOTE))
    assert not mailbox.put(2, b"x")
    mailbox.take(1)
    assert mailbox.put(1, b"x")


@given(st.lists(st.one_of(st.tuples(st.integers(1, 3), st.integers(1, NOTE)), st.integers(1, 3)), max_size=40))
def test_what_waits_is_bounded_for_each_sender_and_comes_in_order(script: list[tuple[int, int] | int]) -> None:
    mailbox, model = Mailbox(), defaultdict[int, deque[int]](deque)
    numbers: Counter[int] = Counter()
    for step in script:
        match step:
            case (sender, size):
                fits = len(model[sender]) < 4 and sum(model[sender]) + size <= NOTE
                numbers[sender] += 1
                assert mailbox.put(sender, bytes([numbers[sender]]) + bytes(size - 1)) == fits
                model[sender] += [size] if fits else []
            case int(sender) if model[sender]:
                taken = mailbox.take(sender)
                assert (taken.member, len(taken.octets)) == (sender, model[sender].popleft())
