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
from secagg.manifest import Mode
from tests.nodes.studies import make


@pytest.mark.parametrize(("mode", "honest"), [(Mode.A, 4), (Mode.B, 3)])
def test_every_site_decodes_the_same_sum_and_the_noise_is_what_was_charged(mode: Mode, honest: int) -> None:
    path = Rehearsal(sites=5, length=40, mode=mode)
    nothing = null_contributions(path, 25)

    run = path.run(nothing)

    assert run.sums.shape == (25, 40)
    assert (run.roster, run.honest) == (5, honest)
    assert conformance(run, nothing).conforms


@pytest.mark.parametrize("mode", list(Mode))
def test_contributions_come_out_as_their_sum(mode: Mode) -> None:
    path = Rehearsal(sites=4, length=8, multiplier=2.0**-10, patient_cap=8, mode=mode)
    rows = np.random.default_rng(1).uniform(-1, 1, (3, 4, 8))

    run = path.run(rows)

    np.testing.assert_allclose(run.sums, rows.sum(axis=1), atol=0.05)


@pytest.mark.parametrize("factor", [0.8, 1.3])
def test_a_path_with_other_noise_is_caught(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    import nodes.door

    honest = nodes.door.draw
    monkeypatch.setattr(nodes.door, "draw", lambda stream, n: np.rint(honest(stream, n) * factor).astype(np.int64))
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
