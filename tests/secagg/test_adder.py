"""The adder of a round: uploads in parts, and the memory they take."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Mode
from secagg.adder import Uploading
from secagg.errors import MalformedMessage
from secagg.messages import Part, Step, Upload, parts
from tests.federation import Federation, Study, complete, held, manifest

NONCES = tuple((member, bytes([member]) * 32) for member in (1, 2, 3, 4))


def uploading(mode: Mode = Mode.A, *, number: int = 1) -> Uploading:
    return Uploading(number, 0, NONCES, manifest(4, mode=mode))


def upload(member: int, length: int, mode: Mode = Mode.A, *, canary: int = 1) -> Upload:
    words = np.random.default_rng([member, length]).integers(0, 1 << 64, length, dtype=np.uint64)
    words[-1] = canary
    peers = [peer for peer, _ in NONCES if peer != member]
    boxes = tuple((peer, bytes([member, peer]) * 24) for peer in peers) if mode is Mode.B else ()
    return Upload(member, 1, words.astype("<u8").tobytes(), boxes)


def words_of(each: Upload) -> Any:
    return np.frombuffer(each.words, dtype="<u8")


@given(mode=st.sampled_from(Mode), length=st.integers(3, 40), sizes=st.lists(st.integers(1, 9), min_size=4, max_size=4),
       order=st.randoms(use_true_random=False))  # fmt: skip
def test_parts_of_any_size_in_any_order_of_members_add_up(mode: Mode, length: int, sizes: Any, order: Any) -> None:
    adder = uploading(mode)
    uploads = [upload(member, length, mode) for member in (1, 2, 3, 4)]
    wires = [list(parts(each, 8 * size)) for each, size in zip(uploads, sizes, strict=True)]
    while any(wires):
        adder.take(order.choice([wire for wire in wires if wire]).pop(0))
    assert adder.whole == (1, 2, 3, 4)
    assert not adder.silent
    assert adder.fits
    assert adder.canaries == {1: 1, 2: 1, 3: 1, 4: 1}
    assert adder.boxes == {each.member: dict(each.boxes) for each in uploads}
    expected = sum(map(words_of, uploads), np.zeros(length, dtype=np.uint64))
    assert np.array_equal(adder.surrender(), expected)


def test_the_sum_of_a_whole_roster() -> None:
    adder = uploading()
    uploads = [upload(member, 7) for member in (1, 2, 3, 4)]
    for each in uploads:
        adder.take(next(parts(each, 1 << 20)))
    total = adder.sum()
    assert (total.round, total.roster, total.survivors) == (1, NONCES, (1, 2, 3, 4))
    assert total.words == sum(map(words_of, uploads), np.zeros(7, dtype=np.uint64)).tobytes()
    assert adder.question(1) == Step(1, 0, NONCES)


def test_only_the_canaries_of_all_fit() -> None:
    adder = uploading()
    for member, canary in ((1, 3), (2, (1 << 64) - 2), (3, 2), (4, 0)):
        adder.take(next(parts(upload(member, 7, canary=canary), 1 << 20)))
    assert not adder.fits


def test_an_upload_is_not_there_before_its_last_part() -> None:
    for mode in Mode:
        adder = uploading(mode)
        *some, last = parts(upload(2, 9, mode), 16)
        for part in some:
            adder.take(part)
            assert adder.silent == {1, 2, 3, 4}
        adder.take(last)
        assert adder.silent == {1, 3, 4}


REFUSED = [
    Part(2, 1, 72, 32, bytes(16)),  # a gap
    Part(2, 1, 72, 8, bytes(16)),  # an overlap
    Part(2, 1, 72, 0, bytes(16)),  # from the beginning
    Part(2, 1, 80, 16, bytes(16)),  # another size than announced
    Part(3, 1, 72, 16, bytes(16)),  # does not begin at the beginning
]


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("part", REFUSED)
def test_a_part_that_does_not_come_next_changes_nothing(mode: Mode, part: Part) -> None:
    adder = uploading(mode)
    first, *rest = parts(upload(2, 9, mode), 16)
    adder.take(first)
    with pytest.raises(MalformedMessage, match=f"member {part.member}, round 1"):
        adder.take(part)
    for each in rest:
        adder.take(each)
    assert adder.whole == (2,)
    assert np.array_equal(adder.surrender(), words_of(upload(2, 9)))


@pytest.mark.parametrize(
    ("mode", "peers"),
    [(Mode.A, (1,)), (Mode.B, ()), (Mode.B, (1, 3)), (Mode.B, (1, 3, 4, 5)), (Mode.B, (1, 2, 4)), (Mode.B, (1, 4, 5))],
)
def test_boxes_are_for_exactly_the_other_members(mode: Mode, peers: tuple[int, ...]) -> None:
    adder = uploading(mode)
    with pytest.raises(MalformedMessage, match="share boxes"):
        adder.take(Part(2, 1, 24, 0, bytes(24), tuple((peer, bytes(48)) for peer in peers)))
    assert adder.silent == {1, 2, 3, 4}


def test_a_size_that_is_not_the_firsts_is_never_added() -> None:
    for order in ((1, 2, 3, 4), (3, 1, 2, 4)):
        adder = uploading()
        for member in order:
            for part in parts(upload(member, 9 if member == 3 else 7), 16):
                adder.take(part)
        assert adder.odd() == (3,)
        first = order[0]
        expected = [upload(m, 9 if m == 3 else 7) for m in order if (m == 3) == (first == 3)]
        assert np.array_equal(adder.surrender(), sum(map(words_of, expected[1:]), words_of(expected[0])))


def test_without_a_majority_all_are_odd() -> None:
    adder = uploading()
    for member in (1, 2, 3, 4):
        adder.take(next(parts(upload(member, 7 + member // 3), 1 << 20)))
    assert adder.odd() == (1, 2, 3, 4)


def test_a_broken_stream_makes_the_round_impossible_in_mode_a() -> None:
    adder = uploading()
    adder.take(next(parts(upload(2, 9), 16)))
    adder.disconnect(2)
    assert adder.hopeless
    assert adder.silent == {1, 3, 4}


def test_a_broken_stream_after_the_upload_does_no_harm() -> None:
    for mode in Mode:
        adder = uploading(mode)
        adder.take(next(parts(upload(2, 9, mode), 1 << 20)))
        adder.disconnect(2)
        adder.disconnect(9)
        assert not adder.hopeless
        assert not adder.lost


def test_in_mode_b_an_upload_may_come_again_from_its_beginning() -> None:
    adder = uploading(Mode.B)
    for part in list(parts(upload(2, 9, Mode.B), 16))[:3]:
        adder.take(part)
    adder.disconnect(2)
    assert adder.silent == {1, 2, 3, 4}
    for part in parts(upload(2, 11, Mode.B), 32):
        adder.take(part)
    assert np.array_equal(adder.surrender(), words_of(upload(2, 11)))


def test_in_mode_b_a_round_is_hopeless_below_the_threshold() -> None:
    adder = uploading(Mode.B)  # t = 3 of 4
    adder.take(next(parts(upload(2, 100_000, Mode.B), 1 << 19)))
    assert held(adder) > 1 << 19
    adder.lose(2)
    assert not adder.hopeless
    assert held(adder) < 20_000
    adder.lose(3)
    assert adder.hopeless
    adder.lose(9)  # was not asked
    assert adder.lost == {2, 3}


def test_who_has_answered_before_it_was_lost_counts() -> None:
    adder = uploading(Mode.B)
    for member in (1, 2):
        adder.take(next(parts(upload(member, 9, Mode.B), 1 << 20)))
    adder.complete[3] = bytes(32)
    for member in (1, 2, 3):
        adder.lose(member)
    assert not adder.hopeless
    assert adder.silent == {4}


# ---- memory
# -------------------------------------------------------------------------------------------------------


def test_what_held_counts() -> None:
    assert held([np.zeros(1000, dtype=np.uint64)]) > 8000
    assert held({"a": (bytearray(5000), b"x" * 7000)}) > 12_000
    assert held(Federation(manifest(4)).server) < 100_000


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "vectors"), [(Mode.A, 1), (Mode.B, 6)])
def test_the_memory_of_the_server(mode: Mode, vectors: int) -> None:
    """Mode A: one vector whatever the number of sites and sums. Mode B: uploads that are not whole besides."""
    size = 40_000 * 8
    made = Federation(manifest(6, mode=mode), Study(steps=4, length=40_000), chunk=1 << 15)
    made.start()
    most = idle = turns = 0

    def look() -> bool:
        nonlocal most, idle, turns
        turns += 1
        if turns % 20 == 0:
            most = max(most, held(made.server))
        if made.rounds and not made.sums and made.uploaded(1) and all(made.uploaded(each) for each in made.sites):
            idle = max(idle, held(made.server))
        return False

    made.run(look)
    complete(made)
    small = 100_000  # set-up messages, boxes, records
    assert size < most < vectors * size + small
    assert idle < size + small
    assert held(made.server) < small  # and none of the sums
