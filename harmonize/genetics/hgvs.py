"""HGVS descriptions of small variants, as far as the profile's features need them: where, and what kind.

Tolerant: one- or three-letter amino acids, with or without reference sequence, parentheses and the deprecated repeats
of deleted residues or bases. What does not fit is None, never half understood. Source: HGVS Nomenclature 21.0.
"""

__all__ = ["Coding", "Kind", "Protein", "bare", "coding", "protein"]

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final


class Kind(StrEnum):
    """What happens to the sequence."""

    SUBSTITUTION = "substitution"  # of a residue: missense; of a base
    SILENT = "silent"
    NONSENSE = "nonsense"
    FRAMESHIFT = "frameshift"
    EXTENSION = "extension"  # the stop is lost, or the start is moved
    DELETION = "deletion"
    DUPLICATION = "duplication"
    INSERTION = "insertion"
    DELETION_INSERTION = "delins"


@dataclass(frozen=True, slots=True)
class Protein:
    """A variant of the protein.

    Attributes:
        first, last: residues between or at which it lies, from 1; equal for a point mutation.
        gain: residues more (or, negative, fewer) than before; None for frameshifts and where it is not said.
        key: the same text for the same variant, however it was written.
    """

    kind: Kind
    first: int
    last: int
    gain: int | None = None
    key: str = field(default="", repr=False)

    @property
    def in_frame_indel(self) -> bool:
        """Whether residues are inserted or deleted and the rest stays as it is."""
        return self.kind in _INDELS

    def within(self, low: int, high: int) -> bool:
        """Whether it touches residues low … high."""
        return self.first <= high and self.last >= low


@dataclass(frozen=True, slots=True)
class Coding:
    """A variant of the coding DNA.

    Attributes:
        first, last: bases, from 1 at the A of ATG; those of the nearest exon for intronic positions.
        gain: bases more (or fewer) than before; None where it is not said.
        exonic: false if an end lies in an intron or outside the coding sequence.
        key: the same text for the same variant, however it was written.
    """

    kind: Kind
    first: int
    last: int
    gain: int | None = None
    exonic: bool = True
    key: str = field(default="", repr=False)

    @property
    def in_frame_indel(self) -> bool:
        """Whether bases are inserted or deleted by whole codons, inside the coding sequence."""
        return self.exonic and self.kind in _INDELS and self.gain is not None and self.gain % 3 == 0

    def within(self, low: int, high: int) -> bool:
        """Whether it touches bases low … high."""
        return self.first <= high and self.last >= low


_INDELS: Final = frozenset({Kind.DELETION, Kind.DUPLICATION, Kind.INSERTION, Kind.DELETION_INSERTION})
_LETTERS: Final = {
    "Ala": "A", "Arg": "R", "Asn": "N", "Asp": "D", "Cys": "C", "Gln": "Q", "Glu": "E", "Gly": "G", "His": "H",
    "Ile": "I", "Leu": "L", "Lys": "K", "Met": "M", "Phe": "F", "Pro": "P", "Ser": "S", "Thr": "T", "Trp": "W",
    "Tyr": "Y", "Val": "V", "Sec": "U", "Ter": "*", "Xaa": "?",
}  # fmt: skip
_THREE: Final = re.compile("|".join(_LETTERS))
_REFERENCE: Final = re.compile(r"^[A-Za-z0-9_.()-]*:")
_LONGEST: Final = 2000  # characters; longer text is no description of a small variant

_AA: Final = "[ACDEFGHIKLMNPQRSTUVWY*?]"
_PROTEIN: Final = re.compile(
    rf"(?P<a>{_AA})(?P<first>[0-9]{{1,5}})(?:_(?P<b>{_AA})(?P<last>[0-9]{{1,5}}))?"
    rf"(?:(?P<fs>{_AA}?fs(?:[*X?]>?[0-9?]*)?)|(?P<ext>{_AA}?ext.*)"
    rf"|(?P<delins>del{_AA}*ins(?P<new>{_AA}+|[0-9]+|\([0-9]+\)))|(?P<del>del(?:{_AA}*|[0-9]+))"
    rf"|(?P<dup>dup(?:{_AA}*|[0-9]+))|ins(?P<ins>{_AA}+|[0-9]+|\([0-9]+\))|(?P<same>=)|(?P<stop>[*X])|(?P<new1>{_AA}))"
)
_BASES: Final = "[ACGTUNacgtun]"
_POSITION: Final = r"(?:[*-]?[0-9]{1,6})(?:[+-][0-9]{1,6})?"
_CODING: Final = re.compile(
    rf"(?P<first>{_POSITION})(?:_(?P<last>{_POSITION}))?"
    rf"(?:(?P<old>{_BASES}+)>(?P<alt>{_BASES}+)|(?P<delins>del(?:{_BASES}*|[0-9]+)ins(?P<new>{_BASES}+|[0-9]+|\([0-9]+\)))"
    rf"|(?P<del>del(?:{_BASES}*|[0-9]+))|(?P<dup>dup(?:{_BASES}*|[0-9]+))|ins(?P<ins>{_BASES}+|[0-9]+|\([0-9]+\))|(?P<same>=))"
)


def bare(text: str) -> str:
    """A description without blanks around it and without its reference sequence.

    >>> bare(" NP_004110.2:p.Asp835Tyr "), bare("p.D835Y"), bare("")
    ('p.Asp835Tyr', 'p.D835Y', '')
    """
    return _REFERENCE.sub("", text.strip())


@lru_cache(maxsize=4096)
def protein(text: str) -> Protein | None:
    """Read a description at protein level; None if it is none, or says nothing (p.?, splice).

    >>> [protein(text).key for text in ("p.D835Y", "NP_004110.2:p.(Asp835Tyr)", "p.Gln590Ter", "p.R248X")]
    ['D835Y', 'D835Y', 'Q590*', 'R248*']
    >>> [protein(text).key for text in ("p.Q317Rfs*30", "p.Gln317fs", "p.N293delN", "p.Q136_L137insYSP")]
    ['Q317fs', 'Q317fs', 'N293del', 'Q136_L137insYSP']
    >>> protein("p.Tyr599_Asp600ins12").gain, protein("p.E598_Y599dup").gain, protein("p.?"), protein("ITD")
    (12, 2, None, None)
    """
    plain = _plain(text, "p.")
    match = _PROTEIN.fullmatch(_THREE.sub(lambda name: _LETTERS[name[0]], plain)) if plain else None
    if match is None:
        return None
    first = int(match["first"])
    last = int(match["last"] or first)
    if not 1 <= first <= last:
        return None
    kind, gain, tail = _protein_change(match, last - first + 1)
    start = f"{match['a']}{first}" + (f"_{match['b']}{last}" if match["last"] else "")
    return Protein(kind, first, last, gain, start + tail)


def _protein_change(match: re.Match[str], span: int) -> tuple[Kind, int | None, str]:
    """Kind, residues gained, and the end of the key."""
    new = match["new"] or match["ins"] or ""
    if match["fs"]:
        return Kind.FRAMESHIFT, None, "fs"
    if match["ext"]:
        return Kind.EXTENSION, None, "ext"
    if "*" in new:
        return Kind.NONSENSE, None, f"ins{new}"
    if match["delins"]:
        return Kind.DELETION_INSERTION, _length(new) - span, f"delins{new}"
    if match["del"]:
        return Kind.DELETION, -span, "del"
    if match["dup"]:
        return Kind.DUPLICATION, span, "dup"
    if new:
        return Kind.INSERTION, _length(new), f"ins{new}"
    return _point(match)


def _point(match: re.Match[str]) -> tuple[Kind, int | None, str]:
    """As `_protein_change`, of one residue for another."""
    old, new = match["a"], "*" if match["stop"] else match["new1"] or "="
    if new in ("=", old):
        return Kind.SILENT, 0, "="
    if old == "*" or (old == "M" and match["first"] == "1"):
        return Kind.EXTENSION, None, "ext"
    return (Kind.NONSENSE, None, "*") if new == "*" else (Kind.SUBSTITUTION, 0, new)


@lru_cache(maxsize=4096)
def coding(text: str) -> Coding | None:
    """Read a description at the level of coding DNA; None if it is none, or says nothing (c.?).

    >>> [coding(text).key for text in ("c.683_686delACTG", "NM_000546.6:c.683_686del", "c.2503G>T", "c.782+1G>A")]
    ['683_686del', '683_686del', '2503G>T', '782+1G>A']
    >>> coding("c.1770_1793dup").gain, coding("c.1803_1804ins(30)").gain, coding("c.595_610del16").gain, coding("c.?")
    (24, 30, -16, None)
    """
    plain = _plain(text, "c.")
    match = _CODING.fullmatch(plain) if plain else None
    if match is None:
        return None
    first, first_inside = _base(match["first"])
    last, last_inside = _base(match["last"] or match["first"])
    if first > last:
        return None
    inside = first_inside and last_inside
    kind, gain, tail = _coding_change(match, last - first + 1, inside=inside)
    start = match["first"] + (f"_{match['last']}" if match["last"] else "")
    return Coding(kind, first, last, gain, inside, start + tail)


def _coding_change(match: re.Match[str], span: int, *, inside: bool) -> tuple[Kind, int | None, str]:
    """Kind, bases gained (of a span with an end in an intron nothing can be said), and the end of the key."""
    if match["delins"]:
        gain = _length(match["new"]) - span if inside else None
        return Kind.DELETION_INSERTION, gain, f"delins{match['new'].upper()}"
    if match["del"]:
        return Kind.DELETION, -span if inside else None, "del"
    if match["dup"]:
        return Kind.DUPLICATION, span if inside else None, "dup"
    if match["ins"]:
        return Kind.INSERTION, _length(match["ins"]), f"ins{match['ins'].upper()}"
    if match["same"]:
        return Kind.SILENT, 0, "="
    old, new = match["old"].upper(), match["alt"].upper()
    kind = Kind.SUBSTITUTION if len(old) == len(new) else Kind.DELETION_INSERTION
    return kind, len(new) - len(old), f"{old}>{new}"


def _plain(text: str, level: str) -> str:
    """Without blanks, reference sequence, level and the parentheses of a prediction; "" if of another level."""
    if len(text) > _LONGEST:
        return ""
    plain = _REFERENCE.sub("", "".join(text.split()))
    if not plain.startswith(level):
        return ""
    plain = plain.removeprefix(level)
    return plain[1:-1] if plain.startswith("(") and plain.endswith(")") and plain.count("(") == 1 else plain


def _length(text: str) -> int:
    """Of an inserted sequence, given as letters or as a number."""
    digits = text.strip("()")
    return int(digits) if digits.isdigit() else len(text)


def _base(position: str) -> tuple[int, bool]:
    """The coding base of a position, and whether it lies in the coding sequence."""
    anchor = re.split(r"(?<=[0-9])[+-]", position)
    if anchor[0].startswith("*"):
        return 10**6 + int(anchor[0][1:]), False
    number = int(anchor[0])
    return number, number > 0 and len(anchor) == 1
