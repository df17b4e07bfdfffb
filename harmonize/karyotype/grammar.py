"""The notation of karyotypes, ISCN: one clone, a list of items.

Reading fails closed: what has no single reading is `NotRead`, never a guess. The grammar is in
docs/reference/karyotype.md.

Source: ISCN 2020 (McGowan-Jordan, Hastings, Moore, eds., Karger).
"""

__all__ = ["COUNT", "REFERENCE", "Clone", "read_clone"]

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from harmonize.karyotype.items import DIPLOID, Abnormality, NotRead, read_item
from harmonize.karyotype.items import cells as metaphases

# A count in this range belongs to this ploidy if the text states none and does not list other sex chromosomes (ch. 8).
_HAPLOID, _TRIPLOID, _TETRAPLOID = range(35), range(58, 81), range(81, 1000)
COUNT: Final = re.compile(
    r"(?:(?P<low>\d{2,3})(?:[~-](?P<high>\d{2,3}))?(?:<(?P<ploidy>[1-8])n[+-]?>)?[,;.:]?)?"
    r"(?:(?P<sex>[xy]{1,8})(?P<c>\??c)?(?![a-z(])[,;.:]?)?"
)
REFERENCE: Final = re.compile(r"(idem|sl|sdl)(\d?)(?:x\d{1,2})?(?:\[[^\[\]]*\])?")
_OPEN_END: Final = re.compile(r"(?:mar|dmin|ace)\(\d{1,3}\)$")  # of a clone: cells, or a name?
_SHORT: Final = 16  # 46,xy[12], 47,xx,+8[10]: met again and again, and common to many patients
_USUAL_COUNT: Final = 46  # where a clone has none: XX,del(5)(q31); idem,+8
_COUNTS: Final = range(20, 250)


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
        counted: whether the text states the chromosome count.
        unclear: chromosomes that damaged items may concern; what is known of these may be wrong.
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
    counted: bool = True
    unclear: frozenset[str] = frozenset()


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
        cells = None if rest.endswith("cp") else metaphases(stated)
        rest = rest.removesuffix("cp")
    elif _OPEN_END.search(rest):
        raise NotRead
    if not sex and rest[:2] in {"+x", "+y"}:  # 46+X: a comma, or an X, is missing
        raise NotRead
    if low == _USUAL_COUNT and found[0].endswith(",x") and rest[:2] in {"-x", "-y"}:  # 46,X-Y: XY, or -Y?
        raise NotRead
    refers, items, incomplete = _entries(rest, sex)
    if high < low or low not in _COUNTS or not (refers or items or (sex and found["low"])):
        raise NotRead
    if not found["low"] and not refers and sex not in {"xx", "xy"}:
        raise NotRead
    ploidy = int(found["ploidy"]) if found["ploidy"] else _ploidy(low, sex)
    if ploidy > DIPLOID == len(sex) and not found["ploidy"]:  # 84,XX: 48,XX?
        incomplete = True
    listed = "".join(sorted(sex))
    counted, constitutional = found["low"] is not None, found["c"] is not None
    return Clone(low, high, ploidy, listed, constitutional, refers, tuple(items), cells, incomplete, counted)


def _entries(text: str, sex: str) -> tuple[str, list[Abnormality], bool]:
    """Reference, items, and whether there is an inc."""
    refers, items, incomplete = "", list[Abnormality](), False
    for entry in text.split(",") if text else ():
        if entry in {"inc", "incomplete"}:
            incomplete = True
        elif entry == sex and len(sex) == DIPLOID and not items:  # 46,XX,XX,del(5)(q13q33)
            continue
        elif entry[:1] in {"i", "s"} and (reference := REFERENCE.fullmatch(entry)) is not None:
            if refers or items:
                raise NotRead
            refers = reference[1] + reference[2]
        else:
            items.append(read_item(entry))
    return refers, items, incomplete


def _ploidy(count: int, sex: str) -> int:
    if count in _HAPLOID and len(sex) < DIPLOID:
        return 1
    # 60,XX,+1,+2,… counts from two sets whatever its total; 60,XXX,… from three.
    if count in _TRIPLOID and len(sex) > DIPLOID:
        return 3
    return 4 if count in _TETRAPLOID else DIPLOID
