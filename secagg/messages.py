"""One frozen dataclass per arrow between a client and the server.

Constructing a message checks every field, so a decoder that builds one from a wire cannot let a malformed one
in. :func:`encode` gives a message's canonical bytes (stored, hashed, and equal for equal messages).

=================  =====================  ============================================================
message            arrow                  when
=================  =====================  ============================================================
``Hello``          client → server        first on every connection
``Bundle``         client → server        set-up 1: signed ephemeral keys
``Bundles``        server → client        those of everybody in this wave of set-up
``Encapsulations`` client → server        set-up 2: lower index → higher
``Ciphertexts``    server → client        those for one receiver
``Confirmations``  client → server        set-up 3: each → each, with the group key from its owner
``Confirmed``      server → client        those for one receiver
``Ready``          client → server        set-up is complete at this member
``Invite``         server → client        a listed member has missed set-up: a further wave begins
``Sum``            server → client        the sum of a round, in order, none left out
``Step``           server → client        a round
``Upload``         client → server        the masked vector; travels as one or more ``Part``
``Survivors``      server → client        mode B: whose uploads the sum will hold
``Consent``        client → server        mode B: MACs over the survivors, each → each
``Agreement``      server → client        mode B: those MACs, and the share boxes, for one receiver
``Shares``         client → server        mode B: what opens the sum of the survivors and nothing else
``Blame``          server → client        mode A: the canary does not fit; show this round's canary keys
``CanaryKeys``     client → server        mode A: they mask the canary word and nothing else
``Complete``       client → server        instead of an upload: the study has all its sums
``Refused``        client → server        instead of an upload: this member has stopped
``Finish``         server → client        the end
=================  =====================  ============================================================
"""

from dataclasses import dataclass, field, fields
from typing import Final, TypeAlias

from secagg import fields as check
from secagg.encoding import Value, dec, enc
from secagg.errors import MalformedMessage
from secagg.round_messages import (
    Agreement,
    Blame,
    CanaryKeys,
    Complete,
    Consent,
    Finish,
    Part,
    Refused,
    Roster,
    Shares,
    Step,
    Sum,
    Survivors,
    Upload,
    parts,
)
from secagg.setup_messages import (
    Bundle,
    Bundles,
    Ciphertexts,
    Confirmations,
    Confirmed,
    Encapsulations,
    Invite,
    Ready,
)

__all__ = [
    "Agreement",
    "Blame",
    "Bundle",
    "Bundles",
    "CanaryKeys",
    "Ciphertexts",
    "Complete",
    "Confirmations",
    "Confirmed",
    "Consent",
    "Encapsulations",
    "Finish",
    "FromServer",
    "Hello",
    "Invite",
    "Message",
    "Part",
    "Ready",
    "Refused",
    "Roster",
    "RoundMessage",
    "SetupMessage",
    "Shares",
    "Step",
    "Sum",
    "Survivors",
    "ToServer",
    "Upload",
    "decode",
    "encode",
    "parts",
]


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
        check.octets(self, "run_id", 32)
        check.member(self, self.member)
        check.octets(self, "nonce", 32)
        check.number(self, "last_round", 0)
        check.number(self, "sums", 0)
        check.octets(self, "transcript", 32)
        check.octets(self, "signature", 64)


SetupMessage: TypeAlias = Bundle | Encapsulations | Confirmations | Ready
"""What a client sends in set-up."""
RoundMessage: TypeAlias = Part | Consent | Shares | CanaryKeys | Complete | Refused
"""What a client sends in and between rounds; an Upload travels as its parts."""
ToServer: TypeAlias = SetupMessage | RoundMessage
FromServer: TypeAlias = Bundles | Ciphertexts | Confirmed | Invite | Sum | Step | Survivors | Agreement | Blame | Finish
Message: TypeAlias = Hello | Upload | ToServer | FromServer

_BY_NAME: Final[dict[str, type[Message]]] = {
    kind.__name__: kind
    for kind in (
        Hello, Bundle, Bundles, Encapsulations, Ciphertexts, Confirmations, Confirmed, Ready, Invite,
        Sum, Step, Upload, Part, Survivors, Consent, Agreement, Shares, Blame, CanaryKeys, Complete, Refused, Finish,
    )
}  # fmt: skip


_FIELDS: Final = {kind: tuple(each.name for each in fields(kind)) for kind in _BY_NAME.values()}


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
    kind = type(message)
    return (kind.__name__, *[_plain(getattr(message, name)) for name in _FIELDS[kind]])


def _plain(value: object) -> Value:
    if type(value) is tuple:
        return tuple([_plain(each) for each in value])
    if type(value) in _FIELDS:
        return _record(value)  # type: ignore[arg-type]  # just checked to be a message
    return value  # type: ignore[return-value]  # int, bytes or str: the constructor has seen to it


def _message(record: tuple[Value, ...]) -> Message:
    name, *values = record or ("",)
    kind = _BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None or len(values) != len(_FIELDS[kind]):
        raise MalformedMessage("the record is not a message of this protocol")
    return kind(*map(_nested, values))  # type: ignore[arg-type]  # the constructor checks every field


def _nested(value: Value) -> object:
    # No field is a tuple that starts with text, so such a tuple is a message inside a message.
    if not isinstance(value, tuple):
        return value
    return _message(value) if value and isinstance(value[0], str) else tuple(map(_nested, value))
