"""Two processes of one site, both witnessed: at most one sum of each round number has the site in it.

A copy that was taken after the reservation goes on from where the original began, so both may be ready. What keeps
them apart is whom the others upload with, and which rounds their receipts leave.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.witness import quorum
from nodes.witness_notes import Question, read
from nodes.witnessing import Witnessing
from secagg import Manifest, Mode
from secagg.errors import SecaggError
from secagg.manifest import Noise
from tests.federation import manifest
from tests.nodes.witnesses import Disk, Net, consortium, party, receipt, start

BOTH = pytest.mark.parametrize("mode", list(Mode))


def manifests(most: int) -> list[Manifest]:
    found = []
    for n in range(3, most + 1):
        for c in range(n):
            for smallest in range(2, n + 1):
                for mode in Mode:
                    try:
                        found.append(manifest(n, c, minimum_roster=smallest, mode=mode))
                    except SecaggError:
                        continue
        found.append(manifest(n, 0, minimum_roster=n, noise=Noise.NONE, roster_changes=0))
    return found


def test_after_a_copy_is_ready_too_few_are_left_to_open_a_sum_with_the_other_one() -> None:
    """n − 1 − q < m − 1 − c, m = n_min in mode A and t in mode B: for every n and c that a manifest allows."""
    allowed = manifests(9)
    assert {len(of.members) for of in allowed if of.mode is Mode.A} == set(range(3, 10))
    assert {len(of.members) for of in allowed if of.mode is Mode.B} == set(range(3, 10))
    for of in allowed:
        n, c = len(of.members), of.collusion
        opening = of.minimum_roster if of.mode is Mode.A else of.threshold
        answered_the_copy = quorum(n, c) - c  # honest ones, at least
        left = n - 1 - c - answered_the_copy
        assert left == n - 1 - quorum(n, c)
        assert left < opening - 1 - c, of


@dataclass(frozen=True)
class _Step:
    """`secagg.messages.Step` whose members may be counted from 0."""

    round: int
    sums: int
    roster: tuple[tuple[int, bytes], ...]


Step: Any = _Step


def roster(*parties: Witnessing) -> tuple[tuple[int, bytes], ...]:
    return tuple(sorted((each._member, each._nonce) for each in parties))


def copied(sites: int = 4) -> tuple[dict[int, Disk], Witnessing, Witnessing, dict[int, Witnessing]]:
    """A site that is ready, a copy of it that was taken after its reservation, and its peers."""
    disks = consortium(sites)
    peers = {member: party(member, disks[member], sites) for member in range(1, sites)}
    original = party(0, disks[0], sites)
    Net({0: original, **peers}).ask()
    clone = disks[0].copy()
    clone.book.grow(1, salt=7)  # its own entry: it goes on with the run
    return disks, original, party(0, clone, sites), peers


def test_who_has_answered_the_copy_uploads_with_the_original_never_again() -> None:
    _, original, copy, peers = copied()
    first, second = (Step(1, 0, roster(each, peers[1], peers[3])) for each in (original, copy))
    assert peers[1].admits(first)
    assert not peers[1].admits(second)
    assert original.admits(first)
    Net({0: copy, **peers}).ask(0)

    assert original.ready
    assert copy.ready  # by itself that is no harm
    assert not peers[1].admits(first)
    assert peers[1].admits(second)
    # Nor does asking again bring it back: the original is behind what its peers hold now.
    for to, note in [(member, original._question(member)) for member in peers]:
        peers[to].receive(0, note)
    assert not peers[1].admits(first)


def test_a_copy_does_not_upload_for_a_round_that_a_peer_has_uploaded_for_with_the_original() -> None:
    """One after the other: all rounds with the original and one half, then all again with a restored copy."""
    _, original, copy, peers = copied()
    done = Step(5, 4, roster(original, peers[1], peers[3]))
    peers[1].uploaded(done)
    Net({0: copy, **peers}).ask(0)

    assert copy.ready
    for number in (1, 5):
        assert not copy.admits(Step(number, 0, roster(copy, peers[2], peers[3])))
    assert copy.admits(Step(6, 0, roster(copy, peers[2], peers[3])))


def test_a_peer_that_has_started_anew_rules_out_every_round_of_before() -> None:
    disks, original, copy, peers = copied()
    peers[1] = party(1, disks[1], 4, last_round=5)
    Net({0: copy, **peers}).ask()

    assert not copy.admits(Step(5, 0, roster(copy, peers[2], peers[3])))
    assert copy.admits(Step(6, 0, roster(copy, peers[2], peers[3])))
    assert not peers[1].admits(Step(6, 0, roster(original, peers[1], peers[3])))


def test_the_rounds_with_this_very_process_are_not_ruled_out() -> None:
    """The first answer stays true: a receipt that had to be asked for twice costs no round."""
    _, original, _, peers = copied()
    peers[1].uploaded(Step(3, 0, roster(original, peers[1], peers[2])))
    for _, answer in peers[1].receive(0, original._question(1)):
        original.receive(1, answer)
    assert original.admits(Step(3, 0, roster(original, peers[1], peers[2])))
    original.receive(1, receipt(original, 0, 1, round_=9))
    assert original.admits(Step(3, 0, roster(original, peers[1], peers[2])))


def test_nobody_asks_in_the_name_of_another_process() -> None:
    """The copy's statement under the original's nonce would make its peers upload with the original again."""
    _, original, copy, peers = copied()
    Net({0: copy, **peers}).ask(0)
    asked = read(copy._question(1))
    assert isinstance(asked, Question)
    assert peers[1].receive(0, replace(asked, nonce=original._nonce).encode()) == []
    assert not peers[1].admits(Step(1, 0, roster(original, peers[1], peers[2])))


def test_a_stranger_or_a_process_never_answered_is_not_uploaded_with() -> None:
    disks = consortium()
    net = start(disks)
    net.ask(0)
    one = net.parties[0]
    assert one.ready
    everybody = roster(*net.parties.values())
    assert not one.admits(Step(1, 0, everybody))
    net.ask()
    assert one.admits(Step(1, 0, everybody))
    assert not one.admits(Step(1, 0, (*everybody, (9, bytes(32)))))
    assert not one.admits(Step(1, 0, (everybody[0], (1, one._nonce), *everybody[2:])))


def test_a_restarted_peer_is_asked_again_at_once_and_every_second_until_it_has_answered() -> None:
    disks = consortium()
    net = start(disks)
    net.ask()
    one = net.parties[0]
    assert not one.questions()
    again = net.parties[2] = party(2, disks[2])
    kept = net.carry
    net.carry = lambda sender, to, octets: [] if (sender, to) == (0, 2) else [(sender, to, octets)]
    net.ask(2)
    assert one.pending
    assert [to for to, _ in one.questions()] == [2]
    step = Step(1, 0, roster(*net.parties.values()))
    assert one.admits(step)
    assert not again.admits(step)
    net.carry = kept
    net.ask()
    assert not one.questions()
    assert again.admits(step)


@dataclass
class Attack:
    """A coordinator that forms any rosters, with c liars, against one site of which there are two processes."""

    of: Manifest
    chance: random.Random
    uploads: dict[tuple[int, tuple[tuple[int, bytes], ...]], set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sites, c = len(self.of.members), self.of.collusion
        disks = consortium(sites)
        others = self.chance.sample(range(1, sites), sites - 1)
        self.liars, honest = set(others[:c]), others[c:]
        self.peers = {member: party(member, disks[member], sites, c) for member in others}
        Net(self.peers).ask()
        for member, peer in self.peers.items():
            peer.receive(0, receipt(peer, member, 0))
        clone = disks[0].copy()
        clone.book.grow(1, salt=7)
        self.copies = [party(0, each, sites, c) for each in (disks[0], clone)]
        least = self.of.minimum_roster - 1 - c
        self.halves = (honest[:least], honest[-least:])  # apart, if there are enough
        self.last = defaultdict[object, int](int)
        for one in self.copies:  # they are not what is attacked here
            one._answered.update({member: peer._nonce for member, peer in self.peers.items()})

    def step(self) -> None:
        which = self.chance.randrange(2)
        if self.chance.random() < 0.5:
            self.ask(self.copies[which])
        else:
            self.round(self.chance.randint(1, 2), self.copies[which], self.chance.choice(self.halves))

    def ask(self, one: Witnessing) -> None:
        for to, peer in self.peers.items():
            if to in self.liars:
                one.receive(to, receipt(one, 0, to))
            elif self.chance.random() < 0.9:
                Net({0: one, to: peer}).send(0, to, one._question(to))

    def round(self, number: int, one: Witnessing, chosen: list[int]) -> None:
        of = roster(one, *(self.peers[member] for member in {*chosen, *self.liars}))
        arrived = self.uploads.setdefault((number, of), set(self.liars))
        asked = Step(number, 0, of)
        for who in (one, *(self.peers[member] for member in chosen)):
            if number > self.last[who] and who.admits(asked) and self.chance.random() < 0.9:
                who.uploaded(asked)
                self.last[who] = number
                arrived.add(who._member)

    def opened(self) -> list[int]:
        """Numbers of the rounds that have been summed with the site in them, once for each sum."""
        found = []
        for (number, of), arrived in self.uploads.items():
            needed = len(of) if self.of.mode is Mode.A else self.of.threshold
            if 0 in arrived and len(arrived) >= needed:
                found.append(number)
        return found


SIZES = [(4, 1), (5, 1), (5, 2), (6, 1)]


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(SIZES), st.sampled_from(list(Mode)), st.integers(0, 2**32))
def test_whatever_is_copied_and_whoever_is_asked_a_round_number_opens_once(
    size: tuple[int, int], mode: Mode, seed: int
) -> None:
    assert not doubled(size, mode, seed)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@BOTH
def test_a_round_number_opens_once_in_many_attacks(size: tuple[int, int], mode: Mode) -> None:
    assert not any(doubled(size, mode, seed) for seed in range(40))


def doubled(size: tuple[int, int], mode: Mode, seed: int) -> bool:
    attack = Attack(manifest(*size, mode=mode), random.Random(seed))
    for _ in range(12):
        attack.step()
    opened = sorted(attack.opened())
    return any(a == b for a, b in pairwise(opened))


def known_whoever_was_answered(one: Witnessing, step: Any) -> bool:
    return sum(each.round < step.round for each in one._receipts.values()) >= one._quorum and not one._objected


def any_round(one: Witnessing, step: Any) -> bool:
    known = all(nonce in (one._nonce, one._answered.get(member)) for member, nonce in step.roster)
    return known and one.ready


@pytest.mark.slow
@pytest.mark.parametrize("weaker", [known_whoever_was_answered, any_round])
def test_the_attack_succeeds_without_either_rule(weaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The positive control of the two tests above."""
    monkeypatch.setattr(Witnessing, "admits", weaker)
    assert any(doubled((4, 1), Mode.A, seed) for seed in range(40))
