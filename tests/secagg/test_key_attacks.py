"""Attacks on keys, on the meaning of a round, and on what the coordinator would like to choose, each by its name."""

from dataclasses import fields, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from secagg import Client, keys, masks, recovery, rounds, shamir
from secagg.context import Context
from secagg.encoding import digest
from secagg.errors import (
    BadKey,
    ForgedSum,
    ManifestError,
    ManifestMismatch,
    MisuseError,
    RosterRefused,
    Unconfirmed,
    UnpinnedMember,
)
from secagg.manifest import Manifest, Mode, Noise
from secagg.messages import Agreement, Bundle, Bundles, Part, Step, Survivors, Upload
from tests.federation import Federation, Site, Study, complete, entropy, identity, manifest, play, ready, roster
from tests.secagg.coordinator import Round, assert_noise, over, plain

OF = manifest(5, 1, mode=Mode.B, minimum_roster=4)  # t = 4; member 5 is the colluder where one is needed
T = OF.threshold
LONG = Study(length=400)
ALL = OF.indices
HONEST = ALL[:-1]


# ---- keys
# ----------------------------------------------------------------------------------------------------------


class Cipher:
    """Records every key that reaches AES, and which upload it was for."""

    def __init__(self, monkeypatch: Any) -> None:
        self.streams: dict[tuple[int, int], list[bytes]] = {}  # (site, how many uploads before) → keys of streams
        self.sealed: list[tuple[bytes, bytes]] = []  # (key, nonce) of boxes
        self.keys: set[bytes] = set()
        self.seeds: list[bytes] = []  # of self masks, as they are shared
        self.fresh: list[bytes] = []  # octets from the operating system that go into them
        self._now = (0, 0)
        real, box, upload, split = masks.AES256, recovery.AESGCM, Site.upload, recovery.shamir.split

        def stream(key: bytes) -> Any:
            self.keys.add(key)
            self.streams.setdefault(self._now, []).append(key)
            return real(key)

        def boxes(key: bytes) -> Any:
            self.keys.add(key)
            self._box = key
            return self

        def uploads(site: Site, step: Step) -> Upload:
            self._now = (site.member, len(site.disk.uploads) + 1)
            try:
                return upload(site, step)
            finally:
                self._now = (0, 0)

        def shared(seed: bytes, *rest: Any) -> Any:
            self.seeds.append(seed)
            return split(seed, *rest)

        def chance(fresh: bytes, *rest: Any) -> Any:
            self.fresh.append(fresh)
            return hedged(fresh, *rest)

        self._real, hedged = box, rounds.chance
        monkeypatch.setattr(rounds, "chance", chance)
        monkeypatch.setattr(recovery.shamir, "split", shared)
        monkeypatch.setattr(masks, "AES256", stream)
        monkeypatch.setattr(recovery, "AESGCM", boxes)
        monkeypatch.setattr(Site, "upload", uploads)

    def ends(self) -> dict[bytes, list[tuple[int, int]]]:
        """Key of a stream → the uploads it was used for."""
        found: dict[bytes, list[tuple[int, int]]] = {}
        for where, made in self.streams.items():
            for key in made if where != (0, 0) else []:
                found.setdefault(key, []).append(where)
        return found

    def encrypt(self, nonce: bytes, data: bytes, about: bytes) -> bytes:
        self.sealed.append((self._box, nonce))
        return self._real(self._box).encrypt(nonce, data, about)

    def decrypt(self, nonce: bytes, data: bytes, about: bytes) -> bytes:
        return self._real(self._box).decrypt(nonce, data, about)


def busy(federation: Federation) -> None:
    """A run with everything that could make a key serve twice: members drop, come back, and so does the server."""
    federation.start()
    federation.run(lambda: len(federation.sums) == 1)
    federation.kill(2)
    federation.run(lambda: len(federation.sums) == 2)
    federation.start(2)
    federation.run(lambda: len(federation.sums) == 3)
    federation.restart_server()
    federation.run(lambda: len(federation.log) % 7 == 0)
    federation.kill(4)
    federation.start(4)
    complete(federation)


def test_two_time_pad(monkeypatch: Any) -> None:
    """A key masks one vector of each end of its pair; a self mask or a box is made once, ever, under its key."""
    cipher = Cipher(monkeypatch)
    federation = Federation(OF, Study(steps=6))
    busy(federation)
    assert len(cipher.streams) > 5 * 5
    for where, made in cipher.streams.items():
        assert len(made) == len(set(made)) or where == (0, 0), "one stream of a key per upload"
    ends = cipher.ends()
    for where in ends.values():
        assert len(where) == len({member for member, _ in where}), "one upload of a member per key"
    # Every key is a pair's, one member's own, or the round's tag key, which masks nothing and which all have.
    assert {len(where) for where in ends.values()} <= {1, 2, 4, 5}
    contexts = {context for disk in federation.disks.values() for context in disk.data}
    tags = {keys.derive(federation.sites[1].client._phase.group, keys.Label.TAG, context) for context in contexts}
    assert {key for key, where in ends.items() if len(where) > 2} <= tags
    assert len(cipher.sealed) == len(set(cipher.sealed)) == len({key for key, _ in cipher.sealed})


def test_low_entropy_keys(monkeypatch: Any) -> None:
    """256 bits of every key reach AES, in pair masks, self masks and boxes, and 256 go into each seed."""
    cipher, steps = Cipher(monkeypatch), 12
    federation = Federation(OF, Study(steps=steps, length=1))
    federation.start()
    complete(federation)
    assert {len(key) for key in cipher.keys} == {32}
    ends = cipher.ends()
    own = {recovery.self_mask_key(seed) for seed in cipher.seeds}
    assert own <= {key for key, where in ends.items() if len(where) == 1}
    for kind, per_round in (
        ({key for key, where in ends.items() if len(where) == 2}, 2 * 10),  # mask and canary of each pair
        ({key for key, _ in cipher.sealed}, 20),
        (own, 5),
        (set(cipher.seeds), 5),
        (set(cipher.fresh), 5),
    ):
        assert len(kind) == steps * per_round
        bits = np.unpackbits(np.frombuffer(b"".join(kind), dtype=np.uint8).reshape(-1, 32), axis=1)
        ones, count = bits.sum(axis=0), len(bits)
        assert (abs(ones - count / 2) < 6 * np.sqrt(count) / 2).all()


def test_t_shares_and_no_fewer() -> None:
    """A self mask opens with any t shares of its seed, and t − 1 give another one, at whatever degree one supposes."""
    first = Round.opened(ready(OF, LONG), 1)
    everything = first.shares(1, ALL)
    assert set(everything) == set(ALL)
    seeds = {shamir.combine({i: everything[i] for i in some}, T) for some in combinations(ALL, T)}
    fewer = {
        shamir.combine({i: everything[i] for i in some}, size)
        for size in range(1, T)
        for some in combinations(ALL, size)
    }
    assert len(seeds) == 1
    assert len(fewer) == 5 + 10 + 10
    assert not seeds & fewer


def test_the_same_secret_at_every_client(monkeypatch: Any) -> None:
    """Every member draws a seed of its own for every round; what two members share is known to these two alone."""
    cipher = Cipher(monkeypatch)
    sites = ready(OF)
    for number in (1, 2, 3):
        Round.opened(sites, number)
    assert len(set(cipher.seeds)) == len(cipher.seeds) == 15
    chains = [key for site in sites.values() for key in site.client._phase.ratchet.chains.values()]
    assert all(chains.count(key) == 2 for key in chains)


def test_sybil_by_coordinator() -> None:
    """The coordinator enrols puppets so that more than c members are its own: who has not pinned them refuses."""
    with pytest.raises(UnpinnedMember, match=r"4 \(Hospital 4\), 5 \(Hospital 5\)"):
        Client(
            OF, 1, identity(1), entropy=entropy("sybil"), nonce=bytes(32),
            pins=frozenset(identity(member).public for member in (2, 3)),
        )  # fmt: skip


def _evil_bundle(**changes: bytes) -> Any:
    """Member 5 signs whatever keys it likes."""

    def swap(_: int, message: Any) -> list[Any]:
        if not (isinstance(message, Bundle) and message.member == 5):
            return [message]
        x25519, mlkem = changes.get("x25519", message.x25519), changes.get("mlkem", message.mlkem)
        stands_for = digest(keys.Label.MLKEM, mlkem)
        about = (keys.PROTOCOL_VERSION, OF.suite, OF.run_id, OF.digest(), 5, message.wave, x25519, stands_for)
        signature = identity(5).sign(keys.Purpose.BUNDLE, *about)
        return [replace(message, x25519=x25519, mlkem=mlkem, mlkem_digest=stands_for, signature=signature)]

    return swap


@pytest.mark.parametrize(
    "bad", [{"x25519": bytes(32)}, {"x25519": b"\1" + bytes(31)}, {"mlkem": b"\xff" * 1184}], ids=str
)
def test_garbage_public_keys(bad: dict[str, bytes]) -> None:
    """Points of low order and invalid ML-KEM keys, well signed: named errors, no key left, nobody crashes."""
    federation = Federation(OF, to_server=_evil_bundle(**bad))
    federation.start(1, 2, 3, 4)
    site = Site(OF, 5, Study(), federation.disks[5], "evil")
    federation.sites[5] = site
    federation.connect(5)
    federation.run()
    errors = {member: federation.sites[member].error for member in HONEST}
    assert all(isinstance(error, BadKey) for error in errors.values()), errors
    for member in HONEST:
        assert len(federation.disks[member].snapshot or b"") < 600
    assert not federation.sums


def test_rollback_same_context(monkeypatch: Any) -> None:
    """A restored directory is asked for the same round: no key and no seed of the first upload comes again."""
    used: list[bytes] = []
    real, box = masks.AES256, recovery.AESGCM
    sites = ready(OF, LONG)
    backup = sites[1].disk.copy()
    monkeypatch.setattr(masks, "AES256", lambda key: used.append(key) or real(key))
    monkeypatch.setattr(recovery, "AESGCM", lambda key: used.append(key) or box(key))
    sites[1].upload(Step(1, 0, roster(sites)))
    first, used = set(used), []
    restored = Site(OF, 1, LONG, backup.copy(), "restored")
    with pytest.raises(RosterRefused, match="another session"):
        restored.upload(Step(1, 0, roster(sites)))
    assert not used
    restored = Site(OF, 1, LONG, backup, "restored again")
    own = ((1, restored.client.hello().nonce), *roster(sites, 2, 3, 4, 5))
    restored.upload(Step(1, 0, own))
    assert len(first) >= 4 * 3 + 1
    assert len(set(used)) >= 4 * 3 + 1
    assert not first & set(used)


# ---- what a round means
# --------------------------------------------------------------------------------------------


def test_mode_confusion() -> None:
    """One round in both modes would open whoever has no self mask: the mode is in manifest, context and mask label."""
    federation = Federation(OF)
    other = manifest(5, 1, mode=Mode.A, minimum_roster=4)
    victim = Site(other, 1, Study(), federation.disks[1], "mode A")
    others = [Site(OF, member, Study(), federation.disks[member], "mode B") for member in ALL[1:]]
    bundles = tuple(each.client.begin()[0] for each in (victim, *others))
    for each in (victim, *others):
        with pytest.raises(ManifestMismatch):
            each.client.receive(Bundles(0, 1, ALL, bundles))

    sites = ready(OF)
    of, terms = roster(sites), sites[1].terms(5)
    contexts = [Context.build(OF, 1, of, terms, bytes(32))]
    contexts += [Context.build(other, 1, of, replace(terms, honest=other.honest(5)), bytes(32))]
    assert contexts[0].digest != contexts[1].digest
    ratchet = sites[1].client._phase.ratchet
    both = [set(ratchet.keys(1, ALL, mode, contexts[0].digest).mask.values()) for mode in Mode]
    assert not both[0] & both[1]


def test_query_confusion_same_length() -> None:
    """A site with another query of equal length agrees with nobody, and its boxes open nowhere."""
    odd = replace(LONG, model="another query")
    together = Round.opened(ready(OF, LONG, {2: odd}), 1)
    together.show(ALL)
    assert not any(together.try_(each, ALL) for each in ALL)
    assert_noise(sum(together.stripped(each, T, [5]) for each in ALL))
    # Without it the others open their own sum. Their masks with it are not those that it used; no matter.
    survivors = (1, 3, 4, 5)
    first = Round.opened(ready(OF, LONG, {2: odd}), 1)
    first.show(survivors)
    assert all(first.try_(each, survivors) for each in survivors)
    assert (sum(first.stripped(each, T, [5]) for each in survivors) == plain(first, survivors)).all()
    assert_noise(first.stripped(2, T, [5]))


SILENT = replace(OF, noise=Noise.NONE, collusion=0, minimum_roster=5, roster_changes=0)
BARE = Study(length=400, share_variance=0)


def test_no_noise_smaller_roster_refused() -> None:
    """Without noise, the sums of five and of four sites differ by exactly one hospital: there is no roster but one."""
    for of in (SILENT, replace(SILENT, mode=Mode.A)):
        sites = ready(of, BARE)
        step = Step(1, 0, roster(sites, 1, 2, 3, 4))
        for each in (1, 2, 3, 4):
            over(sites[each], RosterRefused, sites[each].upload, step)
        sites = ready(of, BARE)
        total, expected = play(sites, 1)
        assert list(sites[1].client.accept(total, sites[1].terms(5))) == expected
        smaller = replace(total, round=2, roster=total.roster[:4], survivors=(1, 2, 3, 4))
        with pytest.raises(RosterRefused, match="without noise"):
            sites[2].client.accept(smaller, sites[2].terms(4))


def test_no_noise_smaller_survivors_refused() -> None:
    """Nor is there another set of survivors: in mode B the same would come out by calling one site dropped."""
    sites = ready(SILENT, BARE)
    step = Step(1, 0, roster(sites))
    for each in sites:
        sites[each].upload(step)
    with pytest.raises(RosterRefused, match="without noise a sum is over the whole roster"):
        sites[1].client.receive(Survivors(1, (1, 2, 3, 4)))
    assert sites[2].client.receive(Survivors(1, ALL))


def test_no_noise_sum_of_fewer_is_refused_without_a_consent() -> None:
    """Whoever was never asked for a consent does not take such a sum either, however right its words are."""
    sites = ready(SILENT, BARE)
    total, _ = play(sites, 1)
    fewer = replace(total, survivors=(1, 2, 3, 4))
    late = ready(SILENT, BARE)[5]
    with pytest.raises(ForgedSum, match="without noise all or none"):
        late.client.accept(fewer, late.terms(5))


@pytest.mark.parametrize(("of", "study"), [(SILENT, LONG), (OF, BARE)])
def test_noise_is_as_the_manifest_says(of: Manifest, study: Study) -> None:
    """Neither a round without noise in a study that has some, nor the contrary."""
    sites = ready(of, study)
    with pytest.raises(MisuseError, match="the manifest's noise is"):
        sites[1].upload(Step(1, 0, roster(sites)))


def test_local_noise_may_be_in_what_is_summed_already() -> None:
    """Of steps that a site took alone: the round says that it has none of its own, and still counts on one."""
    local = replace(OF, noise=Noise.LOCAL)
    sites = ready(OF)
    of, terms = roster(sites), replace(sites[1].terms(5), share_variance=0, honest=1)

    with_share = Context.build(local, 1, of, replace(terms, share_variance=64), bytes(32))

    assert Context.build(local, 1, of, terms, bytes(32)).digest != with_share.digest
    with pytest.raises(MisuseError, match="the manifest's noise is distributed"):
        Context.build(OF, 1, of, replace(terms, honest=OF.honest(5)), bytes(32))


@pytest.mark.parametrize("mode", Mode)
def test_masks_of_two_noise_modes_never_cancel(mode: Mode) -> None:
    """The digest is in every bundle: a site that was told another one is named before anything is masked."""
    ours = replace(OF, mode=mode)
    assert ours.digest() != replace(ours, noise=Noise.LOCAL).digest()


def test_aborted_round_then_a_smaller_roster() -> None:
    """Under noise the same is allowed: another context, so each upload is charged on its own, and the change counts."""
    federation = Federation(manifest(5))
    federation.start()
    federation.run(lambda: any(isinstance(each, Part) for each in federation.log))
    federation.kill(4)
    federation.run(lambda: len(federation.sums) == 1)
    assert [each.roster for each in federation.rounds][:2] == [ALL, (1, 2, 3, 5)]
    assert federation.sums[0].survivors == (1, 2, 3, 5)
    for member in federation.sums[0].survivors:
        site = federation.sites[member]
        assert len(set(site.contexts)) == len(site.contexts) == len(site.disk.uploads) >= 2
        assert site.client._progress.changes == 1
    complete(federation)


# ---- what the server does not choose
# -------------------------------------------------------------------------------


def test_server_chooses_threshold_1() -> None:
    """t follows from n and c; no message and no field of the manifest carries it."""
    assert not {"threshold", "t"} & {each.name for each in fields(Manifest)}
    first = Round.opened(ready(OF), 1)
    over(first.sites[1], RosterRefused, first.show, (1,))
    alone = Round.opened(ready(OF), 1)
    alone.show(ALL, 1)
    over(alone.sites[1], Unconfirmed, alone.ask, 1, ALL, macs={5: alone.colluder_mac(5, 1, ALL)})


def test_server_chooses_a_cohort_of_2() -> None:
    with pytest.raises(ManifestError, match="minimum_roster 2"):
        manifest(5, 1, mode=Mode.B, minimum_roster=2)
    sites = ready(OF)
    over(sites[1], RosterRefused, sites[1].upload, Step(1, 0, roster(sites, 1, 2)))


def test_server_chooses_the_modulus() -> None:
    """Lanes, clamp, noise and bound are in every key: a site that was told others masks for itself alone."""
    with pytest.raises(ManifestError, match="lane_bits"):
        manifest(5, lane_bits=63)
    for change in ({"clamp": 1}, {"share_variance": 1}, {"bound": LONG.bound // 2}):
        first = Round.opened(ready(OF, LONG, {1: replace(LONG, **change)}), 1)
        first.show(ALL)
        assert not any(first.try_(member, ALL) for member in ALL)
    for kind in (Step, Survivors, Agreement):
        assert not {"modulus", "threshold", "clip", "clamp", "noise", "bits"} & {each.name for each in fields(kind)}
