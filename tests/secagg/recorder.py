"""Sessions that write their own record, and the replay of one member of a record.

Real clients and a real server in one process, messages delivered in the order in which they were sent. A record holds
every message that a member got or sent, the secrets that members drew, and messages that a member must refuse at a
given point. Everything follows from fixed seeds except the ML-KEM ciphertexts, whose randomness is the library's own: a
replay takes them from the record.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar
from unittest import mock

from secagg import PROTOCOL_VERSION, Client, Manifest, Mode, Send, SendSums, Server, StoreSum, Terms, masks
from secagg.keys import encapsulate
from secagg.messages import Complete, Encapsulations, Finish, Step, Sum, Upload, decode, encode, parts
from tests.federation import Study, entropy, identity, pins
from tests.secagg import primitives

Encapsulate = Callable[[bytes, str], tuple[bytes, bytes]]
TERMS = ("length", "share_variance", "honest", "steps", "clamp", "total_bound")


class Recorded:
    """ML-KEM encapsulation that gives the ciphertexts of a record again, in their order."""

    def __init__(self, events: list[dict[str, Any]], member: int | None = None) -> None:
        seeds = [bytes.fromhex(event["mlkem"]) for event in events if "mlkem" in event]
        self.seeds = {primitives.mlkem(seed): seed for seed in seeds}
        own = [e for e in events if member in (None, e["member"])]
        sent = [decode(bytes.fromhex(answer)) for event in own for answer in event["answers"]]
        self.left = deque(ct for each in sent if isinstance(each, Encapsulations) for _, ct in each.to)

    def __call__(self, public: bytes, who: str) -> tuple[bytes, bytes]:
        ciphertext = self.left.popleft()
        return primitives.decapsulate(self.seeds[public], ciphertext), ciphertext


class Member:
    """One client, its draws of entropy kept.

    Args:
        of: the manifest.
        index: its member.
        study: what it sums.
        name: of the session, from which its secrets follow.
    """

    backend: ClassVar = masks.CTR

    def __init__(self, of: Manifest, index: int, study: Study, name: str) -> None:
        self.manifest, self.index, self.study, self.nonce = of, index, study, bytes([index]) * 32
        self.drawn: list[bytes] = []
        chance = entropy(f"{name} {index}")

        def draw(size: int) -> bytes:
            self.drawn.append(chance(size))
            return self.drawn[-1]

        self.client = Client(
            of, index, identity(index), entropy=draw, nonce=self.nonce, pins=pins(of), backend=self.backend
        )  # fmt: skip

    def begin(self, *, owner: bool) -> dict[str, Any]:
        x25519, mlkem, group = self.drawn
        told = {"nonce": self.nonce, "x25519": x25519, "mlkem": mlkem} | ({"group": group} if owner else {})
        return self.event("begin", [self.client.hello(), *self.client.begin()], **told)

    def complete(self, message: Any) -> bool:
        return isinstance(message, Step) and self.client.sums == self.study.steps

    def take(self, message: Any) -> dict[str, Any]:
        """Give the client a message and return the record of it."""
        match message:
            case Step():
                return self.step(message)
            case Sum():
                terms = self.terms(message)
                values = self.client.accept(message, terms).tolist()
                told = {"terms": plain(terms), "values": values, "transcript": self.client.transcript}
                return self.event("sum", [], message, **told)
            case Finish():
                return self.event("finish", [], message)
        self.drawn.clear()
        before = self.chains()
        answers = self.client.receive(message)
        told = dict(zip(("x25519", "mlkem"), self.drawn, strict=False))
        if new := {str(peer): key.hex() for peer, key in self.chains().items() if peer not in before}:
            told["chains"] = new
        return self.event("receive", answers, message, **told)

    def step(self, step: Step) -> dict[str, Any]:
        self.drawn.clear()
        terms = self.terms(step)
        context = self.client.open(step, terms)
        values = self.study.data(self.index, step.round, 0)
        upload = self.client.upload(context, values)
        told = {"terms": plain(terms), "context": context.digest, "values": values.tolist()}
        if self.manifest.mode is Mode.B:
            told["fresh"] = self.drawn[0]
        return self.event("step", [upload], step, **told)

    def terms(self, message: Any) -> Terms:
        members = len(message.roster)
        terms = self.study.terms(self.client.sums, members, self.manifest.collusion)
        return replace(terms, honest=self.manifest.honest(members))

    def chains(self) -> dict[int, bytes]:
        """The chain keys it holds: of the round after the last one it has opened or seen summed."""
        ratchet = getattr(self.client._phase, "ratchet", None)
        return dict(ratchet.chains) if ratchet else {}

    def event(self, call: str, answers: list[Any], message: Any = None, **told: Any) -> dict[str, Any]:
        got = {} if message is None else {"message": encode(message).hex()}
        shown = {name: value.hex() if isinstance(value, bytes) else value for name, value in told.items()}
        return (
            {"member": self.index, "call": call} | got | shown | {"answers": [encode(each).hex() for each in answers]}
        )


def plain(terms: Terms) -> dict[str, Any]:
    return {"query": terms.query.hex()} | {name: getattr(terms, name) for name in TERMS}


class Session:
    """A session that writes its own record.

    Args:
        name: of the record.
        of: the manifest.
        study: what all members sum.
        record: an earlier record of this session, whose ciphertexts are used again.
    """

    def __init__(self, name: str, of: Manifest, study: Study, record: dict[str, Any] | None) -> None:
        self.name, self.manifest, self.study = name, of, study
        self.members: dict[int, Member] = {}
        self.server = Server(of, max_words=1 << 10, backend=Member.backend)
        self.sums: list[Sum] = []
        self.events: list[dict[str, Any]] = []
        self.up: deque[tuple[int, Any]] = deque()
        self.down: deque[tuple[int, Any]] = deque()
        self.held: list[tuple[int, Any]] = []
        self.hold: Callable[[int, Any], bool] = lambda _member, _message: False
        self.tamper: Callable[[Any], Any] = lambda message: message
        self.encapsulate: Encapsulate = Recorded(record["events"]) if record else encapsulate

    def start(self, *members: int) -> None:
        for index in members:
            self.members[index] = Member(self.manifest, index, self.study, self.name)
            self.events.append(self.members[index].begin(owner=index == min(self.members)))
            self.do(self.server.connect(self.members[index].client.hello()))
            self.up += [(index, message) for message in self.members[index].client.begin()]

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Deliver everything, members' messages first."""
        while (self.up or self.down) and not until():
            if self.up:
                index, message = self.up.popleft()
                if self.hold(index, message):
                    self.held.append((index, message))
                else:
                    self.do(self.server.receive(index, self.tamper(message)))
                continue
            index, message = self.down.popleft()
            member = self.members[index]
            if member.complete(message):
                answers = [Complete(index, member.client.transcript)]
                self.events.append(member.event("complete", answers))
            elif isinstance(message, Finish) and message.reason != "complete":
                continue  # its reason is the server's own sentence
            else:
                with mock.patch("secagg.agreement.encapsulate", self.encapsulate):
                    self.events.append(member.take(message))
                answers = [decode(bytes.fromhex(answer)) for answer in self.events[-1]["answers"]]
            for answer in answers:
                self.up += [(index, each) for each in (parts(answer, 32) if isinstance(answer, Upload) else [answer])]

    def do(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case Send(index, message):
                    self.down.append((index, message))
                case SendSums(index, start, stop):
                    self.down += [(index, each) for each in self.sums[start:stop]]
                case StoreSum(total):
                    self.sums.append(total)

    def find(self, member: int, call: str, kind: type | None = None, nth: int = 0) -> int:
        """Where in the record a member has taken its nth message of a kind."""
        own = [number for number, event in enumerate(self.events) if (event["member"], event["call"]) == (member, call)]
        return [number for number in own if kind is None or isinstance(self.got(number), kind)][nth]

    def got(self, number: int) -> Any:
        """What the member got in an event."""
        return decode(bytes.fromhex(self.events[number]["message"]))

    def said(self, number: int, kind: type) -> Any:
        """What the member answered in an event."""
        answers = [decode(bytes.fromhex(answer)) for answer in self.events[number]["answers"]]
        return next(answer for answer in answers if isinstance(answer, kind))

    def lie(self, after: int, message: Any, code: str, why: str, member: int = 0) -> dict[str, Any]:
        """A message that a member, by default the one of an event, must refuse right after the event."""
        member = member or self.events[after]["member"]
        call = "step" if isinstance(message, Step) else "sum" if isinstance(message, Sum) else "receive"
        told = {"message": encode(message).hex(), "code": code, "why": why}
        if call != "receive":
            sums = sum(event["call"] == "sum" and event["member"] == member for event in self.events[: after + 1])
            members, c = len(message.roster), self.manifest.collusion
            terms = replace(self.study.terms(sums, members, c), honest=self.manifest.honest(members))
            told["terms"] = plain(terms)
        return {"after": after, "member": member, "call": call} | told

    def record(self, *refusals: dict[str, Any]) -> dict[str, Any]:
        m = self.manifest
        return {
            "source": "recorded by tests/secagg/record_transcript.py from this implementation",
            "protocol": PROTOCOL_VERSION,
            "manifest": {
                "run_id": m.run_id.hex(), "study_digest": m.study_digest.hex(),
                "members": [[each.index, each.name, each.identity.hex()] for each in m.members],
                "collusion": m.collusion, "minimum_roster": m.minimum_roster, "roster_changes": m.roster_changes,
                "max_rounds": m.max_rounds, "mode": str(m.mode), "suite": m.suite, "lane_bits": m.lane_bits,
                "noise": str(m.noise), "digest": m.digest().hex(),
            },
            "identities": {str(index): identity(index).seed.hex() for index in m.indices},
            "events": self.events,
            "refusals": list(refusals),
        }  # fmt: skip


def replay(record: dict[str, Any], of: Manifest, study: Study, name: str, member: int, upto: int) -> Client:
    """Return a member's client as it is after an event of a record, its own answers compared on the way."""
    site = Member(of, member, study, name)
    assert site.begin(owner=member == record["events"][0]["member"])["answers"]
    with mock.patch("secagg.agreement.encapsulate", Recorded(record["events"], member)):
        for event in record["events"][: upto + 1]:
            if event["member"] == member and "message" in event:
                assert site.take(decode(bytes.fromhex(event["message"]))) == event
    return site.client
