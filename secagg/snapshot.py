"""A client's state as bytes for one file that is replaced atomically, readable by its owner alone.

The file holds secrets. It never holds the session nonce (a restored copy must not be able to mask as the
process that wrote it) nor the keys of an open round (they live in memory between ``open`` and ``upload``).
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias, cast

from secagg.agreement import Advertised, Agreed, Agreeing, Confirming, Standing, Wave
from secagg.encoding import Value, dec, enc
from secagg.errors import PeerError, SecondMessage, SnapshotError
from secagg.keys import PROTOCOL_VERSION, Ephemeral, Label, PairKeys
from secagg.messages import Bundle, Bundles, Confirmations, SetupMessage, Sum, Survivors, decode, encode
from secagg.ratchet import Ratchet

__all__ = ["Over", "Progress", "Rounds", "State", "StoredPhase", "dump", "load"]


@dataclass(frozen=True)
class Rounds:
    """A wave of set-up is done: the phase in which rounds are opened and sums accepted, and members may join.

    Args:
        group: the group key, 32 octets.
        owner: the member that gives it to newcomers.
        ratchet: chain keys of all peers.
        wave: the last one completed.
        sent: our messages of that wave, kept until something proves that the server has them all.
        joining: the next wave, while it is under way.
        late: whether we joined by a later wave than 0 and have opened no round yet. The run may then be at any number.
    """

    group: bytes = field(repr=False)
    owner: int
    ratchet: Ratchet
    wave: int
    sent: tuple[SetupMessage, ...] = field(repr=False)
    joining: Wave | None = None
    late: bool = False

    @classmethod
    def first(cls, agreed: Agreed) -> Self:
        """Return the state after the first wave of ours."""
        ratchet = Ratchet(0, agreed.chains)
        return cls(agreed.group, agreed.owner, ratchet, agreed.wave, agreed.sent, late=agreed.wave > 0)

    @property
    def standing(self) -> Standing:
        """What we bring into the next wave."""
        return Standing(self.wave, self.owner, self.group, frozenset(self.ratchet.chains))

    def asked(self, members: tuple[int, ...]) -> Self:
        """Take note that a round was opened for these members.

        A Step that names a new peer of the last wave proves that everybody is ready in it, so nobody needs our messages
        of it any more.
        """
        peers = {peer for message in self.sent if isinstance(message, Confirmations) for peer, _, _ in message.to}
        return replace(self, late=False, sent=() if peers & set(members) else self.sent)

    def joined(self, agreed: Agreed) -> Self:
        """Take in the newcomers; their chain keys, of round 0, are turned to where all others are."""
        newcomers = Ratchet(0, agreed.chains).advance(self.ratchet.position)
        ratchet = replace(self.ratchet, chains={**self.ratchet.chains, **newcomers.chains})
        return replace(self, ratchet=ratchet, wave=agreed.wave, sent=agreed.sent, joining=None)


@dataclass(frozen=True)
class Over:
    """A PeerError ended the session. No key is left."""

    code: str


@dataclass(frozen=True)
class Progress:
    """Where a client stands.

    Args:
        last_round: the largest round number ever opened or seen summed.
        transcript: digest of the history, 32 octets.
        sums: how many sums are in it.
        summed: round of the last one, 0 before the first.
        roster: members of the last roster asked for or summed.
        changes: how often that roster has changed.
        consented: mode B: the last round whose survivors this site has consented to, 0 before the first.
        survivors: those survivors; written before the consent leaves, so that no restart consents to others.
    """

    last_round: int
    transcript: bytes
    sums: int = 0
    summed: int = 0
    roster: tuple[int, ...] = ()
    changes: int = 0
    consented: int = 0
    survivors: tuple[int, ...] = ()

    def asked(self, roster: tuple[int, ...]) -> "Progress":
        """Count a roster, completed or not: the coordinator may hold the uploads either way."""
        changed = bool(self.roster) and roster != self.roster
        return replace(self, roster=roster, changes=self.changes + changed)

    def accepted(self, total: Sum, transcript: bytes) -> "Progress":
        """Take in a sum that has been checked; its survivors count like a roster."""
        last_round = max(self.last_round, total.round)
        counted = self.asked(total.survivors)
        return replace(counted, last_round=last_round, transcript=transcript, sums=self.sums + 1, summed=total.round)

    def refuse_others(self, message: Survivors) -> None:
        """Refuse survivors of a round that differ from those consented to, in this process or an earlier one.

        Raises:
            SecondMessage: they do.
        """
        if self.consented == message.round and self.survivors != message.members:
            raise SecondMessage(
                f"round {message.round}: survivors {message.members}, this site consented to {self.survivors}"
            )


StoredPhase: TypeAlias = Wave | Rounds | Over
_ProgressRow: TypeAlias = tuple[int, bytes, int, int, tuple[int, ...], int, int, tuple[int, ...]]
Seen: TypeAlias = Mapping[tuple[str, int], bytes]
State: TypeAlias = tuple[StoredPhase, Progress, Seen]


def dump(manifest: bytes, member: int, state: State) -> bytes:
    """Return the bytes of a state. Secret.

    Args:
        manifest: its digest; the state belongs to this run alone.
        member: and to this member.
        state: phase, progress and the digests of set-up messages received, by kind and wave.
    """
    phase, progress, seen = state
    body = enc(
        Label.SNAPSHOT,
        PROTOCOL_VERSION,
        manifest,
        member,
        _phase_record(phase),
        (
            progress.last_round,
            progress.transcript,
            progress.sums,
            progress.summed,
            progress.roster,
            progress.changes,
            progress.consented,
            progress.survivors,
        ),
        tuple((name, wave, value) for (name, wave), value in sorted(seen.items())),
    )
    return body + hashlib.sha256(body).digest()


def load(data: bytes, manifest: bytes, member: int) -> State:
    """Invert :func:`dump`.

    Raises:
        SnapshotError: damaged, of another version, or of another run or member.
    """
    body, checksum = data[:-32], data[-32:]
    if not hmac.compare_digest(hashlib.sha256(body).digest(), checksum):
        raise SnapshotError("the stored key state is damaged; this site cannot go on in this run")
    try:
        record = dec(body)
    except PeerError as error:
        raise SnapshotError("the stored key state does not decode") from error
    match record:
        case (
            Label.SNAPSHOT,
            str(version),
            bytes(of),
            int(whose),
            tuple(phase),
            tuple(progress),
            tuple(seen),
        ):
            pass
        case _:
            raise SnapshotError("the stored key state has a layout that this version does not know")
    if version != PROTOCOL_VERSION:
        raise SnapshotError(f"the stored key state is of {version}, this is {PROTOCOL_VERSION}")
    if (of, whose) != (manifest, member):
        raise SnapshotError(f"the stored key state belongs to another run or to member {whose}, we are {member}")
    try:
        rows = cast("tuple[tuple[str, int, bytes], ...]", seen)
        return (
            _read_phase(phase),
            Progress(*cast("_ProgressRow", progress)),
            {(name, wave): value for name, wave, value in rows},
        )
    except (PeerError, TypeError, ValueError) as error:
        raise SnapshotError("the stored key state does not decode") from error


def _phase_record(phase: StoredPhase) -> tuple[Value, ...]:
    match phase:
        case Rounds(group, owner, ratchet, wave, sent, joining, late):
            keys = (ratchet.position, tuple(sorted(ratchet.chains.items())))
            under_way = () if joining is None else _wave_record(joining)
            return ("rounds", group, owner, *keys, wave, _stored(sent), under_way, int(late))
        case Over(code):
            return ("over", code)
    return _wave_record(phase)


def _wave_record(wave: Wave) -> tuple[Value, ...]:
    match wave:
        case Advertised(newcomers, ephemeral, group, bundle):
            return ("advertised", newcomers, ephemeral.x25519, ephemeral.mlkem, group, encode(bundle))
        case Agreeing(ephemeral, group, bundles, pairs, sent):
            secrets = (ephemeral.x25519, ephemeral.mlkem, group)
            return ("agreeing", *secrets, encode(bundles), _pair_rows(pairs), _stored(sent))
        case Confirming(number, owner, group, setup, pairs, sent):
            return ("confirming", number, owner, group, setup, _pair_rows(pairs), _stored(sent))


def _read_phase(record: tuple[Value, ...]) -> StoredPhase:
    match record:
        case ("rounds", bytes(group), int(owner), int(position), tuple(chains), int(wave), tuple(sent), tuple(joining),
              int(late)):  # fmt: skip
            ratchet = Ratchet(position, dict(cast("tuple[tuple[int, bytes], ...]", chains)))
            under_way = _read_wave(joining) if joining else None
            return Rounds(group, owner, ratchet, wave, _messages(sent), under_way, bool(late))
        case ("over", str(code)):
            return Over(code)
    return _read_wave(record)


def _read_wave(record: tuple[Value, ...]) -> Wave:
    match record:
        case ("advertised", tuple(newcomers), bytes(x25519), bytes(mlkem), bytes(group), bytes(encoded)):
            bundle = cast("Bundle", decode(encoded))
            return Advertised(cast("tuple[int, ...]", newcomers), Ephemeral(x25519, mlkem), group, bundle)
        case ("agreeing", bytes(x25519), bytes(mlkem), bytes(group), bytes(encoded), tuple(pairs), tuple(sent)):
            bundles = cast("Bundles", decode(encoded))
            return Agreeing(Ephemeral(x25519, mlkem), group, bundles, _pairs(pairs), _messages(sent))
        case ("confirming", int(wave), int(owner), bytes(group), bytes(setup), tuple(pairs), tuple(sent)):
            return Confirming(wave, owner, group, setup, _pairs(pairs), _messages(sent))
    raise SnapshotError("the stored key state is in a phase that this version does not know")


def _pair_rows(pairs: Mapping[int, PairKeys]) -> tuple[Value, ...]:
    return tuple((peer, keys.chain, keys.confirm, keys.group) for peer, keys in sorted(pairs.items()))


def _pairs(rows: tuple[Value, ...]) -> dict[int, PairKeys]:
    typed = cast("tuple[tuple[int, bytes, bytes, bytes], ...]", rows)
    return {peer: PairKeys(*keys) for peer, *keys in typed}


def _stored(sent: tuple[SetupMessage, ...]) -> tuple[bytes, ...]:
    return tuple(encode(message) for message in sent)


def _messages(stored: tuple[Value, ...]) -> tuple[SetupMessage, ...]:
    return tuple(cast("SetupMessage", decode(data)) for data in cast("tuple[bytes, ...]", stored))
