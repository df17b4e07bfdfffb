"""Members without keys of their own, as a server sees them: whatever they say follows from their number and the round.

So the right sum of a round is known without them.
"""

import hashlib
from typing import Any

from secagg import Manifest, Mode, shamir
from secagg.agreement import partners
from secagg.encoding import digest
from secagg.keys import PROTOCOL_VERSION, Label, Purpose
from secagg.messages import (
    Agreement,
    Blame,
    Bundle,
    Bundles,
    CanaryKeys,
    Ciphertexts,
    Confirmations,
    Confirmed,
    Consent,
    Encapsulations,
    Hello,
    Invite,
    Ready,
    Shares,
    Step,
    Survivors,
    Upload,
    parts,
)  # fmt: skip
from tests.federation import entropy, identity
from tests.secagg.primitives import PRF, octets, stream, words


def fixed(*about: Any) -> bytes:
    return hashlib.sha256(repr(about).encode()).digest()


def plain(member: int, number: int) -> list[int]:
    return [1000 * number + member, number + 10 * member, 1]


def masked(member: int, number: int, roster: tuple[int, ...], mode: Mode) -> bytes:
    total = plain(member, number)
    if mode is Mode.B:
        streams = [(1, stream(PRF(fixed("seed", member, number), "haemfed/self-mask/v1"), 24))]
        for peer in roster:
            if peer != member:
                mask, canary = pair(member, peer, number)
                streams.append((1 if member < peer else -1, stream(mask, 16) + stream(canary, 8)))
        for sign, pad in streams:
            total = [word + sign * each for word, each in zip(total, words(pad), strict=True)]
    return octets(total)


def pair(u: int, v: int, number: int) -> tuple[bytes, bytes]:
    ends = sorted((u, v))
    return fixed("mask", *ends, number), fixed("canary", *ends, number)


class Puppets:
    """All members of a run.

    Args:
        manifest: of the run.
        rosters: round → who was asked; kept by the owner.
    """

    def __init__(self, manifest: Manifest, rosters: dict[int, tuple[int, ...]]) -> None:
        self.manifest, self.rosters = manifest, rosters

    def hello(self, member: int, nonce: bytes, last: int, sums: int) -> Hello:
        of = self.manifest
        where = (nonce, last, sums, fixed("transcript"))
        signed = (PROTOCOL_VERSION, of.suite, of.run_id, of.digest(), member, *where)
        return Hello(of.run_id, member, *where, identity(member).sign(Purpose.HELLO, *signed))

    def bundle(self, member: int, wave: int) -> Bundle:
        of, x25519, mlkem = self.manifest, fixed("x", member, wave), fixed("kem", member, wave) * 37
        about = digest(Label.MLKEM, mlkem)
        signed = (PROTOCOL_VERSION, of.suite, of.run_id, of.digest(), member, wave, x25519, about)
        return Bundle(member, wave, x25519, mlkem, about, of.digest(), identity(member).sign(Purpose.BUNDLE, *signed))

    def replies(self, member: int, message: Any, setup: list[Any]) -> list[Any]:
        """What an honest member would say, as far as the server can see.

        Args:
            member: who.
            message: what it got.
            setup: what the server has stored of set-up.
        """
        match message:
            case Invite(wave=wave):
                return [self.bundle(member, wave)]
            case Bundles(wave=wave):
                peers = partners(message, member)
                higher = tuple((peer, fixed("ct", member, peer, wave) * 34) for peer in peers if peer > member)
                said: list[Any] = [Encapsulations(member, wave, higher)] if higher else []
                return said if peers[0] < member else [*said, self.confirmations(member, wave, setup)]
            case Ciphertexts(wave=wave):
                return [self.confirmations(member, wave, setup)]
            case Confirmed(wave=wave):
                return [Ready(member, wave)]
            case Step(number, _, roster):
                return self.upload(member, number, tuple(each for each, _ in roster))
            case Survivors(number, who):
                return [Consent(member, number, tuple((p, fixed("mac", member, p)) for p in who if p != member))]
            case Agreement(number, _, boxes):
                return [self.shares(member, number, tuple(sorted([member, *(each for each, _ in boxes)])))]
            case Blame(number):
                peers = tuple(peer for peer in self.rosters[number] if peer != member)
                return [CanaryKeys(member, number, tuple((peer, pair(member, peer, number)[1]) for peer in peers))]
        return []

    def confirmations(self, member: int, wave: int, setup: list[Any]) -> Confirmations:
        bundles = next(each for each in setup if isinstance(each, Bundles) and each.wave == wave)
        box = bytes(48) if member == bundles.owner else b""
        return Confirmations(member, wave, tuple((p, fixed("mac", member, p), box) for p in partners(bundles, member)))

    def upload(self, member: int, number: int, roster: tuple[int, ...]) -> list[Any]:
        boxes = tuple((peer, bytes(48)) for peer in roster if peer != member and self.manifest.mode is Mode.B)
        return list(parts(Upload(member, number, masked(member, number, roster, self.manifest.mode), boxes), 16))

    def shares(self, member: int, number: int, survivors: tuple[int, ...]) -> Shares:
        roster = self.rosters[number]
        shared = tuple((each, self.dealt(each, number, roster)[member]) for each in survivors)
        dropped = tuple(each for each in roster if each not in survivors)
        return Shares(member, number, shared, tuple((each, b"".join(pair(member, each, number))) for each in dropped))

    def dealt(self, member: int, number: int, roster: tuple[int, ...]) -> dict[int, bytes]:
        seed, chance = fixed("seed", member, number), entropy(f"shares {member} {number}")
        return shamir.split(seed, self.manifest.threshold, roster, chance)
