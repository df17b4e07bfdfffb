"""Which algorithm may run with whose noise, and what that is called in results.

| algorithm              | kind     | distributed noise | local noise                  | no noise (declared) |
|------------------------|----------|-------------------|------------------------------|---------------------|
| lockstep (`descend`)   | gradient | yes, the default  | yes                          | yes                 |
| FedAvg, FedProx        | update   | `NotPerPatient`   | yes, inside every local step | yes                 |
| Cox partial likelihood | newton   | `NotPerPatient`   | `NotPerPatient`              | yes                 |
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from models.errors import NotPerPatient
from secagg.manifest import Noise

__all__ = ["KIND_OF", "LOCKSTEP", "NEWTON", "UPDATE", "WORDS", "require_admitted", "require_exact", "require_own_noise"]

UPDATE: Final = "update"
"""Kind of the queries in which a site contributes what local steps did to a model."""

NEWTON: Final = "newton"
"""Kind of the queries in which a site contributes its partial likelihood."""

LOCKSTEP: Final = "lockstep"
"""Name of the default: gradient steps, each a sum over patients."""

KIND_OF: Final[Mapping[str, str]] = MappingProxyType(
    {LOCKSTEP: "gradient", "fedavg": UPDATE, "fedprox": UPDATE, "newton": NEWTON}
)
"""Every algorithm that a study may name, and the kind of its training sums."""

WORDS: Final[Mapping[Noise, str]] = MappingProxyType(
    {
        Noise.LOCAL: "local noise: each hospital added to every local step all the noise that its patients need; "
        "the secure sum hides who uploaded what and lowers no ε",
        Noise.NONE: "no noise: masks only, not differentially private",
    }
)
"""What every result of these algorithms says of its noise."""


def require_admitted(kind: str, noise: Noise) -> None:
    """Refuse a noise that does not protect what sums of this kind hold; names the way out.

    Args:
        kind: of the query; others than `UPDATE` and `NEWTON` are sums over patients, which every noise protects.
        noise: of the study.

    Raises:
        NotPerPatient: (a TypeError) see the table of the module.
    """
    if kind == UPDATE:
        require_own_noise(noise)
    if kind == NEWTON:
        require_exact(noise, "Cox's partial likelihood")


def require_exact(noise: Noise, what: str) -> None:
    """Refuse a sum that is no sum over patients unless the study has declared that it has no noise.

    Args:
        noise: of the signed study.
        what: the likelihood, in words.

    Raises:
        NotPerPatient: (a TypeError) noise was asked for.
    """
    if noise is not Noise.NONE:
        raise NotPerPatient(
            f"{what} is no sum over patients, so no noise can cover one patient's influence on it; train the "
            'linear model by the piecewise-exponential likelihood (learner "cox", lockstep), which is such a sum, or '
            "declare a study without differential privacy"
        )


def require_own_noise(noise: Noise) -> None:
    """Refuse shared noise for an update that a site made by steps of its own.

    Raises:
        NotPerPatient: (a TypeError) the study counts on the noise of others.
    """
    if noise is Noise.DISTRIBUTED:
        raise NotPerPatient(
            "what several local steps did to a model is no sum over patients, so a share of noise in the sum cannot "
            "cover one patient's influence on it; use lockstep steps, which are such sums, or local noise, which is "
            "inside every local step, or declare a study without differential privacy"
        )
