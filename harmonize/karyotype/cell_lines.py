"""From the clones of a karyotype to what is clonal: references resolved, cells counted, relatives found.

| rule           | here                                                                     | source              |
|----------------|--------------------------------------------------------------------------|---------------------|
| clonal         | a gain or rearrangement in ≥ 2 cells, a loss in ≥ 3, over all cell lines  | ISCN 2020, ch. 11   |
| references     | idem and sl: the last clone written in full; sdl1: the second clone      | ISCN 2020, ch. 11   |
| cancelled      | 46,idem,-8 of a stem line with +8 has no +8, and no -8                    | ISCN 2020, ch. 11   |
| replaced       | -5,+der(5)…: the derivative stands for the lost one: no monosomy         | ISCN 2020, ch. 9    |
| polyploidy     | one abnormality; the numbers of such a clone are relative to its ploidy  | Chun, Leuk Res 2010 |
| normal         | fewer than ten normal metaphases and no clone say nothing: incomplete    | Hook 1977, see docs |
| normal variant | c, fra, 9qh+ …, inv(9)(p12q13), inv(2)(p11q13), inv(Y)(p11q11): left out  | ISCN 2020, ch. 7    |
"""

__all__ = ["Findings", "Line", "findings"]

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from harmonize.karyotype.grammar import Clone
from harmonize.karyotype.items import DIPLOID, Abnormality, NotRead, abbreviations
from harmonize.karyotype.rearrangements import Effect, effect

_LEAST_CELLS: Final = 2
_LEAST_CELLS_WITH_LOSS: Final = 3
_AUTOSOMES: Final = 44
_PLOIDY: Final = "ploidy"
_NO_CHROMOSOME: Final = frozenset({"+dmin", "+hsr"})
_LEAST_NORMAL: Final = 10
_JOINED: Final = re.compile(r"(?:dic|trc|rob|tas|der)\(([^()]*;[^()]*)\)")
_COPIED: Final = frozenset({"number", "mar", "ace", "r"})
_NOTHING: Final = Effect()

Sex = Literal["XX", "XY"]


@dataclass(slots=True)
class Line:
    """One cell line with everything it has, also what it inherits.

    Attributes:
        clone: as written.
        items: copies of each item, by sign and key; once `findings` returns, only the clonal ones.
        stated: cells of single items, where they differ from the clone's: del(5)(q13q33)[3].
        unclear: chromosomes that damaged items may concern, also inherited ones.
    """

    clone: Clone
    items: dict[str, int] = field(default_factory=dict)
    stated: dict[str, int] = field(default_factory=dict)
    unclear: frozenset[str] = frozenset()

    @property
    def number(self) -> int:
        """Chromosomes that the items make of two sets; copies of an extra rearranged chromosome count once."""
        total = _AUTOSOMES + max(len(self.clone.sex), DIPLOID)
        for name, copies in self.items.items():
            if name[0] in "+-":
                total += 0 if name in _NO_CHROMOSOME else copies if name[0] == "+" else -copies
            elif ";" in name and (joined := _JOINED.match(name)):
                total -= joined[1].count(";")
        return total


@dataclass(frozen=True, slots=True)
class Findings:
    """What is clonal.

    Attributes:
        families: the cell lines with clonal items; those that share an item are in one family.
        effects: what each item does.
        sex: of the constitution.
        incomplete: an item leaves open what it concerns, or a clone is marked ``inc``.
        undecided: there are single changed cells and neither a clone nor a normal cell.
    """

    families: tuple[tuple[Line, ...], ...]
    effects: Mapping[str, Effect]
    sex: Sex | None
    incomplete: bool
    undecided: bool


def findings(clones: Sequence[Clone], sex: Sex | None = None) -> Findings:
    """Resolve, count cells, and group.

    Args:
        clones: as read, one at least.
        sex: of the constitution if it is known from elsewhere; only used where the text leaves it open.

    Raises:
        NotRead: a reference, an abbreviation or a number of chromosomes has no single reading.
    """
    effects: dict[str, Effect] = {}
    lines = _lines(clones, effects, sex)
    normal = [line.clone.cells for line in lines if not line.items]
    stated = _sex(lines)
    clonal = _clonal(lines)
    changed = list[Line]()
    for line in lines:
        if any(name not in clonal for name in line.items):
            line.items = {name: copies for name, copies in line.items.items() if name in clonal}
        if line.items:
            changed.append(line)
    incomplete = any(clone.incomplete for clone in clones) or any(effects[name].unclear for name in clonal)
    if not changed and None not in normal:
        incomplete |= sum(cells for cells in normal if cells is not None) < _LEAST_NORMAL
    return Findings(_families(changed), effects, stated, incomplete, undecided=not changed and not normal)


def _lines(clones: Sequence[Clone], effects: dict[str, Effect], sex: Sex | None) -> list[Line]:
    full = _full(clones)
    numbers = {
        item.sign + item.key for one in clones if one.ploidy == DIPLOID for item in one.items if item.kind == "number"
    }
    lines = list[Line]()
    for clone in clones:
        line = Line(clone, unclear=clone.unclear)
        if clone.refers:
            stem = _referred(clone.refers, lines)
            line.items, line.unclear = dict(stem.items), stem.unclear | clone.unclear
            line.items.pop(_PLOIDY, None)
        if clone.items or clone.ploidy != DIPLOID:
            _Filling(line, full, numbers, effects).fill()
        lines.append(line)
    for line in lines:
        if missing := _unnamed(line, lines, sex):
            line.items[missing.sign + missing.key] = 1
            effects[missing.sign + missing.key] = effect(missing)
    return lines


def _referred(reference: str, lines: Sequence[Line]) -> Line:
    """Return the line that idem, sl, sdl or sdl<n> stands for."""
    if reference == "sdl":
        found = lines[-1] if len(lines) > 1 else None
    elif reference.startswith("sdl"):  # sdl1 is the second clone
        found = lines[int(reference[3:])] if len(lines) > int(reference[3:]) > 0 else None
    else:
        found = next((line for line in reversed(lines) if not line.clone.refers), None)
    if found is None or not found.items:
        raise NotRead
    return found


def _full(clones: Sequence[Clone]) -> dict[str, Abnormality]:
    """Key and abbreviations of each rearrangement -> the first one that the text describes in full.

    ISCN lets a later clone write del(5) or der(13)t(6;13) for what an earlier one has described. Where two of the
    earlier ones fit, either will do: features are those of all cell lines together.
    """
    full: dict[str, Abnormality] = {}
    vague = list[Abnormality]()
    for clone in clones:
        for item in clone.items:
            if not item.parts or item.constitutional:
                continue
            if item.vague:
                vague.append(item)
                continue
            full.setdefault(item.key, item)
            if len(clones) > 1:
                for short in abbreviations(item):
                    full.setdefault(short, item)
    for item in vague:
        full.setdefault(item.key, item)
    return full


class _Filling:
    """Puts the items of one clone into its line."""

    def __init__(
        self, line: Line, full: Mapping[str, Abnormality], numbers: set[str], effects: dict[str, Effect]
    ) -> None:
        self._clone, self._items, self._stated = line.clone, line.items, line.stated
        self._full, self._numbers, self._effects = full, numbers, effects
        self._freed: set[str] = set()  # chromosomes of which an abnormal copy was taken away again

    def fill(self) -> None:
        extra = False
        for item in self._clone.items:
            if item.constitutional:
                continue
            if item.kind == "number":
                self._number(item)
            elif item.sign == "-":
                self._take_away(item)
            else:
                extra |= item.sign == "+" and bool(item.parts)
                self._add(item)
        if extra:
            self._replace()
        if self._clone.ploidy != DIPLOID:
            self._items[_PLOIDY] = 1
            self._effects[_PLOIDY] = _NOTHING

    def _number(self, item: Abnormality) -> None:
        name, items = item.sign + item.key, self._items
        if self._clone.ploidy != DIPLOID:  # one of three or four copies: neither monosomy nor trisomy
            if name not in self._numbers:
                name = "@" + name
            items.setdefault(name, 1)
            self._effects.setdefault(name, _NOTHING if name[0] == "@" else effect(item))
            return
        copies = item.copies
        if self._clone.refers:
            opposite = ("+" if item.sign == "-" else "-") + item.key
            while copies and opposite in items:
                _decrease(items, opposite)
                copies -= 1
        if copies:
            items[name] = items.get(name, 0) + copies
            self._note(name, item)

    def _take_away(self, item: Abnormality) -> None:
        item = self._in_full(item)
        for _ in range(item.copies):
            present = next((name for name in self._items if name.lstrip("+") == item.key), None)
            if present is None and item.key == "mar":
                present = next((name for name in self._items if name.startswith("+mar")), None)
            if present is None:
                raise NotRead
            _decrease(self._items, present)
        if item.parts:
            self._freed |= set(item.parts[0].chromosomes)

    def _add(self, item: Abnormality) -> None:
        item = self._in_full(item)
        name = item.sign + item.key if item.parts else "+" + item.key
        self._items[name] = self._items.get(name, 0) + item.copies if item.kind in _COPIED else 1
        self._note(name, item)

    def _note(self, name: str, item: Abnormality) -> None:
        self._effects[name] = effect(item)
        if item.cells is not None:
            self._stated[name] = item.cells

    def _in_full(self, item: Abnormality) -> Abnormality:
        whole = self._full.get(item.key)
        if whole is None or whole.key == item.key:
            return item
        return Abnormality(item.sign, whole.kind, whole.key, whole.parts, item.copies, cells=item.cells)

    def _replace(self) -> None:
        """Read −5,+der(5)… as der(5)…."""
        items = self._items
        for name in [name for name in items if name[0] == "+" and name.endswith(")")]:
            item = self._full[name[1:]]
            homes = item.parts[0].chromosomes
            lost = [home for home in homes if "-" + home in items]
            if not lost and self._freed.isdisjoint(homes):
                continue
            for home in lost:
                _decrease(items, "-" + home)
            del items[name]
            items[item.key] = 1
            self._effects[item.key] = effect(Abnormality("", item.kind, item.key, item.parts))


def _decrease(items: dict[str, int], name: str) -> None:
    items[name] -= 1
    if not items[name]:
        del items[name]


def _clonal(lines: Iterable[Line]) -> set[str]:
    """Names of the items that enough cells have; where the text states no cells, all are taken for clonal."""
    seen: dict[str, int | None] = {}
    for line in lines:
        for name in line.items:
            cells = line.stated.get(name, line.clone.cells)
            sofar = seen.get(name, 0)
            seen[name] = None if cells is None or sofar is None else sofar + cells
    return {
        name
        for name, cells in seen.items()
        if cells is None or cells >= (_LEAST_CELLS_WITH_LOSS if name[0] == "-" else _LEAST_CELLS)
    }


def _families(lines: Sequence[Line]) -> tuple[tuple[Line, ...], ...]:
    if len(lines) == 1:
        return (tuple(lines),)
    families: list[tuple[set[str], list[Line]]] = []
    for line in lines:
        names, members = {name.lstrip("+") for name in line.items} - {_PLOIDY}, [line]
        apart = []
        for other in families:
            if other[0] & names:
                names, members = names | other[0], other[1] + members
            else:
                apart.append(other)
        families = [*apart, (names, members)]
    return tuple(tuple(members) for _, members in families)


def _is_normal(clone: Clone) -> bool:
    expected = _AUTOSOMES + len(clone.sex)
    return clone.low <= expected == clone.high and len(clone.sex) > 1


def _constitution(line: Line) -> str:
    """Sex chromosomes before anything was lost or gained, sorted: "xx", "xy", …; "" if not stated."""
    if len(line.clone.sex) == DIPLOID or line.clone.sex_is_constitutional:
        return line.clone.sex
    letters = list(line.clone.sex)
    if not letters:
        return ""
    for name in ("-x", "-y"):
        letters += [name[1]] * line.items.get(name, 0)
    if len(letters) == 1:  # 46,X,i(X)(q10): the other one is the abnormal one
        changed = {home for item in line.clone.items for part in item.parts for home in part.chromosomes} & {"x", "y"}
        letters += sorted(changed, reverse=True)[:1]
    if len(letters) > DIPLOID:
        for name in ("+x", "+y"):
            for _ in range(min(line.items.get(name, 0), letters.count(name[1]))):
                letters.remove(name[1])
        if line.clone.ploidy != DIPLOID:
            return "xy" if "y" in letters else "xx"
    return "".join(sorted(letters))


def _sex(lines: Iterable[Line]) -> Sex | None:
    found = {one for line in lines if (one := _constitution(line))}
    if found == {"xx"}:
        return "XX"
    return "XY" if found == {"xy"} else None


def _unnamed(line: Line, lines: Sequence[Line], sex: Sex | None) -> Abnormality | None:
    """Return what the numbers of a clone say and its items do not: the lost chromosome of 45,X, the extra of 47,XY.

    Which sex chromosome 45,X has lost, other clones or the patient's sex tell; else it stays unnamed. It is no Turner
    syndrome: a constitutional complement of a patient with a neoplasia is written 45,Xc (ISCN 2020, ch. 11).

    Raises:
        NotRead: the numbers have no reading.
    """
    clone = line.clone
    if clone.sex_is_constitutional or not clone.sex or clone.ploidy != DIPLOID:
        return None
    if len(clone.sex) == 1 and len(_constitution(line)) == 1:
        others = {one for other in lines if other is not line and len(one := _constitution(other)) > 1}
        whole = others.pop() if len(others) == 1 else (sex or "").lower()
        fits = line.number == clone.high + 1  # else 46,X can be 46,XX or 46,XY with a letter missing
        if clone.sex == "y" or whole not in {"xx", "xy", ""} or not fits or "+x" in line.items:
            raise NotRead
        return Abnormality("-", "number", whole[1]) if whole else Abnormality("-", "unnamed", "?")
    if line.items or clone.refers or clone.items or _is_normal(clone):
        return None
    expected = _AUTOSOMES + len(clone.sex)
    if clone.low == clone.high and abs(clone.low - expected) == 1 and len(clone.sex) == DIPLOID:
        return Abnormality("+" if clone.low > expected else "-", "unnamed", "?")
    raise NotRead
