"""What a planted bug is; the bugs themselves are listed by the room that they are in."""

from __future__ import annotations

from dataclasses import dataclass

Edit = tuple[str, str]


@dataclass(frozen=True)
class Mutant:
    """A planted bug.

    Args:
        name: in the report.
        file: of the repository.
        check: the function of `tests.dp.checks` that must notice, "file:function".
        why: what the bug would cost a patient.
        edits: (old text, new text) pairs, each old text exactly once in the file.
    """

    name: str
    file: str
    check: str
    why: str
    edits: tuple[Edit, ...]


def bug(name: str, file: str, check: str, why: str, *edits: Edit) -> Mutant:
    """Write one entry of the list."""
    return Mutant(name, file, check, why, edits)
