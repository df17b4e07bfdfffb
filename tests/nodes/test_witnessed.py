"""Whole sessions of the protocol with ledgers beside it: what is witnessed is complete, what is not never uploads."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp.errors import LedgerCorrupt
from nodes.notes import Note
from secagg import Mode
from secagg.messages import Part, Upload
from tests.federation import Study, complete, manifest, recording
from tests.nodes.witnessed import Federation, Site

BOTH = pytest.mark.parametrize("mode", list(Mode))


def site(federation: Federation, member: int) -> Site:
    found = federation.sites[member]
    assert isinstance(found, Site)
    return found


def uploaders(federation: Federation, since: int = 0) -> set[int]:
    return {each.member for each in federation.log[since:] if isinstance(each, Part | Upload)}


@BOTH
def test_a_complete_run_goes_through_the_gate(mode: Mode) -> None:
    federation = Federation(manifest(mode=mode))
    federation.start()
    complete(federation)

    for member in federation.sites:
        assert site(federation, member).witness.ready
        # Every site is held by every other one.
        assert len(site(federation, member).disk.held.rows) == 3


def test_nothing_is_uploaded_while_the_notes_are_dropped() -> None:
    dropped: list[Any] = []

    def drop(_member: int, message: Any) -> list[Any]:
        if isinstance(message, Note):
            dropped.append(message)
            return []
        return [message]

    federation = Federation(manifest(), to_site=drop)
    federation.start()
    federation.run()

    assert dropped
    assert federation.rounds  # set-up is complete
    assert uploaders(federation) == set()
    assert {each.member for each in federation.waiting()} == {1, 2, 3, 4}


def test_a_site_that_cannot_be_witnessed_costs_the_others_no_more_than_one_that_is_away() -> None:
    def keep_from(member: int, message: Any) -> list[Any]:
        return [] if isinstance(message, Note) and member == 5 else [message]

    federation = Federation(manifest(n=5), Study(steps=2), to_site=keep_from)
    federation.start()
    federation.run()
    assert uploaders(federation) == {1, 2, 3, 4}
    federation.deadline()
    federation.run()

    assert len(federation.sums) == 2
    assert [total.survivors for total in federation.sums] == [(1, 2, 3, 4)] * 2
    assert uploaders(federation) == {1, 2, 3, 4}


@BOTH
def test_a_site_that_is_killed_is_witnessed_anew(mode: Mode) -> None:
    federation = Federation(manifest(mode=mode), Study(steps=4))
    federation.start()
    federation.run(lambda: len(federation.sums) == 2)
    federation.kill(2)
    federation.run()
    if federation.timer is not None:
        federation.deadline()
    federation.start(2)
    before = site(federation, 2)
    assert not before.witness.ready
    federation.run()
    if federation.stopped is None:
        federation.deadline()
        federation.run()

    assert federation.stopped is not None
    assert federation.stopped.ok, federation.stopped
    federation.check()
    assert site(federation, 2).witness.ready


@BOTH
def test_a_disk_restored_in_the_middle_never_uploads_again(mode: Mode) -> None:
    federation = Federation(manifest(n=5, mode=mode), Study(steps=4))
    old: Any = None
    federation.start()
    with recording() as uses:
        federation.run(lambda: len(federation.sums) == 1)
        old = federation.disks[3].copy()
        federation.kill(3)
        federation.start(3)  # what the restored one will not know
        federation.run(lambda: len(federation.sums) == 2 and site(federation, 3).witness.ready)
        assert site(federation, 3).witness.ready
        federation.kill(3)
        federation.disks[3] = old
        since = len(federation.log)
        federation.start(3)
        federation.run(lambda: federation.stopped is not None)
        for _ in range(4):
            if federation.timer is not None:
                federation.deadline()
                federation.run()
        uses.check()

    assert 3 not in uploaders(federation, since)
    witness = site(federation, 3).witness
    assert witness.objections
    witness.questions()
    with pytest.raises(LedgerCorrupt, match=r"site-1, .*haemfed budget recover"):
        witness.require()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(list(Mode)))
def test_whatever_the_order_and_whoever_is_killed_no_run_gets_stuck_and_no_ledger_is_doubted(
    seed: int, mode: Mode
) -> None:
    chance = random.Random(seed)
    federation = Federation(manifest(n=5, mode=mode, roster_changes=60), Study(steps=3), seed=seed, strict=False)
    federation.start()
    for _ in range(chance.randrange(4)):
        for _ in range(chance.randrange(150)):
            federation.step()
        victim = chance.choice(list(federation.sites))
        federation.kill(victim)
        federation.start(victim)
    for _ in range(20):
        federation.run()
        if federation.stopped is not None or federation.timer is None:
            break
        federation.deadline()

    assert federation.stopped is not None
    federation.check()
    for member in federation.sites:
        assert not site(federation, member).witness.objections
