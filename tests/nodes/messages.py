"""One valid message of every kind, and the longest ones that a consortium of 255 sites could exchange."""

from __future__ import annotations

from dataclasses import replace

from nodes.chunks import PIECE, SumPart
from nodes.notes import NOTE, Note, Received, Sent
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
    Part,
    Ready,
    Refused,
    Shares,
    Step,
    Survivors,
)

NONCE = b"n" * 32
ROSTER = ((1, NONCE), (2, b"o" * 32), (3, b"p" * 32))
WORDS = bytes(range(24))
MLKEM = b"k" * 1184
BUNDLE = Bundle(2, 0, b"x" * 32, MLKEM, digest(Label.MLKEM, MLKEM), b"m" * 32, b"s" * 64)
MACS = ((1, b"m" * 32), (3, b"n" * 32))
BOXES = ((1, b"b" * 48), (3, b"c" * 48))
CONFIRMATIONS = ((2, b"m" * 32, b"g" * 48), (3, b"m" * 32, b""))

UPSTREAM: list[Sent] = [
    Hello(b"r" * 32, 1, NONCE, 7, 3, b"t" * 32, b"s" * 64),
    BUNDLE,
    Encapsulations(1, 0, ((2, b"c" * 1088), (3, b"d" * 1088))),
    Confirmations(1, 0, CONFIRMATIONS),
    Ready(1, 2),
    Part(2, 9, 24, 0, WORDS),
    Part(2, 9, 48, 24, WORDS, BOXES),
    Consent(2, 9, MACS),
    Shares(2, 9, MACS, ((4, b"k" * 64),)),
    Shares(2, 9, MACS, ()),
    CanaryKeys(2, 9, MACS),
    Complete(1, b"t" * 32),
    Refused(1, "forged-sum"),
    Note(3, b"a question"),
]

DOWNSTREAM: list[Received] = [
    Bundles(0, 1, (1, 2), (replace(BUNDLE, member=1).bare(), BUNDLE)),
    Ciphertexts(0, ((1, b"c" * 1088), (2, b"d" * 1088))),
    Confirmed(1, CONFIRMATIONS),
    Invite(1, (2, 3)),
    SumPart(4, 48, 0, WORDS, ROSTER, (1, 3)),
    SumPart(4, 48, 24, WORDS),
    Step(9, 1, ROSTER),
    Survivors(9, (1, 3)),
    Agreement(9, MACS, BOXES),
    Blame(9),
    Finish(1, "complete"),
    Note(3, b"an answer"),
]

EVERYBODY = range(1, 256)
OTHERS = range(2, 256)

LONGEST: list[Sent | Received] = [
    Bundles(0, 1, tuple(EVERYBODY), tuple(replace(BUNDLE, member=each) for each in EVERYBODY)),
    Encapsulations(1, 0, tuple((each, b"c" * 1088) for each in OTHERS)),
    Ciphertexts(0, tuple((each, b"c" * 1088) for each in OTHERS)),
    Confirmations(1, 0, tuple((each, b"m" * 32, b"g" * 48) for each in OTHERS)),
    Part(1, 1 << 20, PIECE, 0, bytes(PIECE), tuple((each, b"b" * 48) for each in OTHERS)),
    SumPart(1 << 20, 1 << 36, 0, bytes(PIECE), tuple((each, NONCE) for each in EVERYBODY), tuple(EVERYBODY)),
    Agreement(9, tuple((each, NONCE) for each in OTHERS), tuple((each, b"b" * 48) for each in OTHERS)),
    Shares(1, 9, tuple((each, NONCE) for each in EVERYBODY), tuple((each, b"k" * 64) for each in OTHERS)),
    Note(255, bytes(NOTE)),
]
