"""A karyotype in ISCN to cytogenetic features: findings, counts, complex, monosomal, the class of the IPSS-R.

What is clonal, what counts once and which class follows are rules of the field, each with its source in
docs/reference/karyotype.md. What cannot be read is an error, never a guess.
"""

__all__ = ["CRYPTIC", "FEATURES", "Karyotype", "KaryotypeError", "parse"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from harmonize.errors import HarmonizeError
from harmonize.karyotype.cell_lines import Findings, Line, findings
from harmonize.karyotype.items import DIPLOID, UNSURE, NotRead
from harmonize.karyotype.rearrangements import Effect
from harmonize.karyotype.text import clones

FEATURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "normal": "no clonal acquired abnormality",
        "del5q": "loss in 5q",
        "minus5": "monosomy 5",
        "minus7": "monosomy 7",
        "del7q": "loss in 7q",
        "plus8": "trisomy 8",
        "del20q": "loss in 20q",
        "minus_y": "loss of Y",
        "plus19": "trisomy 19",
        "i17q": "isochromosome 17q",
        "del17p": "loss in 17p or monosomy 17",
        "inv3": "inv(3), t(3q) or del(3q)",
        "del11q": "loss in 11q",
        "del12p": "loss in 12p",
        "plus21": "trisomy 21",
        "del9q": "loss in 9q",
        "del13q": "loss in 13q or monosomy 13",
        "t8_21": "t(8;21), RUNX1::RUNX1T1",
        "inv16": "inv(16) or t(16;16), CBFB::MYH11",
        "t15_17": "t(15;17), PML::RARA",
        "t9_11": "t(9;11), KMT2A::MLLT3",
        "kmt2a_r": "translocation, inversion or insertion at 11q23, KMT2A",
        "mecom_r": "inv(3)(q21q26), t(3;3)(q21;q26) or t(3q26), MECOM",
        "t6_9": "t(6;9), DEK::NUP214",
        "t9_22": "t(9;22), BCR::ABL1",
        "t4_14": "t(4;14), NSD2::IGH",
        "t11_14": "t(11;14), CCND1::IGH",
        "t14_16": "t(14;16), IGH::MAF",
        "t14_20": "t(14;20), IGH::MAFB",
        "gain1q": "gain in 1q",
        "del1p": "loss in 1p",
        "hyperdiploid": "a clone of 48 to 74 chromosomes",
        "complex": "three or more abnormalities in one clone and its relatives",
        "monosomal": "two autosomal monosomies, or one and a structural abnormality",
        "abnormalities": "number of distinct clonal abnormalities",
        "ipssr_class": "cytogenetic class of the IPSS-R, 0 very good … 4 very poor",
    }
)
"""Name and title of every feature; all are 0 or 1 but the last two."""

CRYPTIC: Final = frozenset({"t4_14", "t14_16", "t14_20"})
"""Features that banding hardly ever shows: 1 is a finding, 0 is no evidence that they are absent."""

Code = Literal["karyotype-failed", "karyotype-unparsed"]


class KaryotypeError(HarmonizeError):
    """A text that gives no karyotype. Holds no part of the text.

    Attributes:
        code: "karyotype-failed": the text says that there is none (no metaphases, not done), or describes no cells of
            the patient that decide anything; "karyotype-unparsed": it has no single reading.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code: Final[Code] = code


@dataclass(frozen=True, slots=True)
class Karyotype:
    """What a karyotype says.

    Attributes:
        features: every name of `FEATURES`: 0 or 1; "abnormalities" ≥ 0; "ipssr_class" 0 … 4.
        sex: sex chromosomes of the constitution, None if not stated or another complement.
        incomplete: the text does not describe all there is: it is marked ``inc``, breaks off, has an item that leaves
            its arms or genes open (``der(7)``), no count and sex chromosomes, fewer than ten normal metaphases and no
            clone, or results of hybridisation in situ, which are not read. Findings stand; counts and class are lower
            bounds; zeros, and normal, are no evidence.
    """

    features: Mapping[str, int] = field(repr=False)
    sex: Literal["XX", "XY"] | None = field(repr=False)
    incomplete: bool = False


_FAILED: Final = re.compile(
    r"|-+|\?|n\.?[ad]\.?|n/[ad]|nan|none|null|unk|unknown|missing|pending|fail(?:ed|ure)?|culturefail(?:ed|ure)"
    r"|(?:cytogenetics|karyotyp(?:e|ing))?(?:was)?(?:not|un)(?:done|available|evaluable|analy[sz]able|analy[sz]ed"
    r"|performed|assess(?:ed|able)|informative|tested|successful|known)"
    r"|(?:no|zero|0|insufficient|inadequate)(?:analy[sz]able|evaluable|dividing|mitotic)?(?:metaphases?|mitos[ei]s"
    r"|growth|cells?|cytogenetics?|karyotype|material|results?|data|sample)(?:found|available|obtained|seen)?"
    r"|keine?(?:auswertbaren?|analysierbaren?)?(?:metaphasen?|mitosen?|zell?teilung(?:en)?|teilung|wachstum|material"
    r"|ergebnis|zytogenetik|karyotyp|chromosomenanalyse)(?:gefunden|vorhanden)?"
    r"|nicht(?:durchgef(?:ü|ue)hrt|untersucht|auswertbar|bestimmt|erfolgt|bekannt|m(?:ö|oe)glich)|unbekannt"
    r"|kulturversagen"
)
_NORMAL: Final[Mapping[str, Literal["XX", "XY"] | None]] = {
    "normal": None, "normalkaryotype": None, "normalerkaryotyp": None,
    "normalmale": "XY", "normalmalekaryotype": "XY", "normalfemale": "XX", "normalfemalekaryotype": "XX",
}  # fmt: skip
_WORDS_FOR_COMPLEX: Final = frozenset({"complex", "complexkaryotype", "komplex", "komplexerkaryotyp"})
_MOST_WORDS: Final = 60  # characters of a text that is no ISCN

_BY_LOST_ARM: Final = {
    "5q": "del5q", "7q": "del7q", "20q": "del20q", "11q": "del11q", "12p": "del12p", "9q": "del9q", "13q": "del13q",
    "17p": "del17p", "1p": "del1p",
}  # fmt: skip
_BY_NUMBER: Final = {
    "-5": "minus5", "-7": "minus7", "+8": "plus8", "-y": "minus_y", "+19": "plus19", "+21": "plus21",
    "-17": "del17p", "-13": "del13q",
}  # fmt: skip
_VERY_GOOD, _GOOD, _INTERMEDIATE, _POOR, _VERY_POOR = range(5)
_ALONE: Final = {
    "-y": _VERY_GOOD, "del11q": _VERY_GOOD,
    "del5q": _GOOD, "del12p": _GOOD, "del20q": _GOOD,
    "inv3": _POOR, "-7": _POOR,
}  # fmt: skip
_OF_7: Final = frozenset({"-7", "del7q", "der1_7"})
_COMPLEX: Final = 3
_HYPERDIPLOID: Final = range(48, 75)
_CORE_BINDING: Final = frozenset({"8", "16", "21"})  # a damaged item of these may be t(8;21) or inv(16)
_MISCOUNTED: Final = 5  # chromosomes


_NOTHING_YET: Final = MappingProxyType(dict.fromkeys(FEATURES, 0) | {"ipssr_class": _GOOD})
_NONE: Final = MappingProxyType(_NOTHING_YET | {"normal": 1})
_SOME_COMPLEX: Final = MappingProxyType(_NOTHING_YET | {"complex": 1, "abnormalities": _COMPLEX, "ipssr_class": _POOR})


# Half of all karyotypes.
_USUAL: Final = re.compile(r"46,?(xx|xy)(?:\[(?:[1-9]\d{1,2}|([1-9]))\])?", re.ASCII)
_USUALLY: Final = {"xx": Karyotype(_NONE, "XX"), "xy": Karyotype(_NONE, "XY")}
_TOO_FEW: Final = {"xx": Karyotype(_NONE, "XX", incomplete=True), "xy": Karyotype(_NONE, "XY", incomplete=True)}


def parse(text: str, sex: Literal["XX", "XY"] | None = None) -> Karyotype:
    """Read a karyotype.

    >>> found = parse("45,XY,-7[12]/46,idem,+8[3]/46,XY[5]")
    >>> found.features["minus7"], found.features["plus8"], found.features["abnormalities"], found.sex
    (1, 1, 2, 'XY')
    >>> found.features["ipssr_class"]  # two, one of them monosomy 7: poor
    3

    Args:
        text: ISCN, in any mixture of capitals; at most 4,000 characters.
        sex: the patient's, if it is known: says what a bare 45,X has lost. A text that names it wins.

    Raises:
        KaryotypeError: there is no karyotype in the text, or no single reading of it.
    """
    if len(text) <= _MOST_WORDS:
        words = "".join(text.lower().split()).strip(".;:")
        if usual := _USUAL.fullmatch(words):
            return (_TOO_FEW if usual[2] else _USUALLY)[usual[1]]
        if _FAILED.fullmatch(words):
            raise KaryotypeError("karyotype-failed")
        if words in _NORMAL:
            return Karyotype(_NONE, _NORMAL[words])
        if words in _WORDS_FOR_COMPLEX:
            return Karyotype(_SOME_COMPLEX, None, incomplete=True)
    if text.lstrip().startswith("//"):  # a chimera of which only cells of the donor were found
        raise KaryotypeError("karyotype-failed")
    try:
        found, more = clones(text)
        seen = findings(found, sex)
    except NotRead:
        raise KaryotypeError("karyotype-unparsed") from None
    if seen.undecided:
        raise KaryotypeError("karyotype-failed")
    return _karyotype(seen, incomplete=seen.incomplete or more)


def _karyotype(seen: Findings, *, incomplete: bool) -> Karyotype:
    if not seen.families:
        return Karyotype(_NONE, seen.sex, incomplete)
    effects = seen.effects
    lines = [line for family in seen.families for line in family]
    names = {name for line in lines for name in line.items}
    damaged = any(line.unclear for line in lines)
    features = dict(_NOTHING_YET)
    for name in names:
        if name in _BY_NUMBER and not (damaged and _is_doubtful(name, lines)):
            features[_BY_NUMBER[name]] = 1
        for fusion in effects[name].fusions:
            features[fusion] = 1
    named = {effects[name].named for name in names}
    features["i17q"] = int("i17q" in named)
    for line in lines:
        _arms(line, effects, features)
        if _is_miscounted(line):
            incomplete = True
        elif _is_hyperdiploid(line):
            features["hyperdiploid"] = 1
    counts = [_count(family, effects) for family in seen.families]
    features["abnormalities"] = counts[0] if len(counts) == 1 else _count(lines, effects)
    features["complex"] = int(max(counts) >= _COMPLEX)
    core_binding = features["t8_21"] or features["inv16"]
    core_binding |= any(not _CORE_BINDING.isdisjoint(line.unclear) for line in lines)
    features["monosomal"] = int(not core_binding and any(_is_monosomal(family, effects) for family in seen.families))
    features["ipssr_class"] = _ipssr_class(features, len(counts), named)
    return Karyotype(MappingProxyType(features), seen.sex, incomplete)


def _is_doubtful(number: str, lines: Sequence[Line]) -> bool:
    """Whether a damaged item may replace what a gain or loss says, in every cell line that has it."""
    return all(number not in line.items or number[1:] in line.unclear for line in lines)


def _is_miscounted(line: Line) -> bool:
    """Whether the count is so far from what the items make that one of the two is wrong: 64 for 46."""
    clone = line.clone
    if clone.ploidy != DIPLOID or not clone.counted:
        return False
    return not clone.low - _MISCOUNTED < line.number < clone.high + _MISCOUNTED


def _is_hyperdiploid(line: Line) -> bool:
    clone = line.clone
    if clone.cells == 1:
        return False
    if not clone.counted:
        return line.number in _HYPERDIPLOID
    return clone.low in _HYPERDIPLOID and clone.high in _HYPERDIPLOID


def _arms(line: Line, effects: Mapping[str, Effect], features: dict[str, int]) -> None:
    """Set what follows from arms lost and gained in one cell line; a loss and a gain of one arm cancel."""
    lost, gained, unclear = set[str](), set[str](), set(line.unclear)
    for name in line.items:
        lost |= effects[name].lost
        gained |= effects[name].gained
        unclear |= effects[name].open
    for arm in lost - gained:
        if arm in _BY_LOST_ARM and arm[:-1] not in unclear:
            features[_BY_LOST_ARM[arm]] = 1
    if "1q" in gained and "1q" not in lost and "-1" not in line.items and "1" not in unclear:
        features["gain1q"] = 1


def _count(lines: Sequence[Line], effects: Mapping[str, Effect]) -> int:
    """Count distinct abnormalities: an item of several cell lines once, at its largest number of copies."""
    copies: dict[str, int] = {}
    for line in lines:
        for name, times in line.items.items():
            # An extra del(5)(q13q33) is no other abnormality than the first one.
            key = name.lstrip("+") if name.endswith(")") else name
            if UNSURE in key:  # it may be another one of the same chromosome
                key = key.partition(")")[0]
                if any(one.lstrip("+").startswith(key) and UNSURE not in one for other in lines for one in other.items):
                    continue
            copies[key] = max(times, copies.get(key, 0))
            if effects[name].named == "der1_7":
                copies[key], copies["+1"] = 1, 1
    if "-y" in copies:
        copies["-y"] = 1
    return sum(copies.values())


def _is_monosomal(lines: Sequence[Line], effects: Mapping[str, Effect]) -> bool:
    names = {name for line in lines for name in line.items if name.lstrip("-") not in line.unclear}
    monosomies = sum(name[0] == "-" and name[1:].isdecimal() for name in names)
    return monosomies > 1 or (monosomies == 1 and any(effects[name].structural for name in names))


def _ipssr_class(features: Mapping[str, int], families: int, named: set[str]) -> int:
    """Return the class of Schanz, J Clin Oncol 2012;30:820, as used by Greenberg, Blood 2012;120:2454."""
    number = features["abnormalities"]
    if families > 1 and not features["complex"]:
        return _INTERMEDIATE  # independent clones, each with one or two abnormalities
    match number:
        case 1:
            return _ALONE.get(max(named), _INTERMEDIATE)  # an extra copy of it has no name
        case 2 if named & _OF_7:
            return _POOR
        case 2 if "del5q" in named:
            return _GOOD
        case 2:
            return _INTERMEDIATE
        case 3:
            return _POOR
    return _VERY_POOR
