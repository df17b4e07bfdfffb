# ruff: noqa: N818  # an error is named after what happened, as in the protocol documents
"""What can go wrong in secure aggregation, split by who must act.

::

    SecaggError
    ├── MisuseError             our own caller called wrongly; the object is unchanged
    │   └── SessionOver         the client has stopped and holds no key any more
    ├── ConfigError             the operator must change a manifest, a policy or a disk
    │   ├── ManifestError       the manifest cannot be agreed to by anybody
    │   ├── UnpinnedMember      a member this site never pinned: the coordinator admits nobody
    │   ├── LaneOverflow        the sum does not fit the lane width
    │   └── SnapshotError       the stored state is damaged or belongs to another run
    └── PeerError               the server or a peer broke the protocol; at a client this is terminal
        ├── MalformedMessage    a message that no honest party can have built
        ├── UnexpectedMessage   a well-formed message at a time when it is illegal
        ├── SecondMessage       another message where the first one is final
        ├── BadSignature        not signed by the pinned identity, or over another run
        ├── ManifestMismatch    a member signed another manifest
        ├── BadKey              a public key or ciphertext that no honest member makes
        ├── Unconfirmed         a peer derived other pair keys, or somebody reflected a message
        ├── RoundRefused        a round number that is used, out of the window or beyond the run
        ├── RosterRefused       too small, foreign, not with our session, or changed too often
        └── ForgedSum           range, canary or tag of a broadcast sum does not hold

Messages name parties, rounds and sizes, never data. What may cross the wire is :attr:`SecaggError.code`.
"""

from typing import ClassVar

__all__ = [
    "BadKey",
    "BadSignature",
    "ConfigError",
    "ForgedSum",
    "LaneOverflow",
    "MalformedMessage",
    "ManifestError",
    "ManifestMismatch",
    "MisuseError",
    "PeerError",
    "RosterRefused",
    "RoundRefused",
    "SecaggError",
    "SecondMessage",
    "SessionOver",
    "SnapshotError",
    "Unconfirmed",
    "UnexpectedMessage",
    "UnpinnedMember",
]


class SecaggError(Exception):
    """Base of every error of this package."""

    code: ClassVar[str] = "error"
    """Stable word for the wire and for logs."""


class MisuseError(SecaggError):
    """Our caller passed what the contract forbids; nothing has changed."""

    code = "misuse"


class SessionOver(MisuseError):
    """The client stopped at an earlier error; it holds no key and answers nothing."""

    code = "session-over"


class ConfigError(SecaggError):
    """The operator has to change something before this can work."""

    code = "config"


class ManifestError(ConfigError):
    """The manifest contradicts itself or breaks a bound of the protocol."""

    code = "manifest"


class UnpinnedMember(ConfigError):
    """The manifest lists a member whose identity this site has not pinned itself."""

    code = "unpinned-member"


class LaneOverflow(ConfigError):
    """The largest possible sum of a coordinate does not fit its lane."""

    code = "lane-overflow"


class SnapshotError(ConfigError):
    """The stored state is damaged or belongs to another run or member."""

    code = "snapshot"


class PeerError(SecaggError):
    """The server or a peer broke the protocol."""

    code = "peer"


class MalformedMessage(PeerError):
    """A field has a type, size or order that no honest party produces."""

    code = "malformed-message"


class UnexpectedMessage(PeerError):
    """The message is illegal in the present phase."""

    code = "unexpected-message"


class SecondMessage(PeerError):
    """A different message came where the first one is final."""

    code = "second-message"


class BadSignature(PeerError):
    """A signature does not verify under the pinned identity."""

    code = "bad-signature"


class ManifestMismatch(PeerError):
    """A member signed another manifest than ours."""

    code = "manifest-mismatch"


class BadKey(PeerError):
    """A public key or ciphertext is not valid."""

    code = "bad-key"


class Unconfirmed(PeerError):
    """A key confirmation or a group box does not open: the two ends do not share keys."""

    code = "unconfirmed"


class RoundRefused(PeerError):
    """The round number is used, outside the window, or beyond the run's last."""

    code = "round-refused"


class RosterRefused(PeerError):
    """The roster is one we must not upload for."""

    code = "roster-refused"


class ForgedSum(PeerError):
    """A broadcast sum failed its range, canary or tag check and stays unapplied."""

    code = "forged-sum"
