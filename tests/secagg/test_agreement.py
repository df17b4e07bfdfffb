"""Set-up, honest and attacked on the wire."""

from dataclasses import replace
from typing import Any

import pytest

from secagg import Client
from secagg.errors import (
    BadKey,
    BadSignature,
    ConfigError,
    MalformedMessage,
    ManifestMismatch,
    SecondMessage,
    SessionOver,
    SnapshotError,
    Unconfirmed,
    UnexpectedMessage,
    UnpinnedMember,
)
from secagg.keys import Ephemeral, Purpose
from secagg.manifest import Mode
from secagg.messages import Bundle, Bundles, Confirmations, Encapsulations, Ready
from tests.federation import Disk, Federation, Site, Study, complete, entropy, identity, manifest, pins

OF = manifest(4)


def client(member: int, **changes: Any) -> Client:
    values = {"entropy": entropy(f"client {member}"), "nonce": bytes([member]) * 32, "pins": pins(OF)}
    return Client(changes.pop("of", OF), member, changes.pop("identity", identity(member)), **(values | changes))


def bundles(*clients: Client) -> Bundles:
    return Bundles(tuple(each.begin()[0] for each in clients))


def signed(member: int, of: Any = OF, **changes: Any) -> Bundle:
    """A bundle with a valid signature over whatever keys the member likes."""
    x25519, mlkem = Ephemeral.generate(entropy(f"attacker {member}")).public()
    x25519, mlkem = changes.get("x25519", x25519), changes.get("mlkem", mlkem)
    values = ("haemfed/secagg/1", of.suite, of.run_id, of.digest(), member, x25519, mlkem)
    return Bundle(member, x25519, mlkem, of.digest(), identity(member).sign(Purpose.BUNDLE, *values))


def all_four() -> list[Client]:
    return [client(member) for member in OF.indices]


def refused(at: Client, message: Any, error: type[Exception], match: str = ".") -> None:
    """The message ends the session for good and leaves no key."""
    with pytest.raises(error, match=match):
        at.receive(message)
    for call in (at.hello, at.begin, lambda: at.receive(message)):
        with pytest.raises(SessionOver):
            call()
    assert not at.ready
    assert len(at.snapshot()) < 600  # a tombstone, no room for keys
    with pytest.raises(SessionOver):
        client(at.hello.__self__._me, snapshot=at.snapshot())


@pytest.mark.parametrize("n", [3, 4, 9])
def test_everybody_becomes_ready_with_the_same_keys(n: int) -> None:
    federation = Federation(manifest(n), seed=n)
    federation.start()
    federation.run(lambda: bool(federation.rounds))
    chains = {member: site.client._phase.ratchet.chains for member, site in federation.sites.items()}
    for u, keys in chains.items():
        assert keys == {v: chains[v][u] for v in keys}
    distinct = {key for keys in chains.values() for key in keys.values()}
    assert len(distinct) == n * (n - 1) // 2
    assert len({site.client._phase.group for site in federation.sites.values()}) == 1


def test_the_ephemeral_keys_and_confirmation_keys_are_gone_after_set_up() -> None:
    federation = Federation(OF)
    federation.start()
    before = federation.sites[2].client._phase
    federation.run(lambda: bool(federation.rounds))
    stored = federation.sites[2].client.snapshot()
    assert before.ephemeral.x25519 not in stored
    assert before.ephemeral.mlkem not in stored


def test_sybil_by_coordinator() -> None:
    """The coordinator lists puppet hospitals; a site that did not pin them refuses by name."""
    own = frozenset({identity(1).public, identity(2).public})
    with pytest.raises(UnpinnedMember, match=r"3 \(Hospital 3\), 4 \(Hospital 4\)"):
        client(1, pins=own)
    assert client(1, pins=pins(OF) - {identity(1).public})  # its own identity needs no pin


def test_a_foreign_identity_or_mode_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="member 1"):
        client(1, identity=identity(2))
    with pytest.raises(ConfigError, match="mode B"):
        client(1, of=manifest(4, 1, mode=Mode.B))


def test_bundle_of_another_manifest() -> None:
    other = manifest(4, 1, minimum_roster=4)
    ours = all_four()
    theirs = signed(3, other)
    mixed = Bundles(tuple(theirs if each.member == 3 else each for each in bundles(*ours).bundles))
    refused(ours[0], mixed, ManifestMismatch, "Hospital 3")


def test_bundle_not_signed_by_the_pinned_identity() -> None:
    ours = all_four()
    honest = bundles(*ours).bundles
    substituted = replace(honest[2], x25519=signed(3).x25519)
    refused(ours[0], Bundles((*honest[:2], substituted, honest[3])), BadSignature, "Hospital 3")


def test_bundle_moved_to_another_member() -> None:
    ours = all_four()
    honest = bundles(*ours).bundles
    moved = replace(honest[3], member=3)
    refused(ours[0], Bundles((*honest[:2], moved, honest[3])), BadSignature, "Hospital 3")


def test_bundles_of_too_few_or_foreign_members() -> None:
    ours = all_four()
    refused(ours[0], Bundles(bundles(*ours).bundles[:3]), MalformedMessage)
    refused(ours[1], Bundles((*bundles(*all_four()).bundles[:3], replace(signed(4), member=9))), MalformedMessage)


def test_second_bundle_of_one_member() -> None:
    """The server shows a site two bundles of one member: the first is final."""
    ours = all_four()
    honest = bundles(*ours)
    ours[0].receive(honest)
    forked = Bundles((*honest.bundles[:2], signed(3), honest.bundles[3]))
    refused(ours[0], forked, SecondMessage)


def test_our_own_bundle_replaced() -> None:
    ours = all_four()
    honest = bundles(*ours).bundles
    refused(ours[0], Bundles((signed(1), *honest[1:])), SecondMessage, "not the one we sent")


@pytest.mark.parametrize("keys", [{"mlkem": b"\xff" * 1184}, {"x25519": bytes(32)}])
def test_garbage_keys_and_all_zero_x25519(keys: Any) -> None:
    ours = all_four()
    honest = bundles(*ours).bundles
    refused(ours[0], Bundles((*honest[:3], signed(4, **keys))), BadKey, "Hospital 4")


def test_all_zero_x25519_of_a_lower_member() -> None:
    ours = all_four()
    honest = bundles(*ours).bundles
    ours[3].receive(Bundles((signed(1, x25519=bytes(32)), *honest[1:])))
    refused(ours[3], Encapsulations(1, ((4, bytes(1088)),)), BadKey, "Hospital 1")


@pytest.mark.parametrize(
    "message",
    [
        Encapsulations(3, ((4, bytes(1088)),)),  # not for us
        Encapsulations(1, ((2, bytes(1088)), (3, bytes(1088)))),  # a server that forgot to split
        Encapsulations(9, ((10, bytes(1088)),)),  # a stranger
        Confirmations(1, ((2, bytes(32), b""),)),  # before its ciphertext
        Confirmations(9, ((2, bytes(32), b""),)),
    ],
)
def test_messages_that_are_not_ours_to_take(message: Any) -> None:
    ours = all_four()
    ours[1].receive(bundles(*ours))
    refused(ours[1], message, UnexpectedMessage)


def test_nothing_but_bundles_comes_first() -> None:
    refused(client(2), Encapsulations(1, ((2, bytes(1088)),)), UnexpectedMessage, "Advertised")
    refused(client(2), Confirmations(1, ((2, bytes(32), b""),)), UnexpectedMessage, "Advertised")


def attacked(change: Any) -> Federation:
    federation = Federation(OF, to_site=change)
    federation.start()
    federation.run()
    assert not federation.rounds
    return federation


def test_a_swapped_ciphertext_fails_confirmation() -> None:
    def change(member: int, message: Any) -> list[Any]:
        if isinstance(message, Encapsulations) and (message.sender, member) == (1, 3):
            ciphertext = bytes([message.to[0][1][0] ^ 1]) + message.to[0][1][1:]
            return [Encapsulations(1, ((3, ciphertext),))]
        return [message]

    federation = attacked(change)
    assert {type(site.error) for site in federation.sites.values() if site.error} == {Unconfirmed}


def test_reflected_confirmation() -> None:
    """A member gets its own MAC back as its peer's."""
    own: dict[int, Confirmations] = {}

    def keep(member: int, message: Any) -> list[Any]:
        if isinstance(message, Confirmations):
            own[member] = message
        return [message]

    federation = Federation(OF, to_server=keep)
    federation.start()
    federation.run(lambda: 3 in own)
    mac = next(mac for peer, mac, _ in own[3].to if peer == 2)
    with pytest.raises(Unconfirmed, match="Hospital 2"):
        federation.sites[3].client.receive(Confirmations(2, ((3, mac, b""),)))


def test_a_group_box_from_another_member_or_none_from_the_lowest() -> None:
    def strip(member: int, message: Any) -> list[Any]:
        if isinstance(message, Confirmations) and message.sender == 1:
            return [Confirmations(1, tuple((peer, mac, b"") for peer, mac, _ in message.to))]
        return [message]

    def add(member: int, message: Any) -> list[Any]:
        if isinstance(message, Confirmations) and message.sender == 2:
            return [Confirmations(2, tuple((peer, mac, bytes(48)) for peer, mac, _ in message.to))]
        return [message]

    def swap(member: int, message: Any) -> list[Any]:
        if isinstance(message, Confirmations) and message.sender == 1:
            return [Confirmations(1, tuple((peer, mac, bytes(48)) for peer, mac, _ in message.to))]
        return [message]

    for change, error in [(strip, MalformedMessage), (add, MalformedMessage), (swap, Unconfirmed)]:
        errors = {type(site.error) for site in attacked(change).sites.values() if site.error}
        assert errors == {error}


def test_everybody_must_have_seen_the_same_bundles() -> None:
    """One member is shown another, validly signed bundle of a third one: nobody becomes ready."""

    def fork(member: int, message: Any) -> list[Any]:
        if isinstance(message, Bundles) and member == 1:
            honest = message.bundles
            return [Bundles((*honest[:3], signed(4)))]
        return [message]

    errors = {type(site.error) for site in attacked(fork).sites.values() if site.error}
    assert Unconfirmed in errors


def test_the_same_message_again_is_ignored_at_any_time() -> None:
    def twice(member: int, message: Any) -> list[Any]:
        return [message, message] if isinstance(message, Bundles | Encapsulations | Confirmations) else [message]

    federation = Federation(OF, to_site=twice)
    federation.start()
    complete(federation)


@pytest.mark.parametrize("seed", range(12))
def test_killed_during_set_up_the_bundle_stays_the_same(seed: int) -> None:
    """SIGKILL at any message: the restarted process resends identical bytes and the run completes."""
    federation = Federation(OF, Study(steps=1), seed=seed)
    federation.start()
    bundle = federation.sites[1 + seed % 4].client.begin()[0]
    for _ in range(3 * seed):
        federation.step()
    victim = 1 + seed % 4
    federation.kill(victim)
    federation.start(victim)
    assert bundle in federation.sites[victim].client.begin() or federation.rounds
    complete(federation)


def test_begin_after_set_up_is_ready() -> None:
    federation = Federation(OF)
    federation.start()
    federation.run(lambda: len(federation.sums) == 1)
    assert federation.sites[1].client.begin() == [Ready(1)]


def test_a_site_set_up_anew_is_refused_by_server_and_peers() -> None:
    """The data directory is lost in set-up: another bundle would be a second one."""
    federation = Federation(OF)
    federation.start()
    federation.run(lambda: len(federation.log) > 6)
    federation.kill(2)
    federation.disks[2] = Disk()
    site = Site(OF, 2, Study(), federation.disks[2], "anew")
    federation.sites[2] = site
    federation.connect(2)
    with pytest.raises(SecondMessage, match="Hospital 2"):
        federation.server.receive(2, site.client.begin()[0])
    site.receive(federation.down[2].popleft())
    assert isinstance(site.error, SecondMessage)


@pytest.mark.parametrize("position", [0, 40, -1])
def test_a_damaged_snapshot_is_refused(position: int) -> None:
    data = bytearray(client(1).snapshot())
    data[position] ^= 1
    with pytest.raises(SnapshotError):
        client(1, snapshot=bytes(data))


def test_a_foreign_snapshot_is_refused() -> None:
    with pytest.raises(SnapshotError, match="another run or to member 1"):
        client(2, snapshot=client(1).snapshot())
    with pytest.raises(SnapshotError):
        client(1, of=manifest(4, 1, run_id=b"Q" * 32), snapshot=client(1).snapshot())
    with pytest.raises(SnapshotError):
        client(1, snapshot=b"")


def test_snapshots_do_not_depend_on_the_nonce() -> None:
    one = client(1)
    other = client(1, nonce=b"\7" * 32)
    assert one.snapshot() == other.snapshot()
