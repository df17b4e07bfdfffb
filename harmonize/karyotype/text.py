"""Karyotypes as hospitals write them: from a text to the cell lines that it describes.

Tolerated is what leaves one reading: capitals, white space, characters of other keyboards, the mistakes that
`harmonize.karyotype.mistakes` mends. Where a text breaks off or says less than a karyotype, what it does say is read
and marked.
"""

__all__ = ["clones"]

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from harmonize.karyotype.grammar import COUNT, REFERENCE, Clone, read_clone
from harmonize.karyotype.items import CHROMOSOME, NotRead, read_item
from harmonize.karyotype.mistakes import mended, plain

_MOST: Final = 4000  # characters; the longest real text that we know has 700
_SEPARATOR: Final = re.compile(r"/(?![^\[]*\])")
_IN_SITU: Final = re.compile(
    r"[.,;]?(?:nuc|f)?ish.*?(?=/\d\d(?:[~-]\d\d)?(?:<\dn>)?,(?:[xy]|idem|sl|sdl)|$)", re.DOTALL
)
_COMMENT: Final = re.compile(r"(?<=\])\([a-z\d][^()\[\]]{6,}\)$")  # [13](specimen source: blood)
_CUT_CELLS: Final = re.compile(r"\[(?:cp)?\d{1,3}$")  # [12 of [12] or of [120]: a lower bound
_BARE_CELLS: Final = re.compile(r"(?:(?:mar|[,+]r|x|y)\d{1,3}|[+-]\d{3})$")  # mar2: mar[2]?
_CUT_CLONE: Final = re.compile(r"\d{0,3}(?:[~-]\d{0,3})?")
_CUT_ITEM: Final = re.compile(
    r"|[+-]|[^()]*\([^()]*|[^()]*\([^()]*\)\([^()]*|[^\[\]]*\[[^\[\]]*"
    r"|[+-]?(?:a|ad|add|d|de|del|der|di|dic|du|dup|i|id|idi|idic|ide|in|ins|inv|m|ma|t|tr|trp|s|sd)"
)
_SYMBOLS: Final = re.compile(r"psu|idic|dic|der|del|add|dup|inv|ins|tas|trp|iso|mar|ter|cen|or|i|r|t")
_DAMAGED: Final = re.compile(r"[\d()pqxy?;:.~+-]*\d[\d()pqxy?;:.~+-]*")
_FRAGMENT: Final = re.compile(r"[()\[\]pqxy;:.]")  # how no item starts: what stands before it is damaged too
_NUMBERS: Final = re.compile(r"(?<![\dpq.])\d+|[xy]")
_NO_CLONE: Final = re.compile(
    r"(?:non|nicht|not?|un)-?(?:clonal|klonal)|(?:einzel|random|sporadic|singlecell)(?:zell)?-?(?:aberration|abnormalit)"
)
_LEAST_KEPT: Final = 2
_BARE_NUMBER: Final = re.compile(r"[+-]?\d+")
_WORDS: Final = tuple(
    (re.compile(pattern), item)
    for pattern, item in (
        (r"^(?:isolated|isolierte?s?|sole)|-?(?:isolated|isolata|isoliert)$", ""),
        (rf"(?:plus|trisom(?:y|ie|ia))({CHROMOSOME})(?=,|$)", r"+\1"),
        (rf"(?:minus|monosom(?:y|ie|ia))({CHROMOSOME})(?=,|$)", r"-\1"),
        (r"(?:del\(?y\)?|lossofy)(?=,|$)", "-y"),
        (rf"(?<![\w(])({CHROMOSOME}[pq])-?(?=,|$)", r"del(\1)"),  # 5q-
        (rf"(inv|del|i|iso)({CHROMOSOME}(?:[pq][\dpq.]*)?)(?=,|$)", r"\1(\2)"),  # del5q, inv3; del7 says no arm
    )
)


def clones(text: str) -> tuple[tuple[Clone, ...], bool]:
    """Read the cell lines of the patient; of a chimera those of the recipient, before ``//``.

    Args:
        text: as in the source, at most 4,000 characters.

    Returns:
        The clones, and whether there is more than they say: a part on hybridisation in situ (``ish``, ``nuc ish``), an
        end that was cut off, a comment, items without count and sex chromosomes.

    Raises:
        NotRead: some part of the text has no single reading.
    """
    lax = plain(text)
    if len(lax) > _MOST or not lax.isascii():
        raise NotRead
    lax, _, donor = lax.removeprefix("mos").removeprefix("chi").partition("//")
    if donor:
        _check_donor(_IN_SITU.sub("", donor))
    unread = "ish" in lax
    if unread:
        lax = _IN_SITU.sub("", lax)
    tried = list[list[str]]()
    for wording, incomplete in _wordings(lax):
        texts = _SEPARATOR.split(wording)
        bare = [one for one in texts if one[-1:] != "]"]
        if bare and len(bare) < len(texts) and any(map(_BARE_CELLS.search, bare)):
            continue
        tried.append(texts)
        try:
            return tuple(map(read_clone, texts)), unread or incomplete
        except NotRead:
            continue
    for texts in tried:
        try:
            return _rest(texts), True
        except NotRead:
            continue
    return (_bare(lax),), True


def _wordings(lax: str) -> Iterator[tuple[str, bool]]:
    """The text as it is, with typing mistakes mended, and without a comment or an item cut off at its end."""
    yield lax, False
    better = mended(lax)
    if better != lax:
        yield better, False
    if comment := _COMMENT.search(better):
        yield better[: comment.start()], True
    if _CUT_CELLS.search(better):
        yield better + "]", True
    at = max(better.rfind(","), better.rfind("/"))
    if at > 0 and (_CUT_CLONE if better[at] == "/" else _CUT_ITEM).fullmatch(better, at + 1):
        yield better[:at], True
        yield better[:at].rpartition("/")[0], True


def _check_donor(text: str) -> None:
    """Refuse donor's cells that are not normal: of whom the clone is, or whether ``//`` was meant, is not known."""
    for part in text.split("/"):
        clone = read_clone(part)
        if clone.items or clone.refers:
            raise NotRead


def _rest(texts: Sequence[str]) -> tuple[Clone, ...]:
    """Read cell lines without their damaged items, if two others can be read.

    What a single cell has is no clone, and may be said in words.

    Raises:
        NotRead: there are words in it, or too little else.
    """
    read, kept, damaged = list[Clone](), 0, 0
    for text in texts:
        try:
            clone, good, bad = _rest_of_clone(text)
        except NotRead:
            if not text[:2].isdecimal() or not (text.endswith("[1]") or _NO_CLONE.search(text)):
                raise
            continue
        read.append(clone)
        kept, damaged = kept + good, damaged + bad
    if not read or (damaged and kept < _LEAST_KEPT):
        raise NotRead
    return tuple(read)


def _rest_of_clone(text: str) -> tuple[Clone, int, int]:
    """Read a cell line without its damaged items; count those that are not, and those that are.

    Damaged is what consists of nothing but notation: ``del(11)(q32)``, ``10`` for ``+10``. A word could say anything,
    also that the rest is not so.

    Raises:
        NotRead: there are words in it.
    """
    whole, tail = COUNT.match(text), text.rpartition("[")[2] if text.endswith("]") else ""
    at = whole.end() if whole else 0
    body = text[at:].removesuffix(f"[{tail}") if tail else text[at:]
    kept, damaged = list[str](), list[str]()
    for entry in body.split(",") if body else ():
        try:
            read_item(entry)
        except NotRead:
            if REFERENCE.fullmatch(entry) or entry == "inc":
                kept.append(entry)
                continue
            if _FRAGMENT.match(entry) or not _DAMAGED.fullmatch(_SYMBOLS.sub("", entry)):
                raise
            damaged.append(entry)
        else:
            kept.append(entry)
    clone = read_clone(text[:at] + ",".join(kept) + (f"[{tail}" if tail else ""))
    unclear = frozenset(name for entry in damaged for name in _chromosomes(entry))
    return replace(clone, incomplete=clone.incomplete or bool(damaged), unclear=unclear), len(kept), len(damaged)


def _chromosomes(entry: str) -> Iterator[str]:
    """All chromosomes that a damaged item may concern."""
    for run in _NUMBERS.findall(entry):
        yield from (run[at : at + size] for size in (1, 2) for at in range(len(run) + 1 - size))


def _bare(lax: str) -> Clone:
    """Read items without count and sex chromosomes: del(5q), trisomy 8, isolated 20q-. The rest stays open."""
    if _BARE_NUMBER.fullmatch(lax):  # -9 is a missing value as often as monosomy 9
        raise NotRead
    for pattern, item in _WORDS:
        lax = pattern.sub(item, lax)
    if not all("(" in item or item[:1] in {"+", "-"} for item in lax.split(",")):
        raise NotRead
    return Clone(46, 46, items=tuple(map(read_item, lax.split(","))), incomplete=True)
