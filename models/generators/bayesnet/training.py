"""Learning a network through the door: sums in, the same network at every site out.

A sum whose uploads are exhausted ends the learning: the network is the one that the sums so far give, at worst one
without edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from dp.queries import Query, SecureSum
from dp.releases import Records
from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.bayesnet import search
from models.generators.bayesnet.arithmetic import margin, total
from models.generators.bayesnet.association import Associations
from models.generators.bayesnet.entropy import table_of
from models.generators.bayesnet.evidence import ordered, parents_of, shrunk
from models.generators.bayesnet.families import Families, pairs
from models.generators.bayesnet.network import BayesianNetwork
from models.generators.bayesnet.scores import Coding, Products, Summary, coarse
from models.generators.bayesnet.settings import Scheme, Settings, schedule
from models.generators.dictionary import Codes, Dictionary
from models.generators.door import Door, OnStep
from models.generators.oneway import Frequencies, OneWay

__all__ = ["initial_weights", "parameter_count", "train"]

Table = tuple[int, ...]
_THIN = 1e-9  # of a table that combinations of parents without any mass get, spread as the column is


def parameter_count(settings: Settings, dictionary: Dictionary) -> int:  # noqa: ARG001 - as others
    """How many numbers `initial_weights` are: none."""
    return 0


def initial_weights(settings: Settings, dictionary: Dictionary, seed: bytes) -> bytes:  # noqa: ARG001 - as others
    """Nothing: a network starts from no numbers."""
    return b""


def train(
    settings: Settings,
    dictionary: Dictionary,
    multipliers: Mapping[str, float],
    patient_cap: int,
    weights: bytes,
    data: SurvivalData,
    secure_sum: SecureSum,
    noise_inflation: float = 1.0,
    on_step: OnStep | None = None,
) -> BayesianNetwork:
    """Learn a network; every site gets the same one, bit for bit.

    Guarantee: what depends on patients is the sums of `schedule`, each asked about all that was released before it;
        without noise the network is that of the pooled table, whatever the sites.

    Args:
        settings: of the study.
        dictionary: of the table.
        multipliers: kind → noise multiplier.
        patient_cap: public cap on patients per site.
        weights: empty.
        data: this site's training patients; may be empty.
        secure_sum: the door.
        noise_inflation: ≥ 1, upper bound on (noise in a sum) ÷ (noise that is counted on), standard deviations.
        on_step: called after each sum with (sums done, hex digest of everything released so far).

    Raises:
        ConfigError: a kind without a multiplier.
        MisuseError: the data have another number of features, or there are weights.
    """
    if weights:
        raise MisuseError("a Bayesian network has no initial weights")
    door = Door(settings.digest(), secure_sum, noise_inflation, on_step)
    bounded = data.bounded(dictionary.grid[-1])
    codes = dictionary.codes(bounded)
    first, *rest = schedule(settings, dictionary, multipliers, patient_cap)
    oneway = OneWay(dictionary)
    counts = door.tried(first, lambda: oneway.contribution(bounded))
    frequencies = oneway.decode(np.zeros(first.length) if counts is None else counts, door.noise_sd(first))
    if counts is None:
        return _independent(frequencies)
    if settings.scheme == Scheme.SCORES:
        return _by_scores(settings, frequencies, first, rest[0], codes, door)
    return _by_tables(settings, frequencies, rest, codes, door)


def _independent(frequencies: Frequencies) -> BayesianNetwork:
    columns = len(frequencies.dictionary.levels)
    order = (columns - 1, *range(columns - 1))
    return BayesianNetwork(frequencies, order, ((),) * columns, coarse(frequencies))


# ---------------------------------------------------------------- scores


def _by_scores(
    settings: Settings, frequencies: Frequencies, first: Query, second: Query, codes: Codes, door: Door
) -> BayesianNetwork:
    coding = Coding(frequencies, door.noise_sd(first), settings.binary_weight, settings.outcome_share)
    release = Products(frequencies.dictionary, settings.balance, coding)
    query = release.query(second.multiplier, second.patient_cap)
    found = door.tried(query, lambda: release.contribution(codes))
    if found is None:
        return _independent(frequencies)
    summary = release.decode(found, door.noise_sd(query))
    covariance = shrunk(summary, settings.evidence)
    order = ordered(np.abs(covariance))
    parents = parents_of(summary, covariance, order, settings.parents, settings.cells, settings.evidence)
    tables = tuple(_fitted(summary, covariance, child, those) for child, those in enumerate(parents))
    return BayesianNetwork(frequencies, order, parents, tables)


def _fitted(summary: Summary, covariance: Float64, child: int, parents: tuple[int, ...]) -> Float64:
    """P(child | parents) out of the least committed table of the family."""
    family = (child, *parents)
    known = {
        (i, j): float(covariance[family[i], family[j]])
        for i, j in combinations(range(len(family)), 2)
        if covariance[family[i], family[j]] != 0
    }
    margins = [summary.margins[a] for a in family]
    return _conditional(table_of(margins, [summary.scores[a] for a in family], known), margins[0], _THIN)


def _conditional(table: Float64, share: Float64, prior: float) -> Float64:
    """P(first axis | others), each combination of the others given `prior` spread as `share`."""
    spread = (prior * share).reshape(-1, *[1] * (table.ndim - 1))
    parents = margin(table, tuple(range(1, table.ndim))) if table.ndim > 1 else np.asarray(total(table))
    return np.asarray((table + spread) / (parents + prior * total(share)))


# ---------------------------------------------------------------- tables


def _by_tables(
    settings: Settings, frequencies: Frequencies, queries: list[Query], codes: Codes, door: Door
) -> BayesianNetwork:
    dictionary = frequencies.dictionary
    release, (second, *rest) = pairs(dictionary), queries
    found = door.tried(second, lambda: release.contribution(Records(codes.astype(np.float64))))
    if found is None:
        return _independent(frequencies)
    known = _pair_tables(dictionary, found)
    order, parents = search.tree_of(known, len(dictionary.levels))
    growing = frozenset(order)
    for planned in rest:
        wanted = search.candidates(
            (order, parents), known, dictionary.levels, settings.candidates, settings.cells, growing
        )
        tables = sorted({search.family(child, (*parents[child], c)) for child, those in wanted.items() for c in those})
        blank = Families.blank(dictionary, planned.index + 3, settings.candidates, settings.cells)
        asked = replace(blank, tables=tuple(tables))
        query = asked.query(planned.multiplier, planned.patient_cap, planned.index)
        found = door.tried(query, lambda asked=asked: asked.contribution(codes))  # type: ignore[misc]
        if found is None:
            break
        known |= asked.decode(found, door.noise_sd(query))
        parents, growing = search.grown(known, parents, wanted, settings.penalty)
    found_together = Associations(known, coarse(frequencies), settings.prior)
    return _associated(settings, frequencies, order, parents, found_together)


def _associated(
    settings: Settings, frequencies: Frequencies, order: Table, counted: tuple[Table, ...], known: Associations
) -> BayesianNetwork:
    """Parents that pair tables speak for beside those counted together, and the tables of all."""
    parents, tables = list(counted), [np.zeros(0)] * len(order)
    for place, child in enumerate(order):
        limits = (settings.reach, settings.candidates, settings.room, settings.penalty)
        parents[child] = known.extended(child, counted[child], order[:place], *limits)
        columns = search.family(child, parents[child])
        joint = known.joint(columns, search.family(child, counted[child]))
        tables[child] = _conditional(np.moveaxis(joint, columns.index(child), 0), known.margins[child], _THIN)
    return BayesianNetwork(frequencies, order, tuple(parents), tuple(tables))


def _pair_tables(dictionary: Dictionary, released: Float64) -> dict[Table, Float64]:
    """Counts of each pair of columns; those below zero are zero."""
    out: dict[Table, Float64] = {}
    start, levels = 0, dictionary.levels
    for a, b in combinations(range(len(levels)), 2):
        stop = start + levels[a] * levels[b]
        out[a, b] = np.maximum(released[start:stop], 0.0).reshape(levels[a], levels[b])
        start = stop
    return out
