"""The production path adds the noise that it charges, in every mode and for every roster, and a missing share shows.

Whole federations in this process: real clients, server, sessions, doors and lattices, and the ledger's own figure for
what a round costs. What goes in is known and taken off again; the rest is tested (`audits.mechanism`).
"""

from __future__ import annotations

import datetime as dt
import os
import random
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pytest

from audits.mechanism import Conformance, PathRun, conformance
from dp.accountant import statement
from dp.budget import GDP_FILTER
from dp.queries import Account, Float64
from nodes.accounts import Accounts
from nodes.door import Door
from nodes.grids import grid
from nodes.loopback import LoopbackLink
from nodes.rehearsal import Rehearsal
from nodes.session import Session
from nodes.store import SiteStore
from nodes.witnessing import witnessing
from secagg.client import Client
from secagg.keys import Identity
from secagg.manifest import Mode, Noise
from secagg.masks import Keystream
from secagg.messages import Complete
from tests.dp.checks.noise import manifest, query, rosters
from tests.dp.checks.path import conforms, contributions
from tests.sweeps import thinned

PATHS: dict[str, dict[str, Any]] = {
    "wide": {},
    "wide, mode B": {"mode": Mode.B},
    "narrow": {"lane_bits": 21, "patient_cap": 256},
    "narrow, 16 bits": {"lane_bits": 16, "patient_cap": 64},
    "narrow, mode B": {"lane_bits": 21, "patient_cap": 256, "mode": Mode.B},
    "local": {"noise": Noise.LOCAL},
    "local, narrow": {"noise": Noise.LOCAL, "lane_bits": 21, "patient_cap": 256},
    "local, mode B": {"noise": Noise.LOCAL, "mode": Mode.B},
}
QUICK = {"wide", "narrow", "wide, mode B", "local"}


def slowly(names: Any) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else (pytest.mark.slow,)) for name in names]


@pytest.mark.parametrize("name", thinned(slowly(PATHS), 3))
def test_residuals_are_the_noise_that_is_charged(name: str) -> None:
    conforms(Rehearsal(sites=6, length=500, **PATHS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wide", "wide, mode B", "local", "narrow"])
@pytest.mark.parametrize(("sites", "collusion"), [(4, 1), (5, 2), (8, 2), (9, 3)])
def test_at_several_rosters(name: str, sites: int, collusion: int) -> None:
    if name == "wide, mode B":
        collusion = min(collusion, 2)
    conforms(Rehearsal(sites=sites, collusion=collusion, length=800, **PATHS[name]))


class OneIsSilent(Rehearsal):
    """Site 1 takes part, and adds no noise."""

    def _site(self, study: Any, index: int, *rest: Any) -> Float64:
        silent.member = index
        return super()._site(study, index, *rest)


class Here(threading.local):
    """Which site runs in this thread."""

    member = 0


silent = Here()


@pytest.mark.parametrize("name", thinned(slowly(PATHS), 3))
def test_one_missing_share_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dp import discrete_gaussian, noise_shares

    draw, add = noise_shares.draw, discrete_gaussian.Table.add
    monkeypatch.setattr(noise_shares, "draw", lambda k, n: draw(k, n) * (silent.member != 1))
    monkeypatch.setattr(
        discrete_gaussian.Table, "add", lambda table, v, k: None if silent.member == 1 else add(table, v, k)
    )
    path = OneIsSilent(sites=6, length=500, **PATHS[name])
    known = contributions(path)

    found = conformance(path.run(known), known)

    assert not found.conforms
    assert rejected(found) >= {"size of the noise, total"}
    assert found.multiplier.estimate < path.multiplier * 0.96


def rejected(found: Conformance) -> set[str]:
    return {test.name for test in found.tests if test.rejected}


@pytest.mark.parametrize(("mode", "bits"), [("A", 64), ("B", 64), ("A", 21)])
def test_a_smaller_roster_has_the_noise_it_is_charged_with(mode: str, bits: int) -> None:
    """Sites that went: the same encoder, by the roster that is left."""
    of, asked = manifest(7, 1, mode, bits=bits), query(length=600, patient_cap=64)
    chance = random.Random(1)
    known = np.random.default_rng(2).uniform(-1, 1, (8, 7, 600)) * asked.sensitivity / np.sqrt(600)
    for roster in rosters(of):
        lattice = grid(of, asked, roster)

        def one(row: Float64, lattice: Any = lattice) -> Any:
            return np.asarray(lattice.encode(row, asked, Keystream(chance.randbytes(32))), dtype=np.int64)

        sums = np.stack(
            [lattice.decode(sum(one(row) for row in rows[:roster]), asked) for rows in known]  # type: ignore[misc]
        )
        run = PathRun(asked, sums, roster, of.honest(roster), lattice.step(asked))

        found = conformance(run, known[:, :roster])

        assert found.conforms, (roster, rejected(found))
        assert found.multiplier.high >= asked.multiplier


@dataclass(frozen=True)
class WithLedgers(Rehearsal):
    """A rehearsal that charges: every site has a ledger in a database, and its peers witness it."""

    place: Path = Path()

    def run(self, contributions: Float64) -> PathRun:
        for index in range(1, self.sites + 1):  # one after the other: a new database is made once in a process
            SiteStore(self.place / f"site-{index}.sqlite3").close()
        return super().run(contributions)

    def _site(self, study: Any, index: int, identity: Identity, coordinator: Any, rows: Float64) -> Float64:
        pins, name, nonce = frozenset(study.identities()), study.sites[index - 1].name, os.urandom(32)
        client = Client(study.manifest(), index, identity, entropy=os.urandom, nonce=nonce, pins=pins)
        with SiteStore(self.place / f"{name}.sqlite3") as store:
            accounts = Accounts(store, lambda: dt.datetime.now(dt.UTC))
            accounts.grant("training", 5.0, 1e-5)
            accounts.approve(study)
            accounts.open(study)
            witness = witnessing(
                study, name, identity, pins, accounts, nonce=nonce, held=store,
                sums=partial(store.summed_rounds, study.run_id),
                confirmed=lambda seen: accounts.mark_witnessed(study.run_id, seen),
            )  # fmt: skip
            session = Session(
                client, LoopbackLink(coordinator), witness,
                keep=lambda _snapshot: None, patience=60.0, now=time.monotonic, sleep=time.sleep,
            )  # fmt: skip
            door = Door(study, client, session, accounts.records(study), noise_secret=os.urandom(32))
            sums = [door(self._query(step), lambda row=row: row) for step, row in enumerate(rows)]  # type: ignore[misc]
            session.farewell(Complete(index, client.transcript))
            session.wait_for_end(60.0)
            session.close()
            accounts.close(study, "complete")
        return np.stack(sums)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(Mode))
def test_the_ledger_says_what_the_path_has_added(mode: Mode, tmp_path: Path) -> None:
    """Replayed from the database: one charge per round and site, at the μ that the residuals have."""
    path = WithLedgers(sites=4, length=1300, mode=mode, place=tmp_path)
    known = contributions(path)

    found = conformance(path.run(known), known)

    contexts = []
    for index in range(1, 5):
        with SiteStore(tmp_path / f"site-{index}.sqlite3") as store:
            accounts = Accounts(store, lambda: dt.datetime.now(dt.UTC))
        state, uploads = accounts.state, [entry for entry in accounts.history if entry.kind == "upload"]
        contexts.append([entry.body["context"] for entry in uploads])
        ((event, count),) = state.events(Account.TRAINING)
        assert count == len(known) == len(uploads)
        assert state.committed_units(Account.TRAINING) == count * GDP_FILTER.units(event)
        assert event.multiplier == pytest.approx(found.multiplier.estimate, rel=0.06)
        said = statement(state.events(Account.TRAINING), 1e-5)
        measured = dp_accounting.get_epsilon_gaussian(found.multiplier.estimate / np.sqrt(count), 1e-5)
        assert said.epsilon == pytest.approx(measured, rel=0.15)
    assert contexts[1:] == contexts[:-1], "every site has charged the same rounds"
    assert len(set(contexts[0])) == len(known)
