"""From a budget to noise multipliers.

One account's μ_max² is divided among the kinds of releases of a study. A kind with share s of μ² and
U uploads gets the multiplier z = √(U/s) / μ_max, so that U releases cost U/z² = s·μ_max². U is the number
of uploads, not of completed steps: an upload that was aborted is charged all the same.

>>> z = split_budget(2.0, 1e-5, {"gradient": (0.9, 66), "breslow": (0.1, 2)})
>>> {kind: round(value, 2) for kind, value in z.items()}
{'gradient': 17.07, 'breslow': 8.92}
"""

import math
from collections.abc import Mapping
from typing import Final

from dp.budget import Budget
from dp.errors import ConfigError
from dp.events import ACCOUNT_OF, GaussianEvent

_MARGIN: Final = 1 + 2.0**-30
_TOLERANCE: Final = 1e-9
"""Shares such as 0.7 + 0.2 + 0.1 may miss one by rounding; `_MARGIN` on z pays for it."""


def split_budget(epsilon: float, delta: float, shares: Mapping[str, tuple[float, int]]) -> dict[str, float]:
    """Return the noise multiplier of each kind of release.

    Guarantee: reserving U uploads of each kind at these multipliers fits `Budget(epsilon, delta)`, to the
    last unit.

    Args:
        epsilon: ε > 0 of the whole account.
        delta: δ of the whole account.
        shares: kind → (share of μ² in (0, 1], uploads ≥ 1); shares sum to at most 1. All kinds
            are charged to one account.

    Raises:
        ConfigError: a value outside its range, kinds of two accounts, or shares above 1.
    """
    budget = Budget(epsilon, delta)
    unknown = [kind for kind in shares if kind not in ACCOUNT_OF]
    if unknown:
        raise ConfigError(f"unknown kind of release {unknown[0]!r}")
    if len({ACCOUNT_OF[kind] for kind in shares}) > 1:
        raise ConfigError("training and holdout releases are charged to different accounts: split each budget alone")
    for kind, (share, uploads) in shares.items():
        if not (0 < share <= 1 and uploads >= 1):
            raise ConfigError(f"{kind}: needs a share in (0, 1] and at least one upload")
    if math.fsum(share for share, _ in shares.values()) > 1 + _TOLERANCE:
        raise ConfigError("the shares of the budget sum to more than 1")
    multipliers = {
        kind: math.sqrt(uploads / share) / budget.mu_max * _MARGIN for kind, (share, uploads) in shares.items()
    }
    cost = sum(
        uploads * GaussianEvent(kind, multipliers[kind], ACCOUNT_OF[kind]).units
        for kind, (_, uploads) in shares.items()
    )
    if not budget.admits(0, cost):
        raise ConfigError("the shares are too small to be told apart in whole units of the budget")
    return multipliers


def uploads_for(steps: int) -> int:
    """Return the uploads to reserve for T steps: T + ⌈T/10⌉, room for aborted rounds."""
    return steps + -(-steps // 10)
