"""Drawing many patients at once so that their table is like the model, not only each of them.

Independent draws give a table of n patients whose shares differ from the model's by chance, 1/√n, and of two rare genes
that is more than what they have to do with each other. Here a column is drawn for all patients together:

1. `spread`: systematic sampling (Madow 1949), one level after the other: each level gets as many patients as their
   probabilities add up to, rounded up or down by chance, also among the patients who stand together;
2. `exchanged`: pairs of patients change levels by chance, with odds of the model times e^(−½·`STRENGTH`·imbalance),
   where imbalance is the sum, over levels and features, of the squared covariance (level less probability, feature) in
   units of its variance under independent draws. Counts of levels stay.

What the levels follow from may be drawn so as well: `normals`. Patients of one table are then not independent of each
other: it has less chance in it than so many real patients. Only probabilities of a released model and chance go in, so
it costs no privacy.

Source: Deville & Tillé, Biometrika 2004;91:893 (balanced sampling); Hastings, Biometrika 1970;57:97.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.data import Float64
from models.generators.dictionary import Codes

__all__ = ["STRENGTH", "TOGETHER", "drawn", "exchanged", "normals", "spread", "standard"]

STRENGTH: Final = 20.0
"""Imbalance would be about 1/(1 + this) of that of independent draws, had every pair been tried. Models of BeatAML 2.0,
47 genes: correlations of pairs in tables of 1,900 are .027 (root mean square) off the model's own with independent
patients, of a VAE .020 with this, sweeps and partners below, of a Bayesian network .010; .022 and .012 with 5, one
sweep and 32 partners; twice the work gains nothing."""
_SWEEPS: Final = 8  # over everybody who may change, at most; fewer where they are many, who balance each other
TOGETHER: Final = 8192  # patients of a table that `drawn` balances at most
_TRIED: Final = 128  # partners who are looked at for one exchange
_LEAST: Final = 1e-12
_MOST: Final = 50.0  # of a logarithm of odds


def spread(probabilities: Float64, order: Codes, rng: np.random.Generator) -> Codes:
    """Draw a level for each patient, int64[n].

    Guarantee: each has every level with its probability; a level that all have with the same probability q occurs
        within L of n·q times, L levels.

    Args:
        probabilities: float64[n, levels], each row adds up to 1.
        order: int64[n], a permutation: patients who stand together share what is rounded.
        rng: draws.
    """
    chance = probabilities[order]
    many, levels = chance.shape
    out = np.zeros(many, dtype=np.int64)
    left, rest = np.arange(many), chance.sum(axis=1)
    # A level that nothing is left for is never taken for a rounding error.
    out[:] = levels - 1 - np.argmax(chance[:, ::-1] > 0, axis=1)
    for level in range(levels - 1):
        if not len(left):
            break
        share = np.clip(chance[left, level] / np.maximum(rest[left], _LEAST), 0.0, 1.0)
        steps = np.floor(np.cumsum(np.append(rng.random(), share)))
        taken = (np.diff(steps) > 0) & (share > 0)
        out[left[taken]] = level
        left, rest = left[~taken], rest - chance[:, level]
    drawn = np.empty_like(out)
    drawn[order] = out
    return drawn


def exchanged(levels: Codes, probabilities: Float64, features: Float64, rng: np.random.Generator) -> Codes:
    """Levels after exchanges that balance them against features, int64[n]: as many of each as before.

    Args:
        levels: int64[n], drawn by `spread`.
        probabilities: float64[n, levels], of the model.
        features: float64[n, d], each of mean 0 and variance 1: what the levels are to be balanced against.
        rng: draws.
    """
    many, width = probabilities.shape
    counts = np.bincount(levels, minlength=width)
    if not features.shape[1] or np.count_nonzero(counts) < 2:
        return levels
    share = np.clip(probabilities.mean(axis=0), 0.5 / many, 1.0 - 0.5 / many)
    weight = STRENGTH / 2.0 / (share * (1.0 - share) * many)
    out, logs = levels.copy(), np.log(np.maximum(probabilities, _LEAST))
    moved = (np.eye(width)[out] - probabilities).T @ features
    squares = np.einsum("ij,ij->i", features, features)
    first = np.flatnonzero(out != np.argmax(counts))
    movers = np.concatenate([rng.permutation(first) for _ in range(min(_SWEEPS, 1 + many // len(first)))])
    partners, draws = rng.integers(0, many, (len(movers), _TRIED)), rng.random(len(movers))
    for i, tried, draw in zip(movers.tolist(), partners, draws, strict=True):
        own = out[i]
        tried = tried[out[tried] != own]  # noqa: PLW2901 - those with another level
        theirs, seen = out[tried], features[tried]
        size = squares[tried] + squares[i] - 2.0 * (seen @ features[i])  # of the gap between both
        along = seen @ moved.T - moved @ features[i]  # the gap times what each level has moved
        cost = weight[own] * (size + 2.0 * along[:, own])
        cost += weight[theirs] * (size - 2.0 * along[np.arange(len(tried)), theirs])
        odds = logs[i, theirs] + logs[tried, own] - logs[i, own] - logs[tried, theirs] - cost
        chances = np.cumsum(np.exp(np.minimum(odds, _MOST)))
        place = draw * (1.0 + (chances[-1] if len(chances) else 0.0)) - 1.0
        if place < 0:
            continue  # all stay
        k = min(int(np.searchsorted(chances, place, side="right")), len(tried) - 1)
        out[i], out[tried[k]] = theirs[k], own
        moved[own] += seen[k] - features[i]
        moved[theirs[k]] -= seen[k] - features[i]
    return out


def drawn(chances: Sequence[Float64], features: Float64, whole: int, rng: np.random.Generator) -> list[Codes]:
    """Levels of several columns that are independent given their probabilities, for n patients.

    In a table of up to `TOGETHER` patients each column is balanced against those before, as drawn, and against those
    still to come, as their probabilities: a pair is what the model says only if its errors go with neither. In a larger
    table patients are independent: chance is small in it.

    Args:
        chances: float64[n, levels] of each column, rows adding up to 1.
        features: float64[n, d], what is known of the patients already, each of mean 0 and variance 1.
        whole: patients of the whole table, ≥ n.
        rng: draws.
    """
    out: list[Codes] = []
    ahead = [_shown(chance) for chance in chances] if whole <= TOGETHER else []
    for number, chance in enumerate(chances, start=1):
        if whole > TOGETHER:
            ladder = np.cumsum(chance, axis=1)
            out.append((rng.random((len(chance), 1)) * ladder[:, -1:] >= ladder).sum(axis=1))
            continue
        known = np.concatenate([features, *ahead[number:]], axis=1)
        levels = exchanged(spread(chance, rng.permutation(len(chance)), rng), chance, known, rng)
        features = np.concatenate([features, _shown(np.eye(chance.shape[1])[levels])], axis=1)
        out.append(levels)
    return out


def normals(n: int, width: int, whole: int, rng: np.random.Generator) -> Float64:
    """Draw n standard normal vectors of a table of `whole` patients, float64[n, width].

    In a table of up to `TOGETHER` patients their mean is 0 and their covariance is I, not only on average; vectors of a
    larger one, or no more of them than have such a covariance, are independent.
    """
    free = rng.standard_normal((n, width))
    if whole > TOGETHER or n <= width + 1:
        return free
    centred = free - free.mean(axis=0)
    factor = np.linalg.cholesky(centred.T @ centred / n)
    return np.asarray(np.linalg.solve(factor, centred.T).T)


def _shown(chance: Float64) -> Float64:
    """Levels, or their probabilities, as features; the first follows from the others."""
    return np.concatenate([np.zeros((len(chance), 0)), *(standard(part) for part in chance.T[1:])], axis=1)


def standard(values: Float64) -> Float64:
    """Values less their mean, over their standard deviation, float64[n, 1]; [n, 0] if they are all the same."""
    centred = values - values.mean()
    deviation = float(np.sqrt(np.mean(centred * centred)))
    return centred[:, None] / deviation if deviation > _LEAST else np.zeros((len(values), 0))
