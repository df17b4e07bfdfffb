"""The production path in one process: exact sums, the noise it promises, and what happens when somebody lies."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from audits.mechanism import conformance, null_contributions
from dp.queries import Float64, Query
from nodes.errors import StudyInvalid, StudyStopped
from nodes.protocol import Terms
from nodes.rehearsal import Rehearsal
from nodes.study import Study
from secagg.manifest import Mode, Noise
from tests.nodes.studies import make
from tests.sweeps import thinned


@pytest.mark.parametrize(
    ("mode", "noise", "bits", "honest"),
    [
        (Mode.A, Noise.DISTRIBUTED, 64, 4),
        *thinned(
            (
                pytest.param(Mode.B, Noise.DISTRIBUTED, 21, 3),
                pytest.param(Mode.A, Noise.LOCAL, 32, 1),
                pytest.param(Mode.B, Noise.LOCAL, 64, 1),
                pytest.param(Mode.B, Noise.DISTRIBUTED, 64, 3),
                pytest.param(Mode.A, Noise.LOCAL, 64, 1),
                pytest.param(Mode.A, Noise.DISTRIBUTED, 16, 4),
            )
        ),
    ],
)
def test_every_site_decodes_the_same_sum_and_the_noise_is_what_was_charged(
    mode: Mode, noise: Noise, bits: int, honest: int
) -> None:
    path = Rehearsal(sites=5, length=40, mode=mode, noise=noise, lane_bits=bits)
    nothing = null_contributions(path, 25)

    run = path.run(nothing)

    assert run.sums.shape == (25, 40)
    assert (run.roster, run.honest) == (5, honest)
    # One right run in a thousand is called wrong.
    assert conformance(run, nothing).conforms or conformance(path.run(nothing), nothing).conforms


def test_in_narrow_lanes_contributions_come_out_as_their_sum_on_average() -> None:
    """Rounding is by chance and a step is as large as what one patient gives, but it has no bias."""
    path = Rehearsal(sites=4, length=2000, multiplier=1.0, patient_cap=8, lane_bits=16)
    rows = np.random.default_rng(1).uniform(-1, 1, (2, 4, 1)) * np.ones((2, 4, 2000))

    run = path.run(rows)

    assert run.step > 0.01
    np.testing.assert_allclose(run.sums.mean(axis=1), rows.sum(axis=1)[:, 0], atol=5 * run.noise_std / 2000**0.5)
    residuals = run.sums - rows.sum(axis=1)
    assert residuals.std() == pytest.approx(run.noise_std, rel=0.08)


@pytest.mark.parametrize("mode", list(Mode))
def test_contributions_come_out_as_their_sum(mode: Mode) -> None:
    path = Rehearsal(sites=4, length=8, multiplier=2.0**-10, patient_cap=8, mode=mode)
    rows = np.random.default_rng(1).uniform(-1, 1, (3, 4, 8))

    run = path.run(rows)

    np.testing.assert_allclose(run.sums, rows.sum(axis=1), atol=0.05)


@pytest.mark.parametrize("factor", thinned([0.8, 1.3], 2))
def test_a_path_with_other_noise_is_caught(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from dp import noise_shares

    honest = noise_shares.draw
    monkeypatch.setattr(noise_shares, "draw", lambda stream, n: np.rint(honest(stream, n) * factor).astype(np.int64))
    path = Rehearsal(sites=4, length=64)
    nothing = null_contributions(path, 30)

    assert not conformance(path.run(nothing), nothing).conforms


def test_a_site_whose_model_has_drifted_spoils_the_round_and_nothing_opens() -> None:
    class Drifted(Rehearsal):
        def _site(self, study: Study, index: int, *rest: Any) -> Float64:
            me = dataclasses.replace(self)
            if index == 2:
                object.__setattr__(me, "_query", lambda step: self._query(step).about(b"one bit off"))
            return Rehearsal._site(me, study, index, *rest)

    path = Drifted(sites=4, length=8)

    with pytest.raises(StudyStopped, match="runs another study"):
        path.run(null_contributions(path, 2))


def test_the_self_check_of_a_study_runs_the_studys_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    import nodes.auditing

    study, _ = make(Terms(mode=Mode.B))
    asked: list[Mode] = []

    def stop(**of_path: Any) -> Rehearsal:
        asked.append(of_path["mode"])
        raise StudyStopped("seen")

    monkeypatch.setattr(nodes.auditing, "Rehearsal", stop)
    with pytest.raises(StudyStopped):
        nodes.auditing.self_check(study, None, None)  # type: ignore[arg-type]
    assert asked == [Mode.B]


def test_a_query_that_nobody_signed_does_not_pass_the_door() -> None:
    class Greedy(Rehearsal):
        def _query(self, index: int) -> Query:
            return dataclasses.replace(Rehearsal._query(self, index), multiplier=self.multiplier / 2)

    path = Greedy(sites=4, length=8)

    with pytest.raises(StudyInvalid, match="is not the one that study"):
        path.run(null_contributions(path, 2))
