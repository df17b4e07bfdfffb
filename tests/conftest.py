import functools
import gc
from pathlib import Path

import pytest
import typer.main
from hypothesis import settings

from harmonize import profile
from tests.sweeps import FULL

# No deadlines: machines are shared, and time proves nothing.
settings.register_profile("full", deadline=None)
settings.register_profile("check", max_examples=FULL // 10, deadline=None)  # what `make check` asks for
settings.load_profile("full")

_load = profile.load
_packaged = functools.cache(_load)


def _once(name_or_path: str | Path) -> profile.Profile:
    """Read a packaged profile, which is frozen, once for all tests; a file, which a test may change, each time."""
    return _packaged(name_or_path) if str(name_or_path).isidentifier() else _load(name_or_path)


profile.load = _once
# A process types one command; tests type hundreds, and building all commands costs more than most of them do.
typer.main.get_command = functools.cache(typer.main.get_command)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep thousands of collected tests and the modules of torch out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
