"""Synthetic patients of the MDS cohort: figures 6.16–6.18.

A deal holds back a fifth of the patients; generators learn from the rest, and everything is measured against the
hold-out (`models.fidelity`), the real training table as well: that is the ceiling. Clinical are the columns that start
with "clin", genomic the others; the correlation of genes is over the mutations. Synthetic tables have as many patients
as the training table, for fidelity of a table depends on its size; what a larger one reaches is printed. Figures
without noise are means of four tables of each generator. Tables are drawn as a user draws them: generators balance one
of this size, the larger one is of independent patients. How strongly was chosen by how near a table's correlations are
to those of the model that it is drawn from, not to patients', with models of BeatAML 2.0; the first MDS deal was looked
at as well.

Six hospitals. Without noise the sums of the hospitals are the pooled sums; with noise `dp.central.CentralSum` draws as
many shares as six hospitals would, one of which is not counted on. Hence one process that has all rows.

6.18 is on 17 variables, follow-up among them: mean total variation distance of all two-way tables to those of the
training patients, over the same of independent columns whose one-way counts were given the whole of ε.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.dp.settings import DELTA
from benchmarks.dp.utility import interval, pool
from benchmarks.models.centres import _loaded
from benchmarks.models.cohorts import Hospitals, columns_of
from benchmarks.models.settings import constants_of
from benchmarks.report import Row
from benchmarks.sections import Asked, NotThere
from dp.calibration import split_budget
from dp.central import CentralSum, UnprotectedSum
from dp.queries import SecureSum
from models.data import Float64, SurvivalData
from models.errors import ConfigError
from models.fidelity import correlation_agreement, group_fidelity, outcome_fidelity
from models.fidelity.cox import parted
from models.generators.bayesnet import SCORES, BayesianNetwork
from models.generators.bayesnet.scores import coarse
from models.generators.dictionary import Codes, Dictionary
from models.generators.generator import Generator
from models.generators.oneway import OneWay
from models.generators.study import GeneratorSpec, Settings, settings_named
from secagg.masks import Keystream

__all__ = ["FIGURES", "GENERATORS", "found_by", "learn", "noisy", "rows", "table_of", "tvd_rows"]

GENERATORS: Final[Mapping[str, tuple[str, str]]] = {
    "Bayesian network": ("bayesnet-tables", "bayesnet-scores"),
    "VAE-BGM": ("vaebgm-open", "vaebgm-private"),
    "CTGAN": ("ctgan-open", "ctgan-private"),
}
"""Name in the table → settings without noise, settings under privacy."""
FIGURES: Final[Mapping[str, tuple[str, str, str]]] = {
    "Bayesian network": ("6.16a", "6.17a", "6.17b"),
    "VAE-BGM": ("6.16b", "6.17c", "6.17d"),
    "CTGAN": ("6.16c", "6.17e", "6.17f"),
}
"""Of each: fidelity without noise; utility at ε = 3 and at ε = 1."""

SITES, _COLLUSION = 6, 1
_INFLATION: Final = (SITES / (SITES - _COLLUSION)) ** 0.5
_CAP: Final = 4096
_LARGER: Final = 20_000
_LOOKED_AT: Final = 3
"""Deals that were looked at while private generators' constants were chosen; figures under privacy begin behind."""
_TABLES: Final = 4  # of each generator without noise: what one table has by chance is not the generator's
_DRAWN: Final = 100_000  # patients whose two-way tables stand for a network's
SEVENTEEN: Final = (
    "clin_age", "clin_sex_male", "clin_bm_blast", "clin_pb_blast", "clin_anc", "clin_hb", "clin_plt", "cyto_ipssr",
    "mut_TP53multi", "mut_SF3B1", "mut_ASXL1", "mut_RUNX1", "mut_SRSF2", "mut_TET2", "mut_DNMT3A", "mut_U2AF1",
)  # fmt: skip
"""The seventeenth is follow-up."""


@dataclass(frozen=True, eq=False)
class Known:
    """Patients with their public dictionary."""

    dictionary: Dictionary
    data: SurvivalData

    def sides(self, seed: int) -> tuple[SurvivalData, SurvivalData]:
        """Training patients and hold-out of one deal."""
        train, test = next(parted(len(self.data), 5, np.random.default_rng([18, seed])))
        return self.data.rows(train), self.data.rows(test)

    def named(self, *starts: str) -> list[str]:
        """Columns whose names start so."""
        return [name for name in self.dictionary.names if name.startswith(starts)]


def table_of(whole: Hospitals, names: tuple[str, ...] | None = None) -> Known:
    """The columns that a generator may draw, or some of them, follow-up cut at the disease's horizon."""
    grid = tuple(365.25 * edge for edge in constants_of(whole.name).grid)
    dictionary = Dictionary(whole.columns, grid)
    chosen = dictionary if names is None else dictionary.subset(names)
    where = np.array([dictionary.names.index(name) for name in chosen.names])
    return Known(chosen, columns_of(whole.data, where).bounded(grid[-1]))


def noisy(*about: object) -> CentralSum:
    """Sums with the noise of six hospitals, repeatable: nothing here protects anybody."""
    entropy = Keystream(hashlib.sha256("/".join(map(str, ("benchmarks/models", *about))).encode()).digest())
    return CentralSum(entropy, roster_size=SITES, collusion=_COLLUSION, shares=SITES)


def found_by(name: str) -> tuple[str, Settings]:
    """Return learner and settings of a name. Raises NotThere."""
    try:
        return settings_named(name)
    except ConfigError as error:
        raise NotThere(f"settings {name} of a generator are not registered") from error


def learn(name: str, known: Known, train: SurvivalData, epsilon: float | None, seed: int) -> Generator:
    """Train a generator by its named settings; without ε, without noise."""
    learner, settings = found_by(name)
    multipliers, inflation = dict.fromkeys(settings.shares, 1.0), 1.0
    door: SecureSum = UnprotectedSum()
    draft = partial(GeneratorSpec.draft, learner, settings, known.dictionary, b"benchmarks/models/%d" % seed)
    if epsilon is not None:
        counts: dict[str, int] = {}
        for query in draft(multipliers, _CAP).schedule():
            counts[query.kind] = counts.get(query.kind, 0) + 1
        # Uploads that a broken round may cost are paid for, as in a study.
        shares = {kind: (settings.shares[kind], count + max(1, count // 10)) for kind, count in counts.items()}
        multipliers = split_budget(epsilon, DELTA, shares)
        door, inflation = noisy("generator", name, epsilon, seed), _INFLATION
    return replace(draft(multipliers, _CAP), noise_inflation=inflation).run(train, door)


# ---------------------------------------------------------------- fidelity and utility


def _measures(known: Known, held: SurvivalData, table: SurvivalData) -> dict[str, float]:
    of = (held, table, known.dictionary)
    return {
        "gene correlation": correlation_agreement(*of, known.named("mut_")),
        "clinical fidelity": group_fidelity(*of, known.named("clin")),
        "genomic fidelity": group_fidelity(*of, known.named("mut_", "cyto_")),
    }


def _open(name: str, folder: Path, seed: int) -> dict[str, float]:
    known = table_of(_loaded("MDS", folder))
    train, held = known.sides(seed)
    generator, rng = learn(name, known, train, None, seed), np.random.default_rng([19, seed])
    ceiling = _measures(known, held, train)
    tables = [_measures(known, held, generator.draw(len(train), rng)) for _ in range(_TABLES)]
    drawn = {what: float(np.mean([table[what] for table in tables])) for what in ceiling}
    larger = _measures(known, held, generator.draw(_LARGER, rng))
    return (
        {f"ceiling: {what}": value for what, value in ceiling.items()}
        | {f"larger: {what}": value for what, value in larger.items()}
        | drawn
    )


def _private(name: str, folder: Path, epsilon: float, seed: int) -> dict[str, float]:
    """On all columns, and on the seventeen variables alone."""
    found: dict[str, float] = {}
    for label, names in (("", None), ("17: ", SEVENTEEN)):
        known = table_of(_loaded("MDS", folder), names)
        train, held = known.sides(seed)
        drawn = learn(name, known, train, epsilon, seed).draw(len(train), np.random.default_rng([20, seed]))
        horizon = known.dictionary.grid[-1]
        synthetic, real = (
            outcome_fidelity(held, table, horizon, np.random.default_rng([21, seed])) for table in (drawn, train)
        )
        found[f"{label}TSTR"], found[f"{label}TRTR"] = synthetic.c_index, real.c_index
        found[f"{label}distance of survival curves"] = synthetic.distance
    return found


def rows(title: str, asked: Asked) -> Iterator[Row]:
    """Measure one generator: figures 6.16 and 6.17.

    Raises:
        NotThere: its learner is not registered.
    """
    without, private = GENERATORS[title]
    for name in (without, private):
        found_by(name)
    _loaded("MDS", asked.folder)
    figure, *figures = FIGURES[title]
    with pool(asked.workers) as processes:
        seeds = 2 if asked.quick else 5
        found = list(processes.map(partial(_open, without, asked.folder), range(seeds)))
        yield from _fidelity(figure, f"{title}, no noise", found)
        for number, (epsilon, bar) in enumerate(((3.0, 0.95), (1.0, 0.90))):
            asked.tell(f"{title}, ε = {epsilon:g}")
            deals = range(_LOOKED_AT, _LOOKED_AT + (2 if asked.quick else 10))
            found = list(processes.map(partial(_private, private, asked.folder, epsilon), deals))
            yield from _utility(figures[number], f"{title}, ε = {epsilon:g}", found, bar)


def _fidelity(figure: str, where: str, found: list[dict[str, float]]) -> Iterator[Row]:
    """Less the ceiling, and both."""
    for what in ("gene correlation", "clinical fidelity", "genomic fidelity"):
        unit = "r" if "correlation" in what else "score"
        mean, low, high = interval([each[what] - each[f"ceiling: {what}"] for each in found])
        line = f"{where}: {what} less ceiling (95 % {low:+.3f} … {high:+.3f}, {len(found)} deals)"
        yield Row(figure, line, mean, unit, -0.03, "higher", 0.0)
        for kind, label in (("", "synthetic"), ("ceiling: ", "ceiling"), ("larger: ", f"{_LARGER:,} patients")):
            yield Row(figure, f"{where}: {what}, {label}", float(np.mean([each[kind + what] for each in found])), unit)


def _utility(figure: str, where: str, found: list[dict[str, float]], bar: float) -> Iterator[Row]:
    """What a Cox model learns from private patients, over what it learns from real ones."""
    _, low, high = interval([each["TSTR"] / each["TRTR"] for each in found])
    means = {what: float(np.mean([each[what] for each in found])) for what in found[0]}
    line = f"{where}: TSTR ÷ TRTR, C-index (95 % {low:.3f} … {high:.3f}, {len(found)} deals)"
    yield Row(figure, line, means["TSTR"] / means["TRTR"], "times", bar, "higher", 0.98)
    short = means["17: TSTR"] / means["17: TRTR"]
    yield Row(figure, f"{where}, 17 variables: TSTR ÷ TRTR, C-index, both on these", short, "times")
    for what, value in means.items():
        unit = "share" if "distance" in what else "C-index"
        yield Row(figure, f"{where}, {what.replace('17: ', '17 variables: ')}", value, unit)


# ---------------------------------------------------------------- two-way tables


def two_way(codes: Codes, levels: tuple[int, ...]) -> list[Float64]:
    """Shares of all two-way tables, pairs in order."""
    return [
        np.bincount(codes[:, i] * levels[j] + codes[:, j], minlength=levels[i] * levels[j]) / len(codes)
        for i, j in combinations(range(len(levels)), 2)
    ]


def distance(one: list[Float64], other: list[Float64]) -> float:
    """Mean total variation distance."""
    return float(np.mean([0.5 * np.abs(a - b).sum() for a, b in zip(one, other, strict=True)]))


def _tvd(folder: Path, epsilon: float, seed: int) -> tuple[float, float, float]:
    """Distances of network, of the one-way counts with all of ε, and of exact one-way counts."""
    known = table_of(_loaded("MDS", folder), SEVENTEEN)
    levels, codes = known.dictionary.levels, known.dictionary.codes(known.data)
    truth = two_way(codes, levels)
    network = learn(SCORES.name, known, known.data, epsilon, seed)
    assert isinstance(network, BayesianNetwork)
    drawn = two_way(network.levels_of(_DRAWN, np.random.default_rng([22, seed])), levels)
    alone = OneWay(known.dictionary)
    query = alone.query(split_budget(epsilon, DELTA, {"histogram": (1.0, 2)})["histogram"], _CAP)
    total = noisy("one-way", epsilon, seed)(query, lambda: alone.contribution(known.data))
    released = coarse(alone.decode(total, query.multiplier * query.sensitivity * _INFLATION))
    exact = [np.bincount(codes[:, j], minlength=width) / len(codes) for j, width in enumerate(levels)]
    products = [
        [np.outer(each[i], each[j]).ravel() for i, j in combinations(range(len(levels)), 2)]
        for each in (released, exact)
    ]
    return distance(drawn, truth), distance(products[0], truth), distance(products[1], truth)


def tvd_rows(asked: Asked) -> Iterator[Row]:
    """Measure figure 6.18."""
    _loaded("MDS", asked.folder)
    seeds = 3 if asked.quick else 20
    with pool(asked.workers) as processes:
        found = np.array(list(processes.map(partial(_tvd, asked.folder, 1.0), range(seeds))))
    network, oneway, exact = found.mean(axis=0)
    each = found[:, 0] / found[:, 1]
    what = (
        f"Bayesian network, 17 variables, {SITES} hospitals, ε = 1: two-way TVD over that of one-way counts with all "
        f"of ε ({each.min():.3f} … {each.max():.3f}, {seeds} seeds)"
    )
    yield Row("6.18", what, float(network / oneway), "times", 1.0, "lower", 0.8)
    for label, value in (("network", network), ("one-way counts with all of ε", oneway), ("exact one-way", exact)):
        yield Row("6.18", f"two-way TVD, 17 variables: {label}", float(value), "share")
