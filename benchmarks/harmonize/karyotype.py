"""Reading the karyotypes of a real cohort: figures 5.5.

The IWG-PM cohort behind the IPSS-M (Bernard 2022; 23 centres) has the text of each karyotype beside what its authors
made of it: complex or not, cytogenetic class of the IPSS-R. The reader was written with one half of the patients in
view, those whose id has a SHA-256 that starts with 0 … 7; the figures are those of the other half, set aside before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from benchmarks import calibrate, timing
from benchmarks.calibrate import Calibration
from benchmarks.cohorts import CohortMissing
from benchmarks.report import Row
from harmonize.karyotype import Karyotype, KaryotypeError, parse

__all__ = ["rows"]

_FIRST_OF_ASIDE: Final = 8
_COLUMNS: Final = ["patient_id", "karyotype_text", "cyto_complex", "cyto_ipssr"]
_STRINGS: Final = 40_000  # to be read for the speed


def rows(folder: Path) -> list[Row]:
    """Measure on the half that was set aside.

    Args:
        folder: of the public cohorts.

    Raises:
        CohortMissing: the cohort is not there.
    """
    cohort = labelled(folder, aside=True)
    texts = cohort["karyotype_text"].tolist()
    return [*_agreement(cohort, texts), _speed(texts)]


def labelled(folder: Path, *, aside: bool) -> pd.DataFrame:
    """Return the patients of one half who have a text and both labels."""
    path = folder / "mds_iwgpm" / "patients.parquet"
    if not path.is_file():
        raise CohortMissing(f"cohort MDS: {path.name} is missing")
    cohort = pd.read_parquet(path, columns=_COLUMNS).dropna()
    first = cohort["patient_id"].map(lambda one: int(hashlib.sha256(str(one).encode()).hexdigest()[0], 16))
    return cohort[(first >= _FIRST_OF_ASIDE) == aside]


def _read(text: str) -> Karyotype | None:
    try:
        return parse(text)
    except KaryotypeError:
        return None


def _agreement(cohort: pd.DataFrame, texts: Sequence[str]) -> list[Row]:
    found = [_read(text) for text in texts]
    read = [one is not None for one in found]
    parsed, of = [one for one in found if one is not None], cohort[read]

    def agreeing(feature: str, column: str, among: Sequence[bool]) -> float:
        equal = [
            one.features[feature] == label
            for one, label, counts in zip(parsed, of[column].astype(int), among, strict=True)
            if counts
        ]
        return 100 * sum(equal) / len(equal)

    everyone = [True] * len(parsed)
    complete = [not one.incomplete for one in parsed]
    return [
        Row("5.5a", f"karyotypes read, of {len(texts)} with a label", 100 * len(parsed) / len(texts), "%", 98.0),
        Row("5.5a", "of these, marked incomplete", 100 * (1 - sum(complete) / len(parsed)), "%"),
        Row("5.5b", "complex as in the cohort", agreeing("complex", "cyto_complex", everyone), "%", 98.0),
        Row("5.5c", "IPSS-R class as in the cohort", agreeing("ipssr_class", "cyto_ipssr", everyone), "%", 95.0),
        Row("5.5c", "the same, complete ones", agreeing("ipssr_class", "cyto_ipssr", complete), "%"),
    ]


def _speed(texts: Sequence[str]) -> Row:
    many = [texts[i % len(texts)] for i in range(_STRINGS)]
    before = calibrate.seconds()
    seconds, _ = timing.cpu(lambda: [_read(text) for text in many])
    unit = Calibration(before, calibrate.seconds()).unit
    return Row("5.5d", "karyotypes read, one core", len(many) * unit / seconds, "1/s-eq", 40_000.0)
