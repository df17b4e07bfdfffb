"""Survival networks as public numbers: shapes, starts and predictions, without torch."""

from collections.abc import Mapping

from models.errors import MisuseError
from models.networks.base import Arrays, Layout, Network, parameter_count
from models.networks.ensemble import MOST_MEMBERS, Ensemble
from models.networks.fusion import FusedBlocks
from models.networks.hazards import RISK_BOUND, Hazards
from models.networks.savae import LatentWeibull

__all__ = [
    "MOST_MEMBERS",
    "RISK_BOUND",
    "Arrays",
    "Ensemble",
    "FusedBlocks",
    "Hazards",
    "LatentWeibull",
    "Layout",
    "Network",
    "parameter_count",
    "rebuild",
]


def rebuild(learner: str, form: Mapping[str, object]) -> Network:
    """Return the network that a model file describes.

    Args:
        learner: its kind.
        form: what `Network.to_json` said.

    Raises:
        MisuseError: not the description of a network of this kind.
    """
    lists = {key: tuple(value) for key, value in form.items() if isinstance(value, list)}
    codes, members = form.get("latent", 1), form.get("members", 2)
    if type(codes) is not int or type(members) is not int or not all(_known(*each) for each in lists.items()):
        raise MisuseError(f"no network {learner!r} of this form")
    if not (1 <= codes <= 4096 and 2 <= members <= MOST_MEMBERS):
        raise MisuseError(f"no network {learner!r} of this form")
    match learner, sorted(lists), sorted(set(form) - set(lists)):
        case "cox" | "deepsurv", ["hidden"], []:
            found: Network = Hazards(lists["hidden"])
        case "deepsurv", ["hidden"], ["members"] if lists["hidden"]:
            found = Ensemble(lists["hidden"], members)
        case "savae", ["binary", "hidden"], ["latent"]:
            found = LatentWeibull(lists["hidden"], codes, lists["binary"])
        case "fusion", ["blocks", "hidden", "vectors"], ["latent"]:
            found = FusedBlocks(lists["hidden"], codes, lists["blocks"], lists["vectors"])
        case _:
            raise MisuseError(f"no network {learner!r} of this form")
    if found.learner != learner:
        raise MisuseError(f"a network of this form is no {learner!r}")
    return found


def _known(key: str, numbers: tuple[object, ...]) -> bool:
    """Widths from 1, positions from 0; whether they fit the features is the layout's business."""
    low, high = (0, 99_999) if key in {"binary", "vectors"} else (1, 4096 if key == "hidden" else 100_000)
    return all(type(n) is int and low <= n <= high for n in numbers)
