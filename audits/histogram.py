"""The one look at patients that a certificate may print: two histograms of attack scores.

The score of a record is a function of that record, the released model and non-private references only
(`audits.references`), so adding or removing one patient changes exactly one count of one histogram by one:
sensitivity 1 in L2, for members (training account) and for hold-out patients (hold-out account) each. Both go
through the door like every other query. What is computed from the noisy histograms afterwards is
post-processing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import rfc8785

from audits import noisy_roc
from audits.errors import MisuseError
from audits.noisy_roc import AttackEvidence, RatePoint
from dp.queries import ACCOUNT_OF, Float64, Neighbours, Query
from dp.releases import NoisyCounts, cell_counts
from dp.releases.estimate import checked
from dp.releases.histogram import cell_sensitivity

__all__ = [
    "COARSE",
    "FINE",
    "MEMBERS",
    "NONMEMBERS",
    "RESOLVING",
    "AttackEvidence",
    "NoisyHistogram",
    "RatePoint",
    "ScoreBins",
    "ScoreHistogram",
    "attack_evidence",
    "count_scores",
    "members_query",
    "nonmembers_query",
    "suited",
    "with_count",
]

MEMBERS = "score-histogram-members"
NONMEMBERS = "score-histogram-nonmembers"


@dataclass(frozen=True)
class ScoreBins:
    """Public bins for scores; constants of the study, never quantiles of anything.

    B = len(edges) + 1 bins: (−∞, e₁), [e₁, e₂), …, [e_{B−1}, ∞). Scores are standardised
    (`audits.references`); the defaults are denser above the median, where the members of a model that
    memorised them gather, because a log-likelihood has a ceiling.
    """

    edges: tuple[float, ...] = (-2.0, -1.0, -0.4, 0.0, 0.25, 0.5, 0.75, 1.0, 1.4, 2.0)

    def __post_init__(self) -> None:
        if not self.edges or not all(math.isfinite(edge) for edge in self.edges):
            raise MisuseError("score bins need at least one finite edge")
        if any(left >= right for left, right in pairwise(self.edges)):
            raise MisuseError("the edges of score bins must strictly increase")

    @property
    def count(self) -> int:
        """Number of bins B."""
        return len(self.edges) + 1

    def places(self, scores: Float64) -> Float64:
        """Bin of each score, 0 … B − 1, as float64[n]; an edge belongs to the bin above it."""
        return np.searchsorted(np.asarray(self.edges), scores, side="right").astype(np.float64)

    def public(self, references: bytes) -> bytes:
        """Canonical bytes of everything public that fixes the scores, for the digest of the query.

        Args:
            references: digest of the public recipe of the references (`audits.references`): dictionary,
                recipe, seeds. Never of trained floats, whose last bits depend on the processor.
        """
        return rfc8785.dumps(
            {
                "format": "haemfed/score-bins/v1",
                "edges": [edge.hex() for edge in self.edges],
                "references": references.hex(),
            }
        )


COARSE = ScoreBins((-1.0, 0.0, 0.5, 1.0))
"""For fewer hold-out patients than `RESOLVING`: every bin brings its own noise into the AUC, and the many are for rates
that fewer do not resolve. With 165 hold-out patients at ε = 2 the standard error of the AUC falls from
.053 to .038."""
FINE = ScoreBins()
RESOLVING = 1000
"""Hold-out patients of whom ten are false alarms at 1 %; see `noisy_roc`."""


def suited(holdout: float) -> ScoreBins:
    """Bins for a study that expects so many hold-out patients: a declared number, not a count."""
    return FINE if holdout >= RESOLVING else COARSE


def with_count(count: int) -> ScoreBins:
    """The bins of a study whose histograms have so many.

    Raises:
        MisuseError: no bins are so many.
    """
    for bins in (COARSE, FINE):
        if bins.count == count:
            return bins
    raise MisuseError(f"there are score bins of {COARSE.count} and of {FINE.count}, not of {count}")


@dataclass(frozen=True)
class ScoreHistogram:
    """How many patients of one side of the split have a score in each bin.

    | score                 | contribution      |
    |-----------------------|-------------------|
    | NaN, ±inf             | zero              |
    | exactly on an edge    | the bin above it  |
    | no patient at all     | zeros             |

    Args:
        kind: `MEMBERS`, charged to the training patients, or `NONMEMBERS`, to the hold-out.
        bins: public bins.
        references: digest of the public recipe of the reference models, 32 bytes.

    Raises:
        MisuseError: another kind.
    """

    kind: str
    bins: ScoreBins
    references: bytes

    def __post_init__(self) -> None:
        if self.kind not in {MEMBERS, NONMEMBERS}:
            raise MisuseError(f"scores are of {MEMBERS} or {NONMEMBERS}, not of {self.kind!r}")

    @property
    def length(self) -> int:
        """Number of bins B."""
        return self.bins.count

    def sensitivity(self, neighbours: Neighbours) -> float:
        """1, and √2 for replace-one.

        Proof: the score of a record is a function of that record, the released model and references that never saw a
        patient; so one patient more adds one to one bin and moves nobody else's score. With shadow models
        trained on the site's own patients the second half fails, and with it every bound. ∎
        """
        return cell_sensitivity(neighbours)

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query.

        Args:
            multiplier: std of the honest noise in each count, in patients; μ of the release is its inverse.
            patient_cap: public cap on patients per site.
            index: 0-based number of this release within its kind.
        """
        sensitivity, account = self.sensitivity(Neighbours.ADD_OR_REMOVE_ONE), ACCOUNT_OF[self.kind]
        public = self.bins.public(self.references)
        return Query(self.kind, index, self.length, sensitivity, multiplier, account, patient_cap, public)

    def contribution(self, data: Float64) -> Float64:
        """Return the site's counts, float64[B], whole numbers.

        Args:
            data: float64[n], standardised scores of the site's patients on this side of the split.

        Raises:
            MisuseError: the scores are not one vector.
        """
        values = np.asarray(data, dtype=np.float64)
        if values.ndim != 1:
            raise MisuseError(f"scores must be one vector, got {values.ndim} dimensions")
        places = self.bins.places(values[np.isfinite(values)]).astype(np.intp)
        return cell_counts(places, self.length)

    def decode(self, total: Float64, noise_sd: float) -> NoisyCounts:
        """Return the counts with their standard error; `attack_evidence` makes an AUC of two of them."""
        return NoisyCounts(tuple(checked(self.kind, total, self.length, noise_sd).tolist()), noise_sd)


def members_query(bins: ScoreBins, *, multiplier: float, patient_cap: int, references: bytes, index: int = 0) -> Query:
    """Query for the histogram of the training patients' scores; see `ScoreHistogram.query`."""
    return ScoreHistogram(MEMBERS, bins, references).query(multiplier, patient_cap, index)


def nonmembers_query(
    bins: ScoreBins, *, multiplier: float, patient_cap: int, references: bytes, index: int = 0
) -> Query:
    """Query for the histogram of the hold-out patients' scores; see `ScoreHistogram.query`."""
    return ScoreHistogram(NONMEMBERS, bins, references).query(multiplier, patient_cap, index)


def count_scores(scores: Float64, bins: ScoreBins) -> Float64:
    """One site's contribution on either side; see `ScoreHistogram.contribution`."""
    return ScoreHistogram(MEMBERS, bins, b"").contribution(scores)


@dataclass(frozen=True)
class NoisyHistogram:
    """What came out of the door for one of the two queries.

    Attributes:
        query: the query that was charged.
        counts: noisy counts summed over the roster, B numbers.
        inflation: ≥ 1, (std of the whole noise) ÷ (std of the accounted honest noise): √(|R|/(|R|−c)) for the
            roster of the round, or its upper bound √(m/(m−c)) for the study's minimum roster m.
    """

    query: Query
    counts: tuple[float, ...]
    inflation: float

    def __post_init__(self) -> None:
        if len(self.counts) != self.query.length:
            raise MisuseError(f"{len(self.counts)} counts for a query of length {self.query.length}")
        if not 1.0 <= self.inflation < math.inf:
            raise MisuseError(f"noise inflation {self.inflation!r} is below 1")

    @property
    def noise_std(self) -> float:
        """Std of the whole noise in each count, at most: colluders add their shares too."""
        return self.query.multiplier * self.query.sensitivity * self.inflation


def attack_evidence(
    members: NoisyHistogram,
    nonmembers: NoisyHistogram,
    *,
    alpha: float,
    attack: str = "log-likelihood against non-private references (offline LiRA)",
) -> AttackEvidence:
    """Turn the two opened histograms into an AUC and rates with honest intervals; see `noisy_roc.estimate`.

    Args:
        members: the opened `members_query`.
        nonmembers: the opened `nonmembers_query`, over the same bins.
        alpha: error of each one-sided bound; the policy's, or smaller.
        attack: name of the score, printed in the certificate.

    Raises:
        MisuseError: the two histograms belong to different bins or are swapped.
    """
    if (members.query.kind, nonmembers.query.kind) != (MEMBERS, NONMEMBERS):
        raise MisuseError(f"expected {MEMBERS} and {NONMEMBERS}, got {members.query.kind} and {nonmembers.query.kind}")
    if members.query.public != nonmembers.query.public:
        raise MisuseError("the two histograms were taken over different bins or references")
    noise = members.noise_std, nonmembers.noise_std
    return noisy_roc.estimate(attack, members.counts, nonmembers.counts, noise, alpha)
