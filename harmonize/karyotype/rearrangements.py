"""What one abnormality of a karyotype does: arms lost and gained, fusions, and its name in the IPSS-R.

Everything here is a function of the notation of one item alone; what the other items of the clone change about it
(a lost chromosome replaced by its derivative, …) is `harmonize.karyotype`.
"""

__all__ = ["Effect", "effect"]

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from harmonize.karyotype.items import Abnormality, Part, Place


@dataclass(frozen=True, slots=True)
class Effect:
    """What follows from one item.

    Attributes:
        lost: arms of which material is lost, e.g. "5q"; whole chromosomes are not here.
        gained: arms of which there is more.
        fusions: names of features.
        named: name in the IPSS-R, or "": "-y", "-7", "del5q", …
        structural: a rearrangement, a marker or a ring; not a number, not double minutes.
        unclear: the notation leaves open which arms or genes are concerned.
        open: chromosomes of which any arm may be lost or gained, for want of breakpoints.
    """

    lost: frozenset[str] = frozenset()
    gained: frozenset[str] = frozenset()
    fusions: frozenset[str] = frozenset()
    named: str = ""
    structural: bool = False
    unclear: bool = False
    open: frozenset[str] = frozenset()


_OTHER_ARM: Final = {"p": "q", "q": "p"}
_ACROCENTRIC: Final = frozenset({"13", "14", "15", "21", "22"})
_NAMED_NUMBERS: Final = {"-y", "-7", "+8", "+19"}
_NAMED_DELETIONS: Final = {"5q", "7q", "11q", "12p", "20q"}

# Two breakpoints that make the fusion, as (chromosome + arm + band): bands as named in ISCN 2020, WHO 2022 and older
# reports, whose neighbouring bands differ by one (15q22, now 15q24).
_FUSIONS: Final = {
    "t8_21": ({"8q22"}, {"21q22"}),
    "inv16": ({"16p13"}, {"16q22"}),
    "t15_17": ({"15q22", "15q23", "15q24"}, {"17q11", "17q12", "17q21"}),
    "t9_11": ({"9p21", "9p22"}, {"11q23"}),
    "t6_9": ({"6p22", "6p23"}, {"9q34"}),
    "t9_22": ({"9q34"}, {"22q11"}),
    "t4_14": ({"4p16"}, {"14q32"}),
    "t11_14": ({"11q13"}, {"14q32"}),
    "t14_16": ({"14q32"}, {"16q22", "16q23"}),
    "t14_20": ({"14q32"}, {"20q11", "20q12", "20q13"}),
}
_RARA: Final = _FUSIONS["t15_17"][1]
# Written without breakpoints, these are only ever used for the fusion.
_SHORTHAND: Final = {
    "t(8;21)": {"t8_21"},
    "inv(16)": {"inv16"},
    "t(16;16)": {"inv16"},
    "t(15;17)": {"t15_17"},
    "t(9;11)": {"t9_11", "kmt2a_r"},
    "t(6;9)": {"t6_9"},
    "t(9;22)": {"t9_22"},
    "t(4;14)": {"t4_14"},
    "t(11;14)": {"t11_14"},
    "t(14;16)": {"t14_16"},
    "t(14;20)": {"t14_20"},
    "inv(3)": {"inv3", "mecom_r"},
    "t(3;3)": {"inv3", "mecom_r"},
}
_BALANCED: Final = frozenset({"t", "inv", "ins", "tas", "fra", "fis", "hsr"})
_ONE_ARMED: Final = frozenset({"i", "idic", "del", "add", "dup", "trp", "qdp"})
_DER_1_7: Final = frozenset({"der(1;7)(q10;p10)", "der(7)t(1;7)(q10;p10)"})
_EXCHANGES: Final = frozenset({"t", "inv", "ins"})


@lru_cache(maxsize=8192)  # by identity: `read_item` returns the same object for the same text
def effect(item: Abnormality) -> Effect:
    """Return what `item` does, read as if it stood alone."""
    if item.kind == "number":
        name = item.sign + item.key
        both = frozenset({item.key + "p", item.key + "q"}) if item.sign == "+" else frozenset()
        return Effect(gained=both, named=name if name in _NAMED_NUMBERS else "")
    if not item.parts:
        return Effect(structural=item.kind in {"mar", "r", "or"}, unclear=item.kind in {"or", "unnamed"})
    lost, gained, fusions = set[str](), set[str](), set[str]()
    unclear = any(place.doubtful for part in item.parts for one in part.places for place in one)
    first = item.parts[0]
    if first.kind in {"der", "rec"} and len(item.parts) > 1:
        for part in item.parts[1:]:
            unclear |= _on_derivative(first.chromosomes, part, lost, gained)
    else:
        unclear |= _alone(first, lost, gained)
    for part in item.parts:
        unclear |= _fused(part, fusions)
        # It takes two breakpoints to turn a piece round, three to put it elsewhere.
        least = {"inv": 2, "ins": 3}.get(part.kind, 0)
        unclear |= bool(part.places) and sum(map(len, part.places)) < least
    if item.key in _DER_1_7:  # beside two normal chromosomes 1, whether or not the text writes +1
        lost, gained = {"7q"}, {"1q"}
    elif item.sign == "+":  # an extra chromosome: what it lacks is still there twice
        gained |= {name + arm for name in first.chromosomes for arm in "pq" if name + arm not in lost}
        lost.clear()
    named = _name(item, fusions)
    arms = frozenset(lost), frozenset(gained - lost)
    return Effect(*arms, frozenset(fusions), named, True, unclear, _open(item) if unclear else frozenset())  # noqa: FBT003


def _open(item: Abnormality) -> frozenset[str]:
    parts = item.parts[1:] or item.parts
    if all(part.places for part in parts) or (len(item.parts) == 1 and parts[0].kind in _BALANCED):
        return frozenset()
    return frozenset(name for part in item.parts for name in part.chromosomes)


def _arms(name: str, places: tuple[Place, ...]) -> set[str]:
    return {name + place.arm for place in places if place.arm}


def _alone(part: Part, lost: set[str], gained: set[str]) -> bool:
    """Add what a rearrangement loses and gains; return whether that stays unclear."""
    if part.kind in _BALANCED or (part.kind == "rob" and not part.places):
        return False
    name = part.chromosomes[0]
    if not part.places and part.kind in _ONE_ARMED and name in _ACROCENTRIC:  # del(13), i(21)
        part = Part(part.kind, part.chromosomes, ((Place("p" if part.kind == "idic" else "q", ""),),))
    if not part.places:  # der(7), dic(5;17), r(12)
        return True
    places = part.places
    match part.kind:
        case "dup" | "trp" | "qdp":
            gained |= _arms(name, places[0])
        case "i" | "idic":
            # i(17)(q10) is 17q twice; idic(X)(q13) is twice all that does not lie beyond q13.
            kept = {place.arm if part.kind == "i" or part.whole_arm else _OTHER_ARM[place.arm] for place in places[0]}
            gained |= {name + arm for arm in kept}
            lost |= {name + _OTHER_ARM[arm] for arm in kept}
        case _:
            return _ends(part, lost)
    return False


def _ends(part: Part, lost: set[str]) -> bool:
    """Add the arms that a deletion, ring, dicentric or whole-arm derivative lacks from its breakpoints on."""
    joined = part.whole_arm and part.kind in {"der", "rob", "dic"}
    several = part.kind in {"der", "rob"} and len(part.chromosomes) > 1 and not joined
    if several and any(place.band in {"", "1", "10"} for one in part.places for place in one):
        return True  # der(17;20)(p10;p1): the arms that are named, or the others?
    for name, one in zip(part.chromosomes, part.places, strict=True):
        if name != "?":
            lost |= {name + _OTHER_ARM[place.arm] for place in one} if joined else _arms(name, one)
    return any(not one and name != "?" for name, one in zip(part.chromosomes, part.places, strict=True))


def _on_derivative(centromeres: tuple[str, ...], part: Part, lost: set[str], gained: set[str]) -> bool:
    """Add what a rearrangement on a derivative chromosome loses and gains; return whether that stays unclear.

    der(5)t(5;20)(q11;q12) has chromosome 5 up to q11 and chromosome 20 beyond q12: 5q is lost, 20q gained.
    """
    if part.kind not in {"t", "ins"}:
        return _alone(part, lost, gained)
    if not part.places:
        return True
    if part.whole_arm and part.kind == "t" and len(centromeres) == 1:  # der(7)t(1;7)(q10;p10) is der(1;7)(q10;p10)
        for name, one in zip(part.chromosomes, part.places, strict=True):
            lost |= {name + _OTHER_ARM[place.arm] for place in one if name in centromeres}
            gained |= {name + place.arm for place in one if name not in centromeres}
        return False
    if part.kind == "t" and any(place.band == "10" for one in part.places for place in one):
        return True  # der(7)t(1;7)(q10;p): whole arms, but not said of both
    seen = False
    for name, one in zip(part.chromosomes, part.places, strict=True):
        if part.kind == "t" and name in centromeres and not seen:
            seen = True  # der(1)t(1;1)(p36;q21): the first one carries the centromere
            lost |= _arms(name, one)
        elif name not in centromeres or seen:
            gained |= _arms(name, one)
    return False


def _points(part: Part) -> Iterator[str]:
    for name, one in zip(part.chromosomes, part.places, strict=True):
        for place in one:
            yield f"{name}{place.arm}{place.band}"


def _fused(part: Part, found: set[str]) -> bool:
    """Add the fusions of one rearrangement; return whether missing breakpoints leave them open."""
    if part.kind == "del" and part.chromosomes == ("3",) and part.places:
        if all(place.arm == "q" for place in part.places[0]):
            found.add("inv3")
        return False
    if part.kind not in _EXCHANGES:
        return False
    if not part.places:
        known = _SHORTHAND.get(part.head)
        found |= known or set()
        return known is None
    points = set(_points(part))
    found |= {name for name, (one, other) in _FUSIONS.items() if points & one and points & other}
    open_ = _may_be_fused(part, points, found)
    if "11q23" in points and points & _RARA:
        open_ = True  # ZBTB16::RARA, or KMT2A::MLLT6 at 17q12, which older reports call q21
    elif "11q23" in points:
        found.add("kmt2a_r")
    if part.kind != "ins":
        _fused_at_3q(part, points, found)
    return open_


def _may_be_fused(part: Part, points: set[str], found: set[str]) -> bool:
    """Whether breakpoints without a band, or without anything, may make a fusion that is not found."""
    rough = {point for point in points if not point[-2:].isdecimal()}
    rough |= {name for name, one in zip(part.chromosomes, part.places, strict=True) if not one and name != "?"}
    if not rough:
        return False

    def may(exact: set[str]) -> bool:
        return any(_is_within(point, one) for point in exact for one in rough)

    pairs = (pair for name, pair in _FUSIONS.items() if name not in found)
    return (
        any(all(points & exact or may(exact) for exact in pair) for pair in pairs)
        or (may({"11q23"}) and "11q23" not in points)
        or (part.kind == "t" and may({"3q26"}))
        or (part.kind == "inv" and may({"3q21", "3q26"}))
    )


def _is_within(point: str, rough: str) -> bool:
    """Whether 9q34 lies in 9q3, 9q or 9."""
    rest = point.removeprefix(rough)
    return len(rest) < len(point) and (not rest[0].isdecimal() or not rough.isdecimal())


def _fused_at_3q(part: Part, points: set[str], found: set[str]) -> None:
    within = set(part.chromosomes) == {"3"}
    both = {"3q21", "3q26"} <= points
    if both or (part.kind == "t" and any(point.startswith("3q") for point in points)):
        found.add("inv3")
    if both or (part.kind == "t" and "3q26" in points and not within):
        found.add("mecom_r")


def _name(item: Abnormality, fusions: set[str]) -> str:
    """Return the name that the IPSS-R has for a rearrangement, or ""."""
    if item.key in _DER_1_7:
        return "der1_7"
    part = item.parts[0]
    if part.kind in {"t", "inv", "del"} and "inv3" in fusions:
        return "inv3"
    if item.sign or not part.places or len(item.parts) > 1:
        return ""
    arms = _arms(part.chromosomes[0], part.places[0])
    if part.kind == "i" and arms == {"17q"}:
        return "i17q"
    return "del" + next(iter(arms)) if part.kind == "del" and len(arms) == 1 and arms <= _NAMED_DELETIONS else ""
