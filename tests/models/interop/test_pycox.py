"""pycox: the same curves there, scored there as here, and as one file that torch alone reads."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pycox.evaluation import EvalSurv

from models.data import SurvivalData
from models.errors import ConfigError
from models.interop import nets
from models.interop.facts import facts
from models.interop.pycox import FACTS, to_pycox, to_torchscript
from models.metrics import antolini_c, integrated_brier_score
from tests.models.interop.invented import GRID, NETWORKS, OPEN, card, extreme, model, patients

READ = """
import sys
import numpy as np, torch
from pycox.models import PCHazard

path, rows, out = sys.argv[1:]
given = np.load(rows)
model = PCHazard(torch.jit.load(path), duration_index=given["grid"])
np.save(out, model.predict_surv_df((given["x"], given["observed"])).to_numpy())
assert not {"models", "harmonize"} & set(sys.modules)
"""


@pytest.mark.parametrize("imputes", [False, True], ids=["masks", "imputes"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_has_the_same_curves(kind: str, imputes: bool) -> None:
    made = model(kind, imputes=imputes)
    x, observed = patients(60)

    frame = to_pycox(made, sub=4).predict_surv_df((x, observed))

    days = frame.index.to_numpy()
    assert np.allclose(days[::4], GRID)
    wanted = made.survival(x, observed, days)
    np.testing.assert_allclose(frame.to_numpy().T, wanted, rtol=0, atol=1e-12)
    assert np.ptp(wanted[:, 8]) > 0.2, "a model that ranks nobody proves nothing"


@pytest.mark.parametrize("kind", NETWORKS)
def test_bounds_and_intervals_without_deaths(kind: str) -> None:
    made = extreme(kind)
    x, observed = patients(100)

    frame = to_pycox(made).predict_surv_df((x, observed))

    np.testing.assert_allclose(frame.to_numpy().T, made.survival(x, observed, np.array(GRID)), rtol=0, atol=1e-9)


def test_scores_there_are_the_scores_here() -> None:
    made, rng = model("savae"), np.random.default_rng(1)
    x, observed = patients(200)
    theirs = to_pycox(made, sub=20)
    frame = theirs.predict_surv_df((x, observed))
    days = frame.index.to_numpy()
    # Deaths of the model's own curves, on days at which pycox has a value: between them it takes a step, we the curve.
    death = (made.survival(x, observed, days) > rng.random((200, 1))).sum(axis=1)
    lost = rng.integers(1, len(days), size=200)
    duration = days[np.minimum(death, lost)]
    data = SurvivalData(x, observed, duration, death <= lost)

    scored = EvalSurv(frame, data.duration, data.event.astype(int), censor_surv="km")
    times = days[5:-25:3]
    found = scored.brier_score(times).to_numpy()

    mine = antolini_c(made, data)
    assert mine == pytest.approx(scored.concordance_td("antolini"), abs=1e-12)
    assert 0.6 < mine < 0.95
    brier = integrated_brier_score(made.survival(x, observed, times), data, times, cap=np.inf)
    assert brier == pytest.approx(np.trapezoid(found, times) / (times[-1] - times[0]), abs=1e-12)
    assert 0.02 < brier < 0.25


@pytest.mark.parametrize("imputes", [False, True], ids=["masks", "imputes"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_file_has_the_same_curves_and_the_facts(kind: str, imputes: bool) -> None:
    made = model(kind, imputes=imputes)
    x, observed = patients(60)

    exported = to_torchscript(made, card(privacy=OPEN))

    assert exported.difference < 1e-8
    extra = {FACTS: ""}
    net = torch.jit.load(io.BytesIO(exported.data), _extra_files=extra)
    stated = json.loads(extra[FACTS])
    assert stated == facts(made, card(privacy=OPEN))
    assert stated["haemfed.protection"] == OPEN["protection"]
    with torch.no_grad():
        expected = torch.nn.functional.softplus(net(torch.from_numpy(x), torch.from_numpy(observed))).numpy()
    wanted = made.survival(x, observed, np.array(GRID))[:, 1:]
    np.testing.assert_allclose(np.exp(-np.cumsum(expected, axis=1)), wanted, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_the_file_needs_pycox_and_nothing_of_ours(tmp_path: Path) -> None:
    made = model("fusion", imputes=True)
    x, observed = patients(30)
    (tmp_path / "net.pt").write_bytes(to_torchscript(made, card()).data)
    np.savez(tmp_path / "rows.npz", x=x, observed=observed, grid=np.array(GRID))

    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ, "net.pt", "rows.npz", "curves.npy"], cwd=tmp_path, check=True
    )

    wanted = made.survival(x, observed, np.array(GRID))
    np.testing.assert_allclose(np.load(tmp_path / "curves.npy").T, wanted, rtol=0, atol=1e-12)


def test_curves_of_another_model_are_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = nets.IntervalHazards
    monkeypatch.setattr(nets, "IntervalHazards", lambda _: right(model("deepsurv", seed=4)))

    with pytest.raises(ConfigError, match="would give other hazards"):
        to_pycox(model("deepsurv"))


def test_a_file_of_another_model_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    trace, other = torch.jit.trace, to_pycox(model("deepsurv", seed=4)).net
    monkeypatch.setattr(torch.jit, "trace", lambda _, rows: trace(other, rows))

    with pytest.raises(ConfigError, match="would give other hazards"):
        to_torchscript(model("deepsurv"), card())


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycox.models", None)

    for export in (lambda: to_pycox(model("cox")), lambda: to_torchscript(model("cox"), card())):
        with pytest.raises(ConfigError, match=r"pip install 'haemfed\[interop\]'"):
            export()
