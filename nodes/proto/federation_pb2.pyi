from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ToCoordinator(_message.Message):
    __slots__ = ("hello", "bundle", "encapsulations", "confirmations", "ready", "upload", "complete", "refused")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    ENCAPSULATIONS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    bundle: Bundle
    encapsulations: Encapsulations
    confirmations: Confirmations
    ready: Ready
    upload: Upload
    complete: Complete
    refused: Refused
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., bundle: _Optional[_Union[Bundle, _Mapping]] = ..., encapsulations: _Optional[_Union[Encapsulations, _Mapping]] = ..., confirmations: _Optional[_Union[Confirmations, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., upload: _Optional[_Union[Upload, _Mapping]] = ..., complete: _Optional[_Union[Complete, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ...) -> None: ...

class ToSite(_message.Message):
    __slots__ = ("bundles", "encapsulations", "confirmations", "step", "finish", "problem")
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    ENCAPSULATIONS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    bundles: Bundles
    encapsulations: Encapsulations
    confirmations: Confirmations
    step: Step
    finish: Finish
    problem: Problem
    def __init__(self, bundles: _Optional[_Union[Bundles, _Mapping]] = ..., encapsulations: _Optional[_Union[Encapsulations, _Mapping]] = ..., confirmations: _Optional[_Union[Confirmations, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("member", "x25519", "mlkem", "manifest_digest", "signature")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    X25519_FIELD_NUMBER: _ClassVar[int]
    MLKEM_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    member: int
    x25519: bytes
    mlkem: bytes
    manifest_digest: bytes
    signature: bytes
    def __init__(self, member: _Optional[int] = ..., x25519: _Optional[bytes] = ..., mlkem: _Optional[bytes] = ..., manifest_digest: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Bundles(_message.Message):
    __slots__ = ("bundles",)
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    bundles: _containers.RepeatedCompositeFieldContainer[Bundle]
    def __init__(self, bundles: _Optional[_Iterable[_Union[Bundle, _Mapping]]] = ...) -> None: ...

class Encapsulations(_message.Message):
    __slots__ = ("sender", "to")
    class To(_message.Message):
        __slots__ = ("peer", "ciphertext")
        PEER_FIELD_NUMBER: _ClassVar[int]
        CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
        peer: int
        ciphertext: bytes
        def __init__(self, peer: _Optional[int] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...
    SENDER_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    sender: int
    to: _containers.RepeatedCompositeFieldContainer[Encapsulations.To]
    def __init__(self, sender: _Optional[int] = ..., to: _Optional[_Iterable[_Union[Encapsulations.To, _Mapping]]] = ...) -> None: ...

class Confirmations(_message.Message):
    __slots__ = ("sender", "to")
    class To(_message.Message):
        __slots__ = ("peer", "mac", "group_box")
        PEER_FIELD_NUMBER: _ClassVar[int]
        MAC_FIELD_NUMBER: _ClassVar[int]
        GROUP_BOX_FIELD_NUMBER: _ClassVar[int]
        peer: int
        mac: bytes
        group_box: bytes
        def __init__(self, peer: _Optional[int] = ..., mac: _Optional[bytes] = ..., group_box: _Optional[bytes] = ...) -> None: ...
    SENDER_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    sender: int
    to: _containers.RepeatedCompositeFieldContainer[Confirmations.To]
    def __init__(self, sender: _Optional[int] = ..., to: _Optional[_Iterable[_Union[Confirmations.To, _Mapping]]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("member",)
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    member: int
    def __init__(self, member: _Optional[int] = ...) -> None: ...

class Seat(_message.Message):
    __slots__ = ("member", "nonce")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    member: int
    nonce: bytes
    def __init__(self, member: _Optional[int] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class Sum(_message.Message):
    __slots__ = ("round", "roster", "words")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    round: int
    roster: _containers.RepeatedCompositeFieldContainer[Seat]
    words: bytes
    def __init__(self, round: _Optional[int] = ..., roster: _Optional[_Iterable[_Union[Seat, _Mapping]]] = ..., words: _Optional[bytes] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("round", "roster", "missed")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    round: int
    roster: _containers.RepeatedCompositeFieldContainer[Seat]
    missed: _containers.RepeatedCompositeFieldContainer[Sum]
    def __init__(self, round: _Optional[int] = ..., roster: _Optional[_Iterable[_Union[Seat, _Mapping]]] = ..., missed: _Optional[_Iterable[_Union[Sum, _Mapping]]] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("member", "round", "words")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    member: int
    round: int
    words: bytes
    def __init__(self, member: _Optional[int] = ..., round: _Optional[int] = ..., words: _Optional[bytes] = ...) -> None: ...

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
    __slots__ = ("missed", "reason")
    MISSED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    missed: _containers.RepeatedCompositeFieldContainer[Sum]
    reason: str
    def __init__(self, missed: _Optional[_Iterable[_Union[Sum, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "sentence")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    code: str
    sentence: str
    def __init__(self, code: _Optional[str] = ..., sentence: _Optional[str] = ...) -> None: ...
