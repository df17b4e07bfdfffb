"""The coordinator's half of the protocol, mode A: a blind adder. Sans-IO: events in, actions out.

It holds no key and no model, names no query, chooses no privacy parameter. It relays set-up, asks rosters for
rounds, adds the uploads of a complete roster modulo 2⁶⁴, keeps every sum, and sends each member the sums it
lacks. All it can do to a patient by lying is to make a round useless.

::

    Gathering ──▶ Running ──sum stored──▶ Running … ──all complete──▶ Finished
        │          │   ▲ next number                                     ▲
        └──────────┴─▶ Waiting (no roster is allowed) ──patience over────┘

A :class:`~secagg.errors.PeerError` out of :meth:`Server.connect` or :meth:`Server.receive` concerns that one
connection: nothing has changed; close it, and report :meth:`Server.disconnect` if it was connected.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from secagg.actions import Action, Arm, Send, Stop, StoreRound, StoreSetup, StoreSum
from secagg.adder import Adder
from secagg.errors import MalformedMessage, MisuseError, UnexpectedMessage
from secagg.keys import PROTOCOL_VERSION, Purpose, verify
from secagg.manifest import Manifest
from secagg.messages import Complete, Finish, Hello, Refused, SetupMessage, Step, Sum, ToServer, Upload
from secagg.relay import Relay

__all__ = [
    "COMPLETE",
    "Action",
    "Arm",
    "Send",
    "Server",
    "Stop",
    "StoreRound",
    "StoreSetup",
    "StoreSum",
]

COMPLETE: Final = "complete"
"""Reason in the Finish of a run that has all its sums."""


@dataclass
class _Session:
    """One member's present connection."""

    nonce: bytes
    sums: int  # how many sums the member holds or was sent on this connection


@dataclass(frozen=True)
class _Gathering:
    """No round yet in this process: we wait for everybody who is expected."""


@dataclass(frozen=True)
class _Running:
    """A round is out."""

    adder: Adder


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


_Phase: TypeAlias = _Gathering | _Running | _Between | _Waiting | _Finished


class Server:
    """The adder of one run.

    The caller executes the returned actions in order, each durable before the next.

    Args:
        manifest: of the run.
        sums: all sums stored so far.
        last_round: the largest number of any StoreRound so far.
        relayed: all stored set-up messages, in order.
        max_words: the longest upload taken, in 64-bit words (data, tag and canary).
        roster: ``StoreRound.roster`` of the last round; without it the last sum's.
        changes: ``StoreRound.changes`` of the last round; without it counted from the sums, which misses
            changes in rounds that were given up (a site stops when its own count passes the study's budget).
        finished: reason with which an earlier process ended the run; members that come late still get their sums.

    Raises:
        MisuseError: sums not in ascending order of round, or beyond `last_round`.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        sums: Sequence[Sum] = (),
        last_round: int = 0,
        relayed: Sequence[SetupMessage] = (),
        max_words: int,
        roster: tuple[int, ...] = (),
        changes: int = 0,
        finished: str = "",
    ) -> None:
        numbers = [each.round for each in sums]
        if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > last_round):
            raise MisuseError(f"stored sums of rounds {numbers} do not fit a last round of {last_round}")
        rosters = [tuple(member for member, _ in each.roster) for each in sums]
        self._manifest, self._max_words = manifest, max_words
        self._sums = list(sums)
        self._relay = Relay(manifest, relayed)
        self._roster = roster or (rosters[-1] if rosters else ())
        self._changes = max(changes, sum(a != b for a, b in itertools.pairwise(rosters)))
        self._last_round = last_round
        self._sessions: dict[int, _Session] = {}
        self._stalled: set[int] = set()  # missed a deadline and have sent nothing since
        self._gone: dict[int, str] = {}  # stopped for good → code
        self._phase: _Phase = _Finished(finished) if finished else _Gathering()

    @property
    def sums(self) -> int:
        """How many sums there are."""
        return len(self._sums)

    # ---- events ----

    def connect(self, hello: Hello) -> list[Action]:
        """A member's connection has said hello; it replaces an earlier connection of the member.

        Raises:
            PeerError: of another run, not signed by the member, or claiming sums or rounds that never were.
        """
        self._check_hello(hello)
        member = hello.member
        if isinstance(self._phase, _Finished):
            return [Send(member, Finish(tuple(self._sums[hello.sums :]), self._phase.reason))]
        actions: list[Action] = []
        if isinstance(self._phase, _Gathering) and not self._sessions:
            actions.append(Arm("patience"))
        self._lose(member)
        self._sessions[member] = _Session(hello.nonce, hello.sums)
        if member not in self._relay.ready:
            actions += [Send(*addressed) for addressed in self._relay.backlog(member)]
        return actions + self._advance()

    def receive(self, member: int, message: ToServer) -> list[Action]:
        """A connected member has sent a message.

        Raises:
            PeerError: it breaks the protocol; nothing has changed.
            MisuseError: the member is not connected.
        """
        if isinstance(self._phase, _Finished):
            return []
        if member not in self._sessions:
            raise MisuseError(f"member {member} is not connected")
        stored: list[Action] = []
        match message:
            case Upload() | Complete() | Refused() if message.member != member:
                kind = type(message).__name__
                raise UnexpectedMessage(f"{self._call(member)} sent a {kind} of member {message.member}")
            case Upload():
                self._add(member, message)
            case Complete():
                self._complete(member, message)
            case Refused():
                self._gone[member] = message.code
                self._give_up(member)
            case _:
                stored += self._set_up(member, message)
        self._stalled.discard(member)
        return stored + self._advance()

    def disconnect(self, member: int) -> list[Action]:
        """A member's connection has broken. A round that still needs its upload is given up at once."""
        if isinstance(self._phase, _Finished):
            return []
        self._lose(member)
        return self._advance()

    def deadline(self) -> list[Action]:
        """The timer that the last Arm started has fired."""
        match self._phase:
            case _Running(adder):
                self._stalled |= adder.silent
                self._phase = _Between()
                return self._advance()
            case _Gathering():
                self._phase = _Waiting()
                return self._advance() or self._stop(f"in time neither set up nor back: {self._away()}")
            case _Waiting():
                return self._stop(f"no roster the study allows; waited in vain for: {self._away()}")
        return []

    # ---- what members send ----

    def _set_up(self, member: int, message: SetupMessage) -> list[Action]:
        if not self._relay.store(member, message):
            return []
        handed = [Send(*addressed) for addressed in self._relay.hand_on(message)]
        return [StoreSetup(message), *(send for send in handed if send.member in self._sessions)]

    def _add(self, member: int, upload: Upload) -> None:
        size, most = len(upload.words), 8 * self._max_words
        if size > most:
            raise MalformedMessage(f"{self._call(member)} uploads {size} octets, more than {most}")
        if upload.round > self._last_round:
            raise UnexpectedMessage(f"{self._call(member)} uploads for a round {upload.round} nobody opened")
        match self._phase:
            case _Running(adder) if upload.round == adder.number and member in adder.silent:
                adder.add(member, upload.words)
            case _:  # of a round that was given up, or the same again: it is never added
                pass

    def _complete(self, member: int, complete: Complete) -> None:
        match self._phase:
            case _Running(adder) if member in adder.silent:
                adder.complete[member] = complete.transcript
            case _:
                pass

    def _lose(self, member: int) -> None:
        """Forget a connection; give up a round that cannot complete without it."""
        if self._sessions.pop(member, None) is not None:
            self._stalled.discard(member)
            self._give_up(member)

    def _give_up(self, member: int) -> None:
        match self._phase:
            # Who has uploaded is not needed any more, and at the very end neither is who is silent.
            case _Running(adder) if member in adder.silent and not self._closing(adder):
                self._phase = _Between()
            case _:
                pass

    # ---- what follows ----

    def _advance(self) -> list[Action]:
        """Do whatever the present state allows: end a round, begin the next, wait, or end the run."""
        match self._phase:
            case _Finished():
                return []
            case _Running(adder):
                return self._follow(adder)
            case _Gathering() if not self._expected() <= self._able():
                return self._hopeless()
        roster = self._choose()
        if roster is not None:
            return self._begin(roster)
        actions = self._hopeless()
        if isinstance(self._phase, _Between):
            self._phase = _Waiting()
            actions.append(Arm("patience"))
        return actions

    def _follow(self, adder: Adder) -> list[Action]:
        if adder.empty and self._closing(adder):
            return self._close(adder)
        if adder.silent:
            return []
        self._phase = _Between()
        odd = adder.odd()
        if odd and len(odd) + len(adder.complete) == len(adder.members):
            return self._stop(f"round {adder.number}: uploads of different length: not all run one study")
        if odd or adder.complete:
            self._gone |= dict.fromkeys(odd, "odd-length") | dict.fromkeys(adder.complete, COMPLETE)
            return self._advance()
        if not adder.fits:
            return self._stop(f"round {adder.number}: the uploads do not fit: a site runs another study")
        total = adder.sum()
        self._sums.append(total)
        return [StoreSum(total), *self._advance()]

    def _begin(self, members: tuple[int, ...]) -> list[Action]:
        number = self._last_round + 1
        if number > self._manifest.max_rounds:
            return self._stop(f"the {self._manifest.max_rounds} round numbers of the study are used up")
        self._changes += bool(self._roster) and members != self._roster
        self._roster, self._last_round = members, number
        roster = tuple((member, self._sessions[member].nonce) for member in members)
        self._phase = _Running(Adder(number, roster))
        steps = [Send(member, Step(number, roster, self._lacking(member))) for member in members]
        return [StoreRound(number, members, self._changes), *steps, Arm("round")]

    def _choose(self) -> tuple[int, ...] | None:
        """Return the next roster, or None when none is allowed now.

        A site that comes back is taken only if a change stays in reserve for the next one that goes.
        """
        able, now = self._able(), frozenset(self._roster)
        left = self._manifest.roster_changes - self._changes
        if now and now <= able:
            chosen = able if left >= 2 else now
        elif not now or left >= 1:
            chosen = able
        else:
            return None
        return tuple(sorted(chosen)) if len(chosen) >= self._manifest.minimum_roster else None

    def _able(self) -> frozenset[int]:
        return frozenset((self._sessions.keys() & self._relay.ready) - self._stalled - self._gone.keys())

    def _expected(self) -> frozenset[int]:
        return frozenset(self._roster or self._manifest.indices) - self._gone.keys()

    def _hopeless(self) -> list[Action]:
        """Stop if the sites that have not stopped for good are too few for ever."""
        left = len(self._manifest.indices) - len(self._gone)
        gone = ", ".join(f"{self._manifest.call(each)}: {code}" for each, code in sorted(self._gone.items()))
        if self._gone and left < self._manifest.minimum_roster:
            return self._stop(f"only {left} sites are left; stopped: {gone}")
        if self._gone and self._relay.missing and not self._roster:
            return self._stop(f"set-up cannot complete; stopped: {gone}")
        return []

    def _closing(self, adder: Adder) -> bool:
        """Whether every connected member of the roster has all sums of the study, and enough of them have."""
        here = adder.members & self._sessions.keys()
        return here <= adder.complete.keys() and len(adder.complete) >= self._manifest.minimum_roster

    def _close(self, adder: Adder) -> list[Action]:
        usual = Counter(adder.complete.values()).most_common(1)[0][0]
        others = [member for member, transcript in sorted(adder.complete.items()) if transcript != usual]
        if others:
            return self._stop(f"sites end with another history: {', '.join(map(self._manifest.call, others))}")
        return self._stop(COMPLETE, ok=True)

    def _stop(self, reason: str, *, ok: bool = False) -> list[Action]:
        # The reason goes to every site: at most 500 characters, whatever the sites are called.
        self._phase = _Finished(reason[:500])
        finishes = [Send(each, Finish(self._lacking(each), reason[:500])) for each in sorted(self._sessions)]
        return [*finishes, Stop(reason, ok)]

    def _lacking(self, member: int) -> tuple[Sum, ...]:
        """Return the sums this connection lacks and count them as sent."""
        session = self._sessions[member]
        missed, session.sums = tuple(self._sums[session.sums :]), len(self._sums)
        return missed

    def _away(self) -> str:
        away = set(self._manifest.indices) - self._able()
        return ", ".join(map(self._manifest.call, sorted(away))) or "nobody"

    def _call(self, member: int) -> str:
        return f"member {self._manifest.call(member)}"

    def _check_hello(self, hello: Hello) -> None:
        manifest, who = self._manifest, self._call(hello.member)
        if hello.run_id != manifest.run_id or hello.member not in manifest.indices:
            raise UnexpectedMessage(f"the hello of {who} is for another run or not from a member")
        where = (hello.nonce, hello.last_round, hello.sums, hello.transcript)
        signed = (PROTOCOL_VERSION, manifest.suite, manifest.run_id, manifest.digest(), hello.member, *where)
        verify(manifest.member(hello.member).identity, hello.signature, who, Purpose.HELLO, *signed)
        # Numbers are stored before they are sent, so nobody honest can be past ours; a member whose word were taken for
        # more could use up the numbers of a study.
        if hello.sums > len(self._sums) or hello.last_round > self._last_round:
            raise UnexpectedMessage(
                f"{who} has {hello.sums} sums and is past round {hello.last_round}; the coordinator has "
                f"{len(self._sums)} sums and is at round {self._last_round}: its store is older than the run"
            )
