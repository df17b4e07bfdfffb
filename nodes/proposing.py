"""A first mapping file from the head of an unknown CSV: it is read here, the proposals are `harmonize.mapping`'s."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Final

from harmonize.mapping import propose
from harmonize.profile import load
from nodes import files
from nodes.errors import DataProblem

__all__ = ["skeleton"]

_ROWS: Final = 2000
_HEAD: Final = 16 << 20  # bytes of the file that are looked at
_DELIMITERS: Final = (",", ";", "\t", "|")


def skeleton(path: Path, profile_name: str) -> str:
    """Propose a mapping file.

    Encoding and delimiter are guessed here, and only here: the proposal declares them, marked for a person to check.

    Args:
        path: the CSV file; at most its first 2,000 rows are read.
        profile_name: a shipped profile or a path.

    Raises:
        ConfigError: the profile is wrong.
        DataProblem: the file is empty, or its head is no delimited text.
        StorageProblem: it cannot be read.
    """
    profile = load(profile_name)
    with files.storage_errors(path), path.open("rb") as stream:
        head = stream.read(_HEAD)
    text, encoding = _decoded(head)
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise DataProblem(f"{path.name}: the first line is empty; it must hold the names of the columns")
    delimiter = max(_DELIMITERS, key=lines[0].count)
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        header = [name.strip() for name in next(rows)]
        sampled = [row for row in itertools.islice(rows, _ROWS) if len(row) == len(header)]
    except csv.Error:
        raise DataProblem(
            f"{path.name}: after line {rows.line_num}: broken quoting or an oversized cell; look there for a quote"
        ) from None
    samples = {name: [row[number] for row in sampled] for number, name in enumerate(header)}
    declared = [f'encoding = "{encoding}"  # check'] if encoding != "utf-8" else []
    declared += [f'delimiter = "{delimiter}"  # check'.replace("\t", "\\t")] if delimiter != "," else []
    before, mark, after = propose(header, profile, samples, path.name).partition("\n[csv]\n")
    return before + mark + "".join(f"{line}\n" for line in declared) + after


def _decoded(head: bytes) -> tuple[str, str]:
    """The text and its likely encoding; the last line may be cut."""
    whole = head if len(head) < _HEAD else head[: head.rfind(b"\n") + 1]
    if whole.startswith((b"\xff\xfe", b"\xfe\xff")):
        return whole.decode("utf-16", "replace"), "utf-16"
    try:
        return whole.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return whole.decode("cp1252", "replace"), "cp1252"
