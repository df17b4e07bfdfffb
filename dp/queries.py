"""What leaves a hospital: one bounded sum over patients, and the seam it goes through.

A `Query` is public: it is a function of the study and of what was released before. Its digest
enters every mask key, so two sites that hold different ideas of it produce masks that do not cancel.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dp.errors import MisuseError
from dp.events import ACCOUNT_OF, KINDS, Account, GaussianEvent

__all__ = ["KINDS", "Account", "Float64", "Int64", "Keystream", "Query", "SecureSum"]

Float64: TypeAlias = NDArray[np.float64]
Int64: TypeAlias = NDArray[np.int64]

MAX_LENGTH: Final = 2**24
MAX_PATIENT_CAP: Final = 2**21
"""Up to here sums of patients in units of clip·2⁻³² are whole numbers below 2⁵³: see `dp.rows`."""

_LABEL: Final = b"haemfed/query/v1"


@dataclass(frozen=True)
class Query:
    """One sum over the patients of all sites, with the noise it will carry.

    Releasing the sum once is μ-GDP with μ = 1 / multiplier for neighbours that differ by one added
    or removed patient, whatever the other patients are.

    Args:
        kind: one of `KINDS`.
        index: 0-based step inside the kind.
        length: d, number of coordinates, 1 … 2²⁴.
        sensitivity: C > 0, largest L2 norm of one patient's contribution, in the vector's own unit.
        multiplier: z > 0, standard deviation of the honest noise sum ÷ sensitivity.
        account: the account that pays; fixed by the kind.
        patient_cap: public cap on patients per site, 1 … 2²¹. Not a count: a larger cohort is
            clamped, never refused.
        public: canonical bytes of the public bounds (grid, bins, …), covered by the digest.

    Raises:
        MisuseError: a value outside its range.
    """

    kind: str
    index: int
    length: int
    sensitivity: float
    multiplier: float
    account: Account
    patient_cap: int
    public: bytes = b""

    def __post_init__(self) -> None:
        if self.kind not in ACCOUNT_OF:
            raise MisuseError(f"query kind {self.kind!r} is not on the list: {', '.join(KINDS)}")
        if self.account is not ACCOUNT_OF[self.kind]:
            raise MisuseError(f"{self.kind} reads patients of the {ACCOUNT_OF[self.kind]} account: charge that one")
        if self.index < 0:
            raise MisuseError(f"{self.kind}: index {self.index} is negative")
        if not 1 <= self.length <= MAX_LENGTH:
            raise MisuseError(f"{self.kind}: length {self.length} is not in 1 … {MAX_LENGTH}")
        if not 1 <= self.patient_cap <= MAX_PATIENT_CAP:
            raise MisuseError(f"{self.kind}: patient cap {self.patient_cap} is not in 1 … {MAX_PATIENT_CAP}")
        for name in ("sensitivity", "multiplier"):
            value = getattr(self, name)
            # The range keeps every product of the lattice far from overflow and from subnormal numbers.
            if not (math.isfinite(value) and 2.0**-100 < value < 2.0**100):
                raise MisuseError(f"{self.kind}: {name} must lie between 2^-100 and 2^100")

    def about(self, state: bytes) -> "Query":
        """Return the query with the digest of a public state in it, e.g. of the model that it is asked about.

        A site whose model has drifted by one bit then has another query, hence masks that do not cancel: the round
        fails instead of the models parting silently.

        Args:
            state: public bytes; SHA-256 of them is appended to `public`.
        """
        return replace(self, public=self.public + hashlib.sha256(state).digest())

    def digest(self) -> bytes:
        """Return SHA-256 over an injective encoding of every field (32 bytes).

        Each field is preceded by its length in 8 bytes, numbers are written in ASCII (floats by
        ``float.hex``), so no two different queries have the same bytes before hashing.
        """
        fields = (
            _LABEL,
            self.kind.encode(),
            b"%d" % int(self.index),
            b"%d" % int(self.length),
            float(self.sensitivity).hex().encode(),
            float(self.multiplier).hex().encode(),
            self.account.value.encode(),
            b"%d" % int(self.patient_cap),
            self.public,
        )
        return hashlib.sha256(b"".join(len(field).to_bytes(8, "big") + field for field in fields)).digest()

    def event(self) -> GaussianEvent:
        """Return what one upload for this query costs."""
        return GaussianEvent(self.kind, float(self.multiplier), self.account)


class SecureSum(Protocol):
    """Clipped float sum in, noisy float sum of all sites out: the only way out of a hospital."""

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        """Take part in one sum and return it.

        Args:
            query: what is summed; computed by the site from the study, never told by a peer.
            contribution: returns this site's clipped sum, float64[d], in the query's unit. It is
                called only if this site really uploads: a step that is replayed from stored sums
                never computes it. It is called again when an aborted round is run anew.

        Returns:
            float64[d], the noisy sum over all patients of the roster, bit-identical at every site.

        Raises:
            UploadsExhausted: the query's stage has no upload left; the stage is over.
        """
        ...


class Keystream(Protocol):
    """Output of a cryptographically secure generator, each byte given out once."""

    def __call__(self, n: int) -> bytes:
        """Return the next n bytes."""
        ...
