"""Plausibility: of one value against its ranges, and of the values of one patient against each other."""

__all__ = ["KARYOTYPE", "KARYOTYPE_MALE", "RULES", "SHOWN", "Rule", "implausible", "rules"]

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harmonize.profile import Profile, Range, VariantVariable

Bools = NDArray[np.bool_]
Numbers = Mapping[str, NDArray[np.float64]]

KARYOTYPE: Final = "karyotype:"
"""Before the name of a karyotype's feature, whether the profile has a variable for it or not."""
KARYOTYPE_MALE: Final = f"{KARYOTYPE}male"
"""The sex chromosomes: 1 for XY, 0 for XX."""


def implausible(value: Decimal, hard: Range, soft: Range) -> str | None:
    """The issue code of a value outside its ranges (bounds belong to them), or None.

    NaN and infinities never get here as numbers: sources refuse them; written so that they would be outside.

    >>> [implausible(Decimal(text), (0, 1000), (1, 300)) for text in ("13", "0", "1000.1", "NaN")]
    [None, 'range-soft', 'range-hard', 'range-hard']
    """
    if not value.is_finite() or not hard[0] <= value <= hard[1]:
        return "range-hard"
    if not soft[0] <= value <= soft[1]:
        return "range-soft"
    return None


@dataclass(frozen=True, slots=True)
class Rule:
    """Values of one patient that cannot, or should not, stand together.

    Attributes:
        code: of the issue, which says what becomes of the values.
        needs: variables that must all have a number for the rule to be asked; issues name the first.
        broken: bool[n] from the numbers of n patients, NaN where there is none. It may look up further variables.
        profiles: names of the profiles that it is for; empty: all.
        same_day: whether the needed values must be of one day.
        drops: the variable whose value is not used if the rule is broken, or "".
    """

    code: str
    needs: tuple[str, ...]
    broken: Callable[[Numbers], Bools]
    profiles: frozenset[str] = frozenset()
    same_day: bool = False
    drops: str = ""


# Acute leukaemia at any blast count. In 2016: Arber et al., Blood 2016;127:2391. Later classifications add lesions
# (Khoury et al., Leukemia 2022;36:1703), so few blasts beside one of those are no contradiction.
_DEFINING_2016: Final = ("t8_21", "inv16", "t15_17")
_DEFINING_2022: Final = (*_DEFINING_2016, "t9_11", "kmt2a_r", "t6_9", "mecom_r")
_BLASTS_OF_LEUKAEMIA: Final = 20.0  # per cent of the marrow's cells
_MONOCYTES_OF_CMML: Final = (0.5, 10.0)  # 10^9/L and per cent of the white cells (Khoury 2022)
_DIFFERENTIAL_TOLERANCE: Final = (0.05, 0.1)  # share and 10^9/L: three roundings
_RATIO_TOLERANCE: Final = 0.15
_ISS: Final = (3.5, 5.5, 35.0)  # beta-2 microglobulin mg/L, twice, and albumin g/L (Greipp et al., JCO 2005;23:3412)


def _has(name: str) -> Callable[[Numbers], Bools]:
    return lambda numbers: numbers[name] == 1


def _leukaemic_blasts(numbers: Numbers) -> Bools:
    return numbers["bm_blast"] >= _BLASTS_OF_LEUKAEMIA


def _too_few_blasts(numbers: Numbers) -> Bools:
    lesions = [f"{prefix}{lesion}" for lesion in _DEFINING_2022 for prefix in ("cyto_", KARYOTYPE)]
    defined = np.zeros(numbers["bm_blast"].shape, dtype=np.bool_)
    for lesion in [*lesions, "mut_npm1"]:
        if lesion in numbers:
            defined |= numbers[lesion] == 1
    few: Bools = (numbers["bm_blast"] < _BLASTS_OF_LEUKAEMIA) & ~defined
    return few


def _few_monocytes(numbers: Numbers) -> Bools:
    count, share = _MONOCYTES_OF_CMML
    few: Bools = numbers["mono"] < count
    if "mono_share" in numbers:
        few |= numbers["mono_share"] < share
    return few


def _differential_too_large(numbers: Numbers) -> Bools:
    share, count = _DIFFERENTIAL_TOLERANCE
    too_large: Bools = numbers["anc"] + numbers["mono"] > numbers["wbc"] * (1 + share) + count
    return too_large


def _ratio_differs(numbers: Numbers) -> Bools:
    # Without a division: lambda may be 0.
    stated, kappa, light = numbers["flc_ratio"], numbers["flc_kappa"], numbers["flc_lambda"]
    differs: Bools = (light > 0) & (np.abs(stated * light - kappa) > _RATIO_TOLERANCE * kappa)
    return differs


def _stage_differs(numbers: Numbers) -> Bools:
    low, high, albumin = _ISS
    good = (numbers["b2m"] < low) & (numbers["albumin"] >= albumin)
    differs: Bools = numbers["iss"] != np.where(numbers["b2m"] >= high, 3, np.where(good, 1, 2))
    return differs


def _after_therapy_and_de_novo(numbers: Numbers) -> Bools:
    de_novo: Bools = (numbers["therapy_related"] == 1) & (numbers["secondary"] == 0)
    return de_novo


def _other_sex(numbers: Numbers) -> Bools:
    other: Bools = numbers["sex"] != numbers[KARYOTYPE_MALE]
    return other


RULES: Final = (
    Rule("blasts-against-diagnosis", ("bm_blast",), _leukaemic_blasts, frozenset({"mds", "cmml"})),
    Rule("blasts-against-diagnosis", ("bm_blast",), _too_few_blasts, frozenset({"aml"})),
    *(
        Rule("lesion-against-diagnosis", (lesion,), _has(lesion), frozenset({"mds", "cmml"}))
        for lesion in (f"{KARYOTYPE}{lesion}" for lesion in _DEFINING_2016)
    ),
    Rule("monocytes-against-diagnosis", ("mono",), _few_monocytes, frozenset({"cmml"})),
    Rule("differential-exceeds-total", ("wbc", "anc", "mono"), _differential_too_large, same_day=True),
    Rule("ratio-disagrees", ("flc_ratio", "flc_kappa", "flc_lambda"), _ratio_differs, same_day=True, drops="flc_ratio"),
    Rule("stage-disagrees", ("iss", "b2m", "albumin"), _stage_differs),
    Rule("origin-disagrees", ("secondary", "therapy_related"), _after_therapy_and_de_novo),
    Rule("sex-against-karyotype", ("sex", KARYOTYPE_MALE), _other_sex),
)
"""Rules between values. Those between dates are in `harmonize.cohort.derive`, those between a karyotype or variants and
stated findings in `harmonize.genetics`, the one between birth date and stated age in `harmonize.cohort.choose`."""

SHOWN: Final = (*(f"{KARYOTYPE}{lesion}" for lesion in _DEFINING_2022), KARYOTYPE_MALE)
"""What rules may ask of the karyotype itself."""


def rules(profile: Profile) -> tuple[Rule, ...]:
    """The rules whose variables a profile has."""
    known = {*profile.names, *SHOWN}
    fixed = [
        rule
        for rule in RULES
        if known.issuperset(rule.needs) and profile.profile in (rule.profiles or {profile.profile})
    ]
    return (*fixed, *_of_genes(profile))


def _of_genes(profile: Profile) -> Iterator[Rule]:
    """A gene cannot be unmutated that has a fraction, an ITD, two hits, …: what was found stands, the 0 does not."""
    variables = [variable for variable in profile.scalars if isinstance(variable, VariantVariable)]
    whole = {variable.gene.hgnc: variable for variable in variables if variable.feature == "any"}
    for variable in variables:
        gene = whole.get(variable.gene.hgnc)
        if gene is not None and gene is not variable:
            least = float(gene.min_vaf) if variable.feature == "vaf" else 1.0
            broken = _unmutated(gene.name, variable.name, least)
            yield Rule("gene-disagrees", (gene.name, variable.name), broken, drops=gene.name)


def _unmutated(gene: str, feature: str, least: float) -> Callable[[Numbers], Bools]:
    def broken(numbers: Numbers) -> Bools:
        both: Bools = (numbers[gene] == 0) & (numbers[feature] >= least)
        return both

    return broken
