"""Public cohorts as bounded matrices: what the benchmarks of learning are measured on.

The files are not part of this repository; a folder is given (``--data``, or the variable HAEMFED_DATA). A cohort that
is not there raises `CohortMissing`, and the figures that need it are reported as not measured.

Nothing is fitted to a table: every column is clipped to a public clinical range and scaled by a public centre and
spread, a category is a set of 0/1 columns whose list is written down here, and what is not known stays not observed.

| name        | patients | event                  | columns                                                       |
|-------------|----------|------------------------|---------------------------------------------------------------|
| MDS         | 2,766    | death                  | blood counts, blasts, cytogenetics, 36 genes (Bernard 2022)    |
| AML         | 553      | death                  | blood counts, blasts, cytogenetics, 22 genes (Bottomly 2022)   |
| MM          | 994      | death                  | age, sex, stage, first-line drugs (CoMMpass, open tier)        |
| METABRIC    | 1,520    | death of breast cancer | the categories of the tumour, one-hot                          |
| SUPPORT     | 246      | death                  | vital signs and laboratory values                              |

The last two choose hyper-parameters and are in no table of results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from models.data import DAYS_PER_YEAR, SurvivalData

__all__ = ["COHORTS", "Cohort", "CohortMissing", "folder", "load", "split"]

VARIABLE: Final = "HAEMFED_DATA"

_CYTOGENETICS: Final = ("complex", "del5q", "plus8", "del7", "del20q", "delY", "del7q", "del12p", "del17p", "del11q")
# The genes of the published IPSS-M score and four more that every myeloid panel reports.
_MDS_GENES: Final = (
    "TP53multi", "TP53mono", "FLT3", "FLT3_ITD", "MLL_PTD", "SF3B1", "NPM1", "RUNX1", "NRAS", "ETV6", "IDH2", "CBL",
    "EZH2", "U2AF1", "SRSF2", "DNMT3A", "ASXL1", "KRAS", "BCOR", "BCORL1", "CEBPA", "ETNK1", "GATA2", "GNB1", "IDH1",
    "NF1", "PHF6", "PPM1D", "PRPF8", "PTPN11", "SETBP1", "STAG2", "WT1", "TET2", "ZRSR2", "JAK2",
)  # fmt: skip
_AML_GENES: Final = (
    "NPM1", "FLT3_ITD", "DNMT3A", "IDH1", "IDH2", "TET2", "RUNX1", "ASXL1", "TP53", "CEBPA", "NRAS", "KRAS", "PTPN11",
    "WT1", "SRSF2", "SF3B1", "U2AF1", "ZRSR2", "STAG2", "EZH2", "BCOR", "KIT",
)  # fmt: skip
_AML_CYTOGENETICS: Final = (
    "normal", "t_8_21", "inv_16", "t_15_17", "inv_3", "t_v_11q23", "del_5", "del_7", "add_8", "del_17",
)  # fmt: skip
_MM_DRUGS: Final = (
    "bortezomib", "lenalidomide", "carfilzomib", "cyclophosphamide", "dexamethasone", "melphalan", "thalidomide",
)  # fmt: skip


class CohortMissing(Exception):  # noqa: N818 - as in CohortTooSmall
    """The files of a cohort are not on this machine; the message says which and what to set."""


@dataclass(frozen=True)
class Cohort:
    """One public cohort.

    Args:
        name: as in the table of this module.
        source: where it was published.
        features: names in column order.
        data: every patient with a known, positive follow-up.
    """

    name: str
    source: str
    features: tuple[str, ...]
    data: SurvivalData = field(repr=False)

    def __len__(self) -> int:
        return len(self.data)


class _Columns:
    """Collects columns scaled by public constants."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        self.names: list[str] = []
        self._values: list[np.ndarray] = []

    def number(
        self, column: str, low: float, high: float, centre: float, spread: float, *, count: bool = False
    ) -> None:
        """Add (t(clip(v)) − centre) ÷ spread; t is log(1 + v) for a count, whose centre and spread are then on it."""
        values = self._table[column].astype(float).clip(low, high)
        self._add(column, ((np.log1p(values) if count else values) - centre) / spread)

    def flag(self, column: str) -> None:
        """Add a 0/1 column as it is: 0, the common case, costs a patient no gradient norm."""
        self._add(column, self._table[column].astype(float))

    def levels(self, column: str, values: tuple[int, ...]) -> None:
        """Add one 0/1 column for each of the listed levels."""
        for value in values:
            self._add(f"{column}={value}", (self._table[column].astype(float) == value).astype(float))

    def matrix(self) -> np.ndarray:
        return np.stack(self._values, axis=1)

    def _add(self, name: str, values: pd.Series) -> None:
        self.names.append(name)
        self._values.append(values.to_numpy(dtype=float))


def _cohort(name: str, source: str, columns: _Columns, days: pd.Series, event: pd.Series) -> Cohort:
    x, duration = columns.matrix(), days.to_numpy(dtype=float)
    died = event.to_numpy(dtype=float)
    known = (duration > 0) & np.isfinite(died)
    data = SurvivalData(x, np.isfinite(x), duration, died == 1)
    return Cohort(name, source, tuple(columns.names), data.rows(known))


def _mds(root: Path) -> Cohort:
    table = pd.read_parquet(root / "mds_iwgpm" / "patients.parquet")
    columns = _Columns(table)
    columns.number("clin_age", 18, 95, 70, 12)
    columns.number("clin_sex_male", 0, 1, 0.5, 0.5)
    columns.flag("clin_mds_type_secondary")
    columns.number("clin_bm_blast", 0, 20, 5, 5)
    columns.number("clin_pb_blast", 0, 20, 1, 2)
    columns.number("clin_wbc", 0, 50, 1.6, 0.6, count=True)
    columns.number("clin_anc", 0, 20, 1.1, 0.6, count=True)
    columns.number("clin_monocytes", 0, 10, 0.4, 0.3, count=True)
    columns.number("clin_hb", 4, 20, 10, 2)
    columns.number("clin_plt", 0, 1000, 4.8, 0.9, count=True)
    columns.number("cyto_ipssr", 0, 4, 1, 1)
    for name in _CYTOGENETICS:
        columns.flag(f"cyto_{name}")
    for name in _MDS_GENES:
        columns.flag(f"mut_{name}")
    days = table["out_os_years"] * DAYS_PER_YEAR
    return _cohort("MDS", "IWG-PM (Bernard 2022)", columns, days, table["out_os_event"])


def _aml(root: Path) -> Cohort:
    table = pd.read_parquet(root / "aml_beataml2" / "patients.parquet")
    table = table[table["stage"] == "Initial Diagnosis"]
    columns = _Columns(table)
    columns.number("clin_age", 18, 90, 60, 16)
    columns.number("clin_sex_male", 0, 1, 0.5, 0.5)
    columns.number("clin_bm_blast", 0, 100, 50, 25)
    columns.number("clin_pb_blast", 0, 100, 40, 30)
    columns.number("clin_wbc", 0, 500, 2.8, 1.35, count=True)
    columns.number("clin_hb", 3, 18, 9.5, 2)
    columns.number("clin_plt", 0, 1000, 4, 1, count=True)
    columns.number("clin_ldh", 50, 5000, 6.2, 0.8, count=True)
    columns.flag("clin_prior_mds")
    columns.flag("clin_denovo")
    for name in _AML_CYTOGENETICS:
        columns.flag(f"cyto_{name}")
    for name in _AML_GENES:
        columns.flag(f"mut_{name}")
    return _cohort("AML", "BeatAML 2.0 (Bottomly 2022)", columns, table["out_os_days"], table["out_os_event"])


def _mm(root: Path) -> Cohort:
    table = pd.read_parquet(root / "mm_mmrf" / "patients.parquet")
    columns = _Columns(table)
    columns.number("clin_age", 18, 90, 65, 10)
    columns.number("clin_sex_male", 0, 1, 0.5, 0.5)
    columns.number("clin_iss", 1, 3, 2, 1)
    for name in _MM_DRUGS:  # chosen at diagnosis; a transplant comes later and would need time
        columns.flag(f"treat_l1_{name}")
    return _cohort("MM", "MMRF CoMMpass, open tier", columns, table["out_os_days"], table["out_os_event"])


def _metabric(root: Path) -> Cohort:
    # The file has 21 columns of features, then days and event; its own header misses some names.
    table = pd.read_csv(root / "savae_benchmarks" / "metabric.csv", header=None, skiprows=1)
    table.columns = [*(f"m{i:02d}" for i in range(table.shape[1] - 2)), "days", "event"]
    columns = _Columns(table)
    columns.number("m00", 20, 95, 60, 13)
    columns.number("m01", 0, 100, 3, 0.6, count=True)
    columns.number("m02", 0, 30, 0.7, 0.9, count=True)
    columns.number("m04", 0, 40, 2.3, 0.7, count=True)
    for column, levels in (("m03", 5), ("m10", 3), ("m11", 12), ("m12", 4), ("m13", 3), ("m14", 8), ("m15", 5),
                           ("m16", 3), ("m17", 6), ("m18", 10), ("m19", 4), ("m20", 5)):  # fmt: skip
        columns.levels(column, tuple(range(levels)))
    for column in ("m05", "m06", "m07", "m08", "m09"):
        columns.flag(column)
    return _cohort("METABRIC", "METABRIC (Curtis 2012), as in SAVAE", columns, table["days"], table["event"])


def _support(root: Path) -> Cohort:
    table = pd.read_csv(root / "savae_benchmarks" / "support.csv")
    columns = _Columns(table)
    columns.number("age", 18, 95, 60, 16)
    columns.number("sex", 0, 1, 0.5, 0.5)
    columns.number("num.co", 0, 6, 2, 1.5)
    columns.number("meanbp", 20, 180, 85, 28)
    columns.number("hrt", 20, 250, 98, 32)
    columns.number("resp", 5, 70, 23, 10)
    columns.number("temp", 32, 42, 37, 1.3)
    columns.number("wblc", 0, 60, 2.4, 0.6, count=True)
    columns.number("sod", 110, 170, 138, 6)
    columns.number("crea", 0.2, 12, 0.95, 0.5, count=True)
    columns.levels("race", (1, 2, 3, 4))
    columns.levels("ca", (1, 2))
    columns.flag("diabetes")
    columns.flag("dementia")
    return _cohort("SUPPORT", "SUPPORT (Knaus 1995), as in SAVAE", columns, table["time"], table["event"])


_LOADERS: Final[Mapping[str, Callable[[Path], Cohort]]] = {
    "MDS": _mds,
    "AML": _aml,
    "MM": _mm,
    "METABRIC": _metabric,
    "SUPPORT": _support,
}
COHORTS: Final = tuple(_LOADERS)


def folder(given: Path | None = None) -> Path:
    """Return the folder of the cohorts.

    Raises:
        CohortMissing: neither an argument nor the variable names one, or it is no folder.
    """
    named = given if given is not None else os.environ.get(VARIABLE)
    if named is None:
        raise CohortMissing(f"no cohorts: give --data DIR or set {VARIABLE}")
    if not Path(named).is_dir():
        raise CohortMissing(f"no cohorts: {named} is not a folder; give --data DIR or set {VARIABLE}")
    return Path(named)


def load(name: str, data: Path | None = None) -> Cohort:
    """Read one cohort.

    Args:
        name: one of `COHORTS`.
        data: the folder; HAEMFED_DATA if None.

    Raises:
        CohortMissing: its files are not there, or lack a column.
    """
    try:
        return _LOADERS[name](folder(data))
    except FileNotFoundError as error:
        raise CohortMissing(f"cohort {name}: {Path(str(error.filename)).name} is missing") from None
    except KeyError as error:
        raise CohortMissing(f"cohort {name}: column {error} is missing") from None


def split(patients: int, hospitals: int, rng: np.random.Generator, *, ratio: float = 10.0) -> list[np.ndarray]:
    """Deal patients to hospitals of unequal sizes at random.

    Sizes fall geometrically from the first hospital to the last, `ratio` to 1; the expected smallest has at least two.

    >>> [len(part) for part in split(100, 4, np.random.default_rng(0))]
    [56, 26, 12, 6]

    Args:
        patients: n.
        hospitals: ≥ 1.
        rng: deals.
        ratio: largest to smallest.
    """
    weights = ratio ** (-np.arange(hospitals) / max(hospitals - 1, 1))
    edges = np.rint(np.cumsum(weights) / weights.sum() * patients).astype(int)[:-1]
    return np.split(rng.permutation(patients), edges)
