"""One valid message of every kind, from a run with three or four members."""

from dataclasses import replace

from secagg.encoding import digest
from secagg.keys import Label
from secagg.messages import (
    Agreement,
    Blame,
    Bundle,
    Bundles,
    CanaryKeys,
    Ciphertexts,
    Complete,
    Confirmations,
    Confirmed,
    Consent,
    Encapsulations,
    Finish,
    Hello,
    Invite,
    Message,
    Part,
    Ready,
    Refused,
    Shares,
    Step,
    Sum,
    Survivors,
    Upload,
)

NONCE = b"n" * 32
ROSTER = ((1, NONCE), (2, b"o" * 32), (3, b"p" * 32))
WORDS = bytes(range(24))
MLKEM = b"k" * 1184
BUNDLE = Bundle(2, 0, b"x" * 32, MLKEM, digest(Label.MLKEM, MLKEM), b"m" * 32, b"s" * 64)
MACS = ((1, b"m" * 32), (3, b"n" * 32))
BOXES = ((1, b"b" * 48), (3, b"c" * 48))
CONFIRMATIONS = ((2, b"m" * 32, b"g" * 48), (3, b"m" * 32, b""))

UPSTREAM = [
    Hello(b"r" * 32, 1, NONCE, 7, 3, b"t" * 32, b"s" * 64),
    BUNDLE,
    Encapsulations(1, 0, ((2, b"c" * 1088), (3, b"d" * 1088))),
    Confirmations(1, 0, CONFIRMATIONS),
    Ready(1, 2),
    Part(2, 9, 48, 24, WORDS, BOXES),
    Consent(2, 9, MACS),
    Shares(2, 9, MACS, ((4, b"k" * 64),)),
    CanaryKeys(2, 9, MACS),
    Complete(1, b"t" * 32),
    Refused(1, "forged-sum"),
]

DOWNSTREAM = [
    Bundles(0, 1, (1, 2), (replace(BUNDLE, member=1).bare(), BUNDLE)),
    Ciphertexts(0, ((1, b"c" * 1088), (2, b"d" * 1088))),
    Confirmed(1, CONFIRMATIONS),
    Invite(1, (2, 3)),
    Step(9, 1, ROSTER),
    Survivors(9, (1, 3)),
    Agreement(9, MACS, BOXES),
    Blame(9),
    Finish(1, "complete"),
]

WHOLE = [Sum(4, ROSTER, (1, 2, 3), WORDS), Upload(2, 9, WORDS, BOXES)]
"""Vectors, which a wire takes to pieces."""

ALL: list[Message] = [*UPSTREAM, *DOWNSTREAM, *WHOLE]
