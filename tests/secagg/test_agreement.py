"""Set-up of everybody at once, honest and attacked on the wire. Later waves are in test_waves.py."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from secagg import Client, agreement
from secagg import client as client_module
from secagg.encoding import digest
from secagg.errors import (
    BadKey,
    BadSignature,
    ConfigError,
    MalformedMessage,
    ManifestMismatch,
    PeerError,
    RosterRefused,
    SecondMessage,
    SessionOver,
    SnapshotError,
    Unconfirmed,
    UnexpectedMessage,
    UnpinnedMember,
)
from secagg.keys import Ephemeral, Label, Purpose
from secagg.manifest import Mode
from secagg.messages import Bundle, Bundles, Ciphertexts, Confirmations, Confirmed, Encapsulations, Invite, Ready
from tests.federation import entropy, identity, manifest, pins
from tests.secagg.post import Post, client
from tests.sweeps import thinned

OF = manifest(4)


def gathered(*bundles: Any) -> Bundles:
    members = tuple(each.member for each in bundles)
    return Bundles(0, members[0], members, tuple(bundles))


def honest(*clients: Client) -> Bundles:
    return gathered(*(each.begin()[0] for each in clients))


def signed(member: int, of: Any = OF, wave: int = 0, **changes: Any) -> Bundle:
    """A bundle with a valid signature over whatever keys the member likes."""
    x25519, mlkem = Ephemeral.generate(entropy(f"attacker {member}")).public()
    x25519, mlkem = changes.get("x25519", x25519), changes.get("mlkem", mlkem)
    short = digest(Label.MLKEM, mlkem)
    values = ("haemfed/secagg/2", of.suite, of.run_id, of.digest(), member, wave, x25519, short)
    signature = identity(member).sign(Purpose.BUNDLE, *values)
    return Bundle(member, wave, x25519, mlkem, short, of.digest(), signature)


def all_four() -> list[Client]:
    return [client(OF, member) for member in OF.indices]


def refused(at: Client, message: Any, error: type[Exception], match: str = ".") -> None:
    """The message ends the session for good and leaves no key."""
    with pytest.raises(error, match=match):
        at.receive(message)
    for call in (at.hello, at.begin, lambda: at.receive(message)):
        with pytest.raises(SessionOver):
            call()
    assert not at.ready
    assert len(at.snapshot()) < 1000  # a tombstone, no room for keys
    with pytest.raises(SessionOver):
        client(at._manifest, at._me, snapshot=at.snapshot())


@pytest.mark.parametrize("n", [3, 4, 9])
def test_everybody_becomes_ready_with_the_same_keys(n: int) -> None:
    of = manifest(n)
    Post(of, seed=n).run().check(*of.indices)


def test_whoever_is_lowest_owns_the_group_key() -> None:
    """Who has missed wave 0 is not in it, and nobody waits for him."""
    for seed in range(3):
        post = Post(manifest(6), 2, 3, 5, 6, seed=seed).run()
        post.check(2, 3, 5, 6)
        assert {each._phase.owner for each in post.clients.values()} == {2}
        assert post.relay.missing == (1, 4)


def test_bundles_before_wave_0_is_decided_lead_nowhere() -> None:
    post = Post(manifest(5), 1, 2, 3, 4)
    post.first = (1, 2, 3, 4, 5)
    post.run()
    assert not any(post.received.values())
    post.start(5)
    post.run().check(1, 2, 3, 4, 5)


def test_the_group_keys_that_were_drawn_for_nothing_are_gone() -> None:
    post = Post(OF)
    drawn = {member: each._phase.group for member, each in post.clients.items()}
    assert len(set(drawn.values())) == 4
    post.run().check(1, 2, 3, 4)
    for member, each in post.clients.items():
        assert each._phase.group == drawn[1]
        assert member == 1 or drawn[member] not in each.snapshot()


def test_the_ephemeral_keys_and_confirmation_keys_are_gone_after_set_up() -> None:
    post = Post(OF)
    ephemeral = {member: each._phase.ephemeral for member, each in post.clients.items()}
    pairs: dict[int, Any] = {}

    def look() -> bool:
        for member, each in post.clients.items():
            pairs[member] = getattr(each._phase, "pairs", None) or pairs.get(member)
            if isinstance(each._phase, agreement.Confirming):  # as early as that
                assert ephemeral[member].x25519 not in each.snapshot()
                assert ephemeral[member].mlkem not in each.snapshot()
        return False

    post.run(look).check(1, 2, 3, 4)
    for member, each in post.clients.items():
        stored = each.snapshot()
        assert ephemeral[member].x25519 not in stored
        assert ephemeral[member].mlkem not in stored
        for keys in pairs[member].values():
            assert keys.chain not in stored  # of round 0, which nobody opens
            assert keys.confirm not in stored
            assert keys.group not in stored


def test_work_per_member_grows_with_its_peers_and_not_with_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bundle is verified once, each private key expanded once; messages are encoded a fixed number of times."""
    counts: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*args: Any, **keywords: Any) -> Any:
            counts[name] += 1
            return real(*args, **keywords)

        monkeypatch.setattr(module, name, call)

    counted(agreement, "verify")
    counted(agreement, "encode")
    counted(client_module, "encode")
    real = Ephemeral._mlkem.func

    def expanded(self: Ephemeral) -> Any:
        counts["expanded"] += 1
        return real(self)

    monkeypatch.setattr(Ephemeral._mlkem, "func", expanded)
    costs = {}
    for n in (5, 10):
        counts.clear()
        Post(manifest(n)).run().check(*range(1, n + 1))
        costs[n] = dict(counts)
        assert counts["verify"] == n * (n + 1)  # n at each member, n at the relay
        assert counts["expanded"] == n
    assert costs[10]["encode"] / 10 <= 2 * costs[5]["encode"] / 5


# ---- who may be a member ----


def test_sybil_by_coordinator() -> None:
    """The coordinator lists puppet hospitals; a site that did not pin them refuses by name."""
    own = frozenset({identity(1).public, identity(2).public})
    with pytest.raises(UnpinnedMember, match=r"3 \(Hospital 3\), 4 \(Hospital 4\)"):
        client(OF, 1, pins=own)
    assert client(OF, 1, pins=pins(OF) - {identity(1).public})  # its own identity needs no pin


def test_a_foreign_identity_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="member 1"):
        client(OF, 1, identity=identity(2))


def test_set_up_is_the_same_in_mode_b() -> None:
    Post(manifest(4, 1, mode=Mode.B)).run().check(1, 2, 3, 4)


# ---- bundles ----


def test_bundle_of_another_manifest() -> None:
    """One member's study is older: it signed another digest."""
    theirs = signed(3, manifest(4, 1, minimum_roster=4))
    ours = all_four()
    first, second, _third, fourth = honest(*ours).bundles
    refused(ours[0], gathered(first, second, theirs, fourth), ManifestMismatch, "Hospital 3")
    relabelled = replace(theirs, manifest_digest=OF.digest())
    refused(ours[1], gathered(first, second, relabelled, fourth), BadSignature, "Hospital 3")


@pytest.mark.parametrize("changed", [{"x25519": b"\1" * 32}, {"mlkem_digest": b"\1" * 32}, {"signature": b"\1" * 64}])
def test_bundle_not_signed_by_the_pinned_identity(changed: Any) -> None:
    ours = all_four()
    first, second, third, fourth = honest(*ours).bundles
    forged = replace(third.bare(), **changed)
    refused(ours[3], gathered(first, second, forged, fourth), BadSignature, "Hospital 3")


def test_bundle_signed_by_another_member() -> None:
    ours = all_four()
    first, second, third, fourth = honest(*ours).bundles
    refused(ours[0], gathered(first, second, replace(fourth, member=3), fourth), BadSignature, "Hospital 3")
    values = ("haemfed/secagg/2", OF.suite, OF.run_id, OF.digest(), 3, 0, third.x25519, third.mlkem_digest)
    unpinned = replace(third, signature=identity(99).sign(Purpose.BUNDLE, *values))
    refused(ours[1], gathered(first, second, unpinned, fourth), BadSignature, "Hospital 3")


def test_swapped_kem_key() -> None:
    """The coordinator puts its own ML-KEM key into an honest bundle, to read the hybrid's other half later."""
    ours = all_four()
    *others, fourth = honest(*ours).bundles
    evil = Ephemeral.generate(entropy("coordinator")).public()[1]
    with pytest.raises(MalformedMessage, match="not the one its digest stands for"):
        replace(fourth, mlkem=evil)
    swapped = replace(fourth, mlkem=evil, mlkem_digest=digest(Label.MLKEM, evil))
    refused(ours[0], gathered(*others, swapped), BadSignature, "Hospital 4")


def test_kem_key_withheld() -> None:
    """Who has to encapsulate needs the key; who has not, needs only its digest."""
    ours = all_four()
    bundles = honest(*ours).bundles
    bare = [each.bare() for each in bundles]
    refused(ours[1], gathered(*bundles[:3], bare[3]), MalformedMessage, "Hospital 4.*without")
    assert ours[2].receive(gathered(*bare[:3], bundles[3]))
    assert ours[3].receive(gathered(*bare)) == []


def test_bundles_of_too_few_or_foreign_members() -> None:
    ours = all_four()
    refused(ours[0], honest(*ours[:2]), RosterRefused, "2 sites, at least 3")
    refused(ours[1], honest(ours[2], ours[3], client(manifest(9), 9)), RosterRefused, "member 2, sent a bundle")
    stranger = replace(signed(4), member=9)
    refused(ours[2], gathered(*honest(client(OF, 1), client(OF, 2), ours[2]).bundles, stranger), UnexpectedMessage)


def test_second_bundle_of_one_member() -> None:
    """The server shows a site two bundles of one member: the first is final."""
    ours = all_four()
    first, second, _third, fourth = honest(*ours).bundles
    ours[0].receive(honest(*ours))
    refused(ours[0], gathered(first, second, signed(3), fourth), SecondMessage)


def test_our_own_bundle_replaced() -> None:
    ours = all_four()
    bundles = honest(*ours).bundles
    refused(ours[0], gathered(signed(1), *bundles[1:]), SecondMessage, "not the one we sent")


@pytest.mark.parametrize("keys", [{"mlkem": b"\xff" * 1184}, {"x25519": bytes(32)}])
def test_garbage_keys_and_all_zero_x25519(keys: Any) -> None:
    ours = all_four()
    bundles = honest(*ours).bundles
    refused(ours[0], gathered(*bundles[:3], signed(4, **keys)), BadKey, "Hospital 4")


def test_all_zero_x25519_of_a_lower_member() -> None:
    ours = all_four()
    bundles = honest(*ours).bundles
    ours[3].receive(gathered(signed(1, x25519=bytes(32)), *bundles[1:]))
    refused(ours[3], Ciphertexts(0, tuple((peer, bytes(1088)) for peer in (1, 2, 3))), BadKey, "Hospital 1")


# ---- ciphertexts and confirmations ----


def agreeing(member: int) -> Client:
    ours = all_four()
    ours[member - 1].receive(honest(*ours))
    return ours[member - 1]


@pytest.mark.parametrize("senders", [(1,), (1, 2, 3), (1, 4), (2,), (2, 9), (4,)])
def test_ciphertexts_of_others_than_the_lower_members(senders: tuple[int, ...]) -> None:
    message = Ciphertexts(0, tuple((each, bytes(1088)) for each in senders))
    refused(agreeing(3), message, MalformedMessage, r"those of \(1, 2\)")


@pytest.mark.parametrize("senders", [(1,), (1, 2), (1, 2, 3, 4), (1, 2, 9), (2, 4), (3,)])
def test_confirmations_of_others_than_the_peers(senders: tuple[int, ...]) -> None:
    post = Post(OF)
    post.run(lambda: isinstance(post.clients[3]._phase, agreement.Confirming))
    message = Confirmed(0, tuple((each, bytes(32), b"") for each in senders))
    refused(post.clients[3], message, MalformedMessage, r"those of \(1, 2, 4\)")


def test_messages_come_in_their_order() -> None:
    ciphertexts, confirmed = Ciphertexts(0, ((1, bytes(1088)),)), Confirmed(0, ((1, bytes(32), b""),))
    refused(client(OF, 2), ciphertexts, UnexpectedMessage, "Ciphertexts of wave 0 in phase Advertised")
    refused(client(OF, 2), confirmed, UnexpectedMessage, "Advertised")
    refused(agreeing(2), confirmed, UnexpectedMessage, "Agreeing")
    refused(agreeing(1), ciphertexts, UnexpectedMessage, "Confirming")  # nobody encapsulates to the lowest


@pytest.mark.parametrize("wave", [1, 7])
def test_messages_of_a_wave_nobody_has_begun(wave: int) -> None:
    first, *others = (replace(each.begin()[0], wave=wave) for each in all_four())
    bundles = Bundles(wave, 1, tuple(each.member for each in others), (first, *others))
    refused(client(OF, 2), bundles, UnexpectedMessage, f"wave {wave} in phase Advertised of wave 0")
    refused(agreeing(2), Ciphertexts(wave, ((1, bytes(1088)),)), UnexpectedMessage, "of wave 0")
    refused(agreeing(1), Confirmed(wave, ((2, bytes(32), b""),)), UnexpectedMessage, "of wave 0")


def attacked(change: Any, of: Any = OF) -> dict[int, PeerError]:
    post = Post(of, to_site=change).run()
    assert not post.relay.ready & post.errors.keys()
    assert post.errors
    return post.errors


def kinds(errors: dict[int, PeerError]) -> set[type[PeerError]]:
    return {type(error) for error in errors.values()}


def test_a_swapped_ciphertext_fails_confirmation() -> None:
    def change(member: int, message: Any) -> list[Any]:
        if isinstance(message, Ciphertexts) and member == 3:
            (sender, ciphertext), *others = message.of
            return [Ciphertexts(0, ((sender, bytes([ciphertext[0] ^ 1]) + ciphertext[1:]), *others))]
        return [message]

    errors = attacked(change)
    assert errors.keys() == {1, 3}  # both ends of the pair
    assert kinds(errors) == {Unconfirmed}


def test_reflected_confirmation() -> None:
    """A member gets its own MAC back as its peer's."""
    own: dict[int, Confirmations] = {}

    def keep(member: int, message: Any) -> list[Any]:
        if isinstance(message, Confirmations):
            own[member] = message
        return [message]

    def reflect(member: int, message: Any) -> list[Any]:
        if isinstance(message, Confirmed) and member == 3:
            macs = {peer: mac for peer, mac, _ in own[3].to}
            return [Confirmed(0, tuple((each, macs[2] if each == 2 else mac, box) for each, mac, box in message.of))]
        return [message]

    post = Post(OF, to_server=keep, to_site=reflect).run()
    assert type(post.errors[3]) is Unconfirmed
    assert "Hospital 2" in str(post.errors[3])


def test_confirmation_moved_to_another_receiver() -> None:
    macs: dict[tuple[int, int], bytes] = {}

    def move(member: int, message: Any) -> list[Any]:
        if not isinstance(message, Confirmed):
            return [message]
        macs.update({(each, member): mac for each, mac, _ in message.of})
        return [
            Confirmed(0, tuple((each, macs.get((each, 9 - member - each), mac), box) for each, mac, box in message.of))
        ]

    assert kinds(attacked(move)) == {Unconfirmed}


def confirmed(change: Any) -> Any:
    """An attacker that changes the boxes of group keys: (receiver, sender, box) → box."""

    def attack(member: int, message: Any) -> list[Any]:
        if isinstance(message, Confirmed):
            return [Confirmed(0, tuple((each, mac, change(member, each, box)) for each, mac, box in message.of))]
        return [message]

    return attack


def test_a_group_box_from_another_member_or_none_from_the_owner() -> None:
    strip = confirmed(lambda _member, _sender, _box: b"")
    add = confirmed(lambda _member, sender, box: bytes(48) if sender == 2 else box)
    to_owner = confirmed(lambda member, _sender, box: bytes(48) if member == 1 else box)
    swap = confirmed(lambda _member, _sender, box: bytes(48) if box else b"")
    for change, error in [
        (strip, MalformedMessage),
        (add, MalformedMessage),
        (to_owner, MalformedMessage),
        (swap, Unconfirmed),
    ]:
        assert kinds(attacked(change)) == {error}


def test_a_group_box_moved_to_another_receiver() -> None:
    boxes: dict[int, bytes] = {}

    def move(member: int, message: Any) -> list[Any]:
        if not isinstance(message, Confirmed):
            return [message]
        boxes[member] = b"".join(box for _, _, box in message.of)
        other = boxes.get(5 - member)
        return [Confirmed(0, tuple((each, mac, (box and other) or box) for each, mac, box in message.of))]

    errors = attacked(move)
    assert kinds(errors) == {Unconfirmed}
    assert any("boxed for us does not open" in str(error) for error in errors.values())


def test_everybody_must_have_seen_the_same_bundles() -> None:
    """One member is shown another, validly signed bundle of a third one: nobody becomes ready with either."""

    def fork(member: int, message: Any) -> list[Any]:
        if isinstance(message, Bundles) and member == 1:
            return [gathered(*message.bundles[:3], signed(4))]
        return [message]

    errors = attacked(fork)
    assert kinds(errors) == {Unconfirmed}
    assert 2 in errors  # its own pairs are untouched by the lie


def test_everybody_must_have_seen_the_same_members() -> None:
    """One member is shown a smaller wave 0."""
    of = manifest(5)

    def fork(member: int, message: Any) -> list[Any]:
        if isinstance(message, Bundles) and member == 2:
            return [gathered(*message.bundles[:4])]
        if isinstance(message, Confirmed) and member == 2:
            return [Confirmed(0, tuple(row for row in message.of if row[0] != 5))]
        return [message]

    post = Post(of, to_site=fork, to_server=lambda _member, message: [message]).run()
    assert not post.joined
    assert not post.relay.ready


def test_the_same_message_again_is_ignored_at_any_time() -> None:
    def twice(_member: int, message: Any) -> list[Any]:
        return [message, message]

    post = Post(OF, to_site=twice, to_server=twice).run()
    post.check(1, 2, 3, 4)
    for member, messages in post.received.items():
        for message in messages:
            assert post.clients[member].receive(message) == []
    post.check(1, 2, 3, 4)


# ---- crashes ----


def crashes(post: Post) -> Iterator[Post]:
    """Copies of a set-up, stopped before each of its messages in turn."""
    for steps in itertools.count():
        yield post.fork()
        if not post.step():
            assert steps > 20
            return


@pytest.mark.parametrize("seed", thinned(range(4)))
def test_killed_at_any_message_of_set_up_the_bytes_stay_the_same(seed: int) -> None:
    """SIGKILL: the restarted process resends identical bytes and set-up completes."""
    victim = 1 + seed
    for post in crashes(Post(OF, seed=seed)):
        before = post.clients[victim].begin()
        post.start(victim)
        assert post.clients[victim].begin() == before
        post.run().check(1, 2, 3, 4)


def test_the_relay_dies_at_any_message_of_set_up() -> None:
    for post in crashes(Post(OF, seed=5)):
        post.restart_relay()
        post.run().check(1, 2, 3, 4)


def test_begin_after_set_up() -> None:
    """All messages until a Step proves that the server has them, then only that we are ready."""
    post = Post(OF).run()
    assert [type(each) for each in post.clients[1].begin()] == [Bundle, Encapsulations, Confirmations, Ready]
    assert [type(each) for each in post.clients[4].begin()] == [Bundle, Confirmations, Ready]
    post.clients[1]._phase = post.clients[1]._phase.asked((1, 2, 3))
    assert post.clients[1].begin() == [Ready(1, 0)]


def test_a_site_set_up_anew_is_refused_by_server_and_peers() -> None:
    """The data directory is lost in set-up: another bundle would be a second one."""
    post = Post(OF)
    post.run(lambda: post.relay.closed)
    del post.disks[2]
    post.start(2)
    post.run()
    assert [(member, type(error)) for member, error in post.refused] == [(2, SecondMessage)]
    assert type(post.errors[2]) is SecondMessage
    assert not post.relay.ready


def test_no_invitation_in_set_up() -> None:
    refused(agreeing(2), Invite(1, (2,)), RosterRefused, "while another wave")


# ---- snapshots ----


def snapshots() -> list[bytes]:
    """One of each phase."""
    post, taken = Post(OF), {}

    def look() -> bool:
        taken[type(post.clients[3]._phase).__name__] = post.disks[3]
        return False

    post.run(look)
    assert list(taken) == ["Advertised", "Agreeing", "Confirming", "Rounds"]
    return list(taken.values())


@pytest.mark.parametrize("position", [0, 40, -1])
def test_a_damaged_snapshot_is_refused(position: int) -> None:
    for stored in snapshots():
        data = bytearray(stored)
        data[position] ^= 1
        with pytest.raises(SnapshotError):
            client(OF, 3, snapshot=bytes(data))


def test_a_snapshot_of_every_phase_loads_to_the_same_state() -> None:
    for stored in snapshots():
        assert client(OF, 3, snapshot=stored).snapshot() == stored


def test_a_foreign_snapshot_is_refused() -> None:
    with pytest.raises(SnapshotError, match="another run or to member 1"):
        client(OF, 2, snapshot=client(OF, 1).snapshot())
    with pytest.raises(SnapshotError):
        client(manifest(4, 1, run_id=b"Q" * 32), 1, snapshot=client(OF, 1).snapshot())
    with pytest.raises(SnapshotError):
        client(OF, 1, snapshot=b"")


def test_snapshots_do_not_depend_on_the_nonce() -> None:
    one = client(OF, 1)
    other = client(OF, 1, nonce=b"\7" * 32)
    assert one.snapshot() == other.snapshot()


def test_secrets_of_set_up_do_not_show() -> None:
    post = Post(OF)
    secret = [post.clients[2]._phase.group, post.clients[2]._phase.ephemeral.x25519]

    def look() -> bool:
        shown = repr(post.clients[2]._phase)
        assert not any(repr(each) in shown for each in secret)
        assert all(repr(keys.chain) not in shown for keys in getattr(post.clients[2]._phase, "pairs", {}).values())
        return False

    post.run(look)
    shown = repr(post.clients[2]._phase)
    assert repr(post.clients[2]._phase.group) not in shown
    assert not any(repr(chain) in shown for chain in post.clients[2]._phase.ratchet.chains.values())
