"""One valid message of every kind, and the longest ones that a consortium of 255 sites could exchange."""

from __future__ import annotations

from dataclasses import replace

from nodes.chunks import PIECE, SumPart
from nodes.notes import NOTE, Note, Received, Sent
from secagg.messages import (
    Agreement,
    Bundles,
    Ciphertexts,
    Confirmations,
    Encapsulations,
    Part,
    Shares,
)
from tests.secagg import samples
from tests.secagg.samples import BOXES, BUNDLE, CONFIRMATIONS, MACS, NONCE, ROSTER, WORDS

__all__ = ["BOXES", "BUNDLE", "CONFIRMATIONS", "DOWNSTREAM", "LONGEST", "MACS", "NONCE", "ROSTER", "UPSTREAM"]

UPSTREAM: list[Sent] = [
    *samples.UPSTREAM,
    Part(2, 9, 24, 0, WORDS),
    Shares(2, 9, MACS, ()),
    Note(3, b"a question"),
]

DOWNSTREAM: list[Received] = [
    *samples.DOWNSTREAM,
    SumPart(4, 48, 0, WORDS, ROSTER, (1, 3)),
    SumPart(4, 48, 24, WORDS),
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
