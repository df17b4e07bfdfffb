"""Ex-vivo drug response as a second modality, through the fusion network: figure 6.11b.

BeatAML measured the area under the dose–response curve of up to 166 inhibitors in a part of its patients. An area is
scaled by the training fold's mean of that drug (a sum that hospitals can add up) and one public spread; a drug that was
not tried counts as its mean, and a patient without any drug has the whole block masked. Both arms are the same network,
preset and folds; the other one has the block masked for everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.cohorts import CohortMissing
from benchmarks.dp.utility import pool
from benchmarks.models import learned
from benchmarks.models.centres import FOLDS, Fold, Scores, _folds, _loaded, difference
from benchmarks.report import Row
from benchmarks.sections import Asked
from models.data import Float64, SurvivalData
from models.metrics import harrell_c

__all__ = ["beside", "rows"]

_SPREAD: Final = 50.0  # of an area that lies between 0 and 286


@dataclass(frozen=True, eq=False)
class Drugs:
    """Areas of the cohort's patients, float64[n, 166], nan where not tried."""

    areas: Float64

    @property
    def tried(self) -> np.ndarray:
        """bool[n], patients with any drug."""
        return np.asarray(np.isfinite(self.areas).any(axis=1))

    def block(self, train: np.ndarray) -> Float64:
        """Scaled areas, centred by what the training patients have."""
        counted = np.isfinite(self.areas[train])
        sums = np.where(counted, self.areas[train], 0.0).sum(axis=0)
        centred = (self.areas - sums / np.maximum(counted.sum(axis=0), 1)) / _SPREAD
        return np.where(np.isfinite(centred), centred, 0.0)


@cache
def _drugs(folder: Path) -> Drugs:
    try:
        responses = pd.read_csv(folder / "aml_beataml2" / "drug_auc_569x166.csv").set_index("patient_id")
        patients = pd.read_parquet(folder / "aml_beataml2" / "patients.parquet")
    except FileNotFoundError as error:
        raise CohortMissing(f"cohort AML: {Path(str(error.filename)).name} is missing") from None
    known = (patients["stage"] == "Initial Diagnosis") & (patients["out_os_days"] > 0)
    known &= patients["out_os_event"].notna()
    return Drugs(responses.reindex(patients.loc[known, "patient_id"]).to_numpy(dtype=float))


def beside(data: SurvivalData, block: Float64, has: np.ndarray) -> SurvivalData:
    """The same patients with one more block, which only some of them have."""
    observed = np.tile(has[:, None], block.shape[1])
    return SurvivalData(
        np.concatenate([data.x, block], axis=1),
        np.concatenate([data.observed, observed], axis=1),
        data.duration,
        data.event,
    )


def run(fold: Fold) -> Scores:
    """Train with and without the block on one fold."""
    whole, drugs = _loaded("AML", fold.folder), _drugs(fold.folder)
    train, test = fold.parts(len(whole.data))
    block, tried = drugs.block(train), drugs.tried
    widths = np.diff([0, *(len(whole.tiers[tier]) for tier in ("clinical", "+ cytogenetic", "+ genes"))])
    blocks = (*(int(width) for width in widths), block.shape[1])
    chosen = learned.of_disease("fusion-wide", "AML", len(train)).described(blocks=blocks, vectors=(len(widths),))
    found: Scores = {}
    for arm, has in (("with", tried), ("without", np.zeros_like(tried))):
        data = beside(whole.data, block, has)
        risk = learned.risk_of(learned.train(chosen, [data.rows(train)], fold.seed * FOLDS + fold.fold))
        for group, which in (("all", test), ("tried", test[tried[test]])):
            found[f"{arm}, {group}"] = harrell_c(risk(data.rows(which)), data.rows(which))
    return found


def rows(asked: Asked) -> Iterator[Row]:
    """Measure the second modality; no bar."""
    _loaded("AML", asked.folder)
    tried = _drugs(asked.folder).tried
    with pool(asked.workers) as processes:
        found = list(processes.map(run, _folds("AML", asked.folder, 1 if asked.quick else 4)))
    for group, who in (("all", "all patients"), ("tried", f"{int(tried.sum())} of {len(tried)} who have it")):
        d = difference([scores[f"with, {group}"] - scores[f"without, {group}"] for scores in found])
        what = f"BeatAML: drug response beside, fusion, {who} (95 % {d.low:+.4f} … {d.high:+.4f}, {len(found)} folds)"
        yield Row("6.11b", what, d.mean, "C-index")
        for arm in ("with", "without"):
            mean = float(np.mean([scores[f"{arm}, {group}"] for scores in found]))
            yield Row("6.11b", f"BeatAML: fusion {arm} drug response, {who}", mean, "C-index")
