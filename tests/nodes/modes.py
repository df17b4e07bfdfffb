"""A whole study in one process: every site trains on invented patients through its own door."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dp.queries import Query, SecureSum
from harmonize.profile import load
from models.data import SurvivalData
from models.plan import Outcome, sampler_of, survival_plan
from models.presets import Preset
from nodes.coordinator import Coordinator
from nodes.door import Door, Progress
from nodes.drafting import check_plan, draft
from nodes.loopback import LoopbackLink
from nodes.plans import preset_named
from nodes.protocol import Terms, spec_of
from nodes.rehearsal import EmptyBook, MemoryHeld, MemoryRecords, MemoryStore
from nodes.rounds import Asked
from nodes.session import Link, Session
from nodes.study import Imputing, SignedStudy, Study, parse
from nodes.witnessing import witnessing
from secagg.client import Client
from secagg.keys import Identity
from secagg.messages import Complete, Upload

NAMES = ("alder", "birch", "cedar", "dogwood", "elm")
_WAIT = 30.0


@dataclass
class Charged(MemoryRecords):
    """Remembers which query each upload was for."""

    queries: list[Query] = field(default_factory=list)

    def charge_and_store(self, query: Query, context: bytes, upload: Upload) -> None:
        self.queries.append(query)
        super().charge_and_store(query, context, upload)


Learn = Callable[[Study, int, Callable[[Query, Callable[[], np.ndarray]], np.ndarray], Door], Any]


class Stopped(Exception):  # noqa: N818 - not an error
    """A test has stopped this site."""


@dataclass
class Left:
    """What a run left at one site."""

    outcome: Any
    records: Charged
    told: list[Progress]


def drafted(
    terms: Terms,
    name: str = "aml-small",
    *,
    bands: Sequence[str] = ("100-249",) * len(NAMES),
    imputation: Imputing | None = None,
    algorithm: Asked | None = None,
    **preset_changes: Any,
) -> tuple[Study, list[Identity]]:
    """A small study, read back from its own bytes and fit to be signed."""
    identities = [Identity.generate(os.urandom) for _ in NAMES]
    preset = preset_named(name)
    if isinstance(preset, Preset):
        smaller = {"steps": 3, "uploads": 5} | ({"hidden": (3,)} if preset.hidden else {})
        preset = replace(preset, **smaller | preset_changes)
    study = draft(
        "test",
        "a test",
        profile=load("aml_core"),
        preset=preset,
        sites=[(name, each.public, band) for name, each, band in zip(NAMES, identities, bands, strict=True)],
        terms=terms,
        seed=b"seed",
        not_after="2027-01-01T00:00:00+00:00",
        imputation=imputation,
        algorithm=algorithm,
    )
    read = parse(SignedStudy(study).to_json(), "study.json").study
    check_plan(read)
    return read, identities


def patients(study: Study, member: int, count: int = 30) -> SurvivalData:
    """Invented; the same for the same member."""
    chance = np.random.default_rng(member)
    x = np.clip(chance.normal(size=(count, len(study.learning.features))), -3, 3)
    death = chance.exponential(size=count) * 500 * np.exp(-0.8 * x[:, 0])
    lost = chance.exponential(size=count) * 2000
    return SurvivalData(x, chance.random(x.shape) > 0.1, np.minimum(death, lost) + 1, death <= lost)


def _survival(study: Study, member: int, through: SecureSum, door: Door) -> Outcome:
    spec, holdout = spec_of(study), patients(study, member + 100, 12)
    return survival_plan(spec, patients(study, member), holdout, through, sampler=sampler_of(spec, door.sampling))


def run(
    study: Study,
    identities: list[Identity],
    before: Callable[[int, Query], None] = lambda _m, _q: None,
    *,
    before_door: Callable[[int, Query, Door], None] = lambda _m, _q, _d: None,
    learn: Learn | None = None,
    links: Callable[[Coordinator], Callable[[int], Link]] = lambda coordinator: lambda _: LoopbackLink(coordinator),
) -> list[Left | None]:
    """Every site from set-up to the last sum, in threads; None for a site that a test has stopped.

    Args:
        study: drafted.
        identities: of its sites.
        before: called by a member before it computes a contribution; may raise `Stopped`.
        before_door: the same, with the door.
        learn: what a site does with its patients and its door; a survival study by default.
        links: how a member reaches the coordinator; in this process by default.
    """
    coordinator = Coordinator(
        study.manifest(),
        MemoryStore(),
        max_words=study.max_words,
        deadline=_WAIT,
        patience=_WAIT,
        notice=lambda _event, _fields: None,
    )
    link = links(coordinator)
    with ThreadPoolExecutor(len(identities)) as pool:
        jobs = [
            pool.submit(_site, study, member, identity, link(member), before, before_door, learn or _survival)
            for member, identity in enumerate(identities, start=1)
        ]
        left = [job.result() for job in jobs]
    coordinator.close()
    return left


def _site(
    study: Study,
    member: int,
    identity: Identity,
    link: Link,
    before: Callable[[int, Query], None],
    before_door: Callable[[int, Query, Door], None],
    learn: Learn,
) -> Left | None:
    pins, name, nonce = frozenset(study.identities()), study.sites[member - 1].name, os.urandom(32)
    assert base64.b64decode(study.sites[member - 1].identity) == identity.public
    client = Client(study.manifest(), member, identity, entropy=os.urandom, nonce=nonce, pins=pins)
    records, told = Charged(), list[Progress]()
    session = Session(
        client,
        link,
        witnessing(study, name, identity, pins, EmptyBook(), nonce=nonce, held=MemoryHeld(), sums=records.rounds),
        keep=lambda _snapshot: None,
        patience=_WAIT,
        now=time.monotonic,
        sleep=time.sleep,
    )
    door = Door(study, client, session, records, noise_secret=os.urandom(32), progress=told.append)

    def through(query: Query, contribution: Callable[[], np.ndarray]) -> np.ndarray:
        def computed() -> np.ndarray:
            before(member, query)
            before_door(member, query, door)
            return contribution()

        return door(query, computed)

    try:
        outcome = learn(study, member, through, door)
    except Stopped:
        session.close()
        return None
    session.farewell(Complete(member, client.transcript))
    session.close()
    return Left(outcome, records, told)
