"""Studies that name an algorithm: drafted or refused, over real sockets, charged, rehearsed, called what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from audits import policy
from dp.central import UnprotectedSum
from dp.events import GaussianEvent
from dp.queries import Account, Float64, Query
from models import artefact
from models.algorithms import newton as newtons
from models.algorithms.chosen import Cox, Own, read
from models.algorithms.local import OwnNoise, step_query
from models.data import SurvivalData, inputs
from models.losses import CoxPartialLikelihood
from models.plan import Outcome, survival_plan
from models.presets import PRESETS
from models.training import fit
from nodes import plans, rounds, showing
from nodes.auditing import self_check
from nodes.consistency import unsuited
from nodes.demo.consortium import PRESET
from nodes.door import Door
from nodes.drafting import check_plan
from nodes.errors import InternalError, StudyInvalid
from nodes.guarantees import epsilon_views_of
from nodes.protocol import Terms, spec_of
from nodes.rounds import Asked
from nodes.study import SignedStudy, Study, parse
from secagg.keys import Identity
from secagg.manifest import Mode, Noise
from tests.nodes import modes
from tests.nodes.modes import NAMES, Left, Stopped, patients, run
from tests.nodes.parties import Certificates, provision, served
from tests.nodes.released import drafting

LOCAL, SILENT = Terms(noise=Noise.LOCAL), Terms(noise=Noise.NONE)
BANDS = ("20-49", "50-99", "100-249", "100-249", "500 or more")
CARD: dict[str, Any] = {
    "profile": {}, "study": {}, "transcript": "00", "metrics": {}, "intended_use": "", "limits": [], "privacy": {},
}  # fmt: skip


def drafted(asked: Asked, terms: Terms, name: str = "aml-small", **changes: Any) -> tuple[Study, list[Identity]]:
    return modes.drafted(terms, name, bands=BANDS, algorithm=asked, **changes)


def learn(study: Study, member: int, through: Any, door: Door) -> Outcome:
    own = Own(member - 1, study.privacy.noise, door.local_noise)
    return survival_plan(spec_of(study), patients(study, member), patients(study, member + 100, 12), through, own=own)


def parts(study: Study) -> list[SurvivalData]:
    return [patients(study, member) for member in range(1, len(NAMES) + 1)]


def pooled(study: Study) -> SurvivalData:
    names = ("x", "observed", "duration", "event")
    return SurvivalData(*(np.concatenate([getattr(part, name) for part in parts(study)]) for name in names))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return provision(tmp_path_factory.mktemp("certificates"), len(NAMES))


@pytest.fixture
def over_sockets(certificates: Certificates) -> Callable[[Study, list[Identity]], list[Left]]:
    def everybody(study: Study, identities: list[Identity]) -> list[Left]:
        with served(certificates, study) as links:
            left = [each for each in run(study, identities, learn=learn, links=links) if each is not None]
        assert len(left) == len(NAMES)
        assert len({artefact.to_bytes(each.outcome.model, CARD) for each in left}) == 1
        for each in left:
            assert all(study.stage_of(query) for query in each.records.queries)
            asked = Counter(query.kind for query in each.records.queries)
            assert asked == {s.kind: s.steps for s in study.stages if not s.kind.startswith("score-histogram")}
        return left

    return everybody


def test_fedavg_without_noise_and_one_local_step_is_descent_on_everybodys_patients(over_sockets: Any) -> None:
    study, identities = drafted(Asked("fedavg", rounds=4, local_steps=1, bound=100.0), SILENT)

    left = over_sockets(study, identities)

    spec = spec_of(study)
    lockstep = replace(spec, algorithm=None, multipliers={"gradient": 1.0})
    central = fit(
        spec.preset, len(spec.features), spec.weights, pooled(study), UnprotectedSum(),
        lambda t: lockstep.query("gradient", t),
    )  # fmt: skip
    ours, theirs = (np.frombuffer(each, "<f8") for each in (left[0].outcome.trained.params, central.params))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.max(np.abs(ours - np.frombuffer(study.weights, "<f8"))) > 0.01
    assert left[0].outcome.trained.steps_done == 4


def test_fedprox_with_local_noise_charges_an_upload_for_all_its_local_steps(
    over_sockets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secagg.keys import hedged_key as hedged

    drawn: list[Query] = []
    keys: list[bytes] = []
    real = OwnNoise.__call__

    def noted(self: OwnNoise, query: Query, clipped: Float64) -> Float64:
        drawn.append(query)
        return real(self, query, clipped)

    def key(fresh: bytes, secret: bytes, purpose: bytes) -> bytes:
        keys.append(hedged(bytes(32), secret, purpose))  # also with a generator that stands still
        return keys[-1]

    monkeypatch.setattr(OwnNoise, "__call__", noted)
    monkeypatch.setattr("nodes.door.hedged_key", key)
    study, identities = drafted(Asked("fedprox", rounds=3, local_steps=4), LOCAL)

    left = over_sockets(study, identities)

    stage = study.stages[0]
    event = study.event(stage)
    assert event == GaussianEvent("update", stage.multiplier, Account.TRAINING)
    assert study.epsilon(Account.TRAINING) == pytest.approx(2.0, rel=1e-6)
    assert len(drawn) == 5 * 3 * 4
    clip, z = rounds.step_noise(study) or (0.0, 0.0)
    assert {(query.sensitivity, query.multiplier) for query in drawn} == {(clip, z)}
    assert 4 / z**2 <= 1 / stage.multiplier**2 <= 4 / z**2 * (1 + 1e-12)
    # Two streams for each upload of updates, one for every other upload, none of them twice.
    assert len(keys) == len(set(keys)) == 5 * (3 * 2 + 3)
    assert study.protection in {each.protection for each in left[0].told}
    assert "local noise" in study.protection
    # Nobody else's noise is counted on, by any of the three views.
    assert {view.epsilon_5 for view in epsilon_views_of(study, Account.TRAINING)} == {
        epsilon_views_of(study, Account.TRAINING)[0].epsilon_5
    }


def test_newton_is_the_pooled_stratified_cox_model(over_sockets: Any) -> None:
    study, identities = drafted(Asked("newton", rounds=12, ridge=2.0), SILENT)

    left = over_sockets(study, identities)

    algorithm = read(study.learning.algorithm or {})
    assert isinstance(algorithm, Cox)
    strata = [part.bounded(spec_of(study).preset.horizon) for part in parts(study)]

    def objective(beta: Any) -> tuple[float, Any]:
        at = torch.tensor(beta, requires_grad=True)
        loss = (at**2).sum()  # ridge 2
        for data in strata:
            z = torch.from_numpy(inputs(data.x, data.observed))
            loss = loss + CoxPartialLikelihood().total(z @ at, torch.tensor(data.duration), torch.tensor(data.event))
        loss.backward()  # type: ignore[no-untyped-call]
        assert at.grad is not None
        return float(loss.detach()), at.grad.numpy()

    size = 2 * len(study.learning.features)
    found = minimize(objective, np.zeros(size), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 500})
    beta = np.frombuffer(left[0].outcome.trained.params, "<f8")[-size:]
    np.testing.assert_allclose(beta, found.x, atol=5e-6)
    assert left[0].outcome.recalibrated
    assert plans.title(study) == "linear Cox model, preset aml-small, exact by Newton's method"


def test_newton_on_the_grid_is_the_pooled_fit() -> None:
    study, identities = drafted(Asked("newton", form="grid"), SILENT)

    left = [each for each in run(study, identities, learn=learn) if each is not None]

    spec = spec_of(study)
    assert isinstance(spec.algorithm, Cox)
    likelihood = spec.algorithm.likelihood(spec.preset, len(spec.features))
    central = newtons.fit(
        spec.algorithm.newton, likelihood, len(spec.features), pooled(study), spec.preset.horizon, UnprotectedSum(),
        lambda t: likelihood.query(1.0, 4096, t), noise=Noise.NONE,
    )  # fmt: skip
    params = {each.outcome.trained.params for each in left}
    assert len(params) == 1
    beta = np.frombuffer(params.pop(), "<f8")[-2 * len(spec.features) :]
    np.testing.assert_allclose(beta, central.beta, atol=1e-5)


def test_a_round_that_is_done_again_draws_again(monkeypatch: pytest.MonkeyPatch) -> None:
    study, identities = drafted(Asked("fedavg", rounds=2, local_steps=2), LOCAL)
    noise: dict[int, list[bytes]] = {member: [] for member in range(1, 6)}
    doors: dict[int, Door] = {}
    real = Door.local_noise

    def noted(self: Door, query: Query, clipped: Float64) -> Float64:
        noisy = real(self, query, clipped)
        member = next(member for member, door in doors.items() if door is self)
        noise[member].append((noisy - clipped).tobytes())
        return noisy

    def before(member: int, query: Query, door: Door) -> None:
        doors[member] = door
        if member == 5 and query.kind == "update" and query.index == 1:
            raise Stopped

    monkeypatch.setattr(Door, "local_noise", noted)
    left = run(study, identities, before_door=before, learn=learn)

    assert left[4] is None
    again = False
    for member, site in enumerate(left[:4], start=1):
        assert site is not None
        charged = [query.index for query in site.records.queries if query.kind == "update"]
        assert charged in ([0, 1, 1], [0, 1])
        assert len(noise[member]) == len(set(noise[member])) == 2 * len(charged)
        again = again or len(charged) == 3
    assert again


def test_an_upload_without_all_its_noise_does_not_leave() -> None:
    """A trainer that forgets a step, takes one more, or asks for less noise than is charged, sends nothing."""
    study, identities = drafted(Asked("fedavg", rounds=1, local_steps=2), LOCAL)
    told: list[BaseException] = []

    def cheats(_study: Study, member: int, through: Any, door: Door) -> None:
        spec = spec_of(study)
        query = spec.query("update").about(bytes(member))
        nothing = np.zeros(query.length)
        step = step_query(query, spec.preset.clip, 2, 0)

        def of(steps: int, change: Callable[[Query], Query] = lambda q: q) -> Callable[[], Float64]:
            return lambda: [nothing, *(door.local_noise(change(step), nothing) for _ in range(steps))][-1] * 1e-9

        with pytest.raises(InternalError, match="never without one"):
            door.local_noise(step, nothing)
        try:
            through(
                query,
                {
                    1: of(0),
                    2: of(1),
                    3: of(3),
                    4: of(2, lambda q: replace(q, multiplier=q.multiplier / 2)),
                    5: of(2, lambda q: replace(q, sensitivity=q.sensitivity / 2)),
                }[member],
            )
        except (InternalError, StudyInvalid) as error:
            told.append(error)
            raise Stopped from error

    left = run(study, identities, learn=cheats)

    assert left == [None] * 5
    says = sorted(str(error)[:60] for error in told)
    assert len([each for each in says if "not the clip norm or the noise" in str(each) or "local step 0" in each]) == 2
    assert len([each for each in told if isinstance(each, InternalError)]) == 3


@pytest.mark.parametrize(
    ("asked", "terms", "says"),
    [
        (Asked("fedavg"), Terms(), r"use lockstep steps.*or local noise.*or declare a study without"),
        (Asked("fedprox"), Terms(), "share of noise in the sum cannot cover"),
        (Asked("newton"), Terms(), r'learner "cox", lockstep.*declare a study without differential privacy'),
        (Asked("newton"), LOCAL, "no sum over patients"),
        (
            Asked("fedavg"),
            Terms(noise=Noise.LOCAL, budget="RDP", order=8, patient_cap=256, lane_bits=16),
            "use lane_bits 64, or lockstep",
        ),
        (
            Asked("fedavg"),
            Terms(noise=Noise.LOCAL, budget="RDP", order=8, sampling_probability=0.5),
            "leave sampling out, or use lockstep",
        ),
        (Asked("fedavg", local_steps=0), LOCAL, "local_steps must be 1"),
        (Asked("fedavg", bound=0.0), LOCAL, "bound and server_rate"),
        (Asked("fedprox", proximal=0.0), LOCAL, "is fedavg: name that"),
        (Asked("newton", ridge=0.0), SILENT, "the ridge must be"),
        (Asked("newton", form="grid", rounds=101), SILENT, "1 … 100 steps"),
    ],
)
def test_what_is_not_protected_or_makes_no_sense_is_refused(asked: Asked, terms: Terms, says: str) -> None:
    from models.errors import ConfigError

    with pytest.raises((StudyInvalid, ConfigError), match=says):
        drafted(asked, terms)


def test_a_generator_and_a_network_without_a_partial_likelihood_are_refused() -> None:
    with pytest.raises(StudyInvalid, match="an algorithm of its own"):
        drafted(Asked("fedavg"), LOCAL, "bayesnet-scores")
    with pytest.raises(StudyInvalid, match="name a preset of cox or deepsurv"):
        drafted(Asked("newton"), SILENT, "savae-wide")
    with pytest.raises(StudyInvalid, match="newton has no local steps"):
        Asked("newton", local_steps=3)
    with pytest.raises(StudyInvalid, match="fedavg has no proximal"):
        Asked("fedavg", proximal=0.1)


@pytest.mark.parametrize("noise", [Noise.LOCAL, Noise.NONE])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shares": [0.2] * 5}, "other shares than follow from its declared size bands"),
        ({"local_steps": 6}, None),
        ({"proximal": 0.5}, "fedavg a proximal of 0"),
        ({"bound": 11.0}, "is not the one that study"),
        ({"name": "fedsgd"}, "none of fedavg, fedprox, newton"),
        ({"more": 1}, "averaging has the fields"),
    ],
)
def test_an_edited_algorithm_is_seen_before_anybody_signs(
    change: dict[str, Any], says: str | None, noise: Noise
) -> None:
    study, _ = drafted(Asked("fedavg"), Terms(noise=noise))
    body = {**(study.learning.algorithm or {}), **change}
    other = msgspec.structs.replace(study, learning=msgspec.structs.replace(study.learning, algorithm=body))

    def looked_at() -> None:
        check_plan(parse(SignedStudy(other).to_json(), "study.json").study)

    assert other.digest() != study.digest()
    if says is None:  # more local steps are other noise in each, at the same price
        looked_at()
        assert other.epsilon(Account.TRAINING) == study.epsilon(Account.TRAINING)
        return
    with pytest.raises(StudyInvalid, match=says):
        looked_at()


def test_a_lockstep_study_does_not_mention_an_algorithm_and_another_noise_is_refused_when_read() -> None:
    study, _ = drafted(Asked("newton"), SILENT)
    lockstep = msgspec.structs.replace(study, learning=msgspec.structs.replace(study.learning, algorithm=None))
    assert b"algorithm" not in SignedStudy(lockstep).to_json()
    averaged, _ = drafted(Asked("fedavg"), LOCAL)
    assert not list(unsuited(averaged))
    for algorithm, noise, says in (
        (study.learning.algorithm, Noise.LOCAL, "algorithm newton, noise local: Cox's partial likelihood is no sum"),
        (averaged.learning.algorithm, Noise.DISTRIBUTED, "algorithm fedavg, noise distributed: what several local"),
    ):
        other = msgspec.structs.replace(
            averaged,
            learning=msgspec.structs.replace(averaged.learning, algorithm=algorithm),
            privacy=msgspec.structs.replace(averaged.privacy, noise=noise),
        )
        with pytest.raises(StudyInvalid, match=says):
            parse(SignedStudy(other).to_json(), "study.json")


def test_shares_follow_from_declared_bands() -> None:
    study, _ = drafted(Asked("fedavg"), SILENT)
    middles = (34.5, 74.5, 174.5, 174.5, 500.0)
    assert (study.learning.algorithm or {})["shares"] == pytest.approx([size / sum(middles) for size in middles])
    for band in ("none", "", "0", "49-20", "ten"):
        with pytest.raises(StudyInvalid, match="says no number of patients"):
            rounds.shares(["20-49", band])


def test_the_self_check_rehearses_local_steps_and_sees_half_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    study, _ = drafted(Asked("fedavg", rounds=2, local_steps=3), LOCAL)
    spec = spec_of(study)
    preset, features = spec.preset, spec.features
    from models.predict import SurvivalModel

    model = SurvivalModel.as_trained(features, preset.network, preset.grid, spec.weights)
    limits = policy.load("research")

    checked = self_check(study, model, limits)

    _, z = rounds.step_noise(study) or (0.0, 0.0)
    assert checked.mechanism.conforms, checked.mechanism
    assert checked.mechanism.claimed_multiplier == z

    real = OwnNoise.__call__

    def half(self: OwnNoise, query: Query, clipped: Float64) -> Float64:
        return clipped + (real(self, query, clipped) - clipped) / 2

    monkeypatch.setattr(OwnNoise, "__call__", half)
    assert not self_check(study, model, limits).mechanism.conforms


def test_drafted_at_the_keyboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    haemfed, basis = drafting(tmp_path, NAMES[:4], capsys, monkeypatch)

    code, _, said = haemfed(
        *basis, "--algorithm", "fedprox", "--noise", "local", "--rounds", "6", "--local-steps", "3",
        "--proximal", "0.5",
    )  # fmt: skip
    assert code == 0, said
    study = parse(Path("study.json").read_bytes(), "study.json").study
    assert (study.learning.algorithm or {})["local_steps"] == 3
    first = study.stages[0]
    assert (first.kind, first.steps, first.uploads) == ("update", 6, 7)
    shown = haemfed("study", "show", "study.json")[1]
    assert "algorithm: fedprox, every sum is one of changes by 3 local steps, pulled back with μ = 0.5" in shown
    assert "lowers no ε" in shown
    for arguments, words in (
        (("--algorithm", "fedprox"), "or local noise"),
        (("--algorithm", "newton", "--noise", "none", "--bound", "3"), "newton has no bound"),
        (("--local-steps", "3"), "--local-steps: lockstep has none of these"),
    ):
        code, _, said = haemfed(*basis, *arguments)
        assert (code, words in said) == (12, True), said


def test_a_person_reads_the_protection(capsys: pytest.CaptureFixture[str]) -> None:
    del capsys
    lines = "\n".join(showing.terms(drafted(Asked("newton"), SILENT)[0]))
    assert "no noise: masks only, not differentially private" in lines
    assert "stratified by hospital by 10 sums, ridge 30" in lines
    lines = "\n".join(showing.terms(drafted(Asked("fedavg"), Terms(noise=Noise.NONE, mode=Mode.B))[0]))
    assert "fedavg, every sum is one of changes by 5 local steps, each cut to norm 10" in lines
    assert PRESETS[PRESET].name in lines
