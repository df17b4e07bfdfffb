"""Public constants of a Bayesian network and the sums that a study with them asks for."""

from __future__ import annotations

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
MOST_REACH: Final = 8
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
        parents: largest number of parents of a column, 1 … 4; ("tables") of those that are counted together.
        cells: largest table of a column with its parents, 12 … 2¹⁶; ("tables") of those that are counted together.
        reach: ("tables") largest number of parents of a column, those from pair tables among them, parents … 8.
        room: ("tables") largest table of a column with all its parents, cells … 2¹⁶.
        candidates: ("tables") further parents that are tried for each column, 1 … 64.
        penalty: ("tables") multiple of BIC's penalty, above 0; 1 is BIC, ¼ about AIC at 3,000 patients.
        prior: ("tables") patients that each table is given before any is counted, as if its columns had nothing to do
            with each other; above 0.
        balance: ("scores") share of the squared norm that the counts of levels have, the products the rest; in (0, 1).
        binary_weight: ("scores") of a two-valued column's score, above 0; 1 for numbers.
        outcome_share: ("scores") of the scores' mean squared norm that is follow-up's, in (0, 1).
        evidence: ("scores") standard deviations of noise that a covariance must be away from 0 to become an edge, ≥ 0.

    Raises:
        ConfigError: a value outside its range.
    """

    name: str
    scheme: str
    parents: int
    cells: int
    reach: int
    room: int
    candidates: int
    penalty: float
    prior: float
    balance: float
    binary_weight: float
    outcome_share: float
    evidence: float

    def __post_init__(self) -> None:
        """Check the ranges once, where the numbers enter."""
        above = (self.penalty, self.prior, self.binary_weight)
        problems = {
            f"scheme must be one of {', '.join(Scheme)}": self.scheme not in set(Scheme),
            f"parents must be 1 … {MOST_PARENTS}": not 1 <= self.parents <= MOST_PARENTS,
            f"cells must be 12 … {MOST_CELLS}": not 12 <= self.cells <= MOST_CELLS,
            f"reach must be parents … {MOST_REACH}": not self.parents <= self.reach <= MOST_REACH,
            f"room must be cells … {MOST_CELLS}": not self.cells <= self.room <= MOST_CELLS,
            "candidates must be 1 … 64": not 1 <= self.candidates <= 64,
            "penalty, prior and binary_weight must be above 0": min(above) <= 0,
            "balance and outcome_share must be between 0 and 1": not all(
                0 < share < 1 for share in (self.balance, self.outcome_share)
            ),
            "evidence must be at least 0": self.evidence < 0,
        }
        self.require(problems)

    @property
    def shares(self) -> Mapping[str, float]:
        """Default split of μ² over the kinds of sums."""
        return _SHARES[self.scheme]

    def sized(self, declared_patients: float) -> Settings:  # noqa: ARG002 - as other learners
        """These settings: counts divide by themselves, and no public number of patients is needed."""
        return self


TABLES: Final = Settings("bayesnet-tables", "tables", 3, 1024, 5, 8192, 6, 0.15, 1.0, 0.6, 1.4, 0.25, 2.0)
SCORES: Final = Settings("bayesnet-scores", "scores", 3, 3000, 3, 3000, 6, 0.25, 1.0, 0.6, 1.4, 0.25, 2.0)
"""Chosen on BeatAML 2.0 (Bottomly 2022, 67 columns) and METABRIC (Curtis 2012, 75 columns). `TABLES` saw no patient
with MDS. The last step of `SCORES`, from (outcome_share, balance) = (0.16, 0.7) to (0.25, 0.6), was taken after three
deals of MDS (0, 1, 2) had been looked at: what is reported there is measured on other deals of the same patients.

- `TABLES`, three deals of BeatAML, prior and reach on a draft that drew patients independently: penalties of 0.1, 0.15
  and 0.25 keep gene correlations alike, 0.15 and less keep clinical pairs best; priors of 0.3 and 1 did the same, 5
  blurred; a reach of 4 to 6 did the same, 3 lost gene pairs.
- `SCORES`, three or four deals of each, noise per patient as among 2,200 at ε = 1 and 3: with a follow-up that weighs
  as much as any other column, a Cox model learns 0.87 to 0.96 (BeatAML) and 0.76 to 0.80 (METABRIC) of what it learns
  from patients; with shares of 0.12 to 0.4, 0.97 to 0.99 and 0.81 to 0.91, the more of it the products' share of the
  norm has. On 16 columns a balance of 0.5 costs 2 to 7 % of two-way distance, 0.6 costs 1 to 4 %. The others as before.
"""


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
