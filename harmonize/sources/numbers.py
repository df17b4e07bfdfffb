"""Numbers in a declared notation. Nothing is guessed: "12,5" under a decimal point is never 125."""

__all__ = ["Notation", "parse_number"]

import re
from decimal import Decimal
from typing import Final

from harmonize.events import State
from harmonize.mapping import Dialect

Number = tuple[Decimal, State]

_COMPARATOR: Final = re.compile(r"(?P<sign>[<>]=?|[≤≥])?\s*(?P<number>.*)", re.DOTALL)
_REMEMBERED: Final = 20_000


class Notation:
    """Reads numbers as a dialect writes them, each text once: laboratory values repeat."""

    def __init__(self, dialect: Dialect) -> None:
        whole = r"[0-9]{1,30}"
        if dialect.thousands is not None:
            # Groups of three or no groups: "1,23" under thousands="," is a mistake, not 123.
            whole = rf"(?:{whole}|[0-9]{{1,3}}(?:{re.escape(dialect.thousands)}[0-9]{{3}}){{1,9}})"
        self._pattern = re.compile(
            rf"[+-]?{whole}(?:{re.escape(dialect.decimal)}[0-9]{{1,30}})?(?:[eE][+-]?[0-9]{{1,2}})?"
        )
        self._decimal = dialect.decimal
        self._thousands = dialect.thousands
        self._known: dict[str, Number | None] = {}

    def parse(self, text: str) -> Number | None:
        """As `parse_number`."""
        try:
            return self._known[text]
        except KeyError:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            return self._known.setdefault(text, self._read(text))

    def _read(self, text: str) -> Number | None:
        match = _COMPARATOR.fullmatch(text.strip())
        if match is None or not self._pattern.fullmatch(match["number"]):
            return None
        digits = match["number"]
        if self._thousands is not None:
            digits = digits.replace(self._thousands, "")
        value = Decimal(digits.replace(self._decimal, "."))
        if match["sign"]:
            return value, State.BELOW_LIMIT if match["sign"][0] in "<≤" else State.ABOVE_LIMIT
        return value, State.VALUE


def parse_number(text: str, dialect: Dialect) -> Number | None:
    """A number in the declared notation, with its comparator as a state; None if it is not one.

    >>> german = Dialect(decimal=",", thousands=".")
    >>> [parse_number(text, german) for text in ("1.234,5", "<0,5", "1.23")]
    [(Decimal('1234.5'), <State.VALUE: 0>), (Decimal('0.5'), <State.BELOW_LIMIT: 6>), None]
    >>> [parse_number(text, Dialect()) for text in ("12,5", "NaN", "1e400x", "")]
    [None, None, None, None]
    """
    return Notation(dialect).parse(text)
