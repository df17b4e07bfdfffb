"""The server's part in set-up: order, batches, decisions, and what it costs."""

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest

from secagg.encoding import digest
from secagg.errors import (
    BadSignature,
    MalformedMessage,
    ManifestMismatch,
    MisuseError,
    PeerError,
    SecondMessage,
    UnexpectedMessage,
)
from secagg.keys import Label
from secagg.messages import (
    Bundle,
    Bundles,
    Ciphertexts,
    Confirmations,
    Confirmed,
    Encapsulations,
    Invite,
    Ready,
    encode,
)
from secagg.relay import Relay
from secagg.setup_messages import MAX_WAVES
from tests.federation import manifest
from tests.secagg.post import Post
from tests.secagg.test_agreement import signed

OF = manifest(6, 1)  # at least 4 of 6


def offers(*members: int) -> list[Bundle]:
    return [signed(member, OF) for member in members]


def closed(*members: int) -> Relay:
    relay = Relay(OF, offers(*members))
    relay.take(relay.close())
    return relay


def encapsulations(sender: int, *peers: int, wave: int = 0) -> Encapsulations:
    return Encapsulations(sender, wave, tuple((peer, bytes([sender, peer]) * 544) for peer in peers))


def confirmations(sender: int, *peers: int, wave: int = 0, owner: int = 2) -> Confirmations:
    box = bytes([sender]) * 48 if sender == owner else b""
    return Confirmations(sender, wave, tuple((peer, bytes([sender, peer]) * 16, box) for peer in peers))


def complete(relay: Relay, *members: int, wave: int = 0) -> Relay:
    """A wave as its members see it through, with garbage for cryptography."""
    bundles = next(each for receiver, each in relay.backlog(members[0]) if isinstance(each, Bundles))
    new = set(bundles.newcomers)
    for kind in (Encapsulations, Confirmations, Ready):
        for member in members:
            peers = [each for each in members if each != member and (member in new or each in new)]
            higher = [each for each in peers if each > member]
            if kind is Encapsulations and higher:
                assert relay.store(member, encapsulations(member, *higher, wave=wave))
            elif kind is Confirmations:
                assert relay.store(member, confirmations(member, *peers, wave=wave))
            elif kind is Ready:
                assert relay.store(member, Ready(member, wave))
    return relay


def invited(*newcomers: int) -> Relay:
    relay = complete(closed(2, 3, 4, 5), 2, 3, 4, 5)
    for each in offers(*newcomers):
        assert relay.store(each.member, each)
    invite = relay.invite(frozenset(OF.indices))
    assert invite == Invite(1, newcomers)
    relay.take(invite)
    return relay


def refused(relay: Relay, member: int, message: Any, error: type[PeerError], match: str = ".") -> None:
    """Nothing changes, whatever is refused."""
    before = [relay.backlog(each) for each in OF.indices]
    with pytest.raises(error, match=match):
        relay.store(member, message)
    assert [relay.backlog(each) for each in OF.indices] == before


# ---- wave 0 ----


def test_wave_0_is_decided_once_with_enough_members() -> None:
    relay = Relay(OF, offers(5, 2, 3))
    assert (relay.offered, relay.closed) == ({2, 3, 5}, False)
    with pytest.raises(MisuseError, match=r"at least 4 .* there are 3"):
        relay.close()
    relay.store(6, signed(6, OF))
    bundles = relay.close()
    assert (bundles.wave, bundles.owner, bundles.newcomers) == (0, 2, (2, 3, 5, 6))
    assert bundles.members == (2, 3, 5, 6)
    assert not relay.closed  # only asked; the caller stores it first
    relay.take(bundles)
    assert relay.closed
    for call in (relay.close, lambda: relay.take(bundles)):
        with pytest.raises(MisuseError):
            call()


def test_who_comes_after_wave_0_is_decided_is_offered_and_not_in_it() -> None:
    relay = closed(2, 3, 4, 5)
    assert relay.store(1, signed(1, OF))
    assert relay.offered == {1, 2, 3, 4, 5}
    assert relay.backlog(1) == relay.hand_on(signed(1, OF)) == []
    refused(relay, 1, encapsulations(1, 2, 3, 4, 5), UnexpectedMessage, "not decided, or without it")
    refused(relay, 1, Ready(1, 0), UnexpectedMessage, "without it")


def test_ml_kem_keys_go_to_those_who_encapsulate() -> None:
    relay = closed(2, 3, 4, 5)
    shown = dict(relay.hand_on(bundles_of(relay)))
    assert list(shown) == [2, 3, 4, 5]
    for receiver, message in shown.items():
        assert isinstance(message, Bundles)
        assert [each.member for each in message.bundles if each.mlkem] == [
            each for each in (2, 3, 4, 5) if each > receiver
        ]
        assert message.bare() == bundles_of(relay).bare()
        assert relay.backlog(receiver) == [(receiver, message)]


def bundles_of(relay: Relay, wave: int = 0) -> Bundles:
    decided = relay._waves[wave].bundles
    assert decided is not None
    return decided


# ---- batches ----


def test_batches_are_whole_before_they_are_handed_on() -> None:
    relay = closed(2, 3, 4, 5)
    handed: list[tuple[int, Any]] = []

    def store(message: Any) -> None:
        assert relay.store(message.sender, message)
        handed.extend(relay.hand_on(message))

    store(encapsulations(3, 4, 5))
    assert handed == []
    store(encapsulations(2, 3, 4, 5))
    assert [(receiver, [sender for sender, _ in each.of]) for receiver, each in handed] == [(3, [2]), (4, [2, 3])]
    store(encapsulations(4, 5))
    receiver, last = handed[-1]
    assert (receiver, last) == (5, Ciphertexts(0, tuple((sender, bytes([sender, 5]) * 544) for sender in (2, 3, 4))))
    assert len(handed) == 3
    for sender in (5, 3, 4):
        store(confirmations(sender, *(each for each in (2, 3, 4, 5) if each != sender)))
    assert [receiver for receiver, _ in handed[3:]] == [2]
    store(confirmations(2, 3, 4, 5))
    assert [receiver for receiver, _ in handed[4:]] == [3, 4, 5]
    assert handed[-1][1] == Confirmed(0, tuple(
        (sender, bytes([sender, 5]) * 16, bytes([2]) * 48 if sender == 2 else b"") for sender in (2, 3, 4)
    ))  # fmt: skip


def test_ready_means_that_they_may_share_a_roster() -> None:
    relay = closed(2, 3, 4, 5)
    assert relay.missing == (1, 2, 3, 4, 5, 6)
    complete(relay, 2, 3, 4, 5)
    assert (relay.ready, relay.missing) == ({2, 3, 4, 5}, (1, 6))
    relay = invited(1)
    assert relay.ready == {2, 3, 4, 5}
    for member in range(1, 6):
        relay.store(member, signed(member, OF, wave=1))
    relay.take(relay.settle())
    relay.store(1, encapsulations(1, 2, 3, 4, 5, wave=1))
    for member in range(1, 6):
        relay.store(member, confirmations(member, *((2, 3, 4, 5) if member == 1 else (1,)), wave=1))
    for member in (1, 2, 3, 4):
        relay.store(member, Ready(member, 1))
        assert relay.ready == {2, 3, 4, 5}  # 5 would still refuse a roster with 1
    relay.store(5, Ready(5, 1))
    assert (relay.ready, relay.missing) == ({1, 2, 3, 4, 5}, (6,))


# ---- later waves ----


def test_who_is_invited_and_when() -> None:
    relay = Relay(OF, offers(1, 2, 3, 4, 5))
    everybody = frozenset(OF.indices)
    assert relay.invite(everybody) is None  # wave 0 is not decided
    relay = closed(2, 3, 4, 5)
    relay.store(6, signed(6, OF))
    assert relay.invite(everybody) is None  # nor complete
    complete(relay, 2, 3, 4, 5)
    assert (
        relay.invite(everybody) == relay.invite(frozenset({2, 3, 4, 5, 6})) == Invite(1, (6,))
    )  # 1 has offered nothing
    assert relay.invite(frozenset({2, 3, 4, 5})) is None  # 6 is away
    assert relay.invite(frozenset({2, 3, 4, 6})) is None  # 5 is away
    relay.take(Invite(1, (6,)))
    relay.store(1, signed(1, OF))
    assert relay.invite(everybody) is None  # one wave at a time
    assert relay.settle() is None
    for member in (2, 3, 4, 5, 6):
        assert relay.hand_on(signed(member, OF, wave=1)) == []
        assert relay.settle() is None
        relay.store(member, signed(member, OF, wave=1))
    bundles = relay.settle()
    assert bundles is not None
    assert (bundles.wave, bundles.owner, bundles.newcomers, bundles.members) == (1, 2, (6,), (2, 3, 4, 5, 6))
    relay.take(bundles)
    assert relay.settle() is None
    assert relay.invite(everybody) is None
    complete(relay, 2, 3, 4, 5, 6, wave=1)
    assert relay.invite(everybody) == Invite(2, (1,))
    assert relay.invite(frozenset({1, 2, 3, 4, 5})) is None  # 6 is established now


def test_an_invitation_and_the_keys_of_a_wave_go_to_those_in_it() -> None:
    relay = invited(1)
    assert [receiver for receiver, _ in relay.hand_on(Invite(1, (1,)))] == [1, 2, 3, 4, 5]
    for member in range(1, 6):
        relay.store(member, signed(member, OF, wave=1))
    relay.take(relay.settle())
    for receiver, message in relay.hand_on(bundles_of(relay, 1)):
        assert isinstance(message, Bundles)
        keys = [each.member for each in message.bundles if each.mlkem]
        assert keys == ([2, 3, 4, 5] if receiver == 1 else [])  # the others encapsulate to nobody
    relay = invited(6)
    for member in range(2, 7):
        relay.store(member, signed(member, OF, wave=1))
    relay.take(relay.settle())
    for receiver, message in relay.hand_on(bundles_of(relay, 1)):
        assert isinstance(message, Bundles)
        assert [each.member for each in message.bundles if each.mlkem] == ([] if receiver == 6 else [6])


def test_waves_come_to_an_end() -> None:
    relay = complete(closed(2, 3, 4, 5), 2, 3, 4, 5)
    relay.store(6, signed(6, OF))
    relay._waves += relay._waves[:1] * (MAX_WAVES - 1)
    assert relay.invite(frozenset(OF.indices)) == Invite(MAX_WAVES, (6,))
    relay._waves += relay._waves[:1]
    assert relay.invite(frozenset(OF.indices)) is None


def test_decisions_are_taken_in_order() -> None:
    relay = Relay(OF, offers(2, 3, 4, 5))
    bundles = relay.close()
    for early in (Invite(1, (6,)), Invite(2, (6,)), replace_wave(bundles, 1)):
        with pytest.raises(MisuseError, match="after wave 0"):
            relay.take(early)
    relay.take(bundles)
    for late in (bundles, Invite(2, (6,)), replace_wave(bundles, 1)):
        with pytest.raises(MisuseError, match="after wave 0"):
            relay.take(late)


def replace_wave(bundles: Bundles, wave: int) -> Bundles:
    return replace(bundles, wave=wave, bundles=tuple(replace(each, wave=wave) for each in bundles.bundles))


# ---- what is refused ----


def test_messages_in_another_members_name() -> None:
    relay = closed(2, 3, 4, 5)
    for message in (signed(3, OF), encapsulations(3, 4, 5), confirmations(3, 2, 4, 5), Ready(3, 0)):
        refused(relay, 2, message, UnexpectedMessage, "Hospital 2.* of member 3")


def test_only_the_first_message_counts() -> None:
    relay = closed(2, 3, 4, 5)
    first = encapsulations(2, 3, 4, 5)
    assert relay.store(2, first)
    assert not relay.store(2, first)
    assert not relay.store(3, offers(3)[0])
    refused(relay, 2, replace(first, to=tuple((peer, bytes(1088)) for peer, _ in first.to)), SecondMessage)
    refused(relay, 3, replace(offers(3)[0], signature=bytes(64)), SecondMessage, "Bundle of wave 0 of member 3")
    relay = invited(1)
    assert relay.store(3, signed(3, OF, wave=1))  # a wave's messages are its own
    assert not relay.store(3, signed(3, OF, wave=1))
    refused(relay, 3, replace(signed(3, OF, wave=1), signature=bytes(64)), SecondMessage, "Bundle of wave 1")


def test_bundles_no_honest_member_accepts() -> None:
    relay = Relay(OF, [])
    good = signed(2, OF)
    refused(relay, 2, replace(good, signature=bytes(64)), BadSignature, "Hospital 2")
    refused(relay, 2, signed(2, manifest(6, 1, roster_changes=9)), ManifestMismatch, "Hospital 2")
    refused(relay, 2, good.bare(), MalformedMessage, "without its ML-KEM key")
    refused(relay, 9, replace(good, member=9), UnexpectedMessage, "not in the manifest")
    refused(relay, 2, signed(2, OF, wave=1), UnexpectedMessage, "nobody has begun")
    refused(invited(1), 6, signed(6, OF, wave=1), UnexpectedMessage, "not invited")
    refused(invited(1), 1, replace(signed(1, OF), wave=1), BadSignature)
    assert relay.store(2, good)


def test_messages_before_their_time() -> None:
    relay = Relay(OF, offers(2, 3, 4, 5))
    for message in (encapsulations(2, 3, 4, 5), confirmations(2, 3, 4, 5), Ready(2, 0)):
        refused(relay, 2, message, UnexpectedMessage, "not decided")
    relay = closed(2, 3, 4, 5)
    refused(relay, 2, confirmations(2, 3, 4, 5), UnexpectedMessage, "before its Encapsulations")
    refused(relay, 2, Ready(2, 0), UnexpectedMessage, "before its Confirmations")
    assert relay.store(5, confirmations(5, 2, 3, 4))  # the highest has nobody to encapsulate to
    assert relay.store(5, Ready(5, 0))
    relay = invited(1)
    for message in (encapsulations(1, 2, 3, 4, 5, wave=1), confirmations(1, 2, 3, 4, 5, wave=1), Ready(1, 1)):
        refused(relay, 1, message, UnexpectedMessage, "not decided")


@pytest.mark.parametrize("peers", [(3, 4), (3, 4, 5, 6), (4, 5)])
def test_messages_for_others_than_the_peers(peers: tuple[int, ...]) -> None:
    relay = closed(2, 3, 4, 5)
    refused(relay, 2, encapsulations(2, *peers), MalformedMessage, "exactly its peers")
    relay.store(2, encapsulations(2, 3, 4, 5))
    refused(relay, 2, confirmations(2, *peers), MalformedMessage, "exactly its peers")


def test_boxes_of_others_than_the_owner() -> None:
    relay = closed(2, 3, 4, 5)
    relay.store(2, encapsulations(2, 3, 4, 5))
    refused(relay, 2, confirmations(2, 3, 4, 5, owner=3), MalformedMessage)  # the owner without boxes
    refused(relay, 5, confirmations(5, 2, 3, 4, owner=5), MalformedMessage)
    some = confirmations(2, 3, 4, 5).to
    refused(relay, 2, Confirmations(2, 0, ((*some[0][:2], b""), *some[1:])), MalformedMessage)


# ---- restarts ----


def test_a_restarted_relay_goes_on_where_it_was() -> None:
    """After any stored message: same readiness, same backlog, and the same decisions to take."""
    post = Post(OF, 2, 3, 4, 5).run()
    post.start(1)
    post.start(6)
    post.run().check(1, 2, 3, 4, 5, 6)
    live = Relay(OF, [])
    everybody = frozenset(OF.indices)
    for number, message in enumerate(post.stored):
        if isinstance(message, Bundles | Invite):
            live.take(message)
        else:
            assert live.store(message.member if isinstance(message, Bundle | Ready) else message.sender, message)
        again = Relay(OF, post.stored[: number + 1])
        for each in (live, again):
            assert (each.ready, each.offered, each.closed) == (live.ready, live.offered, live.closed)
            assert each.settle() == live.settle()
            assert each.invite(everybody) == live.invite(everybody)
            assert [each.backlog(member) for member in OF.indices] == [live.backlog(member) for member in OF.indices]


def test_a_store_out_of_order_is_refused() -> None:
    first, *others = [*offers(2, 3, 4, 5), bundles_of(closed(2, 3, 4, 5))]
    with pytest.raises(MisuseError, match="Ready of wave 1, which nobody has begun"):
        Relay(OF, [first, *others, Ready(2, 1)])
    with pytest.raises(MisuseError, match="Bundles of wave 0 after wave 0"):
        Relay(OF, [first, *others, *others])


def test_the_backlog_is_what_was_handed_on() -> None:
    """A member that was away the whole time is sent the same messages, byte for byte, in an order it can take."""
    sent: dict[int, list[Any]] = defaultdict(list)
    post = Post(
        OF, 2, 3, 4, 5, to_server=lambda _member, message: [] if isinstance(message, Ready) else [message]
    ).run()
    for member, messages in post.received.items():
        sent[member] = [encode(message) for message in messages]
    assert sorted(map(len, sent.values())) == [0, 0, 2, 3, 3, 3]
    for member in OF.indices:
        assert [encode(message) for _, message in post.relay.backlog(member)] == sent[member]
    post.relay.store(2, Ready(2, 0))
    assert post.relay.backlog(2) == []  # it has them all
    assert post.relay.backlog(3) != []


# ---- cost ----


def test_set_up_of_a_hundred_members_costs_each_less_than_150_kilobytes_in_each_direction() -> None:
    """Counted in canonical bytes; the numbers depend on sizes alone, so keys and signatures are zeros here."""
    of = manifest(100, 20)
    members = of.indices
    mlkem = bytes(1184)
    short = digest(Label.MLKEM, mlkem)
    sent: list[Any] = [Bundle(each, 0, bytes(32), mlkem, short, of.digest(), bytes(64)) for each in members]
    sent += [encapsulations(each, *range(each + 1, 101)) for each in members[:-1]]
    sent += [confirmations(each, *(peer for peer in members if peer != each), owner=1) for each in members]
    relay = Relay(of, sent[:100])
    bundles = relay.close()
    relay = Relay(of, [*sent[:100], bundles, *sent[100:]])
    up: Counter[int] = Counter()
    for message in sent:
        up[message.member if isinstance(message, Bundle) else message.sender] += len(encode(message))
    down = {each: sum(len(encode(message)) for _, message in relay.backlog(each)) for each in (1, 2, 50, 100)}
    assert max(up.values()) == up[1] < 125_000
    assert max(down.values()) == down[2] < 150_000
    assert [type(message) for _, message in relay.backlog(50)] == [Bundles, Ciphertexts, Confirmed]
