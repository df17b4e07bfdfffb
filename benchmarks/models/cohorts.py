"""The cohorts of the model figures: hospitals, tiers of columns, published scores.

Columns are clipped to public ranges and scaled by public numbers as in `benchmarks.cohorts`, nothing is fitted. What is
added is what only these figures need: which hospital (a number without meaning), tiers, published scores, and of the
myeloid cohorts the public dictionary of their columns. The scores of CMML are computed here: transfusion is not known,
so haemoglobin stands for it, and findings are read from the karyotype's text.

| name   | patients                                                | hospitals | tiers                             |
|--------|---------------------------------------------------------|-----------|-----------------------------------|
| MDS    | WHO 2016 MDS, IWG-PM, at hospitals with ≥ 20 of them    | 21 real   | clinical, + cytogenetic, + genes  |
| CMML   | WHO 2016 CMML, IWG-PM                                   | –         | the same                          |
| AML    | BeatAML at diagnosis                                    | –         | the same                          |
| MM     | CoMMpass, open tier                                     | –         | clinical, + first-line drugs      |

IPSS-M's own columns (Bernard 2022) are a tier of their own: refitted in each fold they are the strongest baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import cohorts
from benchmarks.cohorts import CohortMissing
from benchmarks.models.described import Described
from harmonize.karyotype.reading import KaryotypeError, parse
from models.data import DAYS_PER_YEAR, Float64, SurvivalData
from models.generators.dictionary import Column, Kind
from models.prognostic import SCORES, Patients

__all__ = ["Hospitals", "columns_of", "load"]

SMALLEST: Final = 20  # patients of a hospital that takes part

# Genes of myeloid panels beside those of `benchmarks.cohorts`, and what else a karyotype names.
_GENES: Final = (
    "TET2bi", "TET2other", "CUX1", "DDX41", "MPL", "SH2B3", "BRCC3", "KMT2C", "CTCF", "ZBTB33", "EP300",
    "CSNK1A1", "ARID2", "ASXL2", "GNAS", "U2AF2", "KMT2D", "KIT", "NFE2", "RAD21", "CREBBP", "SMC1A", "KDM6A", "CSF3R",
    "SUZ12", "LUC7L2", "DDX54", "MGA",
)  # fmt: skip
_ABNORMALITIES: Final = (
    "plus21", "del13", "del17", "plus13", "del18", "del3p", "del16q", "plus22", "del5", "del1p", "del9q", "del12",
    "delX", "plus19", "r_1_7",
)  # fmt: skip
_DERIVED: Final = ("TP53mono", "TP53multi", "TET2bi", "TET2other", "FLT3_ITD")  # counted under their gene
_IPSSM_GENES: Final = (
    "TP53multi", "MLL_PTD", "NPM1", "RUNX1", "NRAS", "ETV6", "IDH2", "CBL", "EZH2", "U2AF1", "SRSF2", "DNMT3A", "ASXL1",
    "KRAS",
)  # fmt: skip
_IPSSM_RESIDUAL: Final = (
    "BCOR", "BCORL1", "CEBPA", "ETNK1", "GATA2", "GNB1", "IDH1", "NF1", "PHF6", "PPM1D", "PRPF8", "PTPN11", "SETBP1",
    "STAG2", "WT1",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Hospitals:
    """A cohort as the model figures take it.

    Args:
        name: as in the table of this module.
        features: names in column order.
        data: patients.
        site: int64[n], hospital 0 … without meaning; all 0 where there is none.
        tiers: name → positions of its columns; each holds the ones before.
        scores: published score → float64[n], higher = earlier death, nan where it is not known.
        columns: the dictionary of the first columns, those that a generator may draw; empty where there is none.
    """

    name: str
    features: tuple[str, ...]
    data: SurvivalData = field(repr=False)
    site: NDArray[np.int64] = field(repr=False)
    tiers: Mapping[str, NDArray[np.intp]] = field(repr=False)
    scores: Mapping[str, Float64] = field(repr=False)
    columns: tuple[Column, ...] = field(default=(), repr=False)

    def tier(self, name: str) -> SurvivalData:
        """The columns of one tier."""
        return columns_of(self.data, self.tiers[name])

    def binary(self, width: int) -> tuple[int, ...]:
        """Positions of the 0/1 columns among the first ones."""
        flag = Column("flag", Kind.BINARY, (0.0, 1.0))
        return tuple(j for j, column in enumerate(self.columns[:width]) if replace(column, name="flag") == flag)


def columns_of(data: SurvivalData, columns: NDArray[np.intp]) -> SurvivalData:
    """The same patients with some of the columns."""
    return SurvivalData(data.x[:, columns], data.observed[:, columns], data.duration, data.event)


def load(name: str, folder: Path) -> Hospitals:
    """Read one cohort.

    Raises:
        CohortMissing: its files are not there, or lack a column.
    """
    try:
        return {"MDS": _mds, "CMML": _cmml, "AML": _aml, "MM": _mm}[name](folder)
    except FileNotFoundError as error:
        raise CohortMissing(f"cohort {name}: {Path(str(error.filename)).name} is missing") from None
    except KeyError as error:
        raise CohortMissing(f"cohort {name}: column {error} is missing") from None


def _mds(folder: Path) -> Hospitals:
    table = _iwgpm(folder, "MDS")
    size = table.groupby("center")["center"].transform("count")
    return _myeloid("MDS", table[size >= SMALLEST].reset_index(drop=True))


def _cmml(folder: Path) -> Hospitals:
    table = _iwgpm(folder, "CMML")
    whole = _myeloid("CMML", table)
    patients = Patients(_cpss_inputs(table))
    cpss = {title: SCORES[name].of(patients).points for name, title in _CPSS.items()}
    return replace(whole, scores={**cpss, **whole.scores})


_CPSS: Final = {"cpss-hb": "CPSS", "cpss-mol-hb": "CPSS-Mol"}
_CPSS_GENES: Final = ("ASXL1", "NRAS", "SETBP1", "RUNX1")
_FINDINGS: Final = ("normal", "minus_y", "abnormalities", "plus8", "minus7", "del7q", "complex")


def _cpss_inputs(table: pd.DataFrame) -> dict[str, Float64]:
    read = [_karyotype(text) for text in table["karyotype_text"]]
    return {
        **{name: _known(table[f"clin_{name}"]) for name in ("wbc", "hb", "bm_blast", "pb_blast")},
        **{f"mut_{gene.lower()}": _known(table[f"mut_{gene}"]) for gene in _CPSS_GENES},
        **{f"cyto_{name}": np.array([found.get(name, np.nan) for found in read], dtype=float) for name in _FINDINGS},
    }


def _karyotype(text: object) -> dict[str, float]:
    """What is found in a karyotype; nothing where there is none to read."""
    try:
        features = parse(text).features if isinstance(text, str) else {}
    except KaryotypeError:
        return {}
    return {name: float(value) for name, value in features.items() if value is not None}


def _iwgpm(folder: Path, disease: str) -> pd.DataFrame:
    table = pd.read_parquet(folder / "mds_iwgpm" / "patients.parquet")
    known = (table["out_os_years"] > 0) & table["out_os_event"].notna() & (table["disease"] == disease)
    return table[known].reset_index(drop=True)


def _myeloid(name: str, table: pd.DataFrame) -> Hospitals:
    columns = Described(table)
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
    clinical = len(columns.names)
    columns.number("cyto_ipssr", 0, 4, 1, 1)
    for abnormality in (*cohorts._CYTOGENETICS, *_ABNORMALITIES):
        columns.flag(f"cyto_{abnormality}")
    cytogenetic = len(columns.names)
    for gene in (*cohorts._MDS_GENES, *_GENES):
        columns.flag(f"mut_{gene}")
    known = tuple(columns.columns)  # the number of mutations follows from the others
    genes = [c for c in table.columns if c.startswith("mut_") and c.removeprefix("mut_") not in _DERIVED]
    table["mut_count"] = table[genes].sum(axis=1)
    columns.number("mut_count", 0, 12, 1.2, 0.6, count=True)
    everything = len(columns.names)
    _ipssm(table, columns)
    tiers = {
        "clinical": np.arange(clinical),
        "+ cytogenetic": np.arange(cytogenetic),
        "+ genes": np.arange(everything),
        "IPSS-M": np.arange(everything, len(columns.names)),
    }
    scores = {"IPSS-R": "score_ipssr", "IPSS-M": "score_ipssm"}
    data = _data(columns, table["out_os_years"] * DAYS_PER_YEAR, table["out_os_event"])
    site = pd.factorize(table["center"])[0].astype(np.int64)
    found = {score: _known(table[column]) for score, column in scores.items()}
    return Hospitals(name, tuple(columns.names), data, site, tiers, found, known)


def _ipssm(table: pd.DataFrame, columns: Described) -> None:
    """The covariates of the published IPSS-M formula, to be weighted anew."""
    gene = {name: table[f"mut_{name}"] for name in (*_IPSSM_GENES, *_IPSSM_RESIDUAL, "SF3B1")}
    five = (table["cyto_del5q"] == 1) & (table["cyto_del7"] == 0) & (table["cyto_del7q"] == 0)
    five &= table["cyto_complex"] == 0
    others = [gene[name] for name in ("SRSF2", "STAG2", "BCOR", "BCORL1", "RUNX1", "NRAS")]
    alpha = (gene["SF3B1"] == 1) & (table["cyto_del5q"] == 0) & (np.sum(others, axis=0) == 0)
    made = {
        "hb": (table["clin_hb"].clip(4, 20) - 10) / 2,
        "platelets": table["clin_plt"].clip(0, 250) / 100 - 1.4,
        "blasts": table["clin_bm_blast"].clip(0, 20) / 5 - 1,
        "cytogenetics": table["cyto_ipssr"] - 1,
        "FLT3": ((table["mut_FLT3"] + table["mut_FLT3_ITD"]) > 0).astype(float),
        "SF3B1_5q": ((gene["SF3B1"] == 1) & five).astype(float),
        "SF3B1_alpha": alpha.astype(float),
        "residual": np.minimum(np.sum([gene[name] for name in _IPSSM_RESIDUAL], axis=0), 2),
    } | {name: gene[name] for name in _IPSSM_GENES}
    for name, values in made.items():
        columns._add(f"ipssm_{name}", pd.Series(np.asarray(values, dtype=float)))


def _aml(folder: Path) -> Hospitals:
    table = pd.read_parquet(folder / "aml_beataml2" / "patients.parquet")
    table = table[table["stage"] == "Initial Diagnosis"]
    died = table["out_os_event"].to_numpy(dtype=float)
    table = table[(table["out_os_days"].to_numpy(dtype=float) > 0) & np.isfinite(died)]
    cohort = cohorts.load("AML", folder)
    if len(cohort) != len(table):
        raise CohortMissing("cohort AML: the table and its columns have different patients")
    risk = table["score_eln2017"].map(_ELN).to_numpy(dtype=float)
    names = [name.partition("_")[0] for name in cohort.features]
    tiers = {
        "clinical": np.flatnonzero(np.isin(names, ["clin"])),
        "+ cytogenetic": np.flatnonzero(np.isin(names, ["clin", "cyto"])),
        "+ genes": np.arange(len(names)),
    }
    return Hospitals("AML", cohort.features, cohort.data, np.zeros(len(cohort), np.int64), tiers, {"ELN 2017": risk})


_ELN: Final = {
    "Favorable": 0.0,
    "FavorableOrIntermediate": 0.5,
    "Intermediate": 1.0,
    "IntermediateOrAdverse": 1.5,
    "Adverse": 2.0,
}


def _mm(folder: Path) -> Hospitals:
    cohort = cohorts.load("MM", folder)
    where = cohort.features.index("clin_iss")
    iss = np.where(cohort.data.observed[:, where], cohort.data.x[:, where], np.nan)
    clinical = [j for j, name in enumerate(cohort.features) if name.startswith("clin")]
    tiers = {"clinical": np.array(clinical), "+ drugs": np.arange(len(cohort.features))}
    return Hospitals("MM", cohort.features, cohort.data, np.zeros(len(cohort), np.int64), tiers, {"ISS": iss})


def _data(columns: cohorts._Columns, days: pd.Series, event: pd.Series) -> SurvivalData:
    x = columns.matrix()
    return SurvivalData(x, np.isfinite(x), days.to_numpy(dtype=float), event.to_numpy(dtype=float) == 1)


def _known(column: pd.Series) -> Float64:
    return column.to_numpy(dtype=float)
