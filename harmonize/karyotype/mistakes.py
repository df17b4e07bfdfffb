"""Mistakes of the keyboard and of copying that leave a karyotype one reading, and that reading.

Each rule mends one class of mistake. Its pattern matches what cannot be right as it stands: no rule changes a text that
the grammar reads, because `harmonize.karyotype.text` tries the text as it stands first. Where a mistake leaves two
readings there is no rule: ``812]`` is +8[12] or +81 2], ``sd1`` is sdl or sdl1, ``(19(q13)`` is chromosome 19 or 1.
"""

__all__ = ["mended", "plain"]

import html
import re
from functools import lru_cache
from typing import Final

from harmonize.karyotype.items import CHROMOSOME

_ALIKE: Final = {  # letters of other alphabets that look like the Latin ones, after lower()
    "\u0430\u0435\u0456\u043a\u043c\u043e\u0440\u0441\u0442\u0443\u0445": "aeikmopctyx",
    "\u03b9\u03bf\u03c1\u03c4\u03c5\u03c7": "ioptyx",
    "\u2044\u2215\u037e\u201a\u3001\u223c\u02dc\u2a2f\u00d7*": "//;,,~~xxx",
    "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63": "-" * 10,
    "{}": "()",
}  # fmt: skip
# Quotation marks of all kinds, zero-width characters, a byte order mark; "_" stands for a lost letter or a gap.
_NOTHING: Final = "_\"'`\u00b4\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u2032\u2033\u200b\u200c\u200d\u2060\ufeff"
_CHARACTERS: Final = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full width
    | {ord(odd): usual for odds, usuals in _ALIKE.items() for odd, usual in zip(odds, usuals, strict=True)}
    | dict.fromkeys(map(ord, _NOTHING))
)
_ODD: Final = re.compile(r"[*{}_\"'`]")
_LABEL: Final = re.compile(
    r"(?:(?:karyotyp(?:e|us|ing|isierung)?|iscn|results?|ergebnis|befund|cytogenetics?|zytogenetik|bm|km|pb)"
    r"(?:\(?20\d\d\)?)?[:=.-]*)+(?=\d\d|x[xy])"
)
_SAID_NORMAL: Final = re.compile(
    r"(46,?x[xy](?:\[\d{1,3}\])?)[,;.(-]*(?:normale?r?)?(?:female|male|weiblicher)?(?:karyotype?|chromosomes)?\)?"
)
_WRAPPED: Final = re.compile(r"\[(\d\d,?[xy](?:[^\[\]]*|.*\]))\]|\((\d\d,?[xy].*)\)")

_C: Final = CHROMOSOME
_KIND: Final = r"(?:psudic|idic|dic|ider|der|del|add|dup|trp|inv|ins|iso|rob|t|i|r)"
_SPELT: Final = r"(?:del|add|inv|dup|iso|i|der)"
_REFERENCE: Final = r"(?:idem|sdl\d?|sl)"
_CLONE: Final = rf"\d\d(?:[~-]\d\d)?(?:<\dn[+-]?>)?[,.;]?(?:x|{_REFERENCE})"  # how a clone starts
_ENDS: Final = r"(?=[,\[/]|$)"
_CELL_WORDS: Final = r"(?:cells?|zellen?|metaphasen?|metaphases?|mitos[ei][ns]|mets?|mph)"
# In this order: first characters, then brackets, then what stands between items and clones.
_RULES: Final = tuple(
    (re.compile(pattern), mending)
    for pattern, mending in (
        (r"(?<=\d)o(?=[\d),;.~\]\[pq/-]|$)", "0"),  # q1o
        # p1l.2, t(i;7); but t(1l21) can be t(1;21)
        (r"(?<=[pq(\[;+~.-])[li!](?=[\d),;.~\]\[pq/?-])|(?<=\d)[li!](?=[),;.~\]\[pq/?-]|$)", "1"),
        (r"g(?<=[(\d;?]g)(?=\d)", "q"),
        (r"(?<![a-z])de[1i](?=\()", "del"),
        (r",s[1i](?=[,\[/])", ",sl"),
        (r",sd1(?=\d[,\[/])", ",sdl"),
        (r"1dem", "idem"),
        (r"chr(?:omosome?)?\.?(?=\d|x|y)", ""),  # +chr8
        (r"mar(?:kers?|ks?|s)(?![a-z])", "mar"),
        (r"mar(?:\((\d{1,2})\)(?=[,\[])|[#.](\d))", r"mar\1\2"),
        (r"(?<=[+-])ring(?![a-z])", "r"),
        # Cells.
        (r"\((\d{1,3})\]|\[(\d{1,3})\)|<(\d{1,3})>(?=/|$)", r"[\1\2\3]"),  # (12]
        (r"\](\d{1,3})[\[\]](?=/|$)|\[(\d{1,3})\[(?=/|$)", r"[\1\2]"),
        (r"\[\[(\d{1,3})\]\]?", r"[\1]"),
        (r"\[(?:\d{1,3}/)?(\d{1,3})/(?=\d\d(?:[~-]\d\d)?[,<])", r"[\1]/"),  # [12/46,XX
        (r"\[(\d{1,3})(?:/|of|von|outof)\d{1,3}\]", r"[\1]"),  # [12/20]
        (rf"([\[(])(?:n=|[x,.])?(cp)?(\d{{1,3}})(?:[.,]|{_CELL_WORDS})?([\])])(?=/|$)", r"\1\2\3\4"),
        (r"[\[(](\d{1,3})cp[\])]|\[(\d{1,3})\]cp(?=/|$)|(?<=[\])a-z\d])cp(\d{1,3})(?=/|$)", r"[cp\1\2\3]"),
        (r"[\[(](?:c|p|pc|cp[:.,~\[(-]?)(\d{1,3})[\])]{1,2}(?=/|$)", r"[cp\1]"),
        (r"(?<=\))(\d{1,3})\](?=/|$)|(?<=,x[xy])(\d{1,3})\](?=/|$)", r"[\1\2]"),
        (r",cp\[", "cp["),
        (r"[,.;:]+(?=\[)", ""),
        (r"(?:(?<=/)|^)(\d{2,3}(?:[~-]\d{2,3})?),?[(\[<]([1-8])n([+-]?)[)\]>]", r"\1<\2n\3>"),  # 69(3n)
        # Brackets around chromosomes and breakpoints.
        (r"\(\(", "("),
        (r"\)\)", ")"),
        (rf"(?<![a-z])({_KIND})[\[)]({_C}(?:;{_C})*)[\])]", r"\1(\2)"),  # del[5](q13), t)9;22)(q34;q11)
        (r"[)\]][\[(]([pq?][\dpq.;:?~-]*)[)\](]", r")(\1)"),  # del(5)[q13]
        (r"\)[,.;:-]\((?=[pq?])", ")("),  # del(5),(q13)
        (r"\(([^()]*)/([^()]*)\)", r"(\1;\2)"),  # t(9/22)
        (r"\((\d?[3-9]|1\d|2[0-2])9\((?=[pq])", r"(\1)("),  # del(59(q13q33): 9 and ) are on one key
        (rf"\(((?:{_C};)*(?:[3-9]|1\d|2[0-2]))[0=]\((?=[pq])", r"(\1)("),  # on another keyboard 0
        (r"\)[89](?=[pq])", ")("),  # del(12)9p11.2)
        (rf"(?<![a-z])({_KIND})[89]({_C}(?:;{_C})*)\)", r"\1(\2)"),  # del95)(q13)
        (r"\(([pq][^()]*?\d\d)[09=](?=[,\[/]|$)", r"(\1)"),  # del(5)(q13q330
        (r"\((?!1[09]\()([\dxy?;]+)\((?=[pq?])", r"(\1)("),  # del(20(q13)
        (r"(\([pq][\dpq.;?]*)\((?=[,\[/]|$)", r"\1)"),  # del(5)(q13(
        (r"\)([pq][\dpq.;?]*\))", r")(\1"),  # inv(16)p13.1q22)
        (r"\)([pq])\((\d{1,2})\)", r")(\1\2)"),  # add(3)q(11)
        (r"\)([pq][\dpq.;?]+)(?=[,\[/]|$)", r")(\1)"),  # del(5)q13q33
        (rf"(\({_C}(?:;{_C})*)[,.;](?=[pq][\d?])", r"\1)("),  # t(9;22;q34;q11)
        (rf"(\({_C};{_C})(?=[pq]\d)", r"\1)("),  # t(9;22q34;q11)
        (rf"(?<![a-z])t\(({_C})([pq][\d.]*)[;:]({_C})([pq][\d.]*)\)", r"t(\1;\3)(\2;\4)"),  # t(9q34;22q11)
        (rf"(?<![a-z])({_KIND})[.,:;-](?=\(\??{_C})", r"\1"),  # del.(5)
        (rf"(?<![a-z])t({_C};{_C})\)?\((?=[pq])", r"t(\1)("),  # t8;21(q22;q22)
        (rf"(?<![a-z])({_SPELT})({_C})\)?\((?=[pq?])", r"\1(\2)("),  # del5(q13q33), del5)(q13q33)
        (rf",({_SPELT})({_C})([pq][\dpq.]*)?{_ENDS}", r",\1(\2\3)"),  # del5q
        (rf",({_C}[pq])-{_ENDS}", r",del(\1)"),  # 5q-
        (rf"\(({_C}[pq])-\)", r"(\1)"),  # del(5q-)
        (r"(?<=\))\([a-z][a-z\d]+(?:::|[/-])[a-z][a-z\d]+\)", ""),  # the genes of a fusion beside its breakpoints
        # Breakpoints.
        (r"([pq])(?:\1|[.])(?=\d)", r"\1"),  # qq13, q.13
        (r"(?<=\d\d)(?:\.\.|>|,(?=\d{1,2}[;)pq])|[;:](?=\d[;)pq]))(?=\d)", "."),  # q11,2
        (rf"(?<=\()({_C}|\?)[,.|-](?=(?:{_C}|\?)[;)])", r"\1;"),  # t(9.22)
        (r"(?<=[\d)?])[.,/](?=[pq]\d)(?=[^()]*\))", ";"),  # (q13.q33)
        (r"(?<=\d),(?=\d[pq])", "."),  # inv(16)(p13,1q22)
        (r"[;:]{2,}", ";"),
        (r"<(?![1-8]n)|,[.;:]+(?=[a-z+-])|[.;:]+,(?=[a-z+-])", ","),
        (r"(?<=\();|;(?=\))", ""),
        (r"(\([pq][\dpq.;?~-]*)(?=[,\[/])", r"\1)"),  # del(5)(q13q33,+8
        # Items.
        (rf"(,[xy]+|\([^()]*\)\([^()]*\)|[+-]\d{{1,2}}|mar|,{_REFERENCE})\((\d{{1,3}})\)(?=/|$)", r"\1[\2]"),  # XX(20)
        (rf"(?<=,)({_REFERENCE})[.:]+(?=[,\[/])|(?<=,)\(({_REFERENCE})\)", r"\1\2"),
        (r",sdl[.#](?=\d)", ",sdl"),
        (rf",({_REFERENCE})(?=[+-]|{_KIND}\()", r",\1,"),
        (r",=(?=\d|mar)", ",+"),
        (r"\+{2,}", "+"),
        (r"-{2,}", "-"),
        (r",\?([+-])", r",\1?"),
        (rf",([+-])(?:,|\((?={_C}\)))({_C})\)?{_ENDS}", r",\1\2"),  # +(8)
        (rf",({_C})([+-]){_ENDS}", r",\2\1"),  # 8+
        (r"\(x([2-4])\)", r"x\1"),
        (r",x(?=[2-4](?:[,/\[]|$))", "x"),  # -20,x2
        (rf"(?<=\d\d,)(x[xy]?)(?={_KIND}\()", r"\1,"),  # 46,XXdel(5)(q31)
        (rf",(-\d{{1,2}}|\+(?:[4-9]|\d\d))(?={_KIND}\()", r",\1,"),  # -7del(5)(q31), but +2del(5) could be two
        (r"(?<=\d\d,)\((x[xy])\)", r"\1"),
        (r"(?<=46,)x[;.:/]([xy])(?=[\[/]|$|,[a-z])", r"x\1"),  # 46,X;Y
        (rf",([+-][xy]|\+\d?mar\d?)(?={_KIND}\()", r",\1,"),
        (r"(?<=[)\d])inc\.?(?=\[|/|$)|(?<=,)inc\.(?=\[|/|$)", ",inc"),
        (r",?(\[[^\[\]]*\]),?inc\.?(?=/|$)", r",inc\1"),
        # Clones.
        (rf"(?<=\])(?:[,;+&|\\.:?-]*(?:and|und|et)?/?,?|7)(?=\d\d[,~-]|{_CLONE})", "/"),  # [8]46,sl,…
        (rf"[;&|\\](?={_CLONE})", "/"),
        (r"[,.]+(?=/)|(?<=/),(?=\d\d)", ""),
        (r"(?:(?<=^)|(?<=/))(\d\d)(?:to|bis)(?=\d\d,)", r"\1~"),
        # -7+mar; +r+1~2mar; but not the count 44-45, nor mar1-2
        (
            r"(?<!^\d\d)(?<!/\d\d)(?<!mar\d)(?<=[)r\dxy])(?=[+-](?:mar|[a-z]{1,4}\(|\d{1,2}(?:[,\[+-]|$)|\d[~-]\d{1,2}mar))",
            ",",
        ),
        (r",+(?=[,\[/])", ""),  # 46,XX,,+8,[12]
        (r"(?<=[,+-])dert\(", "der(?)t("),
    )
)
_WORD: Final = re.compile(r"(?<![a-z])[a-w][a-z]{1,5}(?=\([\d?xy])")
_LIKE_IDEM: Final = re.compile(r"(?<=,)[a-z]{3,5}(?=[,\[/]|$)")
# All symbols that ISCN has before a parenthesis, also those that are not read; and what laboratories write like them.
_SYMBOLS_OF_ISCN: Final = (
    "ace add chi con del der dic dip dir dirdup dirins dit dn dup end fis fra h hsr i idem idic ider inc ins inv invdup"
    " invins iso mal mar mat med min mos neg neo nuc oom or pat pcc pos prx psu psudic psuidic qdp qdr qr r rcp rea rec"
    " rob rt s sce sdl sl t tas ter tr trc tri trp upd var xma and mit"
)
_SYMBOLS: Final = frozenset(_SYMBOLS_OF_ISCN.split())
_READ: Final = frozenset({"add", "del", "der", "dic", "dup", "idic", "inv", "ins", "iso", "t", "trp", "psudic"})
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def plain(text: str) -> str:
    """Return the text in lower case, without white space, in the characters of ISCN, without label and quotation marks.

    What is left may hold characters that are none of ISCN.
    """
    lax = "".join((html.unescape(text) if "&" in text else text).lower().split())
    if not lax.isascii() or _ODD.search(lax):
        if lax.count("_") == 1:  # on the key of "-"; where there are several, they stand for spaces
            lax = lax.replace(",_", ",-")
        lax = lax.translate(_CHARACTERS)
    lax = lax.lstrip(",;:.").rstrip(".;:")  # a comma at the end may be the last that fitted into the field
    if not lax[:1].isdecimal() and (found := _LABEL.match(lax)):
        lax = lax[found.end() :]
    if lax[:1] in {"[", "("} and (found := _WRAPPED.fullmatch(lax)):
        lax = found[1] or found[2]
    if lax[-1:] != "]" and (found := _SAID_NORMAL.fullmatch(lax)):
        lax = found[1]
    half = (len(lax) + 1) // 2  # the field was pasted twice: its cells count once
    if not lax.startswith(lax[:4], half):
        return lax
    return lax[:half].rstrip(",;./") if half > len("46,xx") and lax[:half].rstrip(",;./") == lax[half:] else lax


def mended(text: str) -> str:
    """Return the text with all mistakes mended that leave one reading.

    Args:
        text: as `plain` returns it.
    """
    for pattern, mending in _RULES:
        text = pattern.sub(mending, text)
    text = _WORD.sub(lambda found: _symbol(found[0]), text)
    return _LIKE_IDEM.sub(lambda found: "idem" if "idem" in _near(found[0]) else found[0], text)


@lru_cache(maxsize=256)
def _symbol(word: str) -> str:
    """Return the only symbol that one letter, missing, wrong, too many or in the wrong place, makes `word` of."""
    if word in _SYMBOLS:
        return word
    near = _near(word) & _SYMBOLS
    return next(iter(near)) if len(near) == 1 and near <= _READ else word


@lru_cache(maxsize=256)
def _near(word: str) -> frozenset[str]:
    """Words at a distance of one (Damerau, Commun ACM 1964;7:171)."""
    cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    return frozenset(
        [one + other[1:] for one, other in cuts if other]
        + [one + other[1] + other[0] + other[2:] for one, other in cuts if len(other) > 1]
        + [one + letter + other[1:] for one, other in cuts if other for letter in _LETTERS]
        + [one + letter + other for one, other in cuts for letter in _LETTERS]
    )
