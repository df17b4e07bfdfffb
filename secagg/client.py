"""A site's half of the protocol, mode A. Sans-IO: messages in, messages out, all state in one snapshot.

::

    Advertised ─▶ Agreeing ─▶ Confirming ─▶ Rounds ◀──upload, accept──▶ Opened
        └────────────┴─────────────┴──────────┴── any PeerError ──▶ Over      └─ open ─┘

Rules for the caller:

* Write :meth:`Client.snapshot` durably after a call and *before* sending what the call returned.
* Draw the session nonce anew at every start of the process and keep it in memory only.
* Store an upload's bytes, with the charge for it, before sending them; to send again, send those bytes.
* Before :meth:`Client.open`, pass every sum of ``step.missed`` to :meth:`Client.accept`.
"""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from secagg import lanes, masks
from secagg.agreement import (
    Advertised,
    Agreed,
    Agreeing,
    Confirming,
    SetupPhase,
    advertise,
    on_bundles,
    on_confirmations,
    on_encapsulations,
)
from secagg.context import Context, check_roster, extend, start
from secagg.encoding import digest
from secagg.errors import (
    ConfigError,
    ForgedSum,
    MisuseError,
    PeerError,
    RosterRefused,
    RoundRefused,
    SecondMessage,
    SessionOver,
    UnexpectedMessage,
    UnpinnedMember,
)
from secagg.keys import PROTOCOL_VERSION, Entropy, Identity, Purpose
from secagg.lanes import Coordinates
from secagg.manifest import Manifest, Mode, Terms
from secagg.messages import (
    Bundles,
    Confirmations,
    Encapsulations,
    Hello,
    Ready,
    Roster,
    SetupMessage,
    Step,
    Sum,
    Upload,
    encode,
)
from secagg.ratchet import WINDOW, Ratchet, RoundKeys
from secagg.snapshot import Over, Progress, Rounds, StoredPhase, dump, load
from secagg.tag import RoundTag

__all__ = ["Client", "SetupFromServer"]

SetupFromServer: TypeAlias = Bundles | Encapsulations | Confirmations


@dataclass(frozen=True)
class _Opened:
    """A round is reserved. Its keys exist here and nowhere else; the ratchet below is already past it."""

    rounds: Rounds
    context: Context
    keys: RoundKeys = field(repr=False)


_Phase: TypeAlias = StoredPhase | _Opened


class Client:
    """One member in one run.

    Guarantee: no mask key is ever used for two vectors, whatever the server sends, however often the process
    dies, and whatever old copy of the disk it comes back with; and nothing but a uniformly random vector
    leaves unless every other honest member of the roster masks for the same context.

    Args:
        manifest: what all sites agreed to; mode A.
        member: our index in it.
        identity: our signing key; its public half is in the manifest.
        entropy: returns unpredictable octets. (ML-KEM encapsulation draws its own.)
        nonce: the session nonce: 32 octets drawn at this start of the process, never stored.
        pins: the Ed25519 public keys of peers that this site pinned itself, out of band.
        snapshot: what :meth:`snapshot` returned last, if this run was started before.
        last_round: the largest round number in the site's own database, a second line behind the snapshot.

    Raises:
        UnpinnedMember: the manifest has a member that is not pinned here.
        ConfigError: the identity is not the manifest's, or the mode is not A.
        SnapshotError: the snapshot is damaged or of another run.
        SessionOver: the snapshot says that an earlier process stopped at a PeerError.
        MisuseError: a malformed argument.

    Every method but :meth:`snapshot` raises SessionOver once a PeerError has ended the session.
    """

    def __init__(
        self,
        manifest: Manifest,
        member: int,
        identity: Identity,
        *,
        entropy: Entropy,
        nonce: bytes,
        pins: frozenset[bytes],
        snapshot: bytes | None = None,
        last_round: int = 0,
    ) -> None:
        _check_membership(manifest, member, identity, pins)
        if not (isinstance(nonce, bytes) and len(nonce) == 32):
            raise MisuseError("a session nonce is 32 octets")
        self._manifest, self._me, self._identity, self._nonce = manifest, member, identity, nonce
        self._phase: _Phase
        self._seen: dict[tuple[str, int], bytes] = {}
        if snapshot is None:
            self._phase = advertise(manifest, member, identity, entropy)
            self._progress = Progress(last_round, start(manifest))
            return
        self._phase, progress, seen = load(snapshot, manifest.digest(), member)
        self._seen.update(seen)
        self._progress = replace(progress, last_round=max(progress.last_round, last_round))
        self._alive()
        if isinstance(self._phase, Rounds):
            self._phase = self._past(self._phase, self._progress.last_round)

    # ---- what the caller may look at ----

    @property
    def ready(self) -> bool:
        """Whether set-up is complete: rounds can be opened and sums accepted."""
        return isinstance(self._phase, Rounds | _Opened)

    @property
    def transcript(self) -> bytes:
        """Digest of the history of accepted sums, 32 octets."""
        return self._progress.transcript

    @property
    def sums(self) -> int:
        """How many sums have been accepted."""
        return self._progress.sums

    @property
    def last_round(self) -> int:
        """The largest round number opened or seen summed."""
        return self._progress.last_round

    def snapshot(self) -> bytes:
        """Return the secret state to store; after a PeerError, a tombstone without keys."""
        phase = self._phase.rounds if isinstance(self._phase, _Opened) else self._phase
        return dump(self._manifest.digest(), self._me, (phase, self._progress, self._seen))

    # ---- connection and set-up ----

    def hello(self) -> Hello:
        """Return the signed first message of a connection."""
        self._alive()
        progress = self._progress
        where = (self._nonce, progress.last_round, progress.sums, progress.transcript)
        run, about = self._manifest.run_id, self._manifest.digest()
        signature = self._identity.sign(
            Purpose.HELLO, PROTOCOL_VERSION, self._manifest.suite, run, about, self._me, *where
        )
        return Hello(run, self._me, *where, signature)

    def begin(self) -> list[SetupMessage]:
        """Return the set-up messages sent so far, byte for byte, to follow the hello of every connection."""
        self._alive()
        match self._phase:
            case Rounds(sent=sent) | _Opened(rounds=Rounds(sent=sent)):
                return list(sent) or [Ready(self._me)]
            case Advertised() | Agreeing() | Confirming():
                return list(self._phase.sent)
        raise AssertionError(self._phase)  # Over was refused above

    def receive(self, message: SetupFromServer) -> list[SetupMessage]:
        """Take a set-up message and return ours.

        The first message of each kind and sender is final: the same one again is ignored, another one is an
        error.

        Raises:
            PeerError: the server or a peer broke the protocol; the session is over.
        """
        self._alive()
        with self._terminal():
            sender = 0 if isinstance(message, Bundles) else message.sender
            slot, content = (type(message).__name__, sender), digest(encode(message))
            if slot in self._seen:
                if hmac.compare_digest(self._seen[slot], content):
                    return []
                raise SecondMessage(f"a second {slot[0]} of {self._manifest.call(sender) if sender else 'the server'}")
            before = self._phase
            after = self._transition(before, message)
            self._seen[slot] = content
            earlier = len(before.sent) if isinstance(before, Advertised | Agreeing | Confirming) else 0
            if isinstance(after, Agreed):
                rounds = Rounds(after.group, Ratchet(0, after.chains), after.sent)
                self._phase = self._past(rounds, self._progress.last_round)
            else:
                self._phase = after
            return list(after.sent[earlier:])

    def _transition(self, phase: _Phase, message: SetupFromServer) -> SetupPhase:
        match phase, message:
            case Advertised(), Bundles():
                return on_bundles(phase, message, self._manifest, self._me)
            case Agreeing(), Encapsulations():
                return on_encapsulations(phase, message, self._manifest, self._me)
            case ((Agreeing() | Confirming()), Confirmations()):
                return on_confirmations(phase, message, self._manifest, self._me)
        raise UnexpectedMessage(f"{type(message).__name__} in phase {type(phase).__name__}")

    # ---- rounds ----

    def admit(self, round_: int, roster: Roster) -> None:
        """Refuse a round or a roster that this run may not have, before anything is computed for it.

        Raises:
            RoundRefused: beyond the run's last round.
            RosterRefused: a stranger in it, or too small.
        """
        self._alive()
        with self._terminal():
            check_roster(self._manifest, round_, roster)

    def context(self, round_: int, roster: Roster, terms: Terms) -> Context:
        """Return the context a round has under our present transcript.

        Raises:
            RoundRefused: beyond the run's last round.
            RosterRefused: a stranger in it, or too small.
            MisuseError: terms for a roster of another size.
        """
        return Context.build(self._manifest, round_, roster, terms, self._progress.transcript)

    def open(self, step: Step, terms: Terms) -> Context:
        """Reserve a round: after this its number is used, whether an upload follows or not.

        Args:
            step: as received; its missed sums have been accepted already.
            terms: what this round sums, by our own computation.

        Returns:
            The context to charge, to draw noise under, and to pass to :meth:`upload`.

        Raises:
            RoundRefused: not above the last one, more than 1024 above it, or beyond the run's last.
            RosterRefused: a stranger, too small, without us, with an old session of ours, or one change too
            many. LaneOverflow: the terms do not fit the manifest's lanes. MisuseError: missed sums were left
            out, or terms for another roster.
        """
        rounds = self._rounds("Step")
        progress = self._progress
        if step.missed and step.missed[-1].round > progress.summed:
            raise MisuseError(f"accept the sums missed up to round {step.missed[-1].round} before opening a round")
        lanes.require_room(terms.total_bound, self._manifest.lane_bits)
        with self._terminal():
            # The number is checked before any key turns: 2**60 must not make a site hash for ever.
            if step.round <= progress.last_round:
                raise RoundRefused(f"round {step.round} is used up; this site is past {progress.last_round}")
            if step.round > progress.last_round + WINDOW:
                raise RoundRefused(f"round {step.round} is more than {WINDOW} above {progress.last_round}")
            context = self.context(step.round, step.roster, terms)
            nonce = dict(step.roster).get(self._me)
            if nonce is None:
                raise RosterRefused(f"round {step.round}: this site, member {self._me}, is not on the roster")
            if not hmac.compare_digest(nonce, self._nonce):
                raise RosterRefused(
                    f"round {step.round}: the roster names another session of this site, member {self._me}: "
                    "an older process, or a second one under this identity"
                )
            asked = progress.asked(context.members)
            if asked.changes > self._manifest.roster_changes:
                raise RosterRefused(
                    f"round {step.round}: this would be roster change number {asked.changes}; "
                    f"the study allows {self._manifest.roster_changes}"
                )
        ratchet = rounds.ratchet.advance(step.round)
        keys = ratchet.keys(self._me, context.members, self._manifest.mode, context.digest)
        self._progress = replace(asked, last_round=step.round)
        # A Step means that everybody is ready, so nobody needs our set-up messages any more.
        self._phase = _Opened(replace(rounds, ratchet=ratchet.advance(step.round + 1), sent=()), context, keys)
        return context

    def upload(self, context: Context, coordinates: Coordinates) -> Upload:
        """Mask our vector for the round that is open; the round's keys are forgotten by it.

        Args:
            context: as returned by the last :meth:`open`.
            coordinates: int64[d] on the lattice, clamped, noise share added.

        Returns:
            The upload: ⌈d/lanes⌉ data words, the tag word and the canary word.

        Raises:
            MisuseError: this round is not open (a context serves once), or the vector has another type,
            length or
                range; the round stays open.
        """
        self._alive()
        phase = self._phase
        if not (isinstance(phase, _Opened) and phase.context == context):
            raise MisuseError(f"round {context.round} is not open: a context serves for one upload, ever")
        _check_coordinates(coordinates, context.terms)
        # Leave the phase before masking: whatever happens below, these keys mask nothing else.
        self._phase, keys = phase.rounds, phase.keys
        data = lanes.pack(coordinates, self._manifest.lane_bits)
        words = np.empty(len(data) + 2, dtype=np.uint64)
        words[:-2] = data
        words[-2] = RoundTag(phase.rounds.group, context.digest, len(coordinates)).share(coordinates, self._me)
        words[-1] = 1
        masks.apply(words[:-1], add=keys.add, subtract=keys.subtract)
        masks.apply(words[-1:], add=keys.canary_add, subtract=keys.canary_subtract)
        return Upload(self._me, context.round, words.astype("<u8").tobytes())

    def accept(self, total: Sum, terms: Terms) -> Coordinates:
        """Check a broadcast sum and take it into the transcript.

        Args:
            total: the next sum of the run, whether we were on its roster or not.
            terms: what its round summed, by our own computation.

        Returns:
            int64[d], |coordinate| ≤ ``terms.total_bound``. Apply it only now.

        Raises:
            ForgedSum: size, canary, range or tag is wrong: the sum stays unapplied and the session is over.
            RoundRefused: not after the last accepted sum.
            RosterRefused: a roster that nobody may have uploaded for.
            MisuseError: terms for another roster.
        """
        rounds = self._rounds("Sum")
        progress = self._progress
        with self._terminal():
            if total.round <= progress.summed:
                raise RoundRefused(f"the sum of round {total.round} comes after that of round {progress.summed}")
            context = self.context(total.round, total.roster, terms)
            words = np.frombuffer(total.words, dtype="<u8").astype(np.uint64)
            coordinates, tag = self._checked(words, context, rounds.group)
        last_round = max(progress.last_round, total.round)
        self._progress = replace(
            progress.asked(context.members),
            last_round=last_round,
            transcript=extend(progress.transcript, context, total.words[:-16], tag),
            sums=progress.sums + 1,
            summed=total.round,
        )
        self._phase = self._past(rounds, last_round)
        return coordinates

    def _checked(self, words: lanes.Words, context: Context, group: bytes) -> tuple[Coordinates, int]:
        """Return a sum's coordinates and its reduced tag, or raise ForgedSum."""
        terms, bits, which = context.terms, self._manifest.lane_bits, f"the sum of round {context.round}"
        if len(words) != lanes.word_count(terms.length, bits) + 2:
            raise ForgedSum(f"{which} has {len(words)} words, expected {lanes.word_count(terms.length, bits) + 2}")
        if int(words[-1]) != len(context.roster):
            raise ForgedSum(
                f"{which} does not open: its canary is not {len(context.roster)}. Either a site ran another "
                "study, history or version, or the coordinator changed it"
            )
        coordinates = lanes.unpack(words[:-2], terms.length, bits)
        if coordinates.max() > terms.total_bound or coordinates.min() < -terms.total_bound:
            raise ForgedSum(f"{which} has a coordinate beyond the proven bound {terms.total_bound}")
        checker = RoundTag(group, context.digest, terms.length)
        tag = checker.reduce(int(words[-2]))
        expected = checker.expected(coordinates, context.members)
        if not hmac.compare_digest(tag.to_bytes(8, "big"), expected.to_bytes(8, "big")):
            raise ForgedSum(f"{which} carries a wrong tag: it is not what the sites uploaded")
        return coordinates, tag

    # ---- private ----

    def _alive(self) -> None:
        if isinstance(self._phase, Over):
            raise SessionOver(f"this site stopped in this run ({self._phase.code}) and holds no key of it any more")

    def _rounds(self, what: str) -> Rounds:
        """Return the phase in which rounds happen; an open round that is overtaken is given up."""
        self._alive()
        match self._phase:
            case Rounds():
                return self._phase
            case _Opened(rounds=rounds):
                return rounds
        with self._terminal():
            raise UnexpectedMessage(f"{what} in phase {type(self._phase).__name__}: set-up is not complete")

    def _past(self, rounds: Rounds, last_round: int) -> Rounds:
        """Turn the chain keys past a round that must never be masked again."""
        return replace(rounds, ratchet=rounds.ratchet.advance(max(rounds.ratchet.position, last_round + 1)))

    @contextmanager
    def _terminal(self) -> Iterator[None]:
        """Drop every key when a peer has broken the protocol."""
        try:
            yield
        except PeerError as error:
            self._phase = Over(error.code)
            raise


def _check_membership(manifest: Manifest, member: int, identity: Identity, pins: frozenset[bytes]) -> None:
    if manifest.mode is not Mode.A:
        raise ConfigError(f"mode {manifest.mode} is not available; this version runs mode A")
    if manifest.member(member).identity != identity.public:
        raise ConfigError(f"this site's identity is not the one the manifest lists for member {manifest.call(member)}")
    # Who is a member is decided by the hospitals: a coordinator that could admit one would own the collusion
    # bound.
    strangers = [each for each in manifest.members if each.index != member and each.identity not in pins]
    if strangers:
        names = ", ".join(manifest.call(each.index) for each in strangers)
        raise UnpinnedMember(
            f"this site has not pinned the identity of {names}: compare fingerprints out of band first"
        )


def _check_coordinates(coordinates: Coordinates, terms: Terms) -> None:
    if not (isinstance(coordinates, np.ndarray) and coordinates.dtype == np.int64):
        raise MisuseError("an upload takes int64 coordinates")
    if coordinates.shape != (terms.length,):
        raise MisuseError(f"an upload of shape {coordinates.shape}; the round sums {terms.length} coordinates")
    if coordinates.max() > terms.total_bound or coordinates.min() < -terms.total_bound:
        raise MisuseError(f"a coordinate beyond the total bound {terms.total_bound}: clamp before masking")
