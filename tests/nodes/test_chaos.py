"""SIGKILL at random moments: no ledger under-counts, no round is masked twice, every run ends or says why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from secagg.manifest import Mode
from tests.nodes.chaos import all_models_equal, small_consortium, under_fire

pytest.importorskip("SurvSet", reason="the demo's patients come with the extra `demo`")


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(Mode))
def test_three_kills(tmp_path: Path, mode: Mode) -> None:
    consortium = small_consortium(tmp_path / "demo", steps=20, uploads=60, changes=40, pace=0.3, mode=mode)

    report = under_fire(consortium, kills=3, seed=1)

    assert sum(report.kills.values()) == 3
    assert report.received <= report.charged
    assert set(report.endings.values()) == {0}, report.reasons
    assert all_models_equal(consortium)


@pytest.mark.chaos
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(tmp_path: Path, seed: int, mode: Mode) -> None:
    consortium = small_consortium(tmp_path / "demo", steps=40, uploads=200, changes=60, pace=0.5, mode=mode)

    report = under_fire(consortium, kills=8, seed=seed)
    print(f"mode {mode}, seed {seed}: killed {report.kills}; exit statuses {report.endings}; {report.reasons}")  # noqa: T201 -- the record of `make chaos`

    assert report.received <= report.charged
    # A run may end early with a reason, never with a fault (70) and never silently.
    assert 70 not in report.endings.values(), report.reasons
    assert all(report.reasons.get(name) for name, code in report.endings.items() if code)
    if set(report.endings.values()) == {0}:
        assert all_models_equal(consortium)
