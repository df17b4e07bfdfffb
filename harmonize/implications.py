"""What variables of one profile say about each other: which invented patients cannot be.

A generator knows coarse bins and most of the dependence, not that a count of abnormalities is a count. Two things are
done to what it draws, each a function of the one patient's row:

**Settled**: what other variables fix or bound. A row is not refused for it: where parts are rare, refusing would lose
nearly all of them.

| variable                      | is made                                                                             |
|-------------------------------|-------------------------------------------------------------------------------------|
| gene                          | mutated, if it has an ITD, a PTD, a multi-hit or another feature of its own          |
| loss in 17p; inv(3); KMT2A    | found, with i(17q); with a MECOM rearrangement; with t(9;11)                         |
| class of the IPSS-R           | 1 if normal; at least 3 if complex, else at most 3                                   |
| number of abnormalities       | 0 if normal, else 1 at least; monosomal: 2 at least; complex: 3 at least; class of   |
|                               | the IPSS-R 0: 1, class 1: at most 2, class 3: 3 if complex, else at most 2,          |
|                               | class 4: 4 at least                                                                  |
| allele fraction of a gene     | 0 if the gene is not mutated; not observed if it is not known; from `min_vaf` on if  |
|                               | it is mutated; at most 0.55 if it has no multi-hit (more means one)                 |
| ratio of free light chains    | kappa ÷ lambda, where both are there                                                 |

**Contradicted**: rows that are refused.

| if                                                  | then                                            | of      |
|-----------------------------------------------------|-------------------------------------------------|---------|
| any rule of `harmonize.cohort.checks` is broken     |                                                 | all     |
| normal karyotype                                    | no finding that a normal one excludes           | all     |
| anything above                                      | settled so                                      | all     |
| class 0                                             | loss of Y or in 11q                             | myeloid |
| loss of Y                                           | a man                                           | myeloid |
| neutrophils or monocytes                            | no more than white cells, with their tolerance  | all     |
| R-ISS I                                             | ISS I, none of del(17p), t(4;14), t(14;16)      | mm      |
| R-ISS III                                           | ISS III                                         | mm      |

In myeloma a normal
karyotype excludes only what it is evidence against (`normal_is_evidence`), and nowhere a cryptic translocation.

Sources: Schanz, J Clin Oncol 2012;30:820 (classes); Bernard, Nat Med 2020;26:1549 (multi-hit); Palumbo, J Clin Oncol
2015;33:2863 (R-ISS). Those on karyotypes hold in all 3,039 complete karyotypes of IWG-PM and BeatAML 2.0, as read by
`harmonize.karyotype`.
"""

__all__ = ["contradicted", "settled"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harmonize.cohort.checks import rules
from harmonize.karyotype import CRYPTIC
from harmonize.profile import CytogeneticVariable, Profile, VariantVariable

Bools = NDArray[np.bool_]
Numbers = Mapping[str, NDArray[np.float64]]

_LOSS_VAF: Final = 0.55  # above it a mutation is multi-hit
_COUNTED: Final = frozenset({"abnormalities", "ipssr_class", "normal"})  # features that are no finding
_DIFFERENTIAL: Final = (0.05, 0.1)  # share and 10^9/L, as in `checks`
_WHOLE: Final = (("i17q", "del17p"), ("mecom_r", "inv3"), ("t9_11", "kmt2a_r"))
_HIGH_RISK: Final = ("cyto_del17p", "cyto_t4_14", "cyto_t14_16")
_MOST: Final = 1e9


def settled(profile: Profile, numbers: Numbers) -> dict[str, NDArray[np.float64]]:
    """The same numbers, but for those that others fix.

    Args:
        profile: whose variables they are.
        numbers: variable -> float64[n] in canonical units, NaN where there is none; any subset of the variables.
    """
    found = dict(numbers)
    for part, whole in _parts(profile, found):
        found[whole] = np.where(found[part] == 1, 1.0, found[whole])
    for variable in profile.scalars:
        if isinstance(variable, VariantVariable) and variable.feature == "vaf" and variable.name in found:
            found[variable.name] = _fraction(profile, variable, found)
    named = _named(profile, found)
    if "ipssr_class" in named:
        found[named["ipssr_class"]] = _class(_Findings(named, found))
    count = named.get("abnormalities")
    if count is not None:
        low, high = _counts(profile, found)
        found[count] = np.minimum(np.maximum(found[count], low), high)
    if {"flc_ratio", "flc_kappa", "flc_lambda"} <= set(found):
        light = found["flc_lambda"]
        known = ~np.isnan(found["flc_kappa"]) & (light > 0)
        ratio = found["flc_kappa"] / np.where(known, light, 1.0)
        found["flc_ratio"] = np.where(known & ~np.isnan(found["flc_ratio"]), ratio, found["flc_ratio"])
    return found


def contradicted(profile: Profile, numbers: Numbers) -> Bools:
    """Which patients cannot be, bool[n]; of settled numbers.

    Args:
        profile: whose variables they are.
        numbers: as in `settled`; a rule whose variables are not there is not asked.
    """
    rows = len(next(iter(numbers.values()))) if numbers else 0
    out = np.zeros(rows, dtype=np.bool_)
    for rule in rules(profile):
        if set(rule.needs) <= set(numbers):
            known = np.all([~np.isnan(numbers[name]) for name in rule.needs], axis=0)
            out |= known & rule.broken(numbers)
    for broken in _broken(profile, numbers):
        out |= broken
    return out


def _broken(profile: Profile, numbers: Numbers) -> Iterator[Bools]:
    yield from _karyotypes(profile, _Findings(_named(profile, numbers), numbers))
    count = _named(profile, numbers).get("abnormalities")
    if count is not None:
        low, high = _counts(profile, numbers)
        yield (numbers[count] < low) | (numbers[count] > high) | (low > high)
    have = _Findings({name: name for name in numbers}, numbers)
    if "sex" in numbers:
        yield _Findings(_named(profile, numbers), numbers).has("minus_y") & (numbers["sex"] == 0)
    share, most = _DIFFERENTIAL
    for part in ("anc", "mono"):
        if {part, "wbc"} <= set(numbers):
            yield numbers[part] > numbers["wbc"] * (1 + share) + most
    for stage in (1, 3):
        yield have.has("riss", stage) & have.known("iss") & ~have.has("iss", stage)
    for name in _HIGH_RISK:
        yield have.has("riss") & have.has(name)


def _karyotypes(profile: Profile, have: "_Findings") -> Iterator[Bools]:
    for variable in profile.scalars:
        if isinstance(variable, CytogeneticVariable) and variable.feature not in _COUNTED:
            excluded = variable.normal_is_evidence and variable.feature not in CRYPTIC
            if excluded:
                yield have.has("normal") & have.has(variable.feature)
    grade = have.of("ipssr_class")
    yield ~np.isnan(grade) & (grade != _class(have))
    yield (grade == 0) & have.has("minus_y", 0) & have.has("del11q", 0)
    for part, whole in _WHOLE:
        yield have.has(part) & have.has(whole, 0)


def _parts(profile: Profile, numbers: Numbers) -> Iterator[tuple[str, str]]:
    """(part, whole): variables of which the second is 1 wherever the first is."""
    named = _named(profile, numbers)
    yield from ((named[part], named[whole]) for part, whole in _WHOLE if {part, whole} <= set(named))
    variants = [v for v in profile.scalars if isinstance(v, VariantVariable) and v.name in numbers]
    genes = {v.gene.hgnc: v.name for v in variants if v.feature == "any"}
    for variant in variants:
        if variant.feature not in ("any", "vaf") and variant.gene.hgnc in genes:
            yield variant.name, genes[variant.gene.hgnc]


def _class(have: "_Findings") -> NDArray[np.float64]:
    """The class of the IPSS-R that the rest of the karyotype leaves possible, nearest to the one that is there."""
    grade = have.of("ipssr_class")
    grade = np.where(have.has("complex"), np.maximum(grade, 3.0), grade)
    grade = np.where(have.has("complex", 0), np.minimum(grade, 3.0), grade)
    return np.where(have.has("normal") & ~np.isnan(grade), 1.0, grade)


def _fraction(profile: Profile, variable: VariantVariable, numbers: Numbers) -> NDArray[np.float64]:
    """Allele fractions that fit the gene and its multi-hit."""
    fraction = numbers[variable.name]
    of_gene = {
        each.feature: each.name
        for each in profile.scalars
        if isinstance(each, VariantVariable) and each.gene.hgnc == variable.gene.hgnc and each.name in numbers
    }
    least = float(variable.min_vaf)
    if "any" not in of_gene:
        return np.where(fraction < least / 2, 0.0, np.where(fraction < least, least, fraction))
    gene = numbers[of_gene["any"]]
    fraction = np.where(gene == 0, 0.0, np.maximum(fraction, least))
    if "multi-hit" in of_gene:
        fraction = np.where(numbers[of_gene["multi-hit"]] == 0, np.minimum(fraction, _LOSS_VAF), fraction)
    return np.where(np.isnan(gene) | np.isnan(numbers[variable.name]), np.nan, fraction)


def _counts(profile: Profile, numbers: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest number of abnormalities that the other columns allow, float64[n] each."""
    have = _Findings(_named(profile, numbers), numbers)
    grade, normal, complex_ = have.of("ipssr_class"), have.has("normal"), have.has("complex")
    low, high = np.zeros(have.rows), np.full(have.rows, _MOST)
    least = ((have.has("normal", 0), 1), (have.has("monosomal"), 2), (complex_, 3), (grade == 0, 1), (grade == 4, 4))
    for where, number in least:
        low = np.where(where, np.maximum(low, number), low)
    at_most = (
        (normal, 0), (grade == 0, 1), (grade == 1, 2),
        ((grade == 3) & complex_, 3), ((grade == 3) & have.has("complex", 0), 2),
    )  # fmt: skip
    for where, number in at_most:
        high = np.where(where, np.minimum(high, number), high)
    return low, high


def _named(profile: Profile, numbers: Numbers) -> dict[str, str]:
    """Feature of the karyotype -> the variable that holds it."""
    return {v.feature: v.name for v in profile.scalars if isinstance(v, CytogeneticVariable) and v.name in numbers}


@dataclass(frozen=True)
class _Findings:
    """Numbers by another name; what is not there is nowhere so."""

    names: Mapping[str, str]
    numbers: Numbers

    @property
    def rows(self) -> int:
        return len(next(iter(self.numbers.values()))) if self.numbers else 0

    def of(self, name: str) -> NDArray[np.float64]:
        return self.numbers[self.names[name]] if name in self.names else np.full(self.rows, np.nan)

    def has(self, name: str, value: int = 1) -> Bools:
        return np.asarray(self.of(name) == value)

    def known(self, name: str) -> Bools:
        return np.asarray(~np.isnan(self.of(name)))
