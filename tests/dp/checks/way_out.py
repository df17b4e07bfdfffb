"""The way out of a hospital: what binds a round, in which order the door acts, and who has to agree first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pytest

NONCE = bytes(32)
SITES = 4
NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)


def study(*, uploads: int = 3, probability: float = 1.0) -> Any:
    import msgspec

    from nodes.rehearsal import Rehearsal
    from nodes.study import Stage
    from secagg.keys import Identity

    identities = [Identity(bytes([index]) * 32) for index in range(1, SITES + 1)]
    plain = Rehearsal(sites=SITES, length=4)._study(identities, 1)
    stage = Stage("gradient", "training", 2, uploads, 4, 3.0, 16.0, probability)
    return msgspec.structs.replace(plain, stages=(stage,))


def asked(probability: float = 1.0, index: int = 0) -> Any:
    from dp.queries import Account, Query

    return Query("gradient", index, 4, 3.0, 16.0, Account.TRAINING, 4096, b"", probability)


@dataclass
class Scene:
    """A door whose session, client and database are this object; it writes down what happens, in order."""

    study: Any
    heads: list[Any]
    secret: bytes = b"s" * 32
    entropy: Callable[[int], bytes] = bytes
    log: list[str] = field(default_factory=list)
    masked: list[list[int]] = field(default_factory=list)
    stored: dict[int, tuple[bytes, Any]] = field(default_factory=dict)
    sums: int = 0
    full: bool = False

    def door(self) -> Any:
        from nodes.door import Door

        return Door(self.study, self, self, self, noise_secret=self.secret, entropy=self.entropy)  # type: ignore[arg-type]

    # the client
    def admit(self, number: int, roster: Any) -> None:
        """Allow every round."""

    def context(self, number: int, roster: Any, terms: Any) -> Any:
        from secagg.context import Context

        return Context.build(self.study.manifest(), number, roster, terms, bytes(32))

    def open(self, step: Any, terms: Any, *, executor: Any = None) -> Any:
        return self.context(step.round, step.roster, terms)

    def upload(self, context: Any, coordinates: Any) -> Any:
        from secagg.messages import Upload

        self.masked.append([int(each) for each in coordinates])
        return Upload(1, context.round, np.asarray(coordinates, dtype="<i8").tobytes() + bytes(16))

    # the session
    def head(self) -> Any:
        return self.heads[0]

    def done(self) -> None:
        self.heads.pop(0)

    def send(self, message: Any) -> None:
        self.log.append(f"send {message.round}")

    # ledger and database
    def charge_and_store(self, query: Any, context: bytes, upload: Any) -> None:
        if self.full:
            raise OSError("the disk is full")
        self.log.append(f"charge {upload.round}")
        self.stored[upload.round] = (context, upload)

    def stored_upload(self, number: int) -> Any:
        return self.stored.get(number)


def step(number: int, *members: int) -> Any:
    from secagg.messages import Step

    return Step(number, 0, tuple((member, NONCE) for member in members or range(1, SITES + 1)))


def finish() -> Any:
    from secagg.messages import Finish

    return Finish(0, "the test is over")


def ask(scene: Scene, query: Any = None, values: Callable[[], Any] = lambda: np.zeros(4), door: Any = None) -> Any:
    """Let the door do what it has heads for."""

    def contribution() -> Any:
        scene.log.append("contribution")
        return values()

    (door or scene.door())(query or asked(), contribution)


def the_debit_is_durable_before_anything_is_sent() -> None:
    """Charge, then send; and nothing is sent if the charge fails."""
    from nodes.errors import StudyStopped

    scene = Scene(study(), [step(1), step(2), finish()])
    with pytest.raises(StudyStopped):
        ask(scene)
    assert scene.log == ["contribution", "charge 1", "send 1", "contribution", "charge 2", "send 2"]
    scene = Scene(study(), [step(1)], full=True)
    with pytest.raises(OSError, match="full"):
        ask(scene)
    assert not [each for each in scene.log if each.startswith("send")]


def a_stage_uploads_no_more_often_than_the_study_says() -> None:
    """The coordinator says "aborted" and asks again as often as it likes; numbers that it leaves out count, too."""
    from dp.errors import UploadsExhausted

    for numbers in ([1, 2, 3, 4, 5], [1, 3, 4], [2, 9], [4]):
        scene = Scene(study(uploads=3), [step(number) for number in numbers])
        with pytest.raises(UploadsExhausted):
            ask(scene)
        assert [each for each in scene.log if each.startswith("charge")] == [f"charge {n}" for n in numbers if n <= 3]


def a_round_is_answered_once() -> None:
    """The same question gets the stored bytes, without a look at patients; another under its number gets nothing."""
    from nodes.errors import NodeError, StudyStopped

    scene = Scene(study(), [step(1), step(1), finish()])
    with pytest.raises(StudyStopped):
        ask(scene)
    assert scene.log == ["contribution", "charge 1", "send 1", "send 1"]
    other = Scene(study(), [step(1), replace(step(1), roster=tuple((m, b"n" * 32) for m in range(1, 5))), finish()])
    with pytest.raises(NodeError):
        ask(other)
    assert other.log == ["contribution", "charge 1", "send 1"]


def only_queries_that_were_signed_pass() -> None:
    """Any other field, and the door has not even looked at a patient."""
    from nodes.errors import StudyInvalid

    for change in (
        {"multiplier": 8.0},
        {"sensitivity": 30.0},
        {"length": 3},
        {"patient_cap": 5},
        {"index": 2},
        {"sampling_probability": 0.5},
        {"kind": "count"},
    ):
        scene = Scene(study(), [step(1), finish()])
        with pytest.raises(StudyInvalid):
            ask(scene, replace(asked(), **change))
        assert not scene.log


def noise_and_sample_are_drawn_anew_for_every_upload_of_every_site() -> None:
    """Even if the operating system's generator stands still: two rounds, two sites, the sample and the noise."""
    from nodes.errors import StudyStopped

    drawn: list[bytes] = []
    noise: list[tuple[int, ...]] = []
    for secret in (b"a" * 32, b"b" * 32):
        scene = Scene(study(uploads=5, probability=0.5), [step(1), step(2), step(3), finish()], secret)
        door = scene.door()

        def sample(door: Any = door) -> Any:
            drawn.append(door.sampling(64))
            return np.zeros(4)

        with pytest.raises(StudyStopped):
            ask(scene, asked(0.5), sample, door)
        noise += [tuple(each) for each in scene.masked]
    assert len(set(drawn)) == len(drawn) == 6
    assert len(set(noise)) == len(noise) == 6
    numbers = [number for vector in noise for number in vector]
    assert len(set(numbers)) == len(numbers)
    assert all(abs(number) > 2**8 for number in numbers)


def a_round_is_bound_to_all_that_gives_it_meaning() -> None:
    """Query, noise, lattice, roster and sessions, number, history, mode: one change, and masks do not cancel."""
    from secagg.context import Context
    from secagg.manifest import Mode, Noise, Terms
    from tests.dp.checks.noise import manifest

    of = manifest(7, 1)
    terms = Terms(b"q" * 32, 10, 1 << 20, 6, 1 << 10, 1 << 12, 1 << 30)
    roster = tuple((member, NONCE) for member in range(1, 8))

    def digest(
        manifest: Any = of, number: int = 1, roster: Any = roster, terms: Any = terms, h: bytes = NONCE
    ) -> bytes:
        return Context.build(manifest, number, roster, replace(terms, honest=manifest.honest(len(roster))), h).digest

    others = [digest(terms=replace(terms, **{each.name: _other(getattr(terms, each.name))})) for each in fields(terms)]
    others.pop([each.name for each in fields(terms)].index("honest"))  # follows from roster and manifest
    others += [
        digest(number=2),
        digest(roster=roster[:-1]),
        digest(roster=((1, b"n" * 32), *roster[1:])),
        digest(h=b"h" * 32),
        digest(replace(of, run_id=b"r" * 32)),
        digest(replace(of, study_digest=b"r" * 32)),
        digest(replace(of, mode=Mode.B)),
        digest(replace(of, noise=Noise.LOCAL)),
        digest(replace(of, lane_bits=32)),
    ]
    assert len({digest(), *others}) == len(others) + 1


def _other(value: Any) -> Any:
    return value[:-1] + b"!" if isinstance(value, bytes) else value + 1


def a_study_is_calibrated_and_reserved_for_every_upload_it_may_make() -> None:
    """Aborted rounds are uploads: what is set aside covers them, and all of it fits the ε that the study declares."""
    from dp.events import Account
    from tests.nodes.studies import make

    run, _ = make()
    assert any(stage.uploads > stage.steps for stage in run.stages)
    for account, declared in ((Account.TRAINING, 2.0), (Account.HOLDOUT, 2.0)):
        rule, mine = run.filter(account), [stage for stage in run.stages if stage.account == account]
        every = sum(stage.uploads * rule.units(run.event(stage)) for stage in mine)
        assert rule.epsilon(every, 1e-5) <= declared
        assert sum(uploads * rule.units(event) for event, uploads in run.charges(account)) >= every
        assert run.epsilon(account) >= rule.epsilon(every, 1e-5)


def two_different_questions_are_two_queries() -> None:
    """Every field is in the digest: sites with two ideas of a sum or its noise never complete one."""
    one = asked()
    changes = {
        "kind": "sum",
        "index": 1,
        "length": 5,
        "sensitivity": 3.5,
        "multiplier": 16.5,
        "patient_cap": 4095,
        "public": b"grid",
        "sampling_probability": 0.5,
    }
    assert {*changes, "account"} == {each.name for each in fields(one)}
    digests = {one.digest(), *(replace(one, **{name: value}).digest() for name, value in changes.items())}
    assert len(digests) == len(changes) + 1
    assert one.about(b"a model").digest() != one.about(b"another").digest()


def two_sites_whose_models_differ_ask_two_questions() -> None:
    from models.data import SurvivalData
    from models.presets import preset
    from models.training import fit, initial_weights

    class Asked(Exception):  # noqa: N818 -- not an error
        pass

    small = replace(preset("aml-small"), hidden=(2,), steps=1)
    weights = initial_weights(small, 2, b"seed")
    drifted = weights[:-1] + bytes([weights[-1] ^ 1])
    none = SurvivalData(np.zeros((0, 2)), np.zeros((0, 2), bool), np.zeros(0), np.zeros(0, bool))
    digests = []

    def door(query: Any, contribution: Any) -> Any:
        digests.append(query.digest())
        raise Asked

    def query(index: int) -> Any:
        return replace(asked(), index=index, length=len(weights) // 8, sensitivity=small.clip)

    for each in (weights, weights, drifted):
        with pytest.raises(Asked):
            fit(small, 2, each, none, door, query)
    assert digests[0] == digests[1] != digests[2]


CHECKS = (
    the_debit_is_durable_before_anything_is_sent,
    a_stage_uploads_no_more_often_than_the_study_says,
    a_round_is_answered_once,
    only_queries_that_were_signed_pass,
    noise_and_sample_are_drawn_anew_for_every_upload_of_every_site,
    a_round_is_bound_to_all_that_gives_it_meaning,
    a_study_is_calibrated_and_reserved_for_every_upload_it_may_make,
    two_different_questions_are_two_queries,
    two_sites_whose_models_differ_ask_two_questions,
)
