"""No mask stream ever masks two vectors: fuzzed over crashes, resumptions, restored disks and replays."""

import random
from typing import Any

import numpy as np
import pytest

from secagg import Mode, rounds
from secagg.errors import SecaggError
from secagg.messages import Step
from tests.federation import Disk, Site, Study, add, manifest, ready, recording, unmask
from tests.sweeps import thinned

STUDY = Study(steps=10**6, length=2)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("seed", thinned(range(3)))
def test_no_stream_is_ever_used_twice(mode: Mode, seed: int) -> None:  # noqa: C901, PLR0915  # one hostile script
    of = manifest(4, 1, mode=mode, roster_changes=10_000, max_rounds=100_000)
    chance = random.Random(seed)
    sites = ready(of, STUDY)
    backups: dict[int, list[Disk]] = {member: [site.disk.copy()] for member, site in sites.items()}
    steps: list[Step] = []
    number, uploads_made, refusals, sums = 0, 0, 0, 0

    def start(member: int, disk: Disk, name: str) -> None:
        sites[member] = Site(of, member, STUDY, disk, name)

    def tried(site: Site, step: Step) -> Any:
        try:
            upload = site.upload(Step(step.round, site.client.sums, step.roster))
        except SecaggError as error:
            site.error = error
            return []
        site.persist()
        return [upload]

    with recording() as uses:
        for turn in range(200):
            # The coordinator is hostile: a new round, an old Step, or an old number with another roster.
            member = chance.choice(sorted(sites))
            match chance.choice(["round", "round", "replay", "renumber", "crash", "restore", "backup"]):
                case "round":
                    number += chance.choice([1, 1, 2, 30])
                    members = sorted(chance.sample(sorted(sites), chance.choice([3, 4])))
                    nonces = {each: sites[each].client._nonce for each in sites}
                    step = Step(number, 0, tuple((each, nonces[each]) for each in members))
                    steps.append(step)
                    uploads = []
                    for each in members:
                        if sites[each].error is None and chance.random() < 0.95:
                            uploads += tried(sites[each], step)
                    uploads_made += len(uploads)
                    refusals += len(members) - len(uploads)
                    whole = len(uploads) == len(members) or (mode is Mode.B and len(uploads) >= of.threshold)
                    if whole and chance.random() < 0.7:
                        sums += _finish(sites, step, uploads)
                case "replay" if steps:
                    refusals += not tried(sites[member], chance.choice(steps))
                case "renumber" if steps:
                    old = chance.choice(steps)
                    nonces = {each: sites[each].client._nonce for each in sites}
                    refusals += not tried(sites[member], Step(old.round, 0, tuple(sorted(nonces.items()))))
                case "crash":
                    # Sometimes between the upload and the snapshot of it.
                    alive = sites[member].error is None and chance.random() < 0.5
                    start(member, sites[member].disk if alive else backups[member][-1].copy(), f"crash {seed} {turn}")
                case "restore":
                    start(member, chance.choice(backups[member]).copy(), f"restore {seed} {turn}")
                case "backup" if sites[member].error is None:
                    backups[member].append(sites[member].disk.copy())
            if sites[member].error is not None:
                start(member, chance.choice(backups[member]).copy(), f"revive {seed} {turn}")
    assert uploads_made > 50
    assert refusals > 20
    assert sums
    assert len(uses.vectors) >= uploads_made
    uses.check()


def _finish(sites: dict[int, Site], step: Step, uploads: list[Any]) -> int:
    """Add up what has arrived and show the sum to everybody; return how many sites took it."""
    total = add(step.round, step.roster, *uploads)
    if sites[uploads[0].member].manifest.mode is Mode.B:
        try:
            total = unmask(sites, total, uploads)
        except SecaggError:  # a site does not consent: the round does not open
            return 0
    took = 0
    for site in sites.values():
        if site.error is None:
            try:
                site.accept(total)
                took += 1
            except SecaggError as error:
                site.error = error
            site.persist()
    return took


@pytest.mark.parametrize("mode", Mode)
def test_the_recorder_would_notice(mode: Mode) -> None:
    sites = ready(manifest(4, 1, mode=mode), STUDY)
    with recording() as uses:
        step = Step(1, 0, tuple((each, sites[each].client._nonce) for each in sites))
        context = sites[1].client.open(step, sites[1].terms(4))
        opened: Any = sites[1].client._round
        sites[1].client.upload(context, np.zeros(2, dtype=np.int64))
        uses.check()
        assert len(uses.streams) == (2 * 3 + (mode is Mode.B))
        opened.mask(np.ones(2, dtype=np.int64), bytes(32))
        assert len(uses.vectors[1, context.digest]) == 2
        assert set(uses.streams.values()) == {2}
        with pytest.raises(AssertionError):
            uses.check()
    assert rounds.masks.pad.__module__ == "secagg.masks"
