"""Public constants of a Bayesian network and the sums that a study with them asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dp.queries import Query
from models.constants import Constants
from models.errors import ConfigError
from models.generators.bayesnet.families import Families, pairs
from models.generators.bayesnet.scores import Products
from models.generators.dictionary import Dictionary
from models.generators.oneway import OneWay

__all__ = ["SCORES", "TABLES", "Scheme", "Settings", "schedule"]

MOST_PARENTS: Final = 4
MOST_CELLS: Final = 2**16
_SHARES: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "tables": MappingProxyType({"histogram": 0.2, "marginals": 0.4, "sum": 0.4}),
        "scores": MappingProxyType({"histogram": 0.2, "sum": 0.8}),
    }
)


class Scheme(StrEnum):
    """What is summed after the one-way frequencies.

    | scheme | sums                                                              | for                     |
    |--------|-------------------------------------------------------------------|-------------------------|
    | tables | all pair tables; then, per further parent, tables of candidates   | studies without noise   |
    | scores | one vector: centred counts of levels, products of pairs of scores | differential privacy    |
    """

    TABLES = "tables"
    SCORES = "scores"


@dataclass(frozen=True)
class Settings(Constants):
    """Everything about a network's learning that is the same for all hospitals.

    Args:
        name: of these settings.
        scheme: see `Scheme`.
        parents: largest number of parents of a column, 1 … 4.
        cells: largest table of a column with its parents, 12 … 2¹⁶.
        candidates: ("tables") further parents that are tried for each column, 1 … 64.
        penalty: ("tables") multiple of BIC's penalty, above 0; 1 is BIC, ¼ about AIC at 3,000 patients.
        prior: ("tables") patients that each combination of parents is given before any is counted, spread as the
            column is; above 0.
        balance: ("scores") share of the squared norm that the counts of levels have, the products the rest; in (0, 1).
        binary_weight: ("scores") of a two-valued column's score, above 0; 1 for all others.
        evidence: ("scores") standard deviations of noise that a covariance must be away from 0 to become an edge, ≥ 0.

    Raises:
        ConfigError: a value outside its range.
    """

    name: str
    scheme: str
    parents: int
    cells: int
    candidates: int
    penalty: float
    prior: float
    balance: float
    binary_weight: float
    evidence: float

    def __post_init__(self) -> None:
        """Check the ranges once, where the numbers enter."""
        reals = (self.penalty, self.prior, self.balance, self.binary_weight, self.evidence)
        problems = {
            "every number must be finite": not all(math.isfinite(v) for v in reals),
            f"scheme must be one of {', '.join(Scheme)}": self.scheme not in set(Scheme),
            f"parents must be 1 … {MOST_PARENTS}": not 1 <= self.parents <= MOST_PARENTS,
            f"cells must be 12 … {MOST_CELLS}": not 12 <= self.cells <= MOST_CELLS,
            "candidates must be 1 … 64": not 1 <= self.candidates <= 64,
            "penalty, prior and binary_weight must be above 0": min(self.penalty, self.prior, self.binary_weight) <= 0,
            "balance must be between 0 and 1": not 0 < self.balance < 1,
            "evidence must be at least 0": self.evidence < 0,
        }
        for problem, present in problems.items():
            if present:
                raise ConfigError(f"settings {self.name!r}: {problem}")

    @property
    def shares(self) -> Mapping[str, float]:
        """Default split of μ² over the kinds of sums."""
        return _SHARES[self.scheme]

    def sized(self, declared_patients: float) -> Settings:  # noqa: ARG002 - as other learners
        """These settings: counts divide by themselves, and no public number of patients is needed."""
        return self


TABLES: Final = Settings("bayesnet-tables", "tables", 3, 1024, 6, 0.25, 1.0, 0.7, 1.4, 2.0)
SCORES: Final = Settings("bayesnet-scores", "scores", 3, 3000, 6, 0.25, 1.0, 0.7, 1.4, 2.0)
"""`SCORES` was chosen on BeatAML 2.0 (Bottomly 2022) and METABRIC (Curtis 2012) at ε = 1 and 3 and is flat around these
values; the penalty of `TABLES` on BeatAML, where ¼ keeps correlations of genes better than BIC (0.43 to 0.39 with
patients held out)."""


def schedule(
    settings: Settings, dictionary: Dictionary, multipliers: Mapping[str, float], patient_cap: int
) -> tuple[Query, ...]:
    """Every sum that the learning wants, in order; their public bytes still lack what earlier sums will say.

    Args:
        settings: of the study.
        dictionary: of the table.
        multipliers: kind → noise multiplier.
        patient_cap: public cap on patients per site.

    Raises:
        ConfigError: a kind without a multiplier.
    """
    if missing := [kind for kind in settings.shares if kind not in multipliers and _wanted(settings, kind)]:
        raise ConfigError(f"the study sets no noise multiplier for {', '.join(missing)}")
    first = OneWay(dictionary).query(multipliers["histogram"], patient_cap)
    state = settings.digest()
    if settings.scheme == Scheme.SCORES:
        return first, Products.blank(dictionary, settings.balance).query(multipliers["sum"], patient_cap).about(state)
    second = pairs(dictionary).query(multipliers["marginals"], patient_cap).about(state)
    return (
        first,
        second,
        *(
            Families.blank(dictionary, ways, settings.candidates, settings.cells)
            .query(multipliers["sum"], patient_cap, ways - 3)
            .about(state)
            for ways in range(3, settings.parents + 2)
        ),
    )


def _wanted(settings: Settings, kind: str) -> bool:
    return settings.scheme == Scheme.SCORES or kind != "sum" or settings.parents > 1
