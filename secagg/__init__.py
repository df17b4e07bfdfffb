"""Secure aggregation: the sum of the hospitals' vectors, and nothing else about them.

Sans-IO: :class:`Client` and :class:`Server` take messages and return messages. Sockets, clocks and disks are
the caller's. The specification is docs/reference/secagg-protocol.md.
"""

from secagg.actions import Action, Arm, Send, SendSums, Stop, StoreRound, StoreSetup, StoreSum, SumRecord
from secagg.client import Client
from secagg.context import Context
from secagg.errors import ConfigError, ForgedSum, MisuseError, PeerError, SecaggError
from secagg.keys import PROTOCOL_VERSION, SUITE, Identity, hedged_key, verify
from secagg.manifest import Manifest, Member, Mode, Terms
from secagg.masks import Keystream
from secagg.server import Server

__all__ = [
    "PROTOCOL_VERSION",
    "SUITE",
    "Action",
    "Arm",
    "Client",
    "ConfigError",
    "Context",
    "ForgedSum",
    "Identity",
    "Keystream",
    "Manifest",
    "Member",
    "MisuseError",
    "Mode",
    "PeerError",
    "SecaggError",
    "Send",
    "SendSums",
    "Server",
    "Stop",
    "StoreRound",
    "StoreSetup",
    "StoreSum",
    "SumRecord",
    "Terms",
    "hedged_key",
    "verify",
]
