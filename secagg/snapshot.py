"""A client's state as bytes for one file that is replaced atomically, readable by its owner alone.

The file holds secrets. It never holds the session nonce (a restored copy must not be able to mask as the
process that wrote it) nor the keys of an open round (they live in memory between ``open`` and ``upload``).
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, cast

from secagg.agreement import Advertised, Agreeing, Confirming
from secagg.encoding import Value, dec, enc
from secagg.errors import PeerError, SnapshotError
from secagg.keys import PROTOCOL_VERSION, Ephemeral, Label, PairKeys
from secagg.messages import Bundles, SetupMessage, decode, encode
from secagg.ratchet import Ratchet

__all__ = ["Over", "Progress", "Rounds", "State", "StoredPhase", "dump", "load"]


@dataclass(frozen=True)
class Rounds:
    """Set-up is done: the phase in which rounds are opened and sums accepted."""

    group: bytes = field(repr=False)
    ratchet: Ratchet
    sent: tuple[SetupMessage, ...] = field(repr=False)  # kept until a Step proves that everybody got them


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
    """

    last_round: int
    transcript: bytes
    sums: int = 0
    summed: int = 0
    roster: tuple[int, ...] = ()
    changes: int = 0

    def asked(self, roster: tuple[int, ...]) -> "Progress":
        """Count a roster, completed or not: the coordinator may hold the uploads either way."""
        changed = bool(self.roster) and roster != self.roster
        return replace(self, roster=roster, changes=self.changes + changed)


StoredPhase: TypeAlias = Advertised | Agreeing | Confirming | Rounds | Over
Seen: TypeAlias = Mapping[tuple[str, int], bytes]
State: TypeAlias = tuple[StoredPhase, Progress, Seen]


def dump(manifest: bytes, member: int, state: State) -> bytes:
    """Return the bytes of a state. Secret.

    Args:
        manifest: its digest; the state belongs to this run alone.
        member: and to this member.
        state: phase, progress and the digests of set-up messages received.
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
        ),
        tuple((name, sender, value) for (name, sender), value in sorted(seen.items())),
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
    match dec(body):
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
            Progress(*cast("tuple[int, bytes, int, int, tuple[int, ...], int]", progress)),
            {(name, sender): value for name, sender, value in rows},
        )
    except (PeerError, TypeError, ValueError) as error:
        raise SnapshotError("the stored key state does not decode") from error


def _phase_record(phase: StoredPhase) -> tuple[Value, ...]:
    match phase:
        case Advertised(ephemeral, group, sent):
            return ("advertised", ephemeral.x25519, ephemeral.mlkem, group, _stored(sent))
        case Agreeing(ephemeral, group, bundles, pairs, confirmed, sent):
            secrets = (ephemeral.x25519, ephemeral.mlkem, group)
            known = (encode(bundles), _pair_rows(pairs), tuple(sorted(confirmed)))
            return ("agreeing", *secrets, *known, _stored(sent))
        case Confirming(group, setup, pairs, confirmed, sent):
            return ("confirming", group, setup, _pair_rows(pairs), tuple(sorted(confirmed)), _stored(sent))
        case Rounds(group, ratchet, sent):
            return ("rounds", group, ratchet.position, tuple(sorted(ratchet.chains.items())), _stored(sent))
        case Over(code):
            return ("over", code)


def _read_phase(record: tuple[Value, ...]) -> StoredPhase:
    match record:
        case ("advertised", bytes(x25519), bytes(mlkem), bytes(group), tuple(sent)):
            return Advertised(Ephemeral(x25519, mlkem), group, _messages(sent))
        case ("agreeing", bytes(x25519), bytes(mlkem), bytes(group), bytes(encoded), *rest):
            pairs, confirmed, sent = cast("tuple[tuple[Value, ...], ...]", rest)
            ephemeral, members = Ephemeral(x25519, mlkem), frozenset(cast("tuple[int, ...]", confirmed))
            bundles = cast("Bundles", decode(encoded))
            return Agreeing(ephemeral, group, bundles, _pairs(pairs), members, _messages(sent))
        case ("confirming", bytes(group), bytes(setup), tuple(pairs), tuple(confirmed), tuple(sent)):
            members = frozenset(cast("tuple[int, ...]", confirmed))
            return Confirming(group, setup, _pairs(pairs), members, _messages(sent))
        case ("rounds", bytes(group), int(position), tuple(chains), tuple(sent)):
            keys = dict(cast("tuple[tuple[int, bytes], ...]", chains))
            return Rounds(group, Ratchet(position, keys), _messages(sent))
        case ("over", str(code)):
            return Over(code)
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
