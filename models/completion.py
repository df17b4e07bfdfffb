"""A record completed by the conditional means of a released model: a function of one patient and the model alone.

The same at training, recalibration, evaluation, audit and prediction: `models.predict.SurvivalModel` carries it. The
outcome is never read: a new patient has none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.data import Bool, Float64, SurvivalData
from models.errors import MisuseError
from models.gaussian import Covariate, JointNormal, Pattern

__all__ = ["Completion"]


@dataclass(frozen=True, eq=False)
class Completion:
    """What is filled, and by what.

    | cell                                              | becomes                                       |
    |---------------------------------------------------|-----------------------------------------------|
    | observed, or no covariate, or one of `kept`       | as it was                                     |
    | a covariate that is not observed                  | its conditional mean inside its public bounds |
    | of a patient with an observed value that is no finite number | as it was                          |

    Idempotent: what is completed is left alone.

    Args:
        normal: released, or the public start.
        kept: names of covariates that others are filled from and that are never filled themselves.

    Raises:
        MisuseError: `kept` names no covariate, or one twice.
    """

    normal: JointNormal
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the names."""
        if len(set(self.kept)) != len(self.kept) or set(self.kept) - {c.name for c in self.normal.covariates}:
            raise MisuseError("what is never imputed are names of covariates, each once")

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of covariates, kept names and all numbers: equal at all sites, whatever their CPU."""
        listed = [[c.name, c.column, c.low.hex(), c.high.hex(), c.two_valued] for c in self.normal.covariates]
        text = json.dumps(["haemfed/completion/v1", listed, sorted(self.kept)], separators=(",", ":"))
        return hashlib.sha256(text.encode() + self.normal.digest).hexdigest()

    def fits(self, features: tuple[str, ...]) -> bool:
        """Whether every covariate stands where it says among a model's features."""
        return all(c.column < len(features) and features[c.column] == c.name for c in self.normal.covariates)

    def table(self, x: Float64, observed: Bool) -> tuple[Float64, Bool, Bool]:
        """Covariates, what is observed of them and which are to be filled: float64[n, p], bool[n, p], bool[n, p]."""
        inside, there = self.normal.columns(x, observed)
        sound = np.all(np.isfinite(x) | ~observed, axis=1)
        filled = np.array([c.name not in self.kept for c in self.normal.covariates])
        return inside, there, ~there & sound[:, None] & filled[None, :]

    def complete(self, x: Float64, observed: Bool) -> tuple[Float64, Bool]:
        """Fill by conditional means: the best single guess, and a probability for a property.

        Args:
            x: float64[n, features], scaled by the profile; what is not observed is ignored.
            observed: bool[n, features].

        Returns:
            new x and observed; row i is a function of patient i and the model alone, to the last bit.

        Raises:
            MisuseError: the table lacks a covariate's column.
        """
        found, seen = np.array(x, dtype=np.float64), np.array(observed, dtype=np.bool_)
        inside, there, wanted = self.table(found, seen)
        for pattern in self.normal.patterns(there):
            self.put(found, seen, wanted, pattern, self.normal.expected(inside, pattern))
        return found, seen

    def of(self, data: SurvivalData) -> SurvivalData:
        """The same patients, completed; outcomes as they were."""
        return SurvivalData(*self.complete(data.x, data.observed), data.duration, data.event)

    def put(self, found: Float64, seen: Bool, wanted: Bool, pattern: Pattern, values: Float64) -> None:
        """Write a pattern's values into a table, in place, and mark them as seen.

        Args:
            found: float64[n, features], the whole table.
            seen: bool[n, features].
            wanted: bool[n, p], from `table`.
            pattern: of `normal`.
            values: float64[rows, missing].
        """
        for k, place in enumerate(pattern.missing):
            covariate = self.normal.covariates[place]
            chosen: NDArray[np.bool_] = wanted[pattern.rows, place]
            rows = pattern.rows[chosen]
            found[rows, covariate.column] = np.clip(values[chosen, k], covariate.low, covariate.high)
            seen[rows, covariate.column] = True

    def to_json(self) -> dict[str, object]:
        """Everything but the numbers of the model."""
        listed = [
            {"name": c.name, "column": c.column, "low": c.low, "high": c.high, "two_valued": c.two_valued}
            for c in self.normal.covariates
        ]
        return {"covariates": listed, "kept": list(self.kept)}

    @classmethod
    def from_json(cls, body: object, mean: Float64, covariance: Float64) -> Completion:
        """What `to_json` wrote, with its numbers.

        Raises:
            MisuseError: anything that `to_json` does not write, or numbers of another model.
        """
        if not isinstance(body, Mapping) or set(body) != {"covariates", "kept"}:
            raise MisuseError("an imputation lists covariates and what is kept")
        covariates, kept = body["covariates"], body["kept"]
        if not isinstance(covariates, list) or not isinstance(kept, list) or any(type(k) is not str for k in kept):
            raise MisuseError("an imputation lists covariates and what is kept")
        with np.errstate(over="ignore", invalid="ignore"):  # such numbers are no positive definite matrix
            normal = JointNormal(tuple(_covariate(each) for each in covariates), mean, covariance)
        return cls(normal, tuple(kept))


def _covariate(body: object) -> Covariate:
    kinds = {"name": str, "column": int, "low": float, "high": float, "two_valued": bool}
    if not isinstance(body, Mapping) or {key: type(value) for key, value in body.items()} != kinds:
        raise MisuseError("a covariate has name, column, low, high and two_valued")
    return Covariate(**body)
