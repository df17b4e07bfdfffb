"""A survival model as a `pycox.models.PCHazard`: its hazards are constant in each interval, as ours are.

`predict_surv` takes (x, observed), arrays float64[n, p] scaled by the profile and bool[n, p], and gives P(alive) at the
edges of the grid; with `sub` = m also between them, m steps an interval. What pycox computes of these curves
(`pycox.evaluation.EvalSurv`) is about the same predictions. The net has the model's weights, its recalibrated factors
and its imputation; pycox's `fit` trains it on without any protection.

As a file the net is a TorchScript archive: torch alone reads it, `torch.jit.load`, and the facts of
`models.interop.facts` are the extra file "haemfed.json" in it.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.data import DAYS_PER_YEAR, Float64
from models.errors import ConfigError
from models.interop import trial
from models.interop.facts import facts
from models.interop.onnx import Exported
from models.predict import SurvivalModel

if TYPE_CHECKING:
    from pycox.models import PCHazard

__all__ = ["FACTS", "to_pycox", "to_torchscript"]

FACTS: Final = "haemfed.json"
_MISSING: Final = "pycox is not installed here: pip install 'haemfed[interop]'"


def to_pycox(model: SurvivalModel, *, sub: int = 1) -> PCHazard:
    """The same curves as a `PCHazard`, compared with the model's before anybody gets it.

    Args:
        model: any survival model.
        sub: steps of each interval at which curves are given, ≥ 1.

    Raises:
        ConfigError: pycox is not installed, or its curves would be others.
    """
    try:
        from pycox.models import PCHazard  # noqa: PLC0415 - heavy, and an extra
    except ImportError as error:
        raise ConfigError(_MISSING) from error
    from models.interop.nets import IntervalHazards  # noqa: PLC0415 - loads torch

    made = PCHazard(IntervalHazards(model), duration_index=np.asarray(model.grid), sub=sub)
    x, observed = trial.invented(model)
    trial.agreed(model, _outputs(model, made.predict_hazard((x, observed))[:, 1:], sub), x, observed)
    return made


def to_torchscript(model: SurvivalModel, card: Mapping[str, Any]) -> Exported:
    """The net of `to_pycox` as one file, read back and compared with the model.

    Raises:
        ConfigError: pycox is not installed, or the file would predict something else.
    """
    import torch  # noqa: PLC0415 - heavy

    net = to_pycox(model).net.eval()
    x, observed = trial.invented(model)
    some = tuple(torch.from_numpy(rows[:3]) for rows in (x, observed))
    sink = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # TorchScript is deprecated in favour of torch.export, whose modules cannot be put into evaluation mode, which
        # pycox does before every prediction; and what the trace may have missed is seen by other patients below.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(net, some)  # type: ignore[no-untyped-call]
        stated = json.dumps(facts(model, card), ensure_ascii=False, indent=1)
        torch.jit.save(traced, sink, _extra_files={FACTS: stated.encode()})
        back = torch.jit.load(io.BytesIO(sink.getvalue()))  # type: ignore[no-untyped-call]
        phi = back(torch.from_numpy(x), torch.from_numpy(observed))
        expected = torch.nn.functional.softplus(phi).numpy()
    return Exported(sink.getvalue(), trial.agreed(model, _outputs(model, expected), x, observed))


def _outputs(model: SurvivalModel, expected: Float64, sub: int = 1) -> dict[str, Float64]:
    """What the trial compares, from expected deaths of each step; pycox has no name for a log-risk."""
    years = np.diff(np.asarray(model.grid)) / DAYS_PER_YEAR
    each = np.asarray(expected, dtype=np.float64).reshape(len(expected), model.intervals, sub).sum(axis=2)
    until = np.concatenate([np.zeros((len(each), 1)), np.cumsum(each, axis=1)], axis=1)
    return {"hazards": each / years, "survival": np.exp(-until)}
