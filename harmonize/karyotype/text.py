"""Karyotypes as hospitals write them: from a text to the cell lines that it describes.

Tolerated is what leaves one reading: capitals, white space, characters of other keyboards, typing mistakes listed in
`_TYPOS`. Where a text breaks off or says less than a karyotype, what it does say is read and marked.
"""

__all__ = ["clones"]

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from harmonize.karyotype.grammar import CHROMOSOME, COUNT, REFERENCE, Clone, NotRead, read_clone, read_item

_MOST: Final = 4000  # characters; the longest real text that we know has 700
_SEPARATOR: Final = re.compile(r"/(?![^\[]*\])")
_IN_SITU: Final = re.compile(
    r"[.,;]?(?:nuc|f)?ish.*?(?=/\d\d(?:[~-]\d\d)?(?:<\dn>)?,(?:[xy]|idem|sl|sdl)|$)", re.DOTALL
)
_CHARACTERS: Final = str.maketrans(
    {"*": "x", "\N{MULTIPLICATION SIGN}": "x", "{": "(", "}": ")", "_": None, "\ufeff": None}
    | dict.fromkeys(map(ord, "\N{EN DASH}\N{MINUS SIGN}\N{HYPHEN}\N{NON-BREAKING HYPHEN}"), "-")
)
_SPELT: Final = r"(?:del|add|inv|dup|iso|i|der)"
# In this order: first characters, then brackets, then what stands between items and clones.
_TYPOS: Final = tuple(
    (re.compile(pattern), mended)
    for pattern, mended in (
        (r"mar(?:kers?|ks?|s)(?![a-z])", "mar"),
        (r"(?<=[+-])ring(?![a-z])", "r"),
        (r"\((\d{1,3})\]|\[(\d{1,3})\)", r"[\1\2]"),  # (12]
        (r"\[(\d{1,3})/\d{1,3}\]", r"[\1]"),  # [12/20]
        (r"\[(\d{1,3})cp\]", r"[cp\1]"),
        (r"\(\(", "("),
        (r"\)\)", ")"),
        (r"\(([^()]*)/([^()]*)\)", r"(\1;\2)"),  # t(9/22)
        (r"\((\d?[3-9]|1\d|2[0-2])9\((?=[pq])", r"(\1)("),  # del(59(q13q33): 9 and ) are on one key
        (r"\)9(?=[pq])", ")("),  # del(12)9p11.2)
        (r"\(([\dxy?;]+)\((?=[pq?])", r"(\1)("),  # del(20(q13)
        (r"\)([pq][\dpq.;?]*\))", r")(\1"),  # inv(16)p13.1q22)
        (r"\)([pq])\((\d{1,2})\)", r")(\1\2)"),  # add(3)q(11)
        (r"\)([pq][\dpq.;?]+)(?=[,\[/]|$)", r")(\1)"),  # del(5)q13q33
        (rf"(?<![a-z])({_SPELT})({CHROMOSOME})\)?\((?=[pq?])", r"\1(\2)("),  # del5(q13q33), del5)(q13q33)
        (rf"(?<=,)({_SPELT})({CHROMOSOME})([pq][\dpq.]*)?(?=[,\[/]|$)", r"\1(\2\3)"),  # del5q
        (rf"(?<=,)({CHROMOSOME}[pq])-(?=[,\[/]|$)", r"del(\1)"),  # 5q-
        (r"(?<=\d)[.](?=[pq]\d)", ";"),  # (q13.q33)
        (r"(?<=\d),(?=\d[pq])", "."),  # inv(16)(p13,1q22)
        (r"(?<=\d),(?=[pq]\d)", ";"),  # der(1;7)(q10,p10)
        (r"(\([pq][\dpq.;?~-]*)(?=[,\[/])", r"\1)"),  # del(5)(q13q33,+8
        (r"(,[xy]+|\([^()]*\)\([^()]*\)|[+-]\d{1,2}|mar)\((\d{1,3})\)(?=/|$)", r"\1[\2]"),  # 46,XX(20)
        (r"(?<=\])[,;+&|\\]?(?=\d\d[,~-])", "/"),  # [8]46,sl,…
        # -7+mar; +r+1~2mar; but not the count 44-45
        (r"(?<!^\d\d)(?<!/\d\d)(?<=[)r\d])(?=[+-](?:mar|[a-z]{1,4}\(|\d{1,2}(?:[,\[]|$)|\d[~-]\d{1,2}mar))", ","),
        (r",x(?=\d{1,2}(?:[,/\[]|$))", "x"),  # -20,x2
        (r",+(?=[,\[/])", ""),  # 46,XX,,+8,[12]
        (r"(?<=[,+-])dert\(", "der(?)t("),
    )
)
_COMMENT: Final = re.compile(r"(?<=\])\([a-z][^()\[\]]{6,}\)$")  # [13](specimen source: blood)
_CUT_CLONE: Final = re.compile(r"\d{0,3}(?:[~-]\d{0,3})?")
_CUT_ITEM: Final = re.compile(
    r"|[+-]|[^()]*\([^()]*|[^()]*\([^()]*\)\([^()]*|[^\[\]]*\[[^\[\]]*"
    r"|[+-]?(?:a|ad|add|d|de|del|der|di|dic|du|dup|i|id|idi|idic|ide|in|ins|inv|m|ma|t|tr|trp|s|sd)"
)
_SYMBOLS: Final = re.compile(r"psu|idic|dic|der|del|add|dup|inv|ins|tas|trp|iso|mar|ter|cen|or|i|r|t")
_DAMAGED: Final = re.compile(r"[\d()pqxy?;:.~+-]*\d[\d()pqxy?;:.~+-]*")
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
    lax = "".join(text.lower().split()).translate(_CHARACTERS)
    if len(lax) > _MOST or not lax.isascii():
        raise NotRead
    lax, _, donor = lax.rstrip(".;").removeprefix("mos").removeprefix("chi").partition("//")
    if "//" in donor:
        raise NotRead
    unread = "ish" in lax
    if unread:
        lax = _IN_SITU.sub("", lax)
    for wording, incomplete in _wordings(lax):
        try:
            return tuple(map(read_clone, _SEPARATOR.split(wording))), unread or incomplete
        except NotRead:
            continue
    for wording, _ in _wordings(lax):
        try:
            return tuple(map(_rest_of_clone, _SEPARATOR.split(wording))), True
        except NotRead:
            continue
    return (_bare(lax),), True


def _wordings(lax: str) -> Iterator[tuple[str, bool]]:
    """The text as it is, with typing mistakes mended, and without a comment or an item cut off at its end."""
    yield lax, False
    mended = lax
    for pattern, replacement in _TYPOS:
        mended = pattern.sub(replacement, mended)
    if mended != lax:
        yield mended, False
    if comment := _COMMENT.search(mended):
        yield mended[: comment.start()], True
    at = max(mended.rfind(","), mended.rfind("/"))
    if at > 0 and (_CUT_CLONE if mended[at] == "/" else _CUT_ITEM).fullmatch(mended, at + 1):
        yield mended[:at], True
        yield mended[:at].rpartition("/")[0], True


def _rest_of_clone(text: str) -> Clone:
    """Read a cell line without its damaged items, if two others can be read; marked incomplete.

    Damaged is what consists of nothing but notation: ``del(11)(q32)``, ``10`` for ``+10``. A word could say anything,
    also that the rest is not so.

    Raises:
        NotRead: there are words in it, or too little else.
    """
    whole, tail = COUNT.match(text), text.rpartition("[")[2] if text.endswith("]") else ""
    at = whole.end() if whole else 0
    body = text[at:].removesuffix(f"[{tail}") if tail else text[at:]
    kept, damaged = list[str](), 0
    for entry in body.split(",") if body else ():
        try:
            read_item(entry)
        except NotRead:
            if REFERENCE.fullmatch(entry) or entry == "inc":
                kept.append(entry)
                continue
            if not _DAMAGED.fullmatch(_SYMBOLS.sub("", entry)):
                raise
            damaged += 1
        else:
            kept.append(entry)
    if damaged and len(kept) < _LEAST_KEPT:
        raise NotRead
    clone = read_clone(text[:at] + ",".join(kept) + (f"[{tail}" if tail else ""))
    return replace(clone, incomplete=clone.incomplete or bool(damaged))


def _bare(lax: str) -> Clone:
    """Read items without count and sex chromosomes: del(5q), trisomy 8, isolated 20q-. The rest stays open."""
    if _BARE_NUMBER.fullmatch(lax):  # -9 is a missing value as often as monosomy 9
        raise NotRead
    for pattern, item in _WORDS:
        lax = pattern.sub(item, lax)
    if not all("(" in item or item[:1] in {"+", "-"} for item in lax.split(",")):
        raise NotRead
    return Clone(46, 46, items=tuple(map(read_item, lax.split(","))), incomplete=True)
