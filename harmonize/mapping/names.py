"""The known name that a wrong one was meant to be."""

__all__ = ["nearest"]

import difflib
from collections.abc import Iterable


def nearest(wrong: str, known: Iterable[str]) -> str:
    """A hint for a message: the known name that looks most like a wrong one.

    >>> nearest("colum", ["column", "unit"]), nearest("x", ["column", "unit"])
    ("; did you mean 'column'?", '; known: column, unit')
    """
    names = sorted(known)
    match = difflib.get_close_matches(wrong, names, n=1)
    return f"; did you mean {match[0]!r}?" if match else f"; known: {', '.join(names)}"
