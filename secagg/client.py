"""A site's half of the protocol. Sans-IO: messages in, messages out, all that must last in one snapshot.

::

    Advertised ─▶ Agreeing ─▶ Confirming ─▶ Rounds                   any PeerError, anywhere ─▶ Over

    within Rounds, in memory only (open leads to Opened and accept to Idle from everywhere):
    Idle ──open──▶ Opened ──upload──▶ Sent                                                  (mode A)
                                └───▶ Uploaded ──Survivors──▶ Consented ──Agreement──▶ Answered  (B)

Rounds may hold a further wave of set-up (:class:`secagg.agreement.Wave`), in which listed members that have missed the
earlier ones join; rounds go on meanwhile.

Rules for the caller:

* Write :meth:`Client.snapshot` durably after a call and *before* sending what the call returned.
* Draw the session nonce anew at every start of the process and keep it in memory only.
* Store an upload's bytes, with the charge for it, before sending them; to send again, send those bytes.
* Pass every Sum to :meth:`Client.accept`, in order, before the :meth:`Client.open` of the Step that follows.
"""

import hmac
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from secagg import lanes, masks
from secagg.agreement import (
    Advertised,
    Agreed,
    Agreeing,
    Confirming,
    SetupPhase,
    Wave,
    advertise,
    on_bundles,
    on_ciphertexts,
    on_confirmed,
    on_invite,
)
from secagg.context import Context, check_roster, extend, start
from secagg.encoding import digest
from secagg.errors import (
    ConfigError,
    MisuseError,
    PeerError,
    RosterRefused,
    RoundRefused,
    SecondMessage,
    SessionOver,
    UnexpectedMessage,
    UnpinnedMember,
)
from secagg.keys import PROTOCOL_VERSION, Entropy, Identity, Purpose, uncopied
from secagg.lanes import Coordinates
from secagg.manifest import Manifest, Terms
from secagg.messages import (
    Agreement,
    Blame,
    Bundles,
    CanaryKeys,
    Ciphertexts,
    Confirmed,
    Hello,
    Invite,
    Ready,
    Roster,
    RoundMessage,
    SetupMessage,
    Step,
    Sum,
    Survivors,
    ToServer,
    Upload,
    encode,
)
from secagg.recovery import Answered, Consented, Uploaded, answer
from secagg.rounds import Idle, Opened, RoundPhase, Sent, check_step, check_sum, consenting, is_gone, prepare
from secagg.snapshot import Over, Progress, Rounds, StoredPhase, dump, load

__all__ = ["Client", "RoundFromServer", "SetupFromServer"]

SetupFromServer: TypeAlias = Bundles | Ciphertexts | Confirmed | Invite
RoundFromServer: TypeAlias = Survivors | Agreement | Blame


class Client:
    """One member in one run.

    Guarantee: no mask key is ever used for two vectors, whatever the server sends, however often the process
    dies, and whatever old copy of the disk it comes back with (a copy of its memory is another matter); and nothing
    but a uniformly random vector leaves unless every other honest member of the roster masks for the same context.

    Args:
        manifest: what all sites agreed to.
        member: our index in it.
        identity: our signing key; its public half is in the manifest.
        entropy: returns unpredictable octets. (ML-KEM encapsulation draws its own.)
        nonce: the session nonce: 32 octets drawn at this start of the process, never stored.
        pins: the Ed25519 public keys of peers that this site pinned itself, out of band.
        snapshot: what :meth:`snapshot` returned last, if this run was started before.
        last_round: the largest round number in the site's own database, a second line behind the snapshot.
        backend: cipher implementation; all give the same masks.

    Raises:
        UnpinnedMember: the manifest has a member that is not pinned here.
        ConfigError: the identity is not the manifest's.
        SnapshotError: the snapshot is damaged or of another run.
        SessionOver: the snapshot says that an earlier process stopped at a PeerError.
        MisuseError: a malformed argument.

    Every method but :meth:`snapshot` raises SessionOver once a PeerError has ended the session.
    """

    __reduce__ = uncopied  # two copies of an open round would mask two vectors with one key

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
        backend: masks.Backend = masks.CTR,
    ) -> None:
        _check_membership(manifest, member, identity, pins)
        if not (isinstance(nonce, bytes) and len(nonce) == 32):
            raise MisuseError("a session nonce is 32 octets")
        self._manifest, self._me, self._identity, self._nonce = manifest, member, identity, nonce
        self._entropy, self._backend = entropy, backend
        self._phase: StoredPhase
        self._round: RoundPhase = Idle()
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
        return isinstance(self._phase, Rounds)

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
        return dump(self._manifest.digest(), self._me, (self._phase, self._progress, self._seen))

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
        """Return what follows the hello of every connection: our messages of the last wave, byte for byte.

        When the server is known to have them all, only that we are ready.
        """
        self._alive()
        match self._phase:
            case Rounds(joining=None) as rounds:
                return list(rounds.sent) or [Ready(self._me, rounds.wave)]
            case Rounds(joining=(Advertised() | Agreeing() | Confirming()) as wave):
                return list(wave.sent)
            case (Advertised() | Agreeing() | Confirming()) as wave:
                return list(wave.sent)
        raise AssertionError(self._phase)  # Over was refused above

    def receive(self, message: SetupFromServer | RoundFromServer) -> list[ToServer]:
        """Take a message and return our answers; a Step goes to :meth:`open` and a Sum to :meth:`accept` instead.

        In set-up the first message of each kind and wave is final: the same one again is ignored, another one is an
        error.

        Raises:
            PeerError: the server or a peer broke the protocol; the session is over.
        """
        self._alive()
        if isinstance(message, Survivors | Agreement | Blame):
            return [*self._receive_round(message)]
        with self._terminal():
            slot, content = (type(message).__name__, message.wave), digest(encode(message))
            if slot in self._seen:
                if hmac.compare_digest(self._seen[slot], content):
                    return []
                raise SecondMessage(f"a second {slot[0]} of wave {message.wave}; the first one is final")
            rounds, wave = self._under_way()
            earlier = 0 if wave is None or isinstance(message, Invite) else len(wave.sent)
            after = self._transition(rounds, wave, message)
            self._seen[slot] = content
            self._enter(rounds, after)
            return list(after.sent[earlier:])

    def _under_way(self) -> tuple[Rounds | None, Wave | None]:
        """Return what earlier waves have led to, and the wave under way."""
        match self._phase:
            case Rounds(joining=wave) as rounds:
                return rounds, wave
            case (Advertised() | Agreeing() | Confirming()) as wave:
                return None, wave
        raise AssertionError(self._phase)  # Over was refused before

    def _transition(self, rounds: Rounds | None, wave: Wave | None, message: SetupFromServer) -> SetupPhase:
        manifest, me, standing = self._manifest, self._me, rounds.standing if rounds else None
        match wave, message:
            case ((None | Advertised(wave=0)), Invite()):
                return on_invite(message, manifest, me, self._identity, self._entropy, standing)
            case Advertised(wave=message.wave), Bundles():
                return on_bundles(wave, message, manifest, me, standing)
            case Agreeing(wave=message.wave), Ciphertexts():
                return on_ciphertexts(wave, message, manifest, me)
            case Confirming(wave=message.wave), Confirmed():
                return on_confirmed(wave, message, manifest, me)
            case _, Invite():
                raise RosterRefused(f"an invitation to wave {message.wave} while another wave is under way here")
        where = f"phase {type(wave).__name__} of wave {wave.wave}" if wave else f"phase {type(self._phase).__name__}"
        raise UnexpectedMessage(f"{type(message).__name__} of wave {message.wave} in {where}")

    def _enter(self, rounds: Rounds | None, after: SetupPhase) -> None:
        match rounds, after:
            case None, Agreed():
                self._phase = self._past(Rounds.first(after), self._progress.last_round)
            case None, (Advertised() | Agreeing() | Confirming()):
                self._phase = after
            case Rounds(), Agreed():
                self._phase = rounds.joined(after)
            case Rounds(), (Advertised() | Agreeing() | Confirming()):
                # An invitation proves that the last wave is complete everywhere: nobody needs our messages of it.
                self._phase = replace(rounds, sent=(), joining=after)

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
            MisuseError: terms that count on another number of honest sites.
        """
        self._alive()
        with self._terminal():
            return Context.build(self._manifest, round_, roster, terms, self._progress.transcript)

    def open(self, step: Step, terms: Terms, *, executor: Executor | None = None) -> Context:
        """Reserve a round: after this its number is used, whether an upload follows or not.

        Args:
            step: as received, after all sums that came before it were accepted.
            terms: what this round sums, by our own computation.
            executor: computes the masks while the caller computes its contribution; :meth:`upload` waits for them.

        Returns:
            The context to charge, to draw noise under, and to pass to :meth:`upload`.

        Raises:
            RoundRefused: of a shorter history, used up, more than 1024 above the last, or beyond the run's end.
            RosterRefused: a stranger, too small, without us or with an old session of ours, with a member we share no
                keys with, or one change too many.
            LaneOverflow: the terms do not fit the manifest's lanes.
            MisuseError: sums are still to be accepted, or terms for another roster.
        """
        rounds = self._rounds("Step")
        if step.sums > self._progress.sums:
            raise MisuseError(f"accept all {step.sums} sums before opening a round; so far {self._progress.sums} are")
        lanes.require_room(terms.total_bound, self._manifest.lane_bits)
        with self._terminal():
            asked = check_step(self._manifest, self._me, self._nonce, self._progress, rounds, step)
            context = self.context(step.round, step.roster, terms)
        ratchet = rounds.ratchet.advance(step.round)
        self._round = prepare(self._manifest, self._me, context, ratchet, self._entropy, self._backend, executor)
        self._progress = replace(asked, last_round=step.round)
        self._phase = replace(rounds.asked(context.members), ratchet=ratchet.advance(step.round + 1))
        return context

    def upload(self, context: Context, coordinates: Coordinates) -> Upload:
        """Mask our vector for the round that is open. Nothing else is ever masked for it.

        Args:
            context: as returned by the last :meth:`open`.
            coordinates: any signed integer type, [d], on the lattice, clamped, noise share added.

        Returns:
            The upload, to be sent in ``parts``: ⌈d/lanes⌉ data words, tag word, canary word; in mode B share boxes too.

        Raises:
            MisuseError: this round is not open (a context serves once), or the vector has another type, length or
                range; the round stays open.
        """
        self._alive()
        phase, opened = self._phase, self._round
        if not (isinstance(phase, Rounds) and isinstance(opened, Opened) and opened.context == context):
            raise MisuseError(f"round {context.round} is not open: a context serves for one upload, ever")
        opened.check(coordinates)
        # Leave the phase before masking: whatever happens below, these keys mask nothing else.
        self._round = Idle()
        words = opened.mask(coordinates, phase.group)
        self._round = opened.after
        return Upload(self._me, context.round, words, opened.boxes)

    def _receive_round(self, message: RoundFromServer) -> list[RoundMessage]:
        """Take what the server says about a round after our upload.

        A round whose keys this process does not hold (any more) opens without us or not at all.
        """
        self._rounds(what := type(message).__name__)
        with self._terminal():
            if isinstance(message, Survivors):
                self._progress.refuse_others(message)
            gone = is_gone(self._manifest, self._progress, self._round, message.round)
            match self._round, message:
                case Sent(round=message.round) as phase, Blame():
                    return [CanaryKeys(self._me, phase.round, tuple(sorted(phase.canary.items())))]
                case Uploaded(round=message.round) as phase, Survivors():
                    self._round = Idle()  # leave before answering
                    self._progress, self._round = consenting(self._manifest, self._progress, phase, message)
                    return [self._round.consent]
                case (Consented(round=message.round) | Answered(round=message.round)) as phase, Survivors():
                    return [phase.consent]
                case Consented(round=message.round) as phase, Agreement():
                    self._round = Idle()
                    self._round = answer(phase, message, self._manifest.threshold)
                    return [self._round.shares]
                case Answered(round=message.round) as phase, Agreement():
                    if phase.agreement != message:
                        raise SecondMessage(f"a second Agreement on round {message.round}, which is answered")
                    return [phase.shares]
                case _, (Survivors() | Agreement()) if gone:
                    return []
            raise UnexpectedMessage(f"{what} of round {message.round} in phase {type(self._round).__name__}")

    def accept(self, total: Sum, terms: Terms) -> Coordinates:
        """Check a broadcast sum and take it into the transcript.

        Args:
            total: the next sum of the run, whether we were on its roster or not.
            terms: what its round summed, by our own computation.

        Returns:
            int64[d], |coordinate| ≤ ``terms.total_bound``. Apply it only now.

        Raises:
            ForgedSum: survivors, size, canary, range or tag is wrong: the sum stays unapplied and the session is over.
            RoundRefused: not after the last accepted sum.
            RosterRefused: a roster that nobody may have uploaded for.
            MisuseError: terms for another roster.
        """
        rounds, progress = self._rounds("Sum"), self._progress
        with self._terminal():
            if total.round <= progress.summed:
                raise RoundRefused(f"the sum of round {total.round} comes after that of round {progress.summed}")
            context = self.context(total.round, total.roster, terms)
            coordinates, tag = check_sum(self._manifest, progress, total, context, rounds.group, self._backend)
        transcript = extend(progress.transcript, context, total.survivors, total.words[:-16], tag)
        self._progress = progress.accepted(total, transcript)
        self._phase, self._round = self._past(rounds, self._progress.last_round), Idle()
        return coordinates

    # ---- private ----

    def _alive(self) -> None:
        if isinstance(self._phase, Over):
            raise SessionOver(f"this site stopped in this run ({self._phase.code}) and holds no key of it any more")

    def _rounds(self, what: str) -> Rounds:
        """Return the phase in which rounds happen."""
        self._alive()
        if isinstance(self._phase, Rounds):
            return self._phase
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
            self._phase, self._round = Over(error.code), Idle()
            raise


def _check_membership(manifest: Manifest, member: int, identity: Identity, pins: frozenset[bytes]) -> None:
    if manifest.member(member).identity != identity.public:
        raise ConfigError(f"this site's identity is not the one the manifest lists for member {manifest.call(member)}")
    # Who is a member is decided by the hospitals: a coordinator that could admit one would own the collusion bound.
    strangers = [each for each in manifest.members if each.index != member and each.identity not in pins]
    if strangers:
        names = ", ".join(manifest.call(each.index) for each in strangers)
        raise UnpinnedMember(f"the identity of {names} is not pinned here: compare fingerprints out of band first")
