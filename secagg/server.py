"""The coordinator's half of the protocol: a blind adder. Sans-IO: events in, actions out.

It holds no model, names no query, chooses no privacy parameter. It relays set-up, asks rosters for rounds, adds the
uploads modulo 2⁶⁴, has every sum stored, and sees that each member gets the sums it lacks. In mode A it never holds a
key; in mode B survivors give it what opens one sum, theirs. All it can do to a patient by lying is to make a round
useless.

::

    Gathering ──▶ Uploading ──mode A: sum stored──▶ Uploading … ──all complete──▶ Finished
        │         │   │ └──mode B──▶ Consenting ──▶ Revealing ──sum stored──▶ Uploading …
        │         │   └──mode A, canaries do not fit──▶ Blaming ──▶ Finished
        ▼         ▼ no roster is allowed; so after every round that was given up
       Waiting ◀──┘   ──a roster is allowed──▶ Uploading      ──patience over──▶ Finished

A :class:`~secagg.errors.PeerError` out of :meth:`Server.connect` or :meth:`Server.receive` concerns that one
connection: nothing has changed; close it, and report :meth:`Server.disconnect` if it was connected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from secagg.actions import Action, Arm, Send, SendSums, Stop, StoredSetup, StoreSum, SumRecord
from secagg.adder import Uploading
from secagg.blame import Blaming
from secagg.collecting import Consenting, Revealing
from secagg.errors import MalformedMessage, MisuseError, UnexpectedMessage
from secagg.greeting import check_hello
from secagg.manifest import Manifest, Mode
from secagg.masks import CTR, Backend
from secagg.messages import (
    Bundle,
    CanaryKeys,
    Complete,
    Confirmations,
    Consent,
    Encapsulations,
    Finish,
    Hello,
    Part,
    Ready,
    Refused,
    Shares,
    Sum,
    ToServer,
)
from secagg.rosters import Attendance, Session
from secagg.waves import Waves

__all__ = ["COMPLETE", "PARTED", "Server"]

COMPLETE: Final = "complete"
"""Reason in the Finish of a run that has all its sums."""
PARTED: Final = "sites end with another history"
"""How the reason begins if members did not end with the same; the fewer ones' names follow."""


@dataclass(frozen=True)
class _Gathering:
    """No round yet in this process: we wait for everybody who is expected."""


@dataclass(frozen=True)
class _Between:
    """A round has just ended, one way or the other."""


@dataclass(frozen=True)
class _Waiting:
    """No roster is allowed now; the patience timer runs."""


@dataclass(frozen=True)
class _Finished:
    """The run is over."""

    reason: str


_Round: TypeAlias = Uploading | Consenting | Revealing | Blaming
_Phase: TypeAlias = _Gathering | _Round | _Between | _Waiting | _Finished


class Server:
    """The adder of one run. Memory: one vector (in mode B also uploads that are not whole yet), and small records.

    The caller executes the returned actions in order, each durable before the next.

    Args:
        manifest: of the run.
        sums: records of all sums stored so far.
        last_round: the largest number of any StoreRound so far.
        relayed: all stored set-up messages, in order.
        max_words: the longest upload taken, in 64-bit words (data, tag and canary).
        roster: ``StoreRound.roster`` of the last round; without it the last sum's survivors.
        changes: ``StoreRound.changes`` of the last round; without it counted from the sums, which misses
            changes in rounds that were given up (a site stops when its own count passes the study's budget).
        finished: reason with which an earlier process ended the run; members that come late still get their sums.
        backend: cipher implementation for opening sums of mode B.

    Raises:
        MisuseError: sums not in ascending order of round, or beyond `last_round`.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        sums: Sequence[SumRecord] = (),
        last_round: int = 0,
        relayed: Sequence[StoredSetup] = (),
        max_words: int,
        roster: tuple[int, ...] = (),
        changes: int = 0,
        finished: str = "",
        backend: Backend = CTR,
    ) -> None:
        self._manifest, self._max_words, self._sums = manifest, max_words, len(sums)
        self._waves = Waves(manifest, relayed)
        self._here = Attendance(manifest, self._waves, sums, last_round, roster, changes)
        self._backend, self._unopened = backend, 0  # rounds of mode B running that did not open
        self._phase: _Phase = _Finished(finished) if finished else _Gathering()

    @property
    def sums(self) -> int:
        """How many sums there are."""
        return self._sums

    # ---- events ----

    def connect(self, hello: Hello) -> list[Action]:
        """A member's connection has said hello; it replaces an earlier connection of the member.

        Raises:
            PeerError: of another run, not signed by the member, or claiming sums or rounds that never were.
        """
        check_hello(self._manifest, hello, self._sums, self._here.last_round)
        member, phase = hello.member, self._phase
        actions: list[Action] = []
        if isinstance(phase, _Gathering) and not self._here.sessions:
            actions.append(Arm("patience"))
        self._lose(member)
        self._here.sessions[member] = Session(hello.nonce, hello.sums)
        if isinstance(phase, _Finished):
            return [*self._catch_up(member), Send(member, Finish(self._sums, phase.reason))]
        actions += [*self._waves.backlog(member), *self._catch_up(member), *self._repeat(hello), *self._proceed()]
        return actions + self._advance()

    def receive(self, member: int, message: ToServer) -> list[Action]:
        """A connected member has sent a message.

        Raises:
            PeerError: it breaks the protocol; nothing has changed.
            MisuseError: the member is not connected.
        """
        if isinstance(self._phase, _Finished):
            return []
        if member not in self._here.sessions:
            raise MisuseError(f"member {member} is not connected")
        self._check(member, message)
        actions = self._take(member, message)
        self._here.stalled.discard(member)
        if isinstance(message, Part) and not message.last:
            return actions  # nothing follows from an upload that is not whole
        return actions + self._advance()

    def _take(self, member: int, message: ToServer) -> list[Action]:  # noqa: C901  # one row per message and phase
        """Tell what each message does in each phase; what is absent here is illegal."""
        match self._phase, message:
            case _, Bundle() | Encapsulations() | Confirmations() | Ready():
                return self._set_up(member, message)
            case phase, Refused():
                self._here.gone[member] = message.code
                if isinstance(phase, _Round):
                    phase.lose(member)
                return self._proceed()
            case Uploading() as uploads, Complete() if member in uploads.silent:
                uploads.complete[member] = message.transcript
            case _, Complete():
                pass
            case Uploading() as uploads, Part() if message.round == uploads.number and member in uploads.silent:
                uploads.take(message)
            case _, Part():
                pass  # the same again, too late, or of a round that was given up: it is never added
            case Consenting() as consents, Consent() if message.round == consents.number:
                consents.take(message)
            case Revealing() as reveals, Shares() if message.round == reveals.number:
                reveals.take(message)
            case Blaming() as blame, CanaryKeys() if message.round == blame.number:
                blame.take(message)
            case phase, Consent() | Shares() if self._late(message.round):
                pass
            case phase, _:
                kind = type(message).__name__
                raise UnexpectedMessage(f"{self._call(member)} sent a {kind} in phase {type(phase).__name__}")
        return []

    def _check(self, member: int, message: ToServer) -> None:
        """Refuse what is illegal in every phase."""
        who, kind = self._call(member), type(message).__name__
        sender = message.sender if isinstance(message, Encapsulations | Confirmations | Consent) else message.member
        if sender != member:
            raise UnexpectedMessage(f"{who} sent a {kind} of member {sender}")
        match message:
            case Part() | Consent() | Shares() | CanaryKeys() if message.round > self._here.last_round:
                raise UnexpectedMessage(f"{who} sent a {kind} for a round {message.round} nobody opened")
            case Part(size=size) if size > 8 * self._max_words:
                raise MalformedMessage(f"{who} uploads {size} octets, more than {8 * self._max_words}")

    def disconnect(self, member: int) -> list[Action]:
        """A member's connection has broken. In mode A a round that still needs its upload is given up at once."""
        if isinstance(self._phase, _Finished):
            return []
        self._lose(member)
        return self._advance()

    def deadline(self) -> list[Action]:
        """The timer that the last Arm started has fired."""
        match self._phase:
            case Uploading() | Consenting() | Revealing() as stage:
                self._here.stalled |= stage.silent & self._here.sessions.keys()
                return self._end(stage)
            case Blaming() as stage:
                return self._end(stage)
            case _Gathering() if self._waves.enough(self._here.gone):
                # Enough are there to begin; who is missing may join later.
                return [*self._waves.close(), Arm("patience"), *self._advance()]
            case _Gathering():
                self._phase = _Waiting()
                return self._advance() or self._stop(f"in time neither set up nor back: {self._here.away()}")
            case _Waiting():
                return self._stop(f"no roster the study allows; waited in vain for: {self._here.away()}")
        return []

    # ---- set-up and connections ----

    def _set_up(self, member: int, message: Bundle | Encapsulations | Confirmations | Ready) -> list[Action]:
        if member in self._here.gone:
            return []
        actions: list[Action] = [*self._waves.receive(member, message), *self._proceed()]
        if isinstance(message, Ready):  # with the last one of a wave its newcomers can check sums
            actions += [action for each in sorted(self._here.sessions) for action in self._catch_up(each)]
        return actions

    def _proceed(self) -> list[Action]:
        return [*self._waves.proceed(frozenset(self._here.sessions), self._here.gone)]

    def _lose(self, member: int) -> None:
        """Forget a connection."""
        if self._here.sessions.pop(member, None) is not None:
            self._here.stalled.discard(member)
            if isinstance(self._phase, Uploading):
                self._phase.disconnect(member)

    def _repeat(self, hello: Hello) -> list[Action]:
        """Ask a member again that comes back within a round; in another session it cannot answer any more."""
        phase, member = self._phase, hello.member
        if not isinstance(phase, _Round) or member not in dict(phase.roster):
            return []
        if dict(phase.roster)[member] != hello.nonce:
            phase.lose(member)
        opened = isinstance(phase, Uploading) and hello.last_round >= phase.number
        return [Send(member, phase.question(member))] if member in phase.silent and not opened else []

    def _catch_up(self, member: int) -> list[Action]:
        """Send the sums that a connection lacks, once."""
        session, start = self._here.sessions[member], self._here.sessions[member].sums
        if start == self._sums or member not in self._waves.ready:
            return []
        session.sums = self._sums
        return [SendSums(member, start, self._sums)]

    # ---- rounds ----

    def _advance(self) -> list[Action]:
        """Do whatever the present state allows: end a stage, begin the next round, wait, or end the run."""
        match self._phase:
            case _Finished():
                return []
            case Uploading() as uploads if uploads.closing(self._here.sessions):
                return self._close(uploads)
            case Uploading() as uploads if uploads.hopeless:
                self._phase = _Between()
            case Uploading() | Consenting() | Revealing() | Blaming() as stage:
                return [] if stage.silent else self._end(stage)
            case _Gathering() if not self._here.expected() <= self._here.able():
                return self._hopeless()
        roster = self._here.choose()
        if roster is not None:
            return self._begin(roster)
        actions = self._hopeless()
        if isinstance(self._phase, _Between):
            self._phase = _Waiting()
            actions.append(Arm("patience"))
        return actions

    def _begin(self, members: tuple[int, ...]) -> list[Action]:
        number = self._here.last_round + 1
        if number > self._manifest.max_rounds:
            return self._stop(f"the {self._manifest.max_rounds} round numbers of the study are used up")
        uploads = Uploading(number, self._sums, self._here.present(members), self._manifest)
        return [self._here.count(number, members), *self._ask(uploads)]

    def _ask(self, stage: _Round) -> list[Action]:
        """Begin a stage: put its question to everybody who is there."""
        self._phase = stage
        asked = sorted(stage.silent & self._here.sessions.keys())
        return [*(Send(each, stage.question(each)) for each in asked), Arm("round"), *self._advance()]

    def _end(self, stage: _Round) -> list[Action]:
        """End a stage: everybody has answered who will, or the deadline has passed."""
        self._phase, threshold = _Between(), self._manifest.threshold
        match stage:
            case Uploading():
                return self._uploaded(stage)
            case Consenting() if stage.enough(threshold):
                return self._ask(Revealing(stage))
            case Revealing() if stage.enough(threshold):
                return self._store(stage.sum(threshold, self._backend))
            case Blaming():
                diagnosis = stage.diagnosis().sentence(self._manifest.call)
                return self._stop(f"round {stage.number}: the uploads do not fit. {diagnosis}")
        return self._advance()

    def _uploaded(self, uploads: Uploading) -> list[Action]:
        whole, number, complete = uploads.whole, uploads.number, uploads.complete
        if not whole or len(whole) + len(complete) < uploads.needed:
            return self._advance()
        odd = uploads.odd()
        if odd == whole:
            return self._stop(f"round {number}: uploads of different length: not all run one study")
        self._here.gone |= dict.fromkeys(odd, "odd-length") | dict.fromkeys(complete, COMPLETE)
        if odd or len(whole) < uploads.needed:
            return self._advance()
        if self._manifest.mode is Mode.B:
            return self._survived(uploads)
        if uploads.fits:
            return self._store(uploads.sum())
        return self._ask(Blaming(uploads))

    def _survived(self, uploads: Uploading) -> list[Action]:
        """Mode B: ask for consent to those whose upload is whole, unless that is a change too many."""
        if not self._here.allows(uploads.whole):
            return self._advance()
        changed = uploads.whole != uploads.members
        noted = [self._here.count(uploads.number, uploads.whole)] if changed else []
        return [*noted, *self._ask(Consenting(uploads))]

    def _store(self, total: Sum | None) -> list[Action]:
        """Have a sum stored and sent to everybody; without one the round has not opened and is given up."""
        if total is None:
            self._unopened += 1
            if self._unopened < 2:
                return self._advance()
            return self._stop(
                f"round {self._here.last_round}: the second one running that does not open: a site runs another study, "
                "or reveals wrong shares or keys"
            )
        self._sums, self._unopened = self._sums + 1, 0
        sends = [action for member in sorted(self._here.sessions) for action in self._catch_up(member)]
        return [StoreSum(total), *sends, *self._advance()]

    # ---- who is there, and the end ----

    def _late(self, number: int) -> bool:
        """Whether the round of a consent or of shares is past the stage that asks for them."""
        early = isinstance(self._phase, Uploading | Consenting) and number == self._phase.number
        return self._manifest.mode is Mode.B and not early

    def _hopeless(self) -> list[Action]:
        """Stop if nothing can come any more of those that have not stopped for good."""
        if reason := self._here.too_few():
            return self._stop(reason)
        if not self._here.roster and self._waves.stuck(self._here.gone):
            return self._stop(f"set-up cannot complete; stopped: {self._here.codes()}")
        return []

    def _close(self, uploads: Uploading) -> list[Action]:
        if others := uploads.dissenters():
            return self._stop(f"{PARTED}: {self._here.names(others)}")
        return self._stop(COMPLETE, ok=True)

    def _stop(self, reason: str, *, ok: bool = False) -> list[Action]:
        # The reason goes to every site: at most 500 characters, whatever the sites are called.
        self._phase = _Finished(reason[:500])
        last: list[Action] = []
        for member in sorted(self._here.sessions):
            last += [*self._catch_up(member), Send(member, Finish(self._sums, reason[:500]))]
        return [*last, Stop(reason, ok)]

    def _call(self, member: int) -> str:
        return f"member {self._manifest.call(member)}"
