"""Memory that is freed goes back to the system: a coordinator runs for days and holds long vectors for moments."""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["return_large_blocks"]

_MMAP_THRESHOLD: Final = -3  # glibc's M_MMAP_THRESHOLD
_LARGE: Final = 1 << 16  # octets


def return_large_blocks() -> None:
    """Have the C library unmap every block of 64 KiB or more when it is freed, in this process from now on.

    Otherwise glibc keeps them for the thread that made them, and there are two threads a connection: with 100 sites and
    a million coordinates that was four times what was really in use. Another C library is left as it is.
    """
    try:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)
    except (AttributeError, OSError):
        return
