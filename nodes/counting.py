"""How far a source has been read, seen from outside.

`harmonize` opens the paths that it is given and knows no progress. A folder whose files count what is read of them
tells it without a hook in every reader; compressed files count as they lie on disk.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import IO, Any

__all__ = ["counted"]

_BUFFER = 1 << 20  # one call of the counter a mebibyte: a progress bar must not cost what it measures


def counted(folder: Path, read: Callable[[int], None]) -> Path:
    """The same folder; reading a file found below it in binary mode reports its bytes.

    Args:
        folder: of the source.
        read: told how many bytes were read since the last call.
    """

    class Stream(io.FileIO):
        def readinto(self, buffer: Any, /) -> int | None:
            size = super().readinto(buffer)
            read(size or 0)
            return size

        def readall(self) -> bytes:
            # FileIO has a shortcut of its own, past readinto.
            return b"".join(iter(lambda: self.read(_BUFFER), b""))

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            read(len(data))
            return data

    class Counted(PosixPath):  # its children are of the same class: that is how glob makes them
        def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:  # type: ignore[override]
            if mode != "rb":
                return super().open(mode, *arguments, **options)
            return io.BufferedReader(Stream(str(self)), _BUFFER)

    return Counted(folder)
