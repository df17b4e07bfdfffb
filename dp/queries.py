"""What leaves a hospital: one bounded sum over patients, and the seam it goes through.

A `Query` is public: it is a function of the study and of what was released before. Its digest
enters every mask key, so two sites that hold different ideas of it produce masks that do not cancel.
A `Release` is where a query comes from: the vector, the proof of its sensitivity, and what the
noisy sum says.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Final, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from dp.errors import MisuseError
from dp.events import ACCOUNT_OF, KINDS, Account, GaussianEvent, PoissonEvent, event

__all__ = [
    "ACCOUNT_OF",
    "KINDS",
    "Account",
    "Float64",
    "Int64",
    "Keystream",
    "Neighbours",
    "Query",
    "Release",
    "SecureSum",
    "norm",
    "public_bytes",
    "query_of",
]

Float64: TypeAlias = NDArray[np.float64]
Int64: TypeAlias = NDArray[np.int64]

MAX_LENGTH: Final = 2**24
MAX_PATIENT_CAP: Final = 2**21
"""Up to here sums of patients in units of clip·2⁻³² are whole numbers below 2⁵³: see `dp.rows`."""

_LABEL: Final = b"haemfed/query/v2"

_Data_contra = TypeVar("_Data_contra", contravariant=True)


class Neighbours(StrEnum):
    """Which tables of one hospital count as neighbours.

    | relation          | tables D, D'                                                              |
    |-------------------|---------------------------------------------------------------------------|
    | add-or-remove-one | D' = D with one patient more or fewer: what budgets and reports are in    |
    | replace-one       | D' = D with all records of one patient exchanged for another patient's    |

    A patient who turns up in *another* hospital's table instead is one removal and one addition:
    twice the first, whatever a release proves about the second.
    """

    ADD_OR_REMOVE_ONE = "add-or-remove-one"
    REPLACE_ONE = "replace-one"


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
        sampling_probability: q in (0, 1]; below 1 the contribution holds a secret Poisson sample of
            the patients.

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
    sampling_probability: float = 1.0

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
        if not 0.0 < self.sampling_probability <= 1.0:
            raise MisuseError(f"{self.kind}: the sampling probability must lie in (0, 1]")

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
            float(self.sampling_probability).hex().encode(),
        )
        return hashlib.sha256(b"".join(len(field).to_bytes(8, "big") + field for field in fields)).digest()

    def event(self) -> GaussianEvent | PoissonEvent:
        """Return what one upload for this query costs."""
        return event(self.kind, float(self.multiplier), sampling_probability=float(self.sampling_probability))


class Release(Protocol[_Data_contra]):
    """One kind of statistic: the only way from a table to a `Query` and from a noisy sum to an answer.

    Guarantees owed by every implementation:

    - every bound is a public constant of the release; nothing about it is read from a table;
    - `contribution` is finite, a row of it depends on that patient and on public things alone, and
      ‖contribution(D) − contribution(D')‖₂ ≤ `sensitivity` in exact arithmetic but for the rounding
      that `dp.noise_shares` accounts;
    - `decode` sees the noisy sum and its known noise, nothing else: it is post-processing. It gives
      an error with each number, and "not resolved" where the noise leaves nothing to see.

    tests/dp/adversary.py holds every implementation to the second.
    """

    @property
    def kind(self) -> str:
        """One of `KINDS`; fixes the account that pays."""
        ...

    @property
    def length(self) -> int:
        """Number of coordinates d."""
        ...

    def sensitivity(self, neighbours: Neighbours) -> float:
        """Return the largest L2 change of `contribution` between neighbours; its docstring is the proof."""
        ...

    def query(self, multiplier: float, patient_cap: int, index: int = 0) -> Query:
        """Return the query for one sum, the public constants in its digest."""
        ...

    def contribution(self, data: _Data_contra) -> Float64:
        """Return one site's exact sum over its patients, float64[length], finite."""
        ...

    def decode(self, total: Float64, noise_sd: float) -> object:
        """Return what the noisy sum says, with errors.

        Args:
            total: float64[length], the released sum.
            noise_sd: standard deviation of all noise in each coordinate, ≥ 0.
        """
        ...


def query_of(
    release: Release[_Data_contra], constants: Mapping[str, object], multiplier: float, patient_cap: int, index: int
) -> Query:
    """Return the query of a release: its add-or-remove-one sensitivity, its account, its constants.

    Args:
        release: gives kind, length and sensitivity.
        constants: every public number that fixes the vector, see `public_bytes`.
        multiplier: z > 0.
        patient_cap: public cap on patients per site.
        index: 0-based number of this sum within its kind.
    """
    public = public_bytes(type(release).__name__, constants)
    sensitivity = release.sensitivity(Neighbours.ADD_OR_REMOVE_ONE)
    if release.kind not in ACCOUNT_OF:
        raise MisuseError(f"query kind {release.kind!r} is not on the list: {', '.join(KINDS)}")
    account = ACCOUNT_OF[release.kind]
    return Query(release.kind, index, release.length, sensitivity, multiplier, account, patient_cap, public)


def public_bytes(name: str, constants: Mapping[str, object]) -> bytes:
    """Return canonical bytes of a release's public constants.

    >>> public_bytes("Histogram", {"edges": (0.5, 1.0)})
    b'{"constants":{"edges":["0x1.0000000000000p-1","0x1.0000000000000p+0"]},"release":"Histogram"}'

    Args:
        name: of the release.
        constants: names → numbers, texts, bytes or (nested) tuples of them; floats are written exactly.
    """

    def exact(value: object) -> object:
        if isinstance(value, float):
            return float(value).hex()
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, list | tuple):
            return [exact(part) for part in value]
        if isinstance(value, str | int):
            return value
        raise MisuseError(f"{name}: a public constant is a {type(value).__name__}")

    body = {"release": name, "constants": {key: exact(value) for key, value in constants.items()}}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def norm(square: float | Fraction) -> float:
    """Return the smallest float64 that is not below √square: a sensitivity never rounds down.

    >>> Fraction(norm(2)) ** 2 >= 2
    True
    """
    exact = Fraction(square)
    root = math.nextafter(math.sqrt(exact), 0.0)
    while Fraction(root) ** 2 < exact:
        root = math.nextafter(root, math.inf)
    return root


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
