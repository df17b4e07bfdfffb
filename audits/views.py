"""One guarantee as different adversaries see it, and what each ε means for one patient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audits import gaussian
from audits.ceilings import Ceiling
from audits.errors import MisuseError
from dp.budget import gaussian_delta

__all__ = ["Coalition", "EpsilonView", "MeaningRow", "epsilon_views", "meaning", "views"]


@dataclass(frozen=True)
class EpsilonView:
    """The same releases as one adversary sees them.

    Attributes:
        against: who.
        meaning: what he holds, in words.
        mu: μ against him; None where the budget is kept in RDP.
        epsilon_5: ε at δ = 1e-5; infinite where nothing is proven.
        epsilon_6: ε at δ = 1e-6.
        main: this is the ε that the study and the certificate claim.
    """

    against: str
    meaning: str
    mu: float | None
    epsilon_5: float
    epsilon_6: float
    main: bool = False


@dataclass(frozen=True)
class Coalition:
    """ε against the coordinator and some hospitals that pool their keys and their noise.

    Attributes:
        fewest: hospitals in it.
        most: the same, or a larger number: then the row is that of the largest.
        noise: variance that they cannot take off a sum ÷ variance that the claim counts on.
        training: ε of a training patient at the claim's δ; None where nothing is proven.
        holdout: ε of a hold-out patient, likewise.
        main: this is the coalition that the study and the certificate speak of.
    """

    fewest: int
    most: int
    noise: float
    training: float | None
    holdout: float | None
    main: bool = False


@dataclass(frozen=True)
class MeaningRow:
    """What an ε means for one patient, in the terms of `audits.gaussian`.

    Attributes:
        against: which adversary.
        epsilon: ε at δ = 1e-5.
        from_half: highest belief after, if it was 50 % before (any mechanism with this ε).
        from_tenth: the same from 10 %.
        from_hundredth: the same from 1 %.
        accuracy: best accuracy at guessing a coin-flip membership, by `audits.ceilings`.
        caught: members found per 100 at 1 % false alarms, likewise.
    """

    against: str
    epsilon: float
    from_half: float
    from_tenth: float
    from_hundredth: float
    accuracy: float
    caught: float


def epsilon_views(
    mu: float, *, roster: int, collusion: int, honest: int | None = None, outside: int | None = None
) -> tuple[EpsilonView, ...]:
    """State one guarantee of Gaussian DP against three adversaries; see `views`.

    >>> [round(view.epsilon_5, 2) for view in epsilon_views(0.5, roster=6, collusion=1)]
    [1.8, 1.99, 4.98]

    Args:
        mu: μ against the coordinator and c colluding sites.
        roster: as for `views`, like the other three.
        collusion: c.
        honest: h.
        outside: shares in every sum.

    Raises:
        MisuseError: no honest site is left.
    """

    def against(variance: float) -> tuple[float, float, float]:
        weaker = mu / math.sqrt(variance)
        # The share of δ that the lattice keeps is kept here, too: the number is the headline's, to the last digit.
        five, six = (gaussian.epsilon_of(weaker, gaussian_delta(delta)) for delta in (1e-5, 1e-6))
        return weaker, five, six

    return views(against, roster=roster, collusion=collusion, honest=honest, outside=outside)


def views(
    against: Callable[[float], tuple[float | None, float, float]],
    *,
    roster: int,
    collusion: int,
    honest: int | None = None,
    outside: int | None = None,
) -> tuple[EpsilonView, ...]:
    """State one guarantee against three adversaries.

    The claim counts on h shares of noise. Outsiders face all shares in a sum: at least h + c of them, if shares are
    shares of one noise. The coordinator with c sites faces h. If everybody else colludes only the site's own share is
    left.

    Args:
        against: (variance of the noise that is left ÷ variance that is counted on) → μ or None, and ε at δ = 1e-5 and
            1e-6.
        roster: |R|, the largest roster; the last line is worst for it.
        collusion: c ≥ 0, with h ≥ 1.
        honest: h, shares that the claim counts on; |R| − c unless a sum opens without some of R, or a site counts on
            its own noise alone.
        outside: shares in every sum; h + c if not given.

    Raises:
        MisuseError: no honest site is left.
    """
    honest = roster - collusion if honest is None else honest
    outside = honest + collusion if outside is None else outside
    if not 1 <= honest <= roster - collusion or collusion < 0 or not honest <= outside <= roster:
        raise MisuseError(f"{collusion} colluding sites of {roster} leave no honest one")
    hospitals = "hospital" if collusion == 1 else "hospitals"
    rows = (
        (
            "Anyone outside",
            "receives the model and the published scores, and none of the hospitals' secrets",
            outside,
            False,
        ),
        (
            f"The coordinator and {collusion} {hospitals}, together",
            "hold every sum, their own keys and their own noise; the claim of the study",
            honest,
            True,
        ),
        (
            "Everyone else together",
            f"all {roster - 1} other hospitals and the coordinator against this one: only its own noise is left",
            1,
            False,
        ),
    )
    return tuple(EpsilonView(who, what, *against(shares / honest), main) for who, what, shares, main in rows)


def meaning(seen: Sequence[EpsilonView]) -> tuple[MeaningRow, ...]:
    """Translate each ε at δ = 1e-5 into beliefs and hit rates."""
    rows = []
    for view in seen:
        ceiling = Ceiling(view.mu, view.epsilon_5, 1e-5)
        rows.append(
            MeaningRow(
                view.against,
                view.epsilon_5,
                gaussian.posterior(0.5, view.epsilon_5),
                gaussian.posterior(0.1, view.epsilon_5),
                gaussian.posterior(0.01, view.epsilon_5),
                ceiling.accuracy(),
                100.0 * ceiling.tpr(0.01),
            )
        )
    return tuple(rows)
