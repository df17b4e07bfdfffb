"""Plausibility of one value in canonical units."""

__all__ = ["implausible"]

from decimal import Decimal

from harmonize.profile import Range


def implausible(value: Decimal, hard: Range, soft: Range) -> str | None:
    """The issue code of a value outside its ranges (bounds belong to them), or None.

    NaN and infinities never get here as numbers: sources refuse them; written so that they would be outside.

    >>> [implausible(Decimal(text), (0, 1000), (1, 300)) for text in ("13", "0", "1000.1", "NaN")]
    [None, 'range-soft', 'range-hard', 'range-hard']
    """
    if not value.is_finite() or not hard[0] <= value <= hard[1]:
        return "range-hard"
    if not soft[0] <= value <= soft[1]:
        return "range-soft"
    return None
