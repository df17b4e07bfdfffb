"""The notation of karyotypes, ISCN: one item, one clone.

This module reads and decides nothing: what is clonal, what counts and what follows from it is for `cell_lines` and
`reading`. Reading fails closed: what has no single reading is `NotRead`, never a guess. The grammar is in
docs/reference/karyotype.md.

Source: ISCN 2020 (McGowan-Jordan, Hastings, Moore, eds., Karger). Band names: UCSC table cytoBand, hg19.
"""

__all__ = [
    "CHROMOSOME",
    "COUNT",
    "DIPLOID",
    "REFERENCE",
    "Abnormality",
    "Clone",
    "NotRead",
    "Part",
    "Place",
    "read_clone",
    "read_item",
]

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final


class NotRead(Exception):  # noqa: N818  reads as the fact it states
    """The text, or a part of it, has no single reading. Holds no text."""


# Bands of the short and the long arm, one digit for each region: "326" = 11-13, 21-22, 31-36.
_BANDS: Final = {
    "1": ("326", "2524"), "2": ("65", "447"), "3": ("46", "39"), "4": ("6", "385"), "5": ("5", "535"),
    "6": ("25", "67"), "7": ("52", "126"), "8": ("23", "34"), "9": ("34", "324"), "10": ("5", "16"),
    "11": ("5", "45"), "12": ("3", "54"), "13": ("3", "424"), "14": ("3", "342"), "15": ("3", "56"),
    "16": ("3", "34"), "17": ("3", "25"), "18": ("1", "23"), "19": ("3", "3"), "20": ("3", "3"),
    "21": ("3", "12"), "22": ("3", "3"), "x": ("12", "38"), "y": ("1", "2"),
}  # fmt: skip

CHROMOSOME: Final = r"(?:1\d|2[0-2]|[1-9]|x|y)"
DIPLOID: Final = 2
# A count in this range belongs to this ploidy if the text states none and does not list other sex chromosomes (ch. 8).
_HAPLOID, _TRIPLOID, _TETRAPLOID = range(35), range(58, 81), range(81, 1000)

_SUFFIX: Final = r"(?P<c>\??c)?\??(?:x(?P<copies>\d{1,2})(?:[~-]\d{1,2})?)?(?:\[(?P<cells>[^\[\]]*)\])?"
_NUMBER: Final = re.compile(rf"(?P<sign>[+-])\??(?P<chromosome>{CHROMOSOME}){_SUFFIX}")
# r(7) is no marker: the chromosome of that ring is known.
_MARKER: Final = re.compile(
    r"(?P<sign>[+-]?)\??(?P<low>\d{1,2})?(?:[~-](?:\d{1,2})?)?(?P<kind>mar|dmin|hsr|ace|r(?!\(\d))(?P<name>\d{0,2})"
    rf"(?:[~-]\d{{1,2}})?(?:\((?:\?|\d{{1,3}})\))?{_SUFFIX}"
)
# Heterochromatin, satellites and stalks of healthy people: 9qh+, 15ps+, 21pstk-, Yqh-.
_VARIANT: Final = re.compile(rf"{CHROMOSOME}(?:[pq]|cen)(?:h|s|stk|ss)[+-]?\d?")
# Inversions of healthy people, whether or not the laboratory writes "c".
_VARIANT_INVERSION: Final = re.compile(
    r"inv\(9\)(?:\((?:p1[123]q(?:1[123]|21)|pq)\))?|inv\(2\)\(p11q1[234]\)|inv\(y\)\(p11q1[12]\)"
)
_SIGN: Final = re.compile(r"([+-]?)\??")
_PART: Final = re.compile(
    r"(?P<kind>psudic|psuidic|idic|dic|trc|tas|ider|der|del|add|(?:dir|inv)?dup|trp|qdp|(?:dir|inv)?ins|inv|iso|i|rob"
    r"|rec|r|t|hsr|fra|fis)\??\((?P<chromosomes>[^()]*)\)\??(?:\((?P<bands>[^()]*)\))?"
)
_KINDS: Final = {
    "iso": "i", "psudic": "dic", "psuidic": "idic", "ider": "der", "dirdup": "dup", "invdup": "dup", "dirins": "ins",
    "invins": "ins",
}  # fmt: skip
_SEVERAL: Final = frozenset({"t", "dic", "trc", "tas", "rob"})  # concern two chromosomes or more
_ANY: Final = frozenset({"der", "ins", "r", "rec"})
_END: Final = re.compile(_SUFFIX)
_ONE: Final = re.compile(rf"\??({CHROMOSOME})\??")
_WITH_ARM: Final = re.compile(rf"({CHROMOSOME})([pq].*)")
_BAND: Final = re.compile(
    r"\??(?P<arm>[pq])(?P<digits>ter|[\d?]{0,4})(?:\.\d{1,3})?\??(?:(?:[~-]|or)(?:[pq]?\d{1,2}(?:\.\d{1,3})?\??)+)?"
)
COUNT: Final = re.compile(
    r"(?:(?P<low>\d{2,3})(?:[~-](?P<high>\d{2,3}))?(?:<(?P<ploidy>[1-8])n[+-]?>)?[,;.:]?)?"
    r"(?:(?P<sex>[xy]{1,8})(?P<c>\??c)?(?![a-z(])[,;.:]?)?"
)
REFERENCE: Final = re.compile(r"(idem|sl|sdl)(\d?)(?:x\d{1,2})?(?:\[[^\[\]]*\])?")
_REGION_AND_BAND: Final = 2
_SHORT: Final = 16  # 46,xy[12], 47,xx,+8[10]: met again and again, and common to many patients
_CELL_DIGITS: Final = 3
_USUAL_COUNT: Final = 46  # where a clone has none: XX,del(5)(q31); idem,+8
_COUNTS: Final = range(20, 250)


@dataclass(frozen=True, slots=True)
class Place:
    """A breakpoint.

    Attributes:
        arm: "p" or "q".
        band: region and band as two digits; fewer if the text states less.
        doubtful: the region has no such band; only the region is kept.
    """

    arm: str
    band: str
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One rearrangement, e.g. ``t(9;22)(q34;q11)``.

    Attributes:
        kind: symbol of ISCN; "i" for iso, "dic" for psudic, "idic" for psuidic.
        chromosomes: "1" … "22", "x", "y" or "?".
        places: breakpoints on each of them; empty as a whole if the text states none, or not all.
    """

    kind: str
    chromosomes: tuple[str, ...]
    places: tuple[tuple[Place, ...], ...]

    @property
    def whole_arm(self) -> bool:
        """Whether all breakpoints are in the centromere (p10, q10)."""
        return bool(self.places) and all(one and all(place.band == "10" for place in one) for one in self.places)

    @property
    def head(self) -> str:
        """The rearrangement without breakpoints."""
        return f"{self.kind}({';'.join(self.chromosomes)})"


@dataclass(frozen=True, slots=True, eq=False)  # equal by identity: items are cached, and hashed often
class Abnormality:
    """One item of a clone.

    Attributes:
        sign: "+", "-" or "".
        kind: "number" (a whole chromosome), "mar", "dmin", "hsr", "ace", "r" (ring of unknown origin), "or" (one of
            several readings), "variant" (of healthy people), "unnamed", or the first part's kind.
        key: what makes it the same abnormality in two clones: without sign, copies, question marks and sub-bands.
        parts: rearrangements; empty for a number or marker.
        copies: ≥ 1; the lower end of a range.
        constitutional: marked with c, or a normal variant.
        cells: in how many cells of the clone; None = all of them.
    """

    sign: str
    kind: str
    key: str
    parts: tuple[Part, ...] = ()
    copies: int = 1
    constitutional: bool = False
    cells: int | None = None

    @property
    def vague(self) -> bool:
        """Whether a rearrangement lacks breakpoints, or has arms only."""
        parts = self.parts[1:] or self.parts
        return any(not part.places or all(not place.band for one in part.places for place in one) for part in parts)

    def abbreviations(self) -> Iterator[str]:
        """Keys by which later clones may mean this rearrangement: der(19), der(19)t(7;19), del(5), del(5)(q)."""
        text = ""
        for part in self.parts:
            text += part.head
            yield text
        first = self.parts[0]
        arms = ";".join("".join(dict.fromkeys(place.arm for place in one)) for one in first.places)
        yield f"{first.head}({arms})"


@dataclass(frozen=True, slots=True)
class Clone:
    """One cell line as written.

    Attributes:
        low, high: chromosome count.
        ploidy: 1, 2, 3, … sets of chromosomes.
        sex: sex chromosomes as listed, sorted; "" if the clone refers to another one instead.
        sex_is_constitutional: marked with c.
        refers: "", "idem", "sl", "sdl", "sdl1", …
        items: the abnormalities, in order.
        cells: how many metaphases; None if not stated or composite.
        incomplete: marked with inc.
    """

    low: int
    high: int
    ploidy: int = DIPLOID
    sex: str = ""
    sex_is_constitutional: bool = False
    refers: str = ""
    items: tuple[Abnormality, ...] = ()
    cells: int | None = None
    incomplete: bool = False


def read_clone(text: str) -> Clone:
    """Read one cell line.

    Args:
        text: lower case, without white space.

    Raises:
        NotRead: some part of the text has no single reading.
    """
    return _short_clone(text) if len(text) <= _SHORT else _clone(text)


@lru_cache(maxsize=4096)
def _short_clone(text: str) -> Clone:
    return _clone(text)


def _clone(text: str) -> Clone:
    found = COUNT.match(text)
    if found is None:
        raise NotRead
    low, sex = int(found["low"] or _USUAL_COUNT), found["sex"] or ""
    high = int(found["high"] or low)
    rest, cells = text[found.end() :], None
    if rest.endswith("]"):
        rest, opened, stated = rest[:-1].rpartition("[")
        if not opened or "]" in stated:
            raise NotRead
        cells = None if rest.endswith("cp") else _cells(stated)
        rest = rest.removesuffix("cp")
    refers, items, incomplete = _entries(rest, sex)
    if high < low or low not in _COUNTS or not (refers or items or (sex and found["low"])):
        raise NotRead
    if not found["low"] and not refers and sex not in {"xx", "xy"}:
        raise NotRead
    ploidy = int(found["ploidy"]) if found["ploidy"] else _ploidy(low, sex)
    listed = "".join(sorted(sex))
    return Clone(low, high, ploidy, listed, found["c"] is not None, refers, tuple(items), cells, incomplete)


def _entries(text: str, sex: str) -> tuple[str, list[Abnormality], bool]:
    """Reference, items, and whether there is an inc."""
    refers, items, incomplete = "", list[Abnormality](), False
    for entry in text.split(",") if text else ():
        if entry in {"inc", "incomplete"}:
            incomplete = True
        elif entry == sex and not items:  # 46,XX,XX,del(5)(q13q33)
            continue
        elif entry[:1] in {"i", "s"} and (reference := REFERENCE.fullmatch(entry)) is not None:
            if refers or items:
                raise NotRead
            refers = reference[1] + reference[2]
        else:
            items.append(read_item(entry))
    return refers, items, incomplete


def _ploidy(count: int, sex: str) -> int:
    if count in _HAPLOID:
        return 1
    # 60,XX,+1,+2,… counts from two sets whatever its total; 60,XXX,… from three.
    if count in _TRIPLOID and len(sex) > DIPLOID:
        return 3
    return 4 if count in _TETRAPLOID else DIPLOID


def _cells(text: str | None) -> int | None:
    """Metaphases of "[12]", "[6+3]"; None where the text states none, or a composite."""
    if text is None or text in {"", "?"} or text.startswith("cp"):
        return None
    numbers = text.split("+")
    if not all(number.isdecimal() and len(number) <= _CELL_DIGITS for number in numbers):
        raise NotRead
    return sum(map(int, numbers))


@lru_cache(maxsize=8192)  # the same few thousand items make up all karyotypes of a cohort
def read_item(text: str) -> Abnormality:
    """Read one abnormality.

    Args:
        text: lower case, without white space.

    Raises:
        NotRead: it has no single reading, or names a chromosome or region of a chromosome that there is not.
    """
    if found := _NUMBER.fullmatch(text):
        return _finished(found, found["sign"], "number", found["chromosome"])
    if found := _MARKER.fullmatch(text):
        if found["kind"] in {"mar", "ace"} and not found["sign"] and not found["low"]:
            raise NotRead
        return _finished(found, found["sign"], found["kind"], found["kind"] + found["name"], (), int(found["low"] or 1))
    if ")or" in text:  # add(3)(p13)ordel(3)(p14p21): one abnormality, not known which
        for reading in re.split(r"(?<=\))or", text):
            _structural(reading)
        return Abnormality("", "or", text)
    if _VARIANT.fullmatch(text):
        return Abnormality("", "variant", text, constitutional=True)
    return _structural(text)


def _structural(text: str) -> Abnormality:
    start = _SIGN.match(text)
    sign, at = (start[1], start.end()) if start else ("", 0)
    parts = list[Part]()
    while found := _PART.match(text, at):
        parts.append(_part(found["kind"], found["chromosomes"], found["bands"]))
        at = found.end()
    end = _END.fullmatch(text, at)
    if not parts or end is None or (len(parts) > 1 and parts[0].kind not in {"der", "rec"}):
        raise NotRead
    return _finished(end, sign, parts[0].kind, "".join(map(_spelt, parts)), tuple(parts))


def _finished(
    found: re.Match[str], sign: str, kind: str, key: str, parts: tuple[Part, ...] = (), copies: int = 1
) -> Abnormality:
    copies *= int(found["copies"] or 1)
    if not copies:
        raise NotRead
    constitutional = found["c"] is not None or _VARIANT_INVERSION.fullmatch(key) is not None
    return Abnormality(sign, kind, key, parts, copies, constitutional, _cells(found["cells"]))


def _spelt(part: Part) -> str:
    bands = ";".join("".join(place.arm + place.band for place in one) for one in part.places)
    return part.head + (f"({bands})" if part.places else "")


def _part(kind: str, chromosomes: str, bands: str | None) -> Part:
    kind = _KINDS.get(kind, kind)
    if bands is None and (found := _WITH_ARM.fullmatch(chromosomes)):  # del(5q), i(17q)
        chromosomes, bands = found[1], found[2]
    names = tuple(map(_name, re.split("[;:]", chromosomes)))
    if kind not in _ANY and (kind in _SEVERAL) != (len(names) > 1):
        raise NotRead
    return Part(kind, names, () if bands is None else _places(names, bands))


def _name(text: str) -> str:
    if text == "?":
        return text
    found = _ONE.fullmatch(text)
    if found is None:
        raise NotRead
    return found[1]


def _places(names: tuple[str, ...], text: str) -> tuple[tuple[Place, ...], ...]:
    pieces = re.split("[;:]", text)
    if len(names) == 1:
        return (tuple(place for piece in pieces for place in _row(names[0], piece)),)
    if len(pieces) == 1:  # t(2;21)(q23q22)
        row = _row("?", text)
        if len(row) == len(names):
            return tuple((_checked(name, place),) for name, place in zip(names, row, strict=True))
    if len(pieces) > len(names):
        raise NotRead
    if len(pieces) < len(names):  # t(5;2)(q11): whose it is is not known
        return ()
    return tuple(tuple(_row(name, piece)) for name, piece in zip(names, pieces, strict=True))


def _row(name: str, text: str) -> list[Place]:
    """Read the breakpoints that stand in a row, all on one chromosome."""
    places, at = list[Place](), 0
    while at < len(text) and text != "?":
        found = _BAND.match(text, at)
        if found is None:
            raise NotRead
        digits = found["digits"].replace("?", "").replace("ter", "")
        if len(digits) > _REGION_AND_BAND:
            raise NotRead
        places.append(_checked(name, Place(found["arm"], digits)))
        at = found.end()
        if text.startswith("or", at):  # (q15q35orq22q35): both readings are on one arm
            at += 2
    if not places and text != "?":
        raise NotRead
    return places


def _checked(name: str, place: Place) -> Place:
    """Refuse a region that the arm does not have; of a band that the region does not have, keep the region.

    22q4 can be a mistake for anything; 7q23 lies in 7q2 at least.
    """
    if name == "?" or place.band in {"", "10"}:
        return place
    regions = _BANDS[name]["pq".index(place.arm)]
    region, band = int(place.band[0]), place.band[1:]
    if not 1 <= region <= len(regions):
        raise NotRead
    return Place(place.arm, place.band[0], doubtful=True) if band and not "1" <= band <= regions[region - 1] else place
