from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ToCoordinator(_message.Message):
    __slots__ = ("hello", "bundle", "encapsulations", "confirmations", "ready", "part", "consent", "shares", "canary_keys", "complete", "refused", "note")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    ENCAPSULATIONS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    CANARY_KEYS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    bundle: Bundle
    encapsulations: Encapsulations
    confirmations: Confirmations
    ready: Ready
    part: Part
    consent: Consent
    shares: Shares
    canary_keys: CanaryKeys
    complete: Complete
    refused: Refused
    note: Note
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., bundle: _Optional[_Union[Bundle, _Mapping]] = ..., encapsulations: _Optional[_Union[Encapsulations, _Mapping]] = ..., confirmations: _Optional[_Union[Confirmations, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., part: _Optional[_Union[Part, _Mapping]] = ..., consent: _Optional[_Union[Consent, _Mapping]] = ..., shares: _Optional[_Union[Shares, _Mapping]] = ..., canary_keys: _Optional[_Union[CanaryKeys, _Mapping]] = ..., complete: _Optional[_Union[Complete, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., note: _Optional[_Union[Note, _Mapping]] = ...) -> None: ...

class ToSite(_message.Message):
    __slots__ = ("bundles", "ciphertexts", "confirmed", "invite", "sum_part", "step", "survivors", "agreement", "blame", "finish", "note")
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    INVITE_FIELD_NUMBER: _ClassVar[int]
    SUM_PART_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    BLAME_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    bundles: Bundles
    ciphertexts: Ciphertexts
    confirmed: Confirmed
    invite: Invite
    sum_part: SumPart
    step: Step
    survivors: Survivors
    agreement: Agreement
    blame: Blame
    finish: Finish
    note: Note
    def __init__(self, bundles: _Optional[_Union[Bundles, _Mapping]] = ..., ciphertexts: _Optional[_Union[Ciphertexts, _Mapping]] = ..., confirmed: _Optional[_Union[Confirmed, _Mapping]] = ..., invite: _Optional[_Union[Invite, _Mapping]] = ..., sum_part: _Optional[_Union[SumPart, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., survivors: _Optional[_Union[Survivors, _Mapping]] = ..., agreement: _Optional[_Union[Agreement, _Mapping]] = ..., blame: _Optional[_Union[Blame, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ..., note: _Optional[_Union[Note, _Mapping]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("member", "octets")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    OCTETS_FIELD_NUMBER: _ClassVar[int]
    member: int
    octets: bytes
    def __init__(self, member: _Optional[int] = ..., octets: _Optional[bytes] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("run_id", "member", "nonce", "last_round", "sums", "transcript", "signature")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    LAST_ROUND_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    member: int
    nonce: bytes
    last_round: int
    sums: int
    transcript: bytes
    signature: bytes
    def __init__(self, run_id: _Optional[bytes] = ..., member: _Optional[int] = ..., nonce: _Optional[bytes] = ..., last_round: _Optional[int] = ..., sums: _Optional[int] = ..., transcript: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Bundle(_message.Message):
    __slots__ = ("member", "wave", "x25519", "mlkem", "mlkem_digest", "manifest_digest", "signature")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    X25519_FIELD_NUMBER: _ClassVar[int]
    MLKEM_FIELD_NUMBER: _ClassVar[int]
    MLKEM_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    member: int
    wave: int
    x25519: bytes
    mlkem: bytes
    mlkem_digest: bytes
    manifest_digest: bytes
    signature: bytes
    def __init__(self, member: _Optional[int] = ..., wave: _Optional[int] = ..., x25519: _Optional[bytes] = ..., mlkem: _Optional[bytes] = ..., mlkem_digest: _Optional[bytes] = ..., manifest_digest: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Bundles(_message.Message):
    __slots__ = ("wave", "owner", "newcomers", "bundles")
    WAVE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    NEWCOMERS_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    wave: int
    owner: int
    newcomers: _containers.RepeatedScalarFieldContainer[int]
    bundles: _containers.RepeatedCompositeFieldContainer[Bundle]
    def __init__(self, wave: _Optional[int] = ..., owner: _Optional[int] = ..., newcomers: _Optional[_Iterable[int]] = ..., bundles: _Optional[_Iterable[_Union[Bundle, _Mapping]]] = ...) -> None: ...

class Encapsulations(_message.Message):
    __slots__ = ("sender", "wave", "to")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    sender: int
    wave: int
    to: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, sender: _Optional[int] = ..., wave: _Optional[int] = ..., to: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Ciphertexts(_message.Message):
    __slots__ = ("wave", "of")
    WAVE_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    wave: int
    of: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, wave: _Optional[int] = ..., of: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Confirmation(_message.Message):
    __slots__ = ("peer", "mac", "group_box")
    PEER_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    GROUP_BOX_FIELD_NUMBER: _ClassVar[int]
    peer: int
    mac: bytes
    group_box: bytes
    def __init__(self, peer: _Optional[int] = ..., mac: _Optional[bytes] = ..., group_box: _Optional[bytes] = ...) -> None: ...

class Confirmations(_message.Message):
    __slots__ = ("sender", "wave", "to")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    sender: int
    wave: int
    to: _containers.RepeatedCompositeFieldContainer[Confirmation]
    def __init__(self, sender: _Optional[int] = ..., wave: _Optional[int] = ..., to: _Optional[_Iterable[_Union[Confirmation, _Mapping]]] = ...) -> None: ...

class Confirmed(_message.Message):
    __slots__ = ("wave", "of")
    WAVE_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    wave: int
    of: _containers.RepeatedCompositeFieldContainer[Confirmation]
    def __init__(self, wave: _Optional[int] = ..., of: _Optional[_Iterable[_Union[Confirmation, _Mapping]]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("member", "wave")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    member: int
    wave: int
    def __init__(self, member: _Optional[int] = ..., wave: _Optional[int] = ...) -> None: ...

class Invite(_message.Message):
    __slots__ = ("wave", "newcomers")
    WAVE_FIELD_NUMBER: _ClassVar[int]
    NEWCOMERS_FIELD_NUMBER: _ClassVar[int]
    wave: int
    newcomers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, wave: _Optional[int] = ..., newcomers: _Optional[_Iterable[int]] = ...) -> None: ...

class SumPart(_message.Message):
    __slots__ = ("round", "size", "offset", "words", "roster", "survivors")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    round: int
    size: int
    offset: int
    words: bytes
    roster: _containers.RepeatedCompositeFieldContainer[Entry]
    survivors: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., size: _Optional[int] = ..., offset: _Optional[int] = ..., words: _Optional[bytes] = ..., roster: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., survivors: _Optional[_Iterable[int]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("round", "sums", "roster")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    round: int
    sums: int
    roster: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, round: _Optional[int] = ..., sums: _Optional[int] = ..., roster: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("member", "round", "size", "offset", "words", "boxes")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    member: int
    round: int
    size: int
    offset: int
    words: bytes
    boxes: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, member: _Optional[int] = ..., round: _Optional[int] = ..., size: _Optional[int] = ..., offset: _Optional[int] = ..., words: _Optional[bytes] = ..., boxes: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Survivors(_message.Message):
    __slots__ = ("round", "members")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    round: int
    members: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., members: _Optional[_Iterable[int]] = ...) -> None: ...

class Consent(_message.Message):
    __slots__ = ("sender", "round", "to")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    sender: int
    round: int
    to: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, sender: _Optional[int] = ..., round: _Optional[int] = ..., to: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("round", "macs", "boxes")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MACS_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    round: int
    macs: _containers.RepeatedCompositeFieldContainer[Entry]
    boxes: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, round: _Optional[int] = ..., macs: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., boxes: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Shares(_message.Message):
    __slots__ = ("member", "round", "shares", "keys")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    member: int
    round: int
    shares: _containers.RepeatedCompositeFieldContainer[Entry]
    keys: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, member: _Optional[int] = ..., round: _Optional[int] = ..., shares: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., keys: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Blame(_message.Message):
    __slots__ = ("round",)
    ROUND_FIELD_NUMBER: _ClassVar[int]
    round: int
    def __init__(self, round: _Optional[int] = ...) -> None: ...

class CanaryKeys(_message.Message):
    __slots__ = ("member", "round", "keys")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    member: int
    round: int
    keys: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, member: _Optional[int] = ..., round: _Optional[int] = ..., keys: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Complete(_message.Message):
    __slots__ = ("member", "transcript")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    member: int
    transcript: bytes
    def __init__(self, member: _Optional[int] = ..., transcript: _Optional[bytes] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("member", "code")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    member: int
    code: str
    def __init__(self, member: _Optional[int] = ..., code: _Optional[str] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("sums", "reason")
    SUMS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    sums: int
    reason: str
    def __init__(self, sums: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Note(_message.Message):
    __slots__ = ("member", "octets")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    OCTETS_FIELD_NUMBER: _ClassVar[int]
    member: int
    octets: bytes
    def __init__(self, member: _Optional[int] = ..., octets: _Optional[bytes] = ...) -> None: ...
