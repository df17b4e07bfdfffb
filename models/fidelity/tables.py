r"""Fidelity of columns and pairs of columns.

For a real table R and another table S with the columns of one public dictionary. Not observed is a level like the
others, so that a generator has to miss values as often, and together with the same ones, as hospitals do.

| measure | formula |
|---|---|
| column, continuous (KS complement) | 1 − sup_x \|F_R(x) − F_S(x)\|, not observed counted below every number |
| column, binary or ordinal (TV complement) | 1 − ½ Σ_levels \|p_R − p_S\| |
| pair, both continuous (correlation similarity) | 1 − ½ \|r_R − r_S\|, Pearson's r of patients with both values |
| pair, other (contingency similarity) | 1 − ½ Σ_cells \|p_R − p_S\|, two-way table on dictionary levels |
| fidelity of a group of columns | ½ (mean over its columns + mean over its pairs) |
| gene correlation | Pearson's r, over all pairs of genomic columns, of r_R(pair) with r_S(pair) |
| two-way TVD | mean over all pairs of columns, follow-up among them, of ½ Σ_cells \|p_R − p_S\| |

A group with one column has no pairs: its fidelity is that of the column. A correlation with a constant column is 0,
which counts against a generator that forgets rare genes.

The first four are those of SDMetrics and of the SAFE framework; marginal scores saturate near 1 for any generator that
knows one-way frequencies, so the gene correlation is what tells generators apart.

Source: Zazzetti et al., JCO Clin Cancer Inform 2025 (SAFE); D'Amico et al., JCO Clin Cancer Inform 2023;7:e2300021.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from models.data import Float64, SurvivalData
from models.errors import MisuseError
from models.generators.dictionary import Codes, Dictionary, Kind

_EVEN: Final = 1e-12  # a variance below is that of a constant column


def column_similarity(real: SurvivalData, other: SurvivalData, dictionary: Dictionary, column: int) -> float:
    """KS complement of a continuous column, TV complement of another; 0 … 1."""
    if dictionary.columns[column].kind is not Kind.CONTINUOUS:
        width = dictionary.levels[column]
        return 1.0 - _distance(*(np.bincount(_codes(t, dictionary, column), minlength=width) for t in (real, other)))
    one, two = (np.sort(_below(table, column)) for table in (real, other))
    points = np.concatenate([one, two])
    shares = [np.searchsorted(each, points, side="right") / len(each) for each in (one, two)]
    return 1.0 - float(np.max(np.abs(shares[0] - shares[1])))


def pair_similarity(real: SurvivalData, other: SurvivalData, dictionary: Dictionary, first: int, second: int) -> float:
    """Correlation similarity of two continuous columns, contingency similarity of others; 0 … 1."""
    if all(dictionary.columns[j].kind is Kind.CONTINUOUS for j in (first, second)):
        return 1.0 - abs(_pearson_of(real, first, second) - _pearson_of(other, first, second)) / 2
    width = (dictionary.levels[first], dictionary.levels[second])
    tables = [_two_way(_codes(t, dictionary, first), _codes(t, dictionary, second), width) for t in (real, other)]
    return 1.0 - _distance(*tables)


def group_fidelity(real: SurvivalData, other: SurvivalData, dictionary: Dictionary, names: Sequence[str]) -> float:
    """Fidelity of the named columns; 0 … 1.

    Raises:
        MisuseError: no name, one that the dictionary lacks, tables of another width, or an empty table.
    """
    _check(dictionary, real, other)
    columns = _positions(dictionary, names)
    single = float(np.mean([column_similarity(real, other, dictionary, j) for j in columns]))
    pairs = [pair_similarity(real, other, dictionary, i, j) for i, j in combinations(columns, 2)]
    return (single + float(np.mean(pairs))) / 2 if pairs else single


def correlation_agreement(
    real: SurvivalData, other: SurvivalData, dictionary: Dictionary, names: Sequence[str]
) -> float:
    """Pearson's r between the two tables' correlation entries of the named columns; nan with fewer than two pairs.

    Args:
        real: one table.
        other: the other one.
        dictionary: of both.
        names: genomic columns; a value that is not observed counts as 0.

    Raises:
        MisuseError: as `group_fidelity`.
    """
    _check(dictionary, real, other)
    columns = _positions(dictionary, names)
    upper = np.triu_indices(len(columns), 1)
    entries = [_correlations(np.where(t.observed, t.x, 0.0)[:, columns])[upper] for t in (real, other)]
    if len(entries[0]) < 2 or min(float(np.var(each)) for each in entries) < _EVEN:
        return float("nan")
    return float(np.corrcoef(entries[0], entries[1])[0, 1])


def two_way_distance(real: SurvivalData, other: SurvivalData, dictionary: Dictionary) -> float:
    """Mean total variation distance of all two-way tables on dictionary levels, follow-up among them; 0 … 1."""
    _check(dictionary, real, other)
    one, two, levels = dictionary.codes(real), dictionary.codes(other), dictionary.levels
    return float(
        np.mean(
            [
                _distance(*(_two_way(codes[:, i], codes[:, j], (levels[i], levels[j])) for codes in (one, two)))
                for i, j in combinations(range(len(levels)), 2)
            ]
        )
    )


def _codes(table: SurvivalData, dictionary: Dictionary, column: int) -> Codes:
    return dictionary.columns[column].codes(table.x[:, column], table.observed[:, column])


def _below(table: SurvivalData, column: int) -> Float64:
    seen = table.observed[:, column] & np.isfinite(table.x[:, column])
    return np.where(seen, table.x[:, column], -np.inf)


def _two_way(first: Codes, second: Codes, width: tuple[int, int]) -> Codes:
    return np.bincount(first * width[1] + second, minlength=width[0] * width[1]).astype(np.int64)


def _distance(one: Codes, two: Codes) -> float:
    return float(np.abs(one / one.sum() - two / two.sum()).sum()) / 2


def _pearson_of(table: SurvivalData, first: int, second: int) -> float:
    both = table.observed[:, first] & table.observed[:, second]
    return float(_correlations(table.x[both][:, [first, second]])[0, 1]) if both.sum() > 1 else 0.0


def _correlations(x: Float64) -> Float64:
    """Correlation matrix in which a constant column correlates with nothing."""
    centred = x - x.mean(axis=0)
    spread = np.sqrt(np.mean(centred**2, axis=0))
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread**2 > _EVEN)
    found: Float64 = scaled.T @ scaled / len(x)
    return found


def _positions(dictionary: Dictionary, names: Sequence[str]) -> list[int]:
    known = {name: j for j, name in enumerate(dictionary.names)}
    if not names or (unknown := [name for name in names if name not in known]):
        raise MisuseError(f"fidelity is of columns of the dictionary, got {', '.join(unknown) if names else 'none'}")
    return [known[name] for name in names]


def _check(dictionary: Dictionary, *tables: SurvivalData) -> None:
    for table in tables:
        if table.features != len(dictionary.columns) or not len(table):
            raise MisuseError(f"{len(dictionary.columns)} columns and a patient are needed, got shape {table.x.shape}")
