"""No mask key ever masks two vectors: fuzzed over crashes, resumptions, restored disks and replays."""

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from secagg import masks
from secagg.errors import SecaggError
from secagg.messages import Step
from tests.federation import Disk, Site, Study, add, manifest, ready

OF = manifest(4, 1, roster_changes=10_000, max_rounds=100_000)
STUDY = Study(steps=10**6, length=2)


@pytest.fixture
def recorder(monkeypatch: Any) -> Any:
    """Record what each stream was laid over, by key."""
    used: dict[bytes, set[bytes]] = defaultdict(set)
    real = masks.apply

    def record(words: Any, *, add: Any, subtract: Any) -> None:
        for key in (*add, *subtract):
            # A key serves both ends of its pair: keep them apart by the sign.
            used[key + (b"+" if key in add else b"-")].add(words.tobytes())
        real(words, add=add, subtract=subtract)

    monkeypatch.setattr(masks, "apply", record)
    return used


@pytest.mark.parametrize("seed", range(3))
def test_no_stream_is_ever_used_twice(recorder: Any, seed: int) -> None:  # noqa: C901  # one hostile script
    chance = random.Random(seed)
    sites = ready(OF, STUDY)
    backups: dict[int, list[Disk]] = {member: [site.disk.copy()] for member, site in sites.items()}
    steps: list[Step] = []
    number, uploads_made, refusals = 0, 0, 0
    for turn in range(200):
        # The coordinator is hostile: a new round, an old Step, or an old number with another roster.
        member = chance.choice(sorted(sites))
        match chance.choice(["round", "round", "replay", "renumber", "crash", "restore", "backup"]):
            case "round":
                number += chance.choice([1, 1, 2, 30])
                members = sorted(chance.sample(sorted(sites), chance.choice([3, 4])))
                nonces = {each: sites[each].client._nonce for each in sites}
                step = Step(number, tuple((each, nonces[each]) for each in members), ())
                steps.append(step)
                uploads = []
                for each in members:
                    if sites[each].error is None and chance.random() < 0.95:
                        uploads += _try(sites[each], step)
                uploads_made += len(uploads)
                refusals += len(members) - len(uploads)
                if len(uploads) == len(members) and chance.random() < 0.7:
                    total = add(number, step.roster, *uploads)
                    for site in sites.values():
                        _accept(site, total)
            case "replay" if steps:
                refusals += not _try(sites[member], chance.choice(steps))
            case "renumber" if steps:
                old = chance.choice(steps)
                nonces = {each: sites[each].client._nonce for each in sites}
                refusals += not _try(sites[member], Step(old.round, tuple(sorted(nonces.items())), ()))
            case "crash":
                # Sometimes between the upload and the snapshot of it.
                alive = sites[member].error is None and chance.random() < 0.5
                disk = sites[member].disk if alive else backups[member][-1].copy()
                _start(sites, member, disk, f"crash {seed} {turn}")
            case "restore":
                _start(sites, member, chance.choice(backups[member]).copy(), f"restore {seed} {turn}")
            case "backup" if sites[member].error is None:
                backups[member].append(sites[member].disk.copy())
        if sites[member].error is not None:
            _start(sites, member, chance.choice(backups[member]).copy(), f"revive {seed} {turn}")
    assert uploads_made > 50
    assert refusals > 20
    assert recorder
    assert all(len(vectors) == 1 for vectors in recorder.values())


def _start(sites: Any, member: int, disk: Any, name: str) -> None:
    sites[member] = Site(OF, member, STUDY, disk, name)


def _try(site: Any, step: Any) -> Any:
    try:
        upload = site.upload(step)
    except SecaggError as error:
        site.error = error
        return []
    site.persist()
    return [upload]


def _accept(site: Any, total: Any) -> None:
    if site.error is None:
        try:
            site.accept(total)
        except SecaggError as error:
            site.error = error
        site.persist()


def test_the_recorder_would_notice(recorder: Any) -> None:
    masks.apply(np.zeros(1, dtype=np.uint64), add=[bytes(32)], subtract=[])
    masks.apply(np.ones(1, dtype=np.uint64), add=[bytes(32)], subtract=[])
    assert any(len(vectors) == 2 for vectors in recorder.values())
