"""Kinds of budgets, lanes, samples and noise: whole studies, and what each is charged and called."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from dp.central import UnprotectedSum
from dp.events import GaussianEvent, NarrowEvent, PoissonEvent
from dp.queries import Account, Query
from dp.rdp import LARGEST_ORDER
from models.data import SurvivalData
from models.plan import survival_plan
from nodes.errors import StudyInvalid
from nodes.protocol import Terms, spec_of
from nodes.study import Study
from secagg.manifest import Mode, Noise
from secagg.quantize import LEAST_NOISE
from tests.nodes.modes import NAMES, Left, Stopped, drafted, patients
from tests.nodes.modes import run as everybody

RDP: dict[str, Any] = {"budget": "RDP", "order": 12, "patient_cap": 256}
STUDIES = {
    "wide, GDP": (Terms(), GaussianEvent),
    "wide, RDP": (Terms(**RDP), GaussianEvent),
    "narrow": (Terms(**RDP, lane_bits=16), NarrowEvent),
    "narrow, mode B": (Terms(**RDP, lane_bits=21, mode=Mode.B), NarrowEvent),
    "sampled": (Terms(**RDP, sampling_probability=0.5), PoissonEvent),
    "local": (Terms(noise=Noise.LOCAL), GaussianEvent),
    "local, narrow": (Terms(**RDP, noise=Noise.LOCAL, lane_bits=16), NarrowEvent),
}


def run(*of_study: Any) -> list[Left]:
    left = [each for each in everybody(*of_study) if each is not None]
    assert len(left) == len(NAMES)
    return left


def pooled(study: Study, offset: int, count: int) -> SurvivalData:
    sites = [patients(study, member + offset, count) for member in range(1, len(NAMES) + 1)]
    return SurvivalData(
        np.concatenate([each.x for each in sites]),
        np.concatenate([each.observed for each in sites]),
        np.concatenate([each.duration for each in sites]),
        np.concatenate([each.event for each in sites]),
    )


SLOW = [name for name in STUDIES if name != "sampled"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in STUDIES])
def test_a_study_trains_and_every_site_ends_with_the_same_bits(name: str) -> None:
    terms, kind = STUDIES[name]
    study, identities = drafted(terms)

    left = run(study, identities)

    digests = {each.outcome.model.digest for each in left}
    assert len(digests) == 1
    assert left[0].outcome.trained.steps_done == 3
    gradient = study.stages[0]
    assert isinstance(study.event(gradient), kind)
    for each in left:
        # What left is what was signed, stage by stage, and nothing was asked twice.
        assert [query.kind for query in each.records.queries][:3] == ["gradient"] * 3
        assert all(study.stage_of(query) for query in each.records.queries)
    assert study.epsilon(Account.TRAINING) == pytest.approx(2.0, rel=1e-6)
    assert study.epsilon(Account.HOLDOUT) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize(
    "terms",
    [
        pytest.param(Terms(epsilon=1e5, holdout_epsilon=1e5, patient_cap=64), marks=pytest.mark.slow),
        pytest.param(
            Terms(epsilon=1e5, holdout_epsilon=1e5, patient_cap=64, noise=Noise.LOCAL), marks=pytest.mark.slow
        ),
        pytest.param(Terms(noise=Noise.NONE), marks=pytest.mark.slow),
        pytest.param(Terms(noise=Noise.NONE, mode=Mode.B), marks=pytest.mark.slow),
    ],
)
def test_with_hardly_any_noise_a_study_is_training_on_everybodys_patients(terms: Terms) -> None:
    study, identities = drafted(terms, update="sgd-momentum")  # Adam would make something of any noise

    left = run(study, identities)

    spec = spec_of(study)
    central = survival_plan(spec, pooled(study, 0, 30), pooled(study, 100, 12), UnprotectedSum())
    ours, theirs = (np.frombuffer(each.trained.params, "<f8") for each in (left[0].outcome, central))
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.slow
def test_every_upload_of_a_sampled_study_draws_its_own_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a generator of the operating system that stands still."""
    import nodes.door

    keys: list[bytes] = []
    real = nodes.door.hedged_key

    def seen(fresh: bytes, secret: bytes, purpose: bytes) -> bytes:
        key = real(bytes(32), secret, purpose)
        keys.append(key)
        return key

    monkeypatch.setattr(nodes.door, "hedged_key", seen)
    study, identities = drafted(Terms(**RDP, sampling_probability=0.5))

    run(study, identities)

    # Two keys for each training upload, noise and sample, one for every other upload; none of them twice.
    assert len(keys) == len(set(keys)) == 5 * (3 * 2 + 3)


@pytest.mark.slow
def test_a_round_that_is_done_again_draws_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two uploads with one sample would be one sample with half the noise."""
    from dp.sampling import Poisson

    study, identities = drafted(Terms(**RDP, sampling_probability=0.5), steps=2)
    drawn: dict[int, list[bytes]] = {member: [] for member in range(1, 6)}
    present = threading.local()
    real = Poisson.draw

    def draw(self: Poisson, count: int) -> Any:
        rows = real(self, count)
        drawn[present.member].append(rows.tobytes())
        return rows

    def before(member: int, query: Query) -> None:
        present.member = member
        if member == 5 and query.kind == "gradient" and query.index == 1:
            raise Stopped  # the others have uploaded for this round or are about to

    monkeypatch.setattr(Poisson, "draw", draw)
    left = everybody(study, identities, before)

    assert left[4] is None
    for member, site in enumerate(left[:4], start=1):
        assert site is not None
        again = [query.index for query in site.records.queries if query.kind == "gradient"]
        assert again in ([0, 1, 1], [0, 1])
        assert len(drawn[member]) == len(again)
        assert len(set(drawn[member])) == len(again)
    assert any(len(samples) == 3 for samples in drawn.values())
    assert len({samples[0] for samples in drawn.values()}) == 5


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"sampling_probability": 0.5}, "only a budget of the kind RDP can pay"),
        ({"lane_bits": 16}, "only a budget of the kind RDP can pay"),
        (RDP | {"lane_bits": 16, "sampling_probability": 0.5}, "no accounting is proven for both"),
        (RDP | {"lane_bits": 16, "patient_cap": 4096}, "Use wider lanes"),
        (RDP | {"lane_bits": 10}, "lanes of 10 bits hold 511"),
        (RDP | {"order": 1}, "order"),
        (RDP | {"order": 300}, "order"),
        ({"order": 8}, "of the kind GDP has none"),
        (RDP | {"order": 2}, "spends epsilon = 10"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"delta": 1 / 800}, "delta"),
        ({"declared_patients": 100_000.0}, "not below 1/100000, the declared number of patients"),
        ({"noise": Noise.NONE, "lane_bits": 16}, "the study has none"),
        ({"hospitals_per_patient": 6}, "hospitals_per_patient 6 is not in 1 … 5"),
    ],
)
def test_a_study_that_cannot_be_kept_is_refused_by_name(terms: dict[str, Any], says: str) -> None:
    with pytest.raises(StudyInvalid, match=says):
        drafted(Terms(**terms))


@pytest.mark.slow
def test_patients_are_drawn_for_an_upload_and_never_without_one() -> None:
    """Nothing can be drawn beside the door: for a sum of all patients, or before and after an upload."""
    from nodes.errors import InternalError

    study, identities = drafted(Terms(**RDP, sampling_probability=0.5), steps=2)
    doors: list[Any] = []

    def before(_member: int, query: Query, door: Any) -> None:
        if query.kind != "gradient":
            doors.append(door)
            with pytest.raises(InternalError, match="never without one"):
                door.sampling(8)

    everybody(study, identities, before_door=before)

    assert doors
    with pytest.raises(InternalError, match="never without one"):
        doors[0].sampling(8)


@pytest.mark.parametrize("other", [0.25, 1.0])
def test_a_sampler_of_another_probability_than_is_charged_is_refused(other: float) -> None:
    from dp.sampling import FULL_BATCH, Poisson
    from models.errors import MisuseError

    study, _ = drafted(Terms(**RDP, sampling_probability=0.5))
    sampler = FULL_BATCH if other == 1 else Poisson(other, bytes)
    data = patients(study, 1)

    with pytest.raises(MisuseError, match=r"charges for samples of probability 0\.5, the sampler draws with"):
        survival_plan(spec_of(study), data, data, UnprotectedSum(), sampler=sampler)


def test_what_a_stage_is_charged_for_is_what_its_query_asks() -> None:
    """A query that samples is none of a study that does not, and the contrary."""
    from dataclasses import replace

    study, _ = drafted(Terms(**RDP, sampling_probability=0.5))
    query = spec_of(study).query("gradient")
    assert query.sampling_probability == 0.5
    assert study.stage_of(query).sampling_probability == 0.5
    assert spec_of(study).query("breslow").sampling_probability == 1.0

    with pytest.raises(StudyInvalid, match="is not the one"):
        study.stage_of(replace(query, sampling_probability=1.0))


def test_in_narrow_lanes_the_smallest_roster_is_charged_for() -> None:
    """The multiplier holds at every roster; the rounding costs most where there is least noise."""
    from nodes.grids import grid

    study, _ = drafted(Terms(**RDP, lane_bits=16))
    manifest, stage = study.manifest(), study.stages[0]
    query = spec_of(study).query("gradient")
    event = study.event(stage)
    assert isinstance(event, NarrowEvent)
    variances = [
        grid(manifest, query, size).terms(query).share_variance * manifest.honest(size)
        for size in range(manifest.minimum_roster, 6)
    ]
    assert event.variance == min(variances) == variances[0] < variances[-1]


def test_every_order_that_a_budget_may_have_is_accounted_in_narrow_lanes() -> None:
    """R is proven at orders up to the variance of the honest noise, which is never below 16² steps²."""
    assert LARGEST_ORDER <= LEAST_NOISE**2
    study, _ = drafted(
        Terms(budget="RDP", order=256, epsilon=200.0, holdout_epsilon=200.0, patient_cap=32, lane_bits=16)
    )
    assert study.epsilon(Account.TRAINING) == pytest.approx(200.0, rel=1e-6)
