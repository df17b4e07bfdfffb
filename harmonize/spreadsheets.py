"""What spreadsheet programs do to data, and what data can do to them.

| What Excel did | How it looks here | Found by |
|---|---|---|
| a date became a serial number | 43831 where a date is declared | `is_serial_date` |
| a gene or number became a date | 1-Mar (MARCH1), 2-Sep (SEPT2), 1-Dec (DEC1), 03. Jan (3.1) | `is_damaged` |
| a long identifier was rounded | 1.23E+12, 1,23E+12 | `is_rounded_identifier` |
| leading zeros of an identifier went | 4711 for 004711 | nobody: it looks like any other |

Source: Ziemann, Eren, El-Osta, Gene name errors are widespread in the scientific literature (Genome Biology 2016).
"""

__all__ = ["escaped", "is_damaged", "is_rounded_identifier", "is_serial_date"]

import re
from typing import Final

_MONTHS: Final = (
    "jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|mrz|mär|mai|okt|dez|janv|févr|mars|avr|juin|juil|août|déc"
    "|gen|mag|giu|lug|ago|set|ott|dic|ene|abr"
)
_DAMAGED: Final = re.compile(rf"[0-9]{{1,2}}[.]?[- ](?:{_MONTHS})[.]?|(?:{_MONTHS})[.]?[- ][0-9]{{2}}", re.IGNORECASE)
_SERIAL: Final = re.compile(r"[1-7][0-9]{4}(?:[.,][0-9]+)?")  # 1927 to 2119
_ROUNDED: Final = re.compile(r"[0-9](?:[.,][0-9]+)?E[+][0-9]{2,}", re.IGNORECASE)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def is_damaged(text: str) -> bool:
    """Whether a gene, category or number was turned into a date.

    >>> [is_damaged(text) for text in ("1-Mar", "2-Sep", "1-Dec", "03. Jan", "01. Mrz", "Mar-01", "MARCH1", "3.1")]
    [True, True, True, True, True, True, False, False]
    """
    return _DAMAGED.fullmatch(text) is not None


def is_serial_date(text: str) -> bool:
    """Whether a date was turned into a number of days since 1899-12-30.

    >>> [is_serial_date(text) for text in ("43831", "43831.5", "2020", "01.01.2020")]
    [True, True, False, False]
    """
    return _SERIAL.fullmatch(text) is not None


def is_rounded_identifier(text: str) -> bool:
    """Whether an identifier is in scientific notation, so that several patients may share it.

    >>> [is_rounded_identifier(text) for text in ("1,23E+12", "1.2e+11", "MMRF_1021", "1E5")]
    [True, True, False, False]
    """
    return _ROUNDED.fullmatch(text) is not None


def escaped(text: str) -> str:
    """Text for a cell of a CSV file or report that somebody will open in a spreadsheet: never a formula.

    >>> escaped("=HYPERLINK(1)"), escaped("ok"), escaped("-1.5")
    ("'=HYPERLINK(1)", 'ok', "'-1.5")
    """
    return f"'{text}" if text.startswith(_FORMULA) else text
