"""An independent verifier of recorded sessions, written from docs/reference/secagg-protocol.md alone.

It imports nothing of ``secagg``. A record holds the members' secrets, so each message of it but the ML-KEM ciphertexts
has one right value: :class:`Session` derives that value and compares. :class:`Wrong` names the first record that
differs.
"""

import copy
import hashlib
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

from cryptography.exceptions import InvalidTag

from tests.secagg.primitives import (
    PRF,
    H,
    P,
    at,
    dec,
    decapsulate,
    ed25519,
    enc,
    exchange,
    hkdf,
    mlkem,
    octets,
    pack,
    seal,
    sign,
    stream,
    tag,
    unseal,
    words,
    x25519,
)

VERSION = "haemfed/secagg/2"
SUITE = "X25519-ML-KEM-768-HKDF-SHA256-AES-256-CTR"
WINDOW = 1024


class Wrong(Exception):  # noqa: N818
    """The record departs from the specification; the text says where."""


class Senseless(Wrong):
    """Wrong in a way that this verifier cannot read."""


def right(condition: object, what: str) -> None:
    if not condition:
        raise Wrong(what)


def told(event: dict[str, Any], name: str, value: object) -> None:
    """Check what an event says that follows from it; a refused one says nothing more."""
    right("code" in event or event[name] == value, f"the {name}")


class Session:
    """One run, followed message by message. ``to_…`` checks what a member is sent; ``of_…`` yields what it must answer.

    Args:
        record: of which the manifest and the members' identities are read here.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        m = self.m = dict(record["manifest"])
        self.run_id, study, self.mode = bytes.fromhex(m["run_id"]), bytes.fromhex(m["study_digest"]), m["mode"]
        right([str(i) for i, _, _ in m["members"]] == list(record["identities"]), "whose the identities are")
        self.identity = {i: bytes.fromhex(record["identities"][str(i)]) for i, _, _ in m["members"]}
        listed = tuple((i, name, bytes.fromhex(key)) for i, name, key in m["members"])
        right(record["protocol"] == VERSION and m["suite"] == SUITE, "another protocol")
        right(all(key == ed25519(self.identity[i]) for i, _, key in listed), "the identity of a member")
        n, c, least = len(listed), m["collusion"], m["minimum_roster"]
        self.threshold = max(2 * n // 3 + 1, (n + c) // 2 + 1)
        silent = m["noise"] == "none"
        right(n >= least >= c + 2 and 2 * least > n + c, "the smallest roster")
        right((c == 0 and least == n >= 3 and m["roster_changes"] == 0) if silent else c >= 1, "the collusion bound")
        right(self.mode == "A" or least >= self.threshold, "the smallest roster")
        limits = (c, least, m["roster_changes"], m["max_rounds"], m["lane_bits"], m["noise"])
        self.M = H("haemfed/manifest/v1", VERSION, SUITE, self.mode, self.run_id, study, listed, *limits)
        right(self.M.hex() == m["digest"], "the manifest's digest")
        start = H("haemfed/transcript-start/v1", SUITE, self.run_id, study, self.M)
        self.transcript = dict.fromkeys(self.identity, start)
        self.nonce: dict[int, bytes] = {}
        self.ephemeral: dict[tuple[int, int], tuple[bytes, bytes]] = {}  # (member, wave) → X25519 key, ML-KEM seed
        self.groups: dict[int, bytes] = {}  # member → group key it has drawn
        self.invited: dict[int, tuple[int, ...]] = {}
        self.waves: dict[int, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}  # wave → owner, newcomers, members
        self.ciphertext: dict[tuple[int, int], bytes] = {}
        self.peers: dict[int, set[int]] = {i: set() for i in self.identity}
        self.last, self.sums = dict.fromkeys(self.identity, 0), dict.fromkeys(self.identity, 0)
        self.roster: dict[int, tuple[int, ...]] = {}
        self.changes = dict.fromkeys(self.identity, 0)
        self.rounds: dict[int, dict[str, Any]] = {}
        self.values: dict[tuple[int, int], list[int]] = {}  # (member, round) → what it uploaded
        self.seed: dict[tuple[int, int], bytes] = {}  # (member, round) → self-mask seed
        self.shares: dict[tuple[int, int], dict[int, bytes]] = {}  # (member, round) → shares of that seed
        self.got: set[tuple[str, int, int]] = set()
        self.sent: dict[tuple[str, int, Any], tuple[Any, ...]] = {}

    # ---- set-up: section 4

    def bundle(self, i: int, wave: int, *, bare: bool) -> tuple[Any, ...]:
        x, kem = self.ephemeral[i, wave]
        long = mlkem(kem)
        about = (VERSION, SUITE, self.run_id, self.M, i, wave, x25519(x), H("haemfed/mlkem/v1", long))
        signature = sign(self.identity[i], "bundle", *about)
        return ("Bundle", i, wave, about[6], b"" if bare else long, about[7], self.M, signature)

    def partners(self, i: int, wave: int) -> list[int]:
        """With whom a member agrees on keys in a wave: one of the two is a newcomer."""
        _, newcomers, members = self.waves[wave]
        return [j for j in members if j != i and (i in newcomers or j in newcomers)]

    def pair(self, i: int, j: int) -> tuple[bytes, bytes, bytes]:
        """Chain key of round 0, confirmation key and box root of a pair."""
        u, v = sorted((i, j))
        (wave,) = [k for k in self.waves if u in self.waves[k][2] and v in self.partners(u, k)]
        (x, _), (y, kem), ct = self.ephemeral[u, wave], self.ephemeral[v, wave], self.ciphertext[u, v]
        both = (enc(*self.bundle(k, wave, bare=True)) for k in (u, v))
        salt = H("haemfed/pair/v1", SUITE, self.run_id, self.M, wave, u, v, *both, ct)
        secret = decapsulate(kem, ct) + exchange(x, y)
        chain, confirm, box = (f"haemfed/{name}/v1" for name in ("chain", "confirm-key", "group-box-key"))
        return hkdf(salt, secret, chain, u, v), hkdf(salt, secret, confirm, u, v), hkdf(salt, secret, box, u, v)

    def confirmation(self, i: int, j: int, wave: int) -> tuple[bytes, bytes]:
        """MAC and group box from i to j."""
        owner, newcomers, members = self.waves[wave]
        _, confirm, root = self.pair(i, j)
        everybody = ("Bundles", wave, owner, newcomers, tuple(self.bundle(k, wave, bare=True) for k in members))
        setup = H("haemfed/setup/v1", self.run_id, self.M, enc(*everybody))
        key = PRF(root, "haemfed/group/v1", i, j, self.M)
        box = seal(key, self.group, i, j, self.M) if i == owner else b""
        return PRF(confirm, "haemfed/confirm/v1", i, j, setup), box

    @property
    def group(self) -> bytes:
        return self.groups[self.waves[0][0]]

    def to_invite(self, i: int, e: Any, wave: int, newcomers: Any) -> None:
        new = {j for j in self.identity if not self.peers[j]}
        right(wave == 1 + max(self.waves) and set(newcomers) <= new, "who is invited")
        right(self.invited.setdefault(wave, newcomers) == newcomers, "two invitations")

    def to_bundles(self, i: int, e: Any, wave: int, owner: int, newcomers: Any, bundles: Any) -> None:
        members = tuple(each[1] for each in bundles)
        about = (owner, newcomers, members)
        right(self.waves.setdefault(wave, about) == about, "two sets of bundles in one wave")
        right(newcomers == (self.invited[wave] if wave else members), "the newcomers")
        right(i in members and all(a < b for a, b in pairwise(members)), "who is in the wave")
        right(owner == self.waves[0][2][0] and len(self.waves[0][2]) >= self.m["minimum_roster"], "the first wave")
        for j, got in zip(members, bundles, strict=True):
            right(got == self.bundle(j, wave, bare=j <= i or j not in self.partners(i, wave)), f"the bundle of {j}")

    def to_ciphertexts(self, i: int, e: Any, wave: int, of: Any) -> None:
        right(of == tuple((j, self.ciphertext[j, i]) for j in self.partners(i, wave) if j < i), "the ciphertexts")

    def to_confirmed(self, i: int, e: Any, wave: int, of: Any) -> None:
        right(of == tuple((j, *self.confirmation(j, i, wave)) for j in self.partners(i, wave)), "the confirmations")

    def of_hello(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        self.nonce[i] = bytes.fromhex(e["nonce"])
        where = (self.nonce[i], self.last[i], self.sums[i], self.transcript[i])
        yield from (self.run_id, i, *where)
        yield sign(self.identity[i], "hello", VERSION, SUITE, self.run_id, self.M, i, *where)

    def of_bundle(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        wave = max(self.invited, default=0)
        self.ephemeral[i, wave] = bytes.fromhex(e["x25519"]), bytes.fromhex(e["mlkem"])
        if "group" in e:
            self.groups[i] = bytes.fromhex(e["group"])
        yield from self.bundle(i, wave, bare=False)[1:]

    def of_encapsulations(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        wave = max(self.waves)
        self.ciphertext |= {(i, j): ct for j, ct in m[3]}  # their randomness is in no record: Confirmations show it
        yield from (i, wave, tuple((j, self.ciphertext[i, j]) for j in self.partners(i, wave) if j > i))

    def of_confirmations(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        wave = max(self.waves)
        right(("Bundles", i, wave) in self.got, "confirmations before bundles")
        yield from (i, wave, tuple((j, *self.confirmation(i, j, wave)) for j in self.partners(i, wave)))

    def of_ready(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        wave = max(self.waves)
        self.peers[i] |= set(self.partners(i, wave))
        now = self.last[i] + 1
        right(e["chains"] == {str(j): self.chain(i, j, now).hex() for j in self.partners(i, wave)}, "the chain keys")
        yield from (i, wave)

    # ---- rounds: section 5

    def context(self, i: int, number: int, roster: Any, t: dict[str, Any]) -> bytes:
        honest = {
            "distributed": (len(roster) if self.mode == "A" else self.threshold) - self.m["collusion"],
            "local": 1,
            "none": 0,
        }[self.m["noise"]]
        inside = self.m["noise"] == "local" and t["share_variance"] == 0  # of steps that a site took alone
        right((t["share_variance"] == 0) == (self.m["noise"] == "none") or inside, "the noise")
        right(t["honest"] == honest and t["total_bound"] < 2**47, "the terms")
        noise = (t["share_variance"], honest, t["clamp"], t["steps"], t["total_bound"], self.m["lane_bits"])
        about = (self.mode, number, bytes.fromhex(t["query"]), *noise, t["length"], roster, self.transcript[i])
        return H("haemfed/ctx/v1", SUITE, self.run_id, self.M, *about)

    def members(self, number: int) -> list[int]:
        return [j for j, _ in self.rounds[number]["roster"]]

    def chain(self, i: int, j: int, number: int) -> bytes:
        chain = self.pair(i, j)[0]
        for _ in range(number):
            chain = PRF(chain, "haemfed/next/v1")
        return chain

    def key(self, i: int, j: int, number: int, label: str, *values: Any) -> bytes:
        """A key of the pair for one round."""
        return PRF(self.chain(i, j, number), f"haemfed/{label}/v1", *values, self.rounds[number]["context"])

    def mask(self, i: int, j: int, number: int) -> bytes:
        return self.key(i, j, number, f"mask-{self.mode.lower()}")

    def plain(self, i: int, number: int) -> list[int]:
        values, context = self.values[i, number], self.rounds[number]["context"]
        return [*pack(values, self.m["lane_bits"]), tag(self.group, context, values, [i]), 1]

    def masked(self, i: int, number: int) -> bytes:
        total = self.plain(i, number)
        size, streams = 8 * len(total), []
        for j in self.members(number):
            if j != i:
                canary = self.key(i, j, number, "canary")
                streams.append((1 if i < j else -1, stream(self.mask(i, j, number), size - 8) + stream(canary, 8)))
        if self.mode == "B":
            key = PRF(self.seed[i, number], "haemfed/self-mask/v1")
            streams.append((1, stream(key, size)))
        for sign_, pad in streams:
            total = [word + sign_ * each for word, each in zip(total, words(pad), strict=True)]
        return octets(total)

    def asked(self, i: int, members: tuple[int, ...]) -> None:
        self.changes[i] += self.roster.get(i, members) != members
        self.roster[i] = members
        right(self.changes[i] <= self.m["roster_changes"], "more roster changes than the study allows")

    def to_step(self, i: int, e: Any, number: int, sums: int, roster: Any) -> None:
        members = tuple(j for j, _ in roster)
        late = WINDOW if self.last[i] or i in self.waves[0][2] else self.m["max_rounds"]
        right(self.last[i] < number <= min(self.last[i] + late, self.m["max_rounds"]), "the round number")
        right(sums == self.sums[i], "the number of sums")
        right(len(members) >= self.m["minimum_roster"] and set(members) <= self.peers[i] | {i}, "the roster")
        right(i in members and all(self.nonce[j] == nonce for j, nonce in roster), "the sessions")
        self.asked(i, members)
        self.last[i] = number
        about = {"roster": roster, "context": self.context(i, number, roster, e["terms"]), "terms": e["terms"]}
        known = self.rounds.setdefault(number, about)
        right(all(known[name] == value for name, value in about.items()), "two members were asked different things")
        told(e, "context", about["context"].hex())

    def of_upload(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        number, boxes = self.last[i], m[4]
        right(len(e["values"]) == self.rounds[number]["terms"]["length"], "the length of the vector")
        self.values[i, number] = e["values"]
        peers = [j for j in self.members(number) if j != i] if self.mode == "B" else []
        right([j for j, _ in boxes] == peers, "the boxes")
        if self.mode == "B":
            fresh, context = bytes.fromhex(e["fresh"]), self.rounds[number]["context"]
            secret = hashlib.sha256(b"".join(self.mask(i, j, number) for j in peers)).digest()
            hedged = hkdf(hashlib.sha256(secret).digest(), fresh + secret, "haemfed/hedge/v1", context)
            self.seed[i, number] = stream(hedged, 32)
            self.deal(i, number, boxes)
        yield from (i, number, self.masked(i, number), boxes)

    def deal(self, i: int, number: int, boxes: Any) -> None:
        """Open the boxes: any t shares give the seed, and all lie on one polynomial. The dealer's own follows."""
        context, seed = self.rounds[number]["context"], self.seed[i, number]
        shares = {j: unseal(self.key(i, j, number, "share-box", i, j), box, i, j, context) for j, box in boxes}
        for some in combinations(shares, self.threshold):
            right(at(0, {j: shares[j] for j in some}) == seed, "the shares of the self-mask seed")
        some = list(shares)[: self.threshold - 1]
        own = at(i, {0: seed} | {j: shares[j] for j in some})
        right(all(at(j, {0: seed, i: own} | {k: shares[k] for k in some[1:]}) == shares[j] for j in shares), "a share")
        self.shares[i, number] = shares | {i: own}

    def to_sum(self, i: int, e: Any, number: int, roster: Any, survivors: Any, summed: bytes) -> None:
        about, members = self.rounds.get(number, {"roster": (), "terms": {}}), tuple(j for j, _ in roster)
        right(about["roster"] == roster and about["terms"] == e["terms"], "a round that was not")
        right(about.setdefault("survivors", members) == survivors and survivors, "the survivors")
        right(self.mode == "B" or survivors == members, "the survivors")
        right(self.context(i, number, roster, e["terms"]) == about["context"], "a sum of another history")
        total = [sum(column) for column in zip(*(self.values[j, number] for j in survivors), strict=True)]
        told(e, "values", total)
        right(all(abs(v) <= e["terms"]["total_bound"] for v in total), "a value beyond the bound")
        got, carried = words(summed), sum(self.plain(j, number)[-2] for j in survivors)
        right(got == [*pack(total, self.m["lane_bits"]), carried, len(survivors)], "the words of the sum")
        right(carried % P == tag(self.group, about["context"], total, survivors), "the tag of the sum")
        self.asked(i, survivors)
        end = (about["context"], survivors, summed[:-16], carried % P)
        self.transcript[i] = H("haemfed/transcript/v1", self.transcript[i], *end)
        told(e, "transcript", self.transcript[i].hex())
        self.last[i], self.sums[i] = max(self.last[i], number), self.sums[i] + 1

    def of_complete(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        yield from (i, self.transcript[i])

    def to_finish(self, i: int, e: Any, sums: int, reason: str) -> None:
        right(sums == self.sums[i] and reason == "complete", "the end")

    # ---- mode B

    def consent(self, i: int, j: int, number: int) -> bytes:
        key, about = self.key(i, j, number, "consent-key"), self.rounds[number]
        return PRF(key, "haemfed/u3/v1", i, j, about["context"], about["survivors"])

    def to_survivors(self, i: int, e: Any, number: int, members: Any) -> None:
        right(self.last[i] == number and ("Upload", i, number) in self.sent, "no such round is open")
        right(set(members) <= set(self.members(number)) and i in members, "who survives")
        right(len(members) >= self.threshold and list(members) == sorted(set(members)), "who survives")
        right(self.rounds[number].setdefault("survivors", members) == members, "other survivors")

    def of_consent(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        number = self.last[i]
        others = [j for j in self.rounds[number]["survivors"] if j != i]
        yield from (i, number, tuple((j, self.consent(i, j, number)) for j in others))

    def to_agreement(self, i: int, e: Any, number: int, macs: Any, boxes: Any) -> None:
        right(("Consent", i, number) in self.sent and len(macs) >= self.threshold - 1, "how many agree")
        others = [j for j in self.rounds[number]["survivors"] if j != i]
        right({j for j, _ in macs} <= set(others) and len(dict(macs)) == len(macs), "who agrees")
        right(all(mac == self.consent(j, i, number) for j, mac in macs), "a consent")
        right(boxes == tuple((j, dict(self.sent["Upload", j, number][4])[i]) for j in others), "the boxes")

    def of_shares(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        number = self.last[i]
        survivors = self.rounds[number]["survivors"]
        dropped = [j for j in self.members(number) if j not in survivors]
        yield from (i, number, tuple((j, self.shares[j, number][i]) for j in survivors))
        yield tuple((j, self.mask(i, j, number) + self.key(i, j, number, "canary")) for j in dropped)

    # ---- blame

    def to_blame(self, i: int, e: Any, number: int) -> None:
        right(("Upload", i, number) in self.sent and self.last[i] == number and self.mode == "A", "blame")

    def of_canarykeys(self, i: int, e: Any, m: Any) -> Iterator[Any]:
        number = self.last[i]
        yield from (i, number, tuple((j, self.key(i, j, number, "canary")) for j in self.members(number) if j != i))

    # ---- the walk

    def follow(self, event: dict[str, Any]) -> None:
        """Check one record: what a member was sent, and what it answered."""
        i = event["member"]
        try:
            if "message" in event:
                name, *fields = dec(bytes.fromhex(event["message"]))
                getattr(self, f"to_{name.lower()}")(i, event, *fields)
                right((name, i, fields[0]) not in self.got, f"a second {name}")
                self.got.add((name, i, fields[0]))
            for answer in event["answers"]:
                message = dec(bytes.fromhex(answer))
                name = message[0]
                meant = (name, *getattr(self, f"of_{name.lower()}")(i, event, message))
                right(enc(*meant).hex() == answer, f"its {name}")
                self.sent[name, i, meant[2] if len(meant) > 2 else 0] = meant
        except (
            ArithmeticError,
            AttributeError,
            InvalidTag,
            LookupError,
            StopIteration,
            TypeError,
            ValueError,
        ) as error:
            raise Senseless(f"it makes no sense: {error!r}") from error


def verify(record: dict[str, Any]) -> None:
    """Follow a whole record, and insist that each message that it calls refused is indeed wrong where it came.

    Raises:
        Wrong: at the first event that differs from what the specification demands.
    """
    session = Session(record)
    for number, event in enumerate(record["events"]):
        try:
            session.follow(event)
        except Wrong as error:
            raise Wrong(f"event {number} (member {event['member']}, {event['call']}): {error}") from error
        for lie in record["refusals"]:
            if lie["after"] == number:
                try:
                    copy.deepcopy(session).follow(lie | {"answers": []})
                except Senseless as error:
                    raise Wrong(f"after event {number}, refused: {lie['why']}: {error}") from error
                except Wrong:
                    continue
                raise Wrong(f"after event {number}: nothing is wrong with what is refused: {lie['why']}")


def verify_hedged_key(case: dict[str, str]) -> None:
    """Check a key for the noise of a round, section 5.9."""
    fresh, secret, context = (bytes.fromhex(case[name]) for name in ("fresh", "secret", "context"))
    key = hkdf(hashlib.sha256(secret).digest(), fresh + secret, "haemfed/hedge/v1", context)
    right(key.hex() == case["key"], "the hedged key")
