"""One frozen dataclass per arrow between a client and the server.

Constructing a message checks every field, so a decoder that builds one from a wire cannot let a malformed one
in. :func:`encode` gives a message's canonical bytes (stored, hashed, and equal for equal messages).

=================  =====================  ============================================================
message            arrow                  when
=================  =====================  ============================================================
``Hello``          client → server        first on every connection
``Bundle``         client → server        set-up 1: signed ephemeral keys
``Bundles``        server → client        all of them
``Encapsulations`` both                   set-up 2: lower index → higher; the server splits it by receiver
``Confirmations``  both                   set-up 3: each → each, with the group key from the lowest index
``Ready``          client → server        set-up is complete at this member
``Step``           server → client        a round, with the sums this connection lacks
``Upload``         client → server        the masked vector
``Complete``       client → server        instead of an upload: the study has all its sums
``Refused``        client → server        instead of an upload: this member has stopped
``Finish``         server → client        the end, with the sums this connection lacks
=================  =====================  ============================================================
"""

import itertools
import re
from dataclasses import dataclass, field, fields
from typing import Final, TypeAlias

from secagg.encoding import Value, dec, enc
from secagg.errors import MalformedMessage
from secagg.keys import CIPHERTEXT_SIZE, GROUP_BOX_SIZE, MLKEM_SIZE
from secagg.manifest import MAX_MEMBERS, MAX_ROUNDS

__all__ = [
    "Bundle",
    "Bundles",
    "Complete",
    "Confirmations",
    "Encapsulations",
    "Finish",
    "FromServer",
    "Hello",
    "Message",
    "Ready",
    "Refused",
    "Roster",
    "SetupMessage",
    "Step",
    "Sum",
    "ToServer",
    "Upload",
    "decode",
    "encode",
]

Roster: TypeAlias = tuple[tuple[int, bytes], ...]
"""(member, session nonce of 32 octets) in ascending order of member."""

_WORD: Final = 8
_SHORTEST: Final = 3 * _WORD  # one data word, the tag word, the canary word
_CODE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class Hello:
    """A member presents itself and says where it stands.

    Args:
        run_id: 32 octets.
        member: who speaks.
        nonce: the session nonce of this process start, 32 octets.
        last_round: the largest round number this member has ever used or seen summed.
        sums: how many sums it has applied.
        transcript: digest of that history, 32 octets.
        signature: by the member's identity, 64 octets.
    """

    run_id: bytes
    member: int
    nonce: bytes
    last_round: int
    sums: int
    transcript: bytes
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _octets(self, "run_id", 32)
        _member(self, self.member)
        _octets(self, "nonce", 32)
        _number(self, "last_round", 0)
        _number(self, "sums", 0)
        _octets(self, "transcript", 32)
        _octets(self, "signature", 64)


@dataclass(frozen=True)
class Bundle:
    """A member's ephemeral public keys for this run; the first one is final.

    Args:
        member: whose keys.
        x25519: public key, 32 octets.
        mlkem: ML-KEM-768 encapsulation key, 1184 octets.
        manifest_digest: the manifest this member signed up for, 32 octets.
        signature: by the member's identity, 64 octets.
    """

    member: int
    x25519: bytes = field(repr=False)
    mlkem: bytes = field(repr=False)
    manifest_digest: bytes
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _member(self, self.member)
        _octets(self, "x25519", 32)
        _octets(self, "mlkem", MLKEM_SIZE)
        _octets(self, "manifest_digest", 32)
        _octets(self, "signature", 64)


@dataclass(frozen=True)
class Bundles:
    """All members' bundles, in ascending order of member."""

    bundles: tuple[Bundle, ...]

    def __post_init__(self) -> None:
        _records(self, "bundles", Bundle)
        _ascending(self, tuple(bundle.member for bundle in self.bundles))


@dataclass(frozen=True)
class Encapsulations:
    """ML-KEM ciphertexts from `sender` to members of higher index: (peer, 1088 octets), ascending."""

    sender: int
    to: tuple[tuple[int, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        _member(self, self.sender)
        _pairs(self, "to", CIPHERTEXT_SIZE)
        if any(peer <= self.sender for peer, _ in self.to):
            raise MalformedMessage(f"Encapsulations of {self.sender}: the lower index encapsulates to the higher")


@dataclass(frozen=True)
class Confirmations:
    """Key confirmations from `sender`, ascending: (peer, MAC of 32 octets, boxed group key or nothing).

    Only the lowest index of the manifest boxes the group key; a box has 48 octets.
    """

    sender: int
    to: tuple[tuple[int, bytes, bytes], ...] = field(repr=False)

    def __post_init__(self) -> None:
        _member(self, self.sender)
        if not isinstance(self.to, tuple) or not all(isinstance(entry, tuple) and len(entry) == 3 for entry in self.to):
            raise MalformedMessage("Confirmations.to: must be (peer, MAC, box) entries")
        for peer, mac, box in self.to:
            _member(self, peer)
            if not (_is_octets(mac, 32) and (_is_octets(box, 0) or _is_octets(box, GROUP_BOX_SIZE))):
                raise MalformedMessage(f"Confirmations for {peer}: a MAC has 32 octets, a box 48 or none")
        _ascending(self, tuple(peer for peer, _, _ in self.to))
        if any(peer == self.sender for peer, _, _ in self.to):
            raise MalformedMessage(f"Confirmations of {self.sender}: nobody confirms to himself")


@dataclass(frozen=True)
class Ready:
    """This member shares confirmed keys with every other one."""

    member: int

    def __post_init__(self) -> None:
        _member(self, self.member)


@dataclass(frozen=True)
class Sum:
    """The sum of one round, as every site checks and applies it.

    Args:
        round: its number.
        roster: who uploaded.
        words: little-endian uint64: data words, tag word, canary word.
    """

    round: int
    roster: Roster
    words: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _number(self, "round", 1)
        _pairs(self, "roster", 32)
        _words(self, self.words)


@dataclass(frozen=True)
class Step:
    """The server opens a round.

    Args:
        round: larger than every number used before.
        roster: who is asked, each with the nonce of its present session.
        missed: the sums this connection lacks, oldest first.
    """

    round: int
    roster: Roster
    missed: tuple[Sum, ...]

    def __post_init__(self) -> None:
        _number(self, "round", 1)
        _pairs(self, "roster", 32)
        _sums(self, self.missed)
        if self.missed and self.missed[-1].round >= self.round:
            raise MalformedMessage(f"Step {self.round}: a missed sum has number {self.missed[-1].round}")


@dataclass(frozen=True)
class Upload:
    """A member's masked vector.

    Args:
        member: whose.
        round: for which round.
        words: little-endian uint64: masked data words, masked tag word, masked canary word.
    """

    member: int
    round: int
    words: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _member(self, self.member)
        _number(self, "round", 1)
        _words(self, self.words)


@dataclass(frozen=True)
class Complete:
    """The member has all sums of the study and uploads nothing more; `transcript` says which sums."""

    member: int
    transcript: bytes

    def __post_init__(self) -> None:
        _member(self, self.member)
        _octets(self, "transcript", 32)


@dataclass(frozen=True)
class Refused:
    """The member has stopped; `code` is a word (``SecaggError.code``), never an exception's text."""

    member: int
    code: str

    def __post_init__(self) -> None:
        _member(self, self.member)
        if not (isinstance(self.code, str) and _CODE.fullmatch(self.code)):
            raise MalformedMessage(f"Refused by {self.member}: a code is a word of lower-case letters, digits and '-'")


@dataclass(frozen=True)
class Finish:
    """The run is over. `reason` is ``"complete"`` or a sentence of the coordinator's own."""

    missed: tuple[Sum, ...]
    reason: str

    def __post_init__(self) -> None:
        _sums(self, self.missed)
        if not (isinstance(self.reason, str) and 1 <= len(self.reason) <= 500 and self.reason.isprintable()):
            raise MalformedMessage("Finish: the reason must be 1 to 500 printable characters")


SetupMessage: TypeAlias = Bundle | Encapsulations | Confirmations | Ready
ToServer: TypeAlias = SetupMessage | Upload | Complete | Refused
FromServer: TypeAlias = Bundles | Encapsulations | Confirmations | Step | Finish
Message: TypeAlias = Hello | ToServer | FromServer | Sum

_BY_NAME: Final[dict[str, type[Message]]] = {
    kind.__name__: kind
    for kind in (
        Hello, Bundle, Bundles, Encapsulations, Confirmations, Ready,
        Sum, Step, Upload, Complete, Refused, Finish,
    )
}  # fmt: skip


def encode(message: Message) -> bytes:
    """Return the canonical bytes of a message: its name, then its fields in order."""
    record = _record(message)
    return enc(*record)


def decode(data: bytes) -> Message:
    """Invert :func:`encode`.

    Raises:
        MalformedMessage: not the encoding of a valid message.
    """
    return _message(dec(data))


def _record(message: Message) -> tuple[Value, ...]:
    return (type(message).__name__, *(_plain(getattr(message, each.name)) for each in fields(message)))


def _plain(value: object) -> Value:
    if type(value) in _BY_NAME.values():
        return _record(value)  # type: ignore[arg-type]  # just checked to be a message
    if isinstance(value, tuple):
        return tuple(_plain(each) for each in value)
    return value  # type: ignore[return-value]  # int, bytes or str: the constructor has seen to it


def _message(record: tuple[Value, ...]) -> Message:
    name, *values = record or ("",)
    kind = _BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None or len(values) != len(fields(kind)):
        raise MalformedMessage("the record is not a message of this protocol")
    return kind(*map(_nested, values))  # type: ignore[arg-type]  # the constructor checks every field


def _nested(value: Value) -> object:
    # No field is a tuple that starts with text, so such a tuple is a message inside a message.
    if not isinstance(value, tuple):
        return value
    return _message(value) if value and isinstance(value[0], str) else tuple(map(_nested, value))


# ---- field checks
# -----------------------------------------------------------------------------------------------


def _is_octets(value: object, size: int) -> bool:
    return isinstance(value, bytes) and len(value) == size


def _octets(message: object, name: str, size: int) -> None:
    if not _is_octets(getattr(message, name), size):
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be {size} octets")


def _member(message: object, index: object) -> None:
    if type(index) is not int or not 1 <= index <= MAX_MEMBERS:
        raise MalformedMessage(f"{type(message).__name__}: a member index is an integer in 1..{MAX_MEMBERS}")


def _number(message: object, name: str, least: int) -> None:
    value = getattr(message, name)
    if type(value) is not int or not least <= value <= MAX_ROUNDS:
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be an integer in {least}..{MAX_ROUNDS}")


def _ascending(message: object, indices: tuple[int, ...]) -> None:
    if not indices or any(a >= b for a, b in itertools.pairwise(indices)):
        raise MalformedMessage(f"{type(message).__name__}: members must be listed once each, ascending, at least one")


def _pairs(message: object, name: str, size: int) -> None:
    pairs = getattr(message, name)
    if not isinstance(pairs, tuple) or not all(isinstance(entry, tuple) and len(entry) == 2 for entry in pairs):
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be (member, octets) pairs")
    for index, octets in pairs:
        _member(message, index)
        if not _is_octets(octets, size):
            raise MalformedMessage(f"{type(message).__name__}.{name}: the entry of {index} must have {size} octets")
    _ascending(message, tuple(index for index, _ in pairs))


def _records(message: object, name: str, kind: type) -> None:
    records = getattr(message, name)
    if not isinstance(records, tuple) or not all(isinstance(entry, kind) for entry in records):
        raise MalformedMessage(f"{type(message).__name__}.{name}: must be {kind.__name__} records")


def _sums(message: object, sums: object) -> None:
    _records(message, "missed", Sum)
    numbers = [each.round for each in sums if isinstance(each, Sum)] if isinstance(sums, tuple) else []
    if any(a >= b for a, b in itertools.pairwise(numbers)):
        raise MalformedMessage(f"{type(message).__name__}: missed sums must be in ascending order of round")


def _words(message: object, words: object) -> None:
    if not isinstance(words, bytes) or len(words) % _WORD or len(words) < _SHORTEST:
        raise MalformedMessage(f"{type(message).__name__}.words: whole 64-bit words, at least one coordinate's")
