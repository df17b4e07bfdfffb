"""The notation of karyotypes, ISCN: one item of a clone. For the clone see `harmonize.karyotype.grammar`.

This module reads and decides nothing: what is clonal, what counts and what follows from it is for `cell_lines` and
`reading`. Reading fails closed: what has no single reading is `NotRead`, never a guess. The grammar is in
docs/reference/karyotype.md.

Source: ISCN 2020 (McGowan-Jordan, Hastings, Moore, eds., Karger). Band names: UCSC table cytoBand, hg19.
"""

__all__ = [
    "CHROMOSOME",
    "DIPLOID",
    "UNSURE",
    "Abnormality",
    "NotRead",
    "Part",
    "Place",
    "abbreviations",
    "cells",
    "read_item",
]

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
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

_SUFFIX: Final = r"(?P<c>\??c)?\??(?:x(?P<copies>\d{1,2})(?:[~-]\d{1,2})?)?(?:\[(?P<cells>[^\[\]]*)\])?"
_NUMBER: Final = re.compile(rf"(?P<sign>[+-])\??(?P<chromosome>{CHROMOSOME}){_SUFFIX}")
# r(7) is no marker: the chromosome of that ring is known.
_MARKER: Final = re.compile(
    r"(?P<sign>[+-]?)\??(?P<low>\d{1,2})?(?:(?:~|(?<=\d)-)(?:\d{1,2})?)?(?P<kind>mar|dmin|hsr|ace|r(?!\(\d))(?P<name>\d{0,2})"
    rf"(?:(?<=\d)~\d{{1,2}})?(?:\((?:\?|\d{{1,3}})\))?{_SUFFIX}"
)
# Heterochromatin, satellites and stalks of healthy people: 9qh+, 15ps+, 21pstk-, Yqh-.
_VARIANT: Final = re.compile(rf"{CHROMOSOME}(?:[pq]|cen)(?:h|s|stk|ss)[+-]?\d?")
# Inversions of healthy people, whether or not the laboratory writes "c".
_VARIANT_INVERSION: Final = re.compile(
    r"inv\(9\)(?:\(p(?:1[123]?)?q(?:1[123]?|21)?\))?|inv\(2\)\(p11q1[234]\)|inv\(y\)\(p11q1[12]\)"
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
    r"\??(?P<arm>[pq])(?P<digits>ter|[\d?]{0,4})(?:(?<=[\d?])\.\d{1,3})?\??(?:(?:[~-]|or)(?:[pq]?\d{1,2}(?:\.\d{1,3})?\??)+)?"
)
_REGION_AND_BAND: Final = 2
_MOST_PLACES: Final = 2
UNSURE: Final = "!"  # after a band of three digits: q113 is q11.3 or q13
_DETAILED: Final = re.compile(r"[\dpqxytercn:>;.?~-]*(?:->|::)[\dpqxytercn:>;.?~-]*")
_CELL_DIGITS: Final = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A breakpoint.

    Attributes:
        arm: "p" or "q".
        band: region and band as two digits; fewer if the text states less.
        doubtful: the region has no such band, and only the region is kept; or there are three digits and an `UNSURE`.
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
        return any(
            not part.places or any(len(place.band) < _REGION_AND_BAND for one in part.places for place in one)
            for part in parts
        )


@lru_cache(maxsize=8192)
def abbreviations(item: Abnormality) -> tuple[str, ...]:
    """Keys by which another clone may mean `item`: der(19), der(19)t(7;19), del(5), del(5)(q), del(5)(q1q33)."""
    text, found = "", list[str]()
    for part in item.parts:
        text += part.head
        found.append(text)
    first = item.parts[0]
    arms = ";".join("".join(dict.fromkeys(place.arm for place in one)) for one in first.places)
    found.append(f"{first.head}({arms})")
    places = [place for one in first.places for place in one]
    if len(item.parts) == 1 and 1 <= len(places) <= _MOST_PLACES:
        between = ";" if len(first.chromosomes) > 1 else ""
        rough = [(place.arm + place.band, place.arm + place.band[:1], place.arm) for place in places]
        found += [f"{first.head}({between.join(bands)})" for bands in product(*rough)][1:]
    return tuple(found)


def cells(text: str | None) -> int | None:
    """Metaphases of "[12]", "[6+3]"; None where the text states none, or a composite."""
    if text is None or text in {"", "?"} or text.startswith("cp"):
        return None
    numbers = text.split("+")
    if not all(number.isdecimal() and len(number) <= _CELL_DIGITS for number in numbers):
        raise NotRead
    if not (total := sum(map(int, numbers))):
        raise NotRead
    return total


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
        _check_joined(parts)
    end = _END.fullmatch(text, at)
    if not parts or end is None or (len(parts) > 1 and parts[0].kind not in {"der", "rec"}):
        raise NotRead
    return _finished(end, sign, parts[0].kind, "".join(map(_spelt, parts)), tuple(parts))


def _check_joined(parts: Sequence[Part]) -> None:
    """Refuse der(7)t(1;7)(q10;p10)del(12)(p12): there is no 12 on that chromosome, a comma is missing."""
    there = {name for part in parts[:-1] for name in part.chromosomes}
    last = set(parts[-1].chromosomes)
    if there and "?" not in there | last and there.isdisjoint(last):
        raise NotRead


def _finished(
    found: re.Match[str], sign: str, kind: str, key: str, parts: tuple[Part, ...] = (), copies: int = 1
) -> Abnormality:
    copies *= int(found["copies"] or 1)
    if not copies:
        raise NotRead
    # A fragile site shows in culture; it is no finding of the patient's cells.
    constitutional = found["c"] is not None or kind == "fra" or _VARIANT_INVERSION.fullmatch(key) is not None
    return Abnormality(sign, kind, key, parts, copies, constitutional, cells(found["cells"]))


def _spelt(part: Part) -> str:
    bands = ";".join("".join(place.arm + place.band for place in one) for one in part.places)
    return part.head + (f"({bands})" if part.places else "")


def _part(kind: str, chromosomes: str, bands: str | None) -> Part:
    kind = _KINDS.get(kind, kind)
    if bands is None and (found := _WITH_ARM.fullmatch(chromosomes)):  # del(5q), i(17q)
        chromosomes, bands = found[1], found[2]
    if kind in _SEVERAL and bands is not None and chromosomes.isdecimal():
        chromosomes = _apart(chromosomes, bands)
    names = tuple(map(_name, re.split("[;:]", chromosomes)))
    if kind not in _ANY and (kind in _SEVERAL) != (len(names) > 1):
        raise NotRead
    if bands is not None and _DETAILED.fullmatch(bands):  # der(21)(qter->q22::p11.2->qter): its arms are not read
        if kind not in {"der", "dic", "r"}:
            raise NotRead
        bands = None
    if kind == "der" and len(names) == 1 and bands is not None and ";" in bands:  # der(17)(q10;p10): der(1;7)?
        raise NotRead
    return Part(kind, names, () if bands is None else _places(names, bands))


def _apart(chromosomes: str, bands: str) -> str:
    """Put the semicolon back into t(922)(q34;q11), where there is one place for it."""
    found = list[str]()
    for at in range(1, len(chromosomes)):
        pair = chromosomes[:at], chromosomes[at:]
        try:
            if len(_places(tuple(map(_name, pair)), bands)) == len(pair):
                found.append(";".join(pair))
        except NotRead:
            continue
    if len(found) != 1:
        raise NotRead
    return found[0]


def _name(text: str) -> str:
    if text == "?":
        return text
    found = _ONE.fullmatch(text)
    if found is None:
        raise NotRead
    return found[1]


def _places(names: tuple[str, ...], text: str) -> tuple[tuple[Place, ...], ...]:
    pieces = re.split("[;:]", text)
    if len(pieces) == 1 and "-" in text:  # inv(3)(q21-q26), t(9;22)(q34-q11); but q13-33 is a range
        pieces = re.split("-(?=[pq])", text)
    elif len(pieces) == 1:  # no range reaches from one arm to the other
        pieces = re.split(r"(?<=p\d)~(?=q)|(?<=p\d\d)~(?=q)", text)
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
        if len(digits) > _REGION_AND_BAND + 1 or (found[0] == found["arm"] and text.startswith(found[0], found.end())):
            raise NotRead  # q1313; qq13
        if len(digits) > _REGION_AND_BAND:  # q113: q11.3 or q13
            _checked(name, Place(found["arm"], digits[0]))
            places.append(Place(found["arm"], digits + UNSURE, doubtful=True))
        else:
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
