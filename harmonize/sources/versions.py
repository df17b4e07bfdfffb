"""Which resources of a source are there twice, in several versions, or replaced by a final one.

Nothing is known before the source ends, so facts are passed on at once and withdrawn afterwards. 48 bytes a fact; what
has none is not kept.
"""

__all__ = ["Versions"]

import datetime as dt
from collections.abc import Iterator
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harmonize.dates import instant
from harmonize.events import Issue, Pointer, Withdrawn
from harmonize.resources import Meta

# A hash of the resource's name, its version, hashes of what it says and of what about, file, line.
_ROW: Final = Struct("=6q")
_PACK, _UNPACK, _PACKED = _ROW.pack, _ROW.unpack, _ROW.size
_IDENTITY, _VERSION, _CONTENT, _SLOT, _FILE, _LINE = range(6)
_COLUMNS: Final = 6
_PRELIMINARY: Final = 1 << 32  # added to the number of the file
_UNKNOWN: Final = -1
_FOR_EVER: Final = (1 << 63) - 1  # entered-in-error is final: no version before it counts


class Versions:
    """A row for every fact: hashes of which resource says it and what, and where it stands."""

    def __init__(self) -> None:
        # Packed by hand: array.extend takes five times as long, for every fact there is.
        self._rows = bytearray()
        self._extend = self._rows.extend
        self._files: dict[str, int] = {}

    def add(
        self, name: str | None, meta: Meta | None, about: tuple[str, str, dt.date | None], said: object, where: Pointer
    ) -> None:
        """Remember one fact.

        Args:
            name: of the resource: its id, with the type before it unless it is an Observation.
            meta: of the resource; lastUpdated orders versions.
            about: patient key, variable, day.
            said: value, unit and what else makes a difference; hashable. The hash of a part may stand for it: of
                decimals it takes longer than all else here.
            where: file and line.
        """
        moment = instant(meta.last_updated) if meta is not None and meta.last_updated is not None else None
        self._extend(
            _PACK(
                # With the patient: ids that mean something inside one document only, as "1", must not collide.
                hash((name, about[0])) if name else 0,
                _UNKNOWN if moment is None else moment,
                hash(said),
                hash(about),
                self._files.setdefault(where.file, len(self._files)),
                where.line,
            )
        )

    def add_preliminary(
        self, name: str | None, meta: Meta | None, about: tuple[str, str, dt.date | None], said: object, where: Pointer
    ) -> None:
        """As `add`; any other fact about the same patient, variable and day replaces it."""
        self.add(name, meta, about, said, where)
        *row, file, line = _UNPACK(self._rows[-_PACKED:])
        self._rows[-_PACKED:] = _PACK(*row, file + _PRELIMINARY, line)

    def cancelled(self, name: str | None, patient: str, where: Pointer) -> None:
        """Remember a resource that was entered in error: whatever it said in other versions does not count."""
        if name:
            file = self._files.setdefault(where.file, len(self._files))
            self._extend(_PACK(hash((name, patient)), _FOR_EVER, 0, 0, file, where.line))

    def verdicts(self) -> Iterator[Issue | Withdrawn]:
        """What does not count after all, and why, in the order of places."""
        rows = np.frombuffer(bytes(self._rows), dtype=np.int64).reshape(-1, _COLUMNS)
        found = [*self._repeated(rows), *self._replaced(rows)]
        withdrawn: set[tuple[str, int]] = set()
        for code, where, dropped in sorted(found, key=lambda verdict: (verdict[1].file, verdict[1].line, verdict[0])):
            place = (where.file, where.line)
            if place in withdrawn:
                continue
            yield Issue(code, where)
            if dropped:
                withdrawn.add(place)
                yield Withdrawn(where)

    def _repeated(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, Pointer, bool]]:
        rows = rows[rows[:, _IDENTITY] != 0]
        rows = rows[np.argsort(rows[:, _IDENTITY], kind="stable")]
        edges = np.flatnonzero(np.diff(rows[:, _IDENTITY])) + 1
        starts = np.concatenate(([0], edges)).astype(np.int64)
        sizes = np.diff(np.concatenate((starts, [len(rows)])))
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            yield from self._versions(rows[start : start + size])

    def _versions(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, Pointer, bool]]:
        """What is to be said about one resource's copies; how often never depends on their order."""
        copies: dict[tuple[int, int], tuple[int, set[tuple[int, int]]]] = {}
        final: set[tuple[int, int]] = set()
        for row in sorted(rows.tolist(), key=lambda row: (row[_FILE] % _PRELIMINARY, row[_LINE])):
            place = row[_FILE] % _PRELIMINARY, row[_LINE]
            copies.setdefault(place, (row[_VERSION], set()))[1].add((row[_SLOT], row[_CONTENT]))
            if row[_FILE] < _PRELIMINARY:
                final.add(place)
        newest = max(version for version, _ in copies.values())
        if newest != _FOR_EVER and any(version == _UNKNOWN for version, _ in copies.values()):
            # Nothing says which is the newest: all are.
            copies = {place: (newest, said) for place, (_, said) in copies.items()}
        current = [(place, frozenset(said)) for place, (version, said) in copies.items() if version == newest]
        # Where the clock does not decide, the status does: a final result comes after a preliminary one, of any day.
        settled = any(place in final for place, _ in current)
        known: set[frozenset[tuple[int, int]]] = set()
        for place, said in current:
            if settled and place not in final:
                yield "preliminary-replaced", self._place(place), True
                continue
            if said in known:
                yield "resource-duplicate", self._place(place), False
            elif known:
                yield "resource-contradiction", self._place(place), False
            known.add(said)
        for place, (version, older) in copies.items():
            if version != newest:
                same = older in known
                yield "resource-duplicate" if same else "resource-superseded", self._place(place), not same

    def _replaced(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, Pointer, bool]]:
        """Preliminary results of which the final one is there, too."""
        early = rows[:, _FILE] >= _PRELIMINARY
        if early.any():
            replaced = rows[early & np.isin(rows[:, _SLOT], rows[~early, _SLOT])]
            for place in {(row[_FILE] - _PRELIMINARY, row[_LINE]) for row in replaced.tolist()}:
                yield "preliminary-replaced", self._place(place), True

    def _place(self, place: tuple[int, int]) -> Pointer:
        return Pointer(list(self._files)[place[0]], place[1])
