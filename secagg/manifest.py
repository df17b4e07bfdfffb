"""What all sites agreed to before a run, as ``secagg`` sees it: a pure projection of the signed study.

The coordinator chooses none of it. Each member's key bundle signs :meth:`Manifest.digest`, so nobody masks
for a roster in which a member holds another manifest.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from secagg import lanes
from secagg.encoding import digest
from secagg.errors import ManifestError, MisuseError
from secagg.keys import PROTOCOL_VERSION, SUITE, Label

__all__ = ["MAX_MEMBERS", "MAX_ROUNDS", "Manifest", "Member", "Mode", "Noise", "Terms"]

MAX_MEMBERS: Final = 255  # Shamir x-coordinates of mode B; and 255 tags below 2**56 cannot wrap a 64-bit word
MAX_ROUNDS: Final = 1 << 20  # bounds what a site can be made to ratchet over a run
TAG_BOUND: Final = 1 << 47  # secagg.tag is sound for |sum of a coordinate| below this


class Mode(StrEnum):
    """How a round is opened. The mode is in every mask key: masks of two modes never cancel."""

    A = "A"
    """One upload per step, all or nothing; nothing is ever revealed after the upload."""
    B = "B"
    """Self masks with Shamir recovery: a site that drops out of a round does not cost the others the round."""


class Noise(StrEnum):
    """Whose noise the privacy of a sum counts on. It is in every mask key, as the mode is."""

    DISTRIBUTED = "distributed"
    """Every member adds a share; the shares of those who cannot be missing and do not collude are counted."""
    LOCAL = "local"
    """Every member adds all the noise that its patients need, and counts on nobody else's."""
    NONE = "none"
    """Nobody adds noise. A sum hides who contributed what, not what it says: over all members or over nobody."""


@dataclass(frozen=True)
class Member:
    """A site that may take part in the run.

    Args:
        index: 1…255; the site's number in every message, and its Shamir coordinate in mode B.
        name: how people call the site; 1–100 printable characters.
        identity: the site's Ed25519 public key, 32 octets, pinned by every other site out of band.

    Raises:
        ManifestError: a field is outside its range.
    """

    index: int
    name: str
    identity: bytes

    def __post_init__(self) -> None:
        if type(self.index) is not int or not 1 <= self.index <= MAX_MEMBERS:
            raise ManifestError(f"member index {self.index!r}: must be an integer in 1..{MAX_MEMBERS}")
        if not (isinstance(self.name, str) and 1 <= len(self.name) <= 100 and self.name.isprintable()):
            raise ManifestError(f"member {self.index}: the name must be 1 to 100 printable characters")
        if not (isinstance(self.identity, bytes) and len(self.identity) == 32):
            raise ManifestError(f"member {self.index} ({self.name}): the identity must be an Ed25519 key of 32 octets")


@dataclass(frozen=True)
class Manifest:
    """The frame of one run.

    Args:
        run_id: 32 octets; belongs to one run for ever. A run's keys are fresh, so no key outlives it.
        study_digest: 32 octets; hash of the study this is a projection of.
        members: in ascending order of index.
        collusion: c ≥ 1, the number of members that may work with the coordinator.
        minimum_roster: n_min, the smallest roster anybody uploads for.
        roster_changes: how often the roster may change in the run (aborted rounds count).
        max_rounds: the largest round number, ≤ 2**20.
        mode: how rounds open.
        suite: the cipher suite; never negotiated.
        lane_bits: 64 (wide lattice), 32, 21, 16, 12 or 10.
        noise: whose noise is counted on. Without noise c = 0, n_min = n ≥ 3 and no change of the roster: two sums of
            different members would differ by one member's vector, and a member that knows the sum knows the others'.

    Raises:
        ManifestError: a field is outside its range, or

            * n_min > n, or 2·n_min ≤ n + c: two rosters could then go on in parallel with different histories
              (two forks must share an honest site, and a site has one transcript);
            * n_min − c < 2: a sum would show a single honest site;
            * there is no noise, and c, n_min or the roster changes are not as above.
    """

    run_id: bytes
    study_digest: bytes
    members: tuple[Member, ...]
    collusion: int
    minimum_roster: int
    roster_changes: int
    max_rounds: int
    mode: Mode = Mode.A
    suite: str = SUITE
    lane_bits: int = lanes.WIDE
    noise: Noise = Noise.DISTRIBUTED

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ManifestError(problem)

    def _problems(self) -> Iterator[str]:
        """Yield the first things wrong; a later check may rely on the earlier ones."""
        yield from self._field_problems()
        yield from self._member_problems()
        yield from self._bound_problems()

    def _field_problems(self) -> Iterator[str]:
        for name in ("run_id", "study_digest"):
            value = getattr(self, name)
            if not (isinstance(value, bytes) and len(value) == 32):
                yield f"{name} must be 32 octets"
        for name in ("collusion", "minimum_roster", "roster_changes", "max_rounds"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                yield f"{name} must be an integer >= 0, not {value!r}"
        if self.suite != SUITE:
            yield f"suite {self.suite!r} is not {SUITE}: a suite is never negotiated"
        if self.mode not in tuple(Mode):
            yield f"mode {self.mode!r} is neither A nor B"
        if self.noise not in tuple(Noise):
            yield f"noise {self.noise!r} is none of {', '.join(Noise)}"
        if self.lane_bits not in lanes.WIDTHS:
            yield f"lane_bits {self.lane_bits!r} is not one of {', '.join(map(str, lanes.WIDTHS))}"

    def _member_problems(self) -> Iterator[str]:
        n = len(self.members)
        if n > MAX_MEMBERS:
            yield f"{n} members: at most {MAX_MEMBERS}"
        for a, b in itertools.pairwise(self.members):
            if a.index >= b.index:
                yield f"members must be in ascending order of index: {self.call(b.index)} follows {a.index}"
        for name in ("name", "identity"):
            if len({getattr(member, name) for member in self.members}) != n:
                yield f"two members have the same {name}"

    def _bound_problems(self) -> Iterator[str]:
        n, c, smallest = len(self.members), self.collusion, self.minimum_roster
        if self.noise is Noise.NONE:
            if c or smallest != n or n < 3 or self.roster_changes:
                yield (
                    f"without noise a sum is over all members of one fixed roster of 3 or more, nobody may collude and "
                    f"nobody may leave; here are {n} members, minimum_roster {smallest}, collusion {c} and "
                    f"{self.roster_changes} roster changes"
                )
        elif c < 1:
            yield "collusion must be at least 1: a curious site always knows its own contribution"
        if smallest > n:
            yield f"minimum_roster {smallest} is larger than the {n} members"
        if 2 * smallest <= n + c:
            yield (
                f"minimum_roster {smallest} allows forked histories: with {n} members and collusion {c} "
                f"it must be at least {(n + c) // 2 + 1}"
            )
        if smallest - c < 2:
            yield f"minimum_roster {smallest} less collusion {c} leaves fewer than 2 honest sites in a sum"
        if self.mode is Mode.B and smallest < self.threshold:
            yield f"minimum_roster {smallest} is below {self.threshold}, which mode B needs to open a sum"
        if not 1 <= self.max_rounds <= MAX_ROUNDS:
            yield f"max_rounds {self.max_rounds} is outside 1..{MAX_ROUNDS}"

    @property
    def threshold(self) -> int:
        """Mode B: t = max(⌊2n/3⌋ + 1, ⌊(n + c)/2⌋ + 1) shares open a self mask, and t sites must agree who survived.

        2t > n + c: two different sets of survivors would need more honest sites than there are.
        """
        n, c = len(self.members), self.collusion
        return max(2 * n // 3 + 1, (n + c) // 2 + 1)

    def honest(self, roster: int) -> int:
        """Return h, the noise shares that whoever opens a sum over a roster of this size cannot do without.

        Mode A: |R| − c, because only a complete roster opens. Mode B: t − c, because t survivors suffice. Local
        noise: 1, its own. No noise: none.
        """
        if self.noise is not Noise.DISTRIBUTED:
            return 1 if self.noise is Noise.LOCAL else 0
        return (roster if self.mode is Mode.A else self.threshold) - self.collusion

    def digest(self) -> bytes:
        """Return SHA-256 (32 octets) over every field and the protocol version."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        return digest(
            Label.MANIFEST,
            PROTOCOL_VERSION,
            self.suite,
            self.mode,
            self.run_id,
            self.study_digest,
            tuple((member.index, member.name, member.identity) for member in self.members),
            self.collusion,
            self.minimum_roster,
            self.roster_changes,
            self.max_rounds,
            self.lane_bits,
            self.noise,
        )

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """All member indices, ascending."""
        return tuple(member.index for member in self.members)

    def member(self, index: int) -> Member:
        """Return the member with this index.

        Raises:
            MisuseError: nobody has it.
        """
        if index not in self._members:
            raise MisuseError(f"the manifest has no member {index}")
        return self._members[index]

    def call(self, index: int) -> str:
        """Say a member's number and, where the manifest knows it, its name: ``3 (Leeds)``."""
        member = self._members.get(index)
        return f"{index} ({member.name})" if member else f"{index} (not in the manifest)"

    @cached_property
    def _members(self) -> dict[int, Member]:
        return {member.index: member for member in self.members}


@dataclass(frozen=True)
class Terms:
    """What one round sums and under which noise, as each site computes it from the study and the transcript.

    The coordinator never names it. All of it is in the mask key: two sites that differ in any field get masks
    that do not cancel. Whatever else must be equal between sites (step, layout, sensitivity, public bounds,
    digest of the model) belongs into ``query``.

    Args:
        query: 32 octets, digest of the query.
        length: d ≥ 1 coordinates.
        share_variance: σ_i² of one site's noise, in lattice units squared; 0 without noise.
        honest: h of :meth:`Manifest.honest`, how many shares the noise counts on.
        steps: lattice steps per unit of sensitivity; in narrow lanes times 2²⁴.
        clamp: largest |coordinate| of one site before noise, in lattice units.
        total_bound: |coordinate of the sum| never exceeds it, < 2**47.

    Raises:
        MisuseError: a field is outside its range.
    """

    query: bytes
    length: int
    share_variance: int
    honest: int
    steps: int
    clamp: int
    total_bound: int

    def __post_init__(self) -> None:
        if not (isinstance(self.query, bytes) and len(self.query) == 32):
            raise MisuseError("the query digest must be 32 octets")
        for name in ("length", "share_variance", "honest", "steps", "clamp", "total_bound"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise MisuseError(f"{name} of a round must be an integer >= 0, not {value!r}")
        if self.length < 1:
            raise MisuseError("a round sums at least one coordinate")
        if not self.total_bound < TAG_BOUND:
            raise MisuseError(f"total bound {self.total_bound} is not below 2**47, up to which the tag is sound")
