"""What gives a round its meaning, and the history all rounds stand on.

The digest of a :class:`Context` enters every mask and tag key of its round. Two sites that were told
different things about the round — its number, query, noise, clamp, lanes, roster, sessions, mode, or any
earlier sum — derive masks that do not cancel, and what they uploaded stays uniformly random.
"""

from dataclasses import dataclass

from secagg.encoding import digest
from secagg.errors import MisuseError, RosterRefused, RoundRefused
from secagg.keys import Label
from secagg.manifest import Manifest, Noise, Terms
from secagg.messages import Roster

__all__ = ["Context", "check_roster", "extend", "start"]


def check_roster(manifest: Manifest, round_: int, roster: Roster) -> tuple[int, ...]:
    """Return the members of a roster that a round of this run may have.

    Raises:
        RoundRefused: the number is beyond the manifest's last.
        RosterRefused: not a subset of the manifest's members, or smaller than its minimum.
    """
    members = tuple(member for member, _ in roster)
    if not 1 <= round_ <= manifest.max_rounds:
        raise RoundRefused(f"round {round_}: the run ends with round {manifest.max_rounds}")
    if strangers := set(members) - set(manifest.indices):
        raise RosterRefused(f"round {round_}: member {min(strangers)} is not in the manifest")
    if len(members) < manifest.minimum_roster:
        # Sums over two rosters of one model differ by one hospital's vector: exactly, if nobody adds noise.
        why = ": without noise a sum is over all members or over nobody" if manifest.noise is Noise.NONE else ""
        raise RosterRefused(
            f"round {round_}: {len(members)} sites, at least {manifest.minimum_roster} were agreed{why}"
        )
    return members


@dataclass(frozen=True)
class Context:
    """One round as one site understands it. Public; the keys it leads to are not in here.

    Args:
        round: its number.
        roster: who uploads, each with its session nonce.
        terms: what is summed under which noise.
        digest: SHA-256 over all of it, the manifest and the transcript, 32 octets. The ledger records it.
    """

    round: int
    roster: Roster
    terms: Terms
    digest: bytes

    @property
    def members(self) -> tuple[int, ...]:
        """The roster's members without their nonces."""
        return tuple(member for member, _ in self.roster)

    @classmethod
    def build(cls, manifest: Manifest, round_: int, roster: Roster, terms: Terms, transcript: bytes) -> "Context":
        """Bind a round to a history.

        Raises:
            RoundRefused: the number is beyond the manifest's last.
            RosterRefused: not a subset of the manifest's members, or smaller than its minimum: without noise smaller
                than all of them.
            MisuseError: `terms` were computed for a roster of another size, or have noise where the manifest has none
                or the contrary. Local noise may be in what a site sums already, and then is no term of the round.
        """
        members = check_roster(manifest, round_, roster)
        inside = manifest.noise is Noise.LOCAL and terms.share_variance == 0
        if (terms.share_variance == 0) is not (manifest.noise is Noise.NONE) and not inside:
            raise MisuseError(
                f"the terms of round {round_} have noise of variance {terms.share_variance} per site, "
                f"the manifest's noise is {manifest.noise}"
            )
        if terms.honest != manifest.honest(len(members)):
            raise MisuseError(
                f"the terms of round {round_} count on {terms.honest} honest sites; a roster of {len(members)} with "
                f"collusion {manifest.collusion} in mode {manifest.mode} has {manifest.honest(len(members))}"
            )
        bound = digest(
            Label.CONTEXT,
            manifest.suite,
            manifest.run_id,
            manifest.digest(),
            manifest.mode,
            round_,
            terms.query,
            terms.share_variance,
            terms.honest,
            terms.clamp,
            terms.steps,
            terms.total_bound,
            manifest.lane_bits,
            terms.length,
            roster,
            transcript,
        )
        return cls(round_, roster, terms, bound)


def start(manifest: Manifest) -> bytes:
    """Return the transcript before the first sum, h_0."""
    return digest(Label.START, manifest.suite, manifest.run_id, manifest.study_digest, manifest.digest())


def extend(transcript: bytes, context: Context, survivors: tuple[int, ...], data: bytes, tag: int) -> bytes:
    """Return the transcript after a sum, h_{r+1}. An aborted round does not enter it.

    Args:
        transcript: h_r.
        context: of the summed round.
        survivors: whose uploads are in the sum, ascending.
        data: the sum's data words, little-endian.
        tag: the sum's tag, reduced modulo p (one sum, one transcript).
    """
    return digest(Label.TRANSCRIPT, transcript, context.digest, survivors, data, tag)
