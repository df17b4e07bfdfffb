import subprocess
import sys

import pytest

MODULES = (
    "harmonize.table",
    "harmonize.split",
    "harmonize.sources",
    "harmonize.mapping",
    "harmonize.reporting.quality",
)
UNWANTED = {"torch", "opacus", "fhir"}


@pytest.mark.slow
def test_harmonize_loads_no_torch() -> None:
    code = f"import sys, {', '.join(MODULES)}; print(*sorted({UNWANTED!r} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


def test_doctests() -> None:
    import doctest
    import importlib

    for name in (
        "codes",
        "units",
        "dates",
        "cohort.derive",
        "cohort.checks",
        "spreadsheets",
        "genetics.genes",
        "genetics.hgvs",
        "sources.fhir_genomics",
        "mapping.names",
        "mapping.targets",
        "sources.depth",
        "sources.numbers",
    ):
        result = doctest.testmod(importlib.import_module(f"harmonize.{name}"))
        assert result.attempted
        assert not result.failed
