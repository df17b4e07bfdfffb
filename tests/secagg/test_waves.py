"""Listed members that have missed set-up join later: nobody else is keyed anew, and rounds go on meanwhile."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secagg import agreement
from secagg.encoding import digest
from secagg.errors import (
    BadSignature,
    ForgedSum,
    MalformedMessage,
    ManifestMismatch,
    RosterRefused,
    RoundRefused,
    SecondMessage,
    SessionOver,
    Unconfirmed,
    UnexpectedMessage,
    UnpinnedMember,
)
from secagg.keys import Ephemeral, Label
from secagg.messages import (
    Bundle,
    Bundles,
    Ciphertexts,
    Confirmations,
    Confirmed,
    Encapsulations,
    Invite,
    Ready,
    Step,
    Sum,
    encode,
)
from tests.federation import Study, add, entropy, manifest, pins
from tests.secagg.post import Post, client, passed
from tests.secagg.test_agreement import crashes, kinds, refused, signed
from tests.sweeps import thinned

OF = manifest(6, 1)  # at least 4 of 6
STUDY = Study()


def established(seed: int = 0, **attack: Any) -> Post:
    """Members 2 to 5 have keys; 1 and 6 have missed set-up."""
    post = Post(OF, 2, 3, 4, 5, seed=seed, **attack).run()
    post.check(2, 3, 4, 5)
    return post


def join(post: Post, *members: int) -> Post:
    for member in members:
        post.start(member)
    return post.run()


def invited(seed: int = 0) -> Post:
    """Members 2 to 5 and newcomer 1 have an invitation to wave 1 and no bundles of it yet."""
    post = established(seed)
    post.start(1)
    return post.run(lambda: all(isinstance(under_way(post, member), agreement.Advertised) for member in range(1, 6)))


def under_way(post: Post, member: int) -> Any:
    """A member's present wave, if it is not wave 0."""
    phase = post.clients[member]._phase
    wave = getattr(phase, "joining", phase)
    return wave if wave is not None and wave.wave else None


def step(post: Post, number: int, *members: int) -> Step:
    nonces = tuple((member, post.clients[member].hello().nonce) for member in members)
    return Step(number, post.clients[members[0]].sums, nonces)


def terms(post: Post, member: int, roster: int) -> Any:
    return STUDY.terms(post.clients[member].sums, roster, 1)


def open_round(post: Post, number: int, *members: int) -> dict[int, Any]:
    asked = step(post, number, *members)
    return {member: post.clients[member].open(asked, terms(post, member, len(members))) for member in members}


def finish_round(post: Post, contexts: dict[int, Any]) -> Sum:
    """All upload; everybody with keys accepts all sums it lacks, and the last one is exact."""
    values = {member: STUDY.data(member, context.round, 0) for member, context in contexts.items()}
    uploads = [post.clients[member].upload(context, values[member]) for member, context in contexts.items()]
    context = contexts[min(contexts)]
    post.sums.append(add(context.round, context.roster, *uploads))
    for member, each in post.clients.items():
        if each.ready:
            for total in post.sums[each.sums :]:
                accepted = each.accept(total, terms(post, member, len(total.survivors)))
            assert np.array_equal(accepted, sum(values.values()))
    return total


def play(post: Post, number: int, *members: int) -> Sum:
    return finish_round(post, open_round(post, number, *members))


# ---- honest ----


@pytest.mark.parametrize("seed", thinned(range(5)))
@pytest.mark.parametrize("newcomers", thinned([(1,), (6,), (1, 6), (6, 1)], 2))
def test_late_members_share_keys_with_everybody_and_nobody_is_keyed_anew(newcomers: tuple[int, ...], seed: int) -> None:
    post = established(seed)
    before = {member: dict(each._phase.ratchet.chains) for member, each in post.clients.items()}
    group = post.clients[2]._phase.group
    join(post, *newcomers).check(*sorted({2, 3, 4, 5, *newcomers}))
    for member, chains in before.items():
        assert post.clients[member]._phase.ratchet.chains.items() >= chains.items()
    assert {each._phase.group for each in post.clients.values()} == {group}
    assert {each._phase.owner for each in post.clients.values()} == {2}  # also where a newcomer is lower


def both_at_once(post: Post) -> Post:
    """Members 1 and 6 join in one wave: nobody is invited while an established member is away."""
    post.kill(2)
    join(post, 1, 6)
    assert not any(isinstance(each, Invite) for each in post.stored)
    return join(post, 2)


def test_two_newcomers_in_one_wave_agree_with_each_other_too() -> None:
    post = both_at_once(established())
    post.check(1, 2, 3, 4, 5, 6)
    assert [each.newcomers for each in post.stored if isinstance(each, Invite)] == [(1, 6)]
    assert {each._phase.wave for each in post.clients.values()} == {1}


def test_a_second_wave_takes_the_newcomers_of_the_first_for_established() -> None:
    post = join(established(), 6)
    ours = post.clients[6]._phase.ratchet.chains[3]
    join(post, 1).check(1, 2, 3, 4, 5, 6)
    assert [each.newcomers for each in post.stored if isinstance(each, Invite)] == [(6,), (1,)]
    assert post.clients[6]._phase.wave == 2
    assert post.clients[6]._phase.ratchet.chains[3] == ours
    assert not any(isinstance(each, Encapsulations) and each.wave == 2 and each.sender == 6 for each in post.log)


def test_in_a_later_wave_members_work_for_the_newcomers_alone() -> None:
    post = join(established(), 1)
    sent = [each for each in post.log if each.wave == 1]
    bundles = {each.member for each in sent if isinstance(each, Bundle)}
    assert bundles == {1, 2, 3, 4, 5}
    assert [(each.sender, len(each.to)) for each in sent if isinstance(each, Encapsulations)] == [(1, 4)]
    confirmations = {each.sender: each for each in sent if isinstance(each, Confirmations)}
    assert [peer for peer, _, _ in confirmations[3].to] == [1]
    assert {sender for sender, each in confirmations.items() for _, _, box in each.to if box} == {2}


def test_every_wave_has_fresh_ephemeral_keys_and_none_outlives_it() -> None:
    post = established()
    seen: dict[int, set[Ephemeral]] = {member: set() for member in OF.indices}

    def look() -> bool:
        for member, each in post.clients.items():
            phase = each._phase
            for wave in (phase, getattr(phase, "joining", None)):
                if keys := getattr(wave, "ephemeral", None):
                    seen[member].add(keys)
            if isinstance(getattr(phase, "joining", phase), agreement.Confirming):
                assert not any(keys.x25519 in post.disks[member] for keys in seen[member])
        return False

    post.start(6)
    post.run(look)
    post.start(1)
    post.run(look).check(1, 2, 3, 4, 5, 6)
    counts = {member: len(keys) for member, keys in seen.items()}
    assert counts == {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 3}  # a newcomer has those of its offer, too
    for member, keys in seen.items():
        for each in keys:
            assert each.x25519 not in post.clients[member].snapshot()
            assert each.mlkem not in post.clients[member].snapshot()
    bundles = [each for each in post.log if isinstance(each, Bundle)]
    assert len({each.x25519 for each in bundles}) == len({each.mlkem for each in bundles}) == len(set(bundles))


def test_the_offer_of_a_newcomer_is_gone_with_the_invitation() -> None:
    post = established()
    post.start(1)
    offered = post.clients[1]._phase.ephemeral
    assert offered.x25519 in post.disks[1]
    post.run(lambda: under_way(post, 1) is not None)
    assert offered.x25519 not in post.disks[1]
    assert offered.mlkem not in post.disks[1]


def test_begin_during_and_after_a_wave() -> None:
    """Our messages of the wave under way; then that we are ready in it, as soon as a roster proves that all are."""
    post = invited()
    for member in (1, 2):
        assert post.clients[member].begin() == [post.bundle(member, 1)]
    post.run()
    assert [type(each) for each in post.clients[2].begin()] == [Bundle, Confirmations, Ready]
    assert {each.wave for each in post.clients[2].begin()} == {1}
    play(post, 1, 2, 3, 4, 5)  # proves nothing about wave 1
    assert len(post.clients[2].begin()) == 3
    play(post, 2, 1, 2, 3, 4, 5)
    assert post.clients[2].begin() == [Ready(2, 1)]
    assert post.clients[1].begin() == [Ready(1, 1)]


def test_set_up_messages_of_the_wave_before_are_dropped_with_the_invitation() -> None:
    post = established()
    kept = len(post.clients[2].snapshot())
    post.start(1)
    post.run(lambda: under_way(post, 2) is not None)
    assert len(post.clients[2].snapshot()) < kept
    assert post.clients[2]._phase.sent == ()


# ---- rounds ----


def test_rounds_go_on_while_members_join() -> None:
    post = established()
    post.start(1)
    number = 0
    while post.step():
        number += 1
        play(post, number, 2, 3, 4, 5)
    assert number > 20
    post.check(1, 2, 3, 4, 5)
    play(post, number + 1, 1, 2, 3, 4, 5)
    assert len({each.transcript for each in post.clients.values()}) == 1


def test_a_wave_completes_while_a_round_is_open() -> None:
    """The round that is out keeps its keys, and the newcomer's chain is where all others are: past that round."""
    post = established()
    post.start(1)
    contexts: dict[int, Any] = {}

    def ask() -> bool:
        if under_way(post, 2) is not None and not contexts:
            contexts.update(open_round(post, 7, 2, 3, 4, 5))
        return False

    post.run(ask)
    assert {post.clients[member]._phase.ratchet.position for member in contexts} == {8}
    total = finish_round(post, contexts)
    assert post.clients[1].sums == 1  # ready already, hence it has accepted the same sum
    assert total.survivors == (2, 3, 4, 5)
    post.check(1, 2, 3, 4, 5)
    play(post, 8, 1, 2, 3, 4, 5)


def test_a_late_member_accepts_all_past_sums_and_then_takes_part() -> None:
    post = established()
    past = [play(post, number, 2, 3, 4, 5) for number in (1, 3, 4)]
    join(post, 1)
    at = post.clients[1]
    assert (at.sums, at.last_round) == (0, 0)
    for total in past:
        at.accept(total, terms(post, 1, 4))
    assert at.transcript == post.clients[2].transcript
    post.check(1, 2, 3, 4, 5)
    play(post, 5, 1, 2, 3, 4, 5)
    assert len({each.transcript for each in post.clients.values()}) == 1


def test_a_late_member_checks_the_past() -> None:
    """A forged history: the group key came from a member, not from the coordinator."""
    post = established()
    past = play(post, 1, 2, 3, 4, 5)
    at = join(post, 1).clients[1]
    forged = replace(past, words=bytes([past.words[0] ^ 1]) + past.words[1:])
    with pytest.raises(ForgedSum, match="wrong tag"):
        at.accept(forged, terms(post, 1, 4))
    with pytest.raises(SessionOver):
        at.hello()


def test_a_late_member_may_skip_to_the_present_round_and_not_beyond_the_last() -> None:
    """It cannot know how many rounds were given up; the others can."""
    for number, error in [(4000, None), (5001, RoundRefused)]:
        post = join(established(), 1)
        asked = step(post, number, 1, 2, 3, 4, 5)
        if error:
            with pytest.raises(error, match="5000"):
                post.clients[1].open(asked, terms(post, 1, 5))
            continue
        assert post.clients[1].open(asked, terms(post, 1, 5)).round == number
        with pytest.raises(RoundRefused, match="1024"):  # once it has opened one, it is like all others
            post.clients[1].open(replace(asked, round=number + 1025), terms(post, 1, 5))
        with pytest.raises(RoundRefused, match="1024"):
            post.clients[2].open(asked, terms(post, 2, 5))


def test_late_keys_start_behind_the_rounds_in_the_sites_own_database() -> None:
    """Second line behind the snapshot: chain keys of rounds that the database knows are never held."""
    post = established()
    post.start(1)
    post.clients[1] = client(OF, 1, "again", snapshot=post.disks[1], last_round=40)
    post.connect(1)
    post.run()
    assert post.clients[1]._phase.ratchet.position == 41
    post.check(1, 2, 3, 4, 5)


def test_a_roster_with_a_member_we_share_no_keys_with() -> None:
    post = invited()
    asked = step(post, 1, 1, 2, 3, 4, 5)
    with pytest.raises(RosterRefused, match="member 1"):
        post.clients[2].open(asked, terms(post, 2, 5))


# ---- crashes ----


def joining(newcomer: int) -> Post:
    """A small federation in which one member comes late."""
    of = manifest(4)
    post = Post(of, *(set(of.indices) - {newcomer}), seed=newcomer).run()
    post.start(newcomer)
    return post


@pytest.mark.parametrize(
    ("victim", "newcomer"), thinned(pytest.param(*each) for each in [(1, 1), (2, 1), (4, 1), (4, 4), (2, 4)])
)
def test_killed_at_any_message_of_a_wave_the_bytes_stay_the_same(victim: int, newcomer: int) -> None:
    """SIGKILL: the restarted process resends identical bytes and the wave completes."""
    for post in crashes(joining(newcomer)):
        before = [encode(each) for each in post.clients[victim].begin()]
        post.start(victim)
        assert [encode(each) for each in post.clients[victim].begin()] == before
        post.run().check(1, 2, 3, 4)


@pytest.mark.parametrize("newcomer", thinned([1, 4]))
def test_the_relay_dies_at_any_message_of_a_wave(newcomer: int) -> None:
    for post in crashes(joining(newcomer)):
        post.restart_relay()
        post.run().check(1, 2, 3, 4)


@pytest.mark.parametrize("seed", thinned(range(8)))
def test_parties_die_all_the_time(seed: int) -> None:
    """Two late members, whom every restart lets in one wave or in two."""
    post = established(seed)
    post.start(1)
    post.start(6)
    for _ in range(12):
        for _ in range(post.chance.randrange(40)):
            post.step()
        victim = post.chance.randrange(7)
        if victim:
            post.start(victim)
        else:
            post.restart_relay()
    post.run().check(1, 2, 3, 4, 5, 6)


def test_every_snapshot_of_a_wave_loads_to_the_same_state() -> None:
    post = established()
    post.start(1)
    kinds_seen = set()

    def look() -> bool:
        for member, each in post.clients.items():
            stored = each.snapshot()
            kinds_seen.add(type(under_way(post, member)).__name__)
            assert client(OF, member, snapshot=stored).snapshot() == stored
        return False

    post.run(look)
    assert kinds_seen >= {"NoneType", "Advertised", "Agreeing", "Confirming"}


def test_an_old_disk_of_a_wave_cannot_offer_other_keys() -> None:
    """A member comes back with its disk from before the invitation: its second bundle is refused."""
    post = established()
    old = post.disks[3]
    post.start(1)
    post.run(lambda: (3, 1) in {(each.member, each.wave) for each in post.log if isinstance(each, Bundle)})
    post.disks[3] = old
    post.start(3)
    post.run()
    assert kinds(dict(post.refused)) == {SecondMessage}
    assert not post.relay.ready & {1}


# ---- attacks: invitations ----


@pytest.mark.parametrize(
    ("invite", "match"),
    [
        (Invite(1, (3,)), "member 3, with whom we share keys"),
        (Invite(1, (1, 3)), "member 3, with whom we share keys"),
        (Invite(1, (2,)), "not for this site: member 2 shares keys"),
        (Invite(1, (1, 2)), "not for this site: member 2 shares keys"),
        (Invite(2, (1,)), "has completed wave 0"),
        (Invite(1, (1, 9)), "member 9, who is not in the manifest"),
    ],
)
def test_an_invitation_that_an_established_member_refuses(invite: Invite, match: str) -> None:
    refused(established().clients[2], invite, RosterRefused, match)


def test_an_invitation_that_a_newcomer_refuses() -> None:
    refused(client(OF, 1), Invite(1, (6,)), RosterRefused, "member 1 has missed set-up and is not among")
    refused(client(OF, 1), Invite(1, (1, 9)), RosterRefused, "member 9")


def test_invitations_out_of_order() -> None:
    """One wave at a time, in order, each once."""
    for member in (1, 2):
        refused(invited().clients[member], Invite(2, (6,)), RosterRefused, "while another wave is under way")
        refused(invited().clients[member], Invite(1, (1, 6)), SecondMessage, "Invite of wave 1")
    assert invited().clients[2].receive(Invite(1, (1,))) == []
    post = join(established(), 1)
    refused(post.clients[2], Invite(3, (6,)), RosterRefused, "has completed wave 1")
    refused(post.clients[3], Invite(2, (1,)), RosterRefused, "member 1, with whom we share keys")
    refused(post.clients[1], Invite(2, (1, 6)), RosterRefused, "member 1 shares keys")


def test_nobody_invites_a_member_that_is_still_in_wave_0() -> None:
    post = Post(OF)
    post.run(lambda: post.relay.closed)
    post.run(lambda: isinstance(post.clients[2]._phase, agreement.Agreeing))
    refused(post.clients[2], Invite(1, (1,)), RosterRefused, "while another wave")


# ---- attacks: bundles ----


def bundles_of_wave_1(post: Post) -> Bundles:
    bundles = [post.clients[member].begin()[0] for member in range(1, 6)]
    return Bundles(1, 2, (1,), tuple(bundles))


def swapped(bundles: Bundles, *others: Bundle) -> Bundles:
    by_member = {each.member: each for each in (*bundles.bundles, *others)}
    return replace(bundles, bundles=tuple(by_member[member] for member in sorted(by_member)))


def test_a_bundle_of_another_wave() -> None:
    """Ephemeral keys of wave 0 do not serve again, whoever replays them: their private half may be known by now."""
    post = invited()
    good = bundles_of_wave_1(post)
    for member, victim in ((1, 2), (3, 1)):
        old = post.bundle(member)
        with pytest.raises(MalformedMessage, match="belongs to another wave"):
            swapped(good, old)
        renumbered = replace(old, wave=1)
        refused(post.clients[victim], swapped(good, renumbered), BadSignature, f"Hospital {member}")


def test_bundles_of_wave_0_replayed_to_a_newcomer() -> None:
    post = invited()
    first = next(each for each in post.stored if isinstance(each, Bundles))
    refused(post.clients[1], first, UnexpectedMessage, "Bundles of wave 0 in phase Advertised of wave 1")
    refused(post.clients[2], replace(first, bundles=tuple(reversed_keys(first))), SecondMessage)


def reversed_keys(bundles: Bundles) -> list[Bundle]:
    return [signed(each.member, OF) for each in bundles.bundles]


@pytest.mark.parametrize("victim", [1, 2, 5])
@pytest.mark.parametrize("changed", [{"x25519": b"\1" * 32}, {"mlkem_digest": b"\1" * 32}, {"signature": b"\1" * 64}])
def test_unsigned_or_forged_bundle_in_a_wave(victim: int, changed: Any) -> None:
    post = invited()
    good = bundles_of_wave_1(post)
    forged = replace(good.bundles[2].bare(), **changed)
    refused(post.clients[victim], swapped(good, forged), BadSignature, "Hospital 3")


def test_swapped_kem_key_in_a_wave() -> None:
    post = invited()
    good = bundles_of_wave_1(post)
    evil = Ephemeral.generate(entropy("coordinator")).public()[1]
    with pytest.raises(MalformedMessage, match="not the one its digest stands for"):
        replace(good.bundles[2], mlkem=evil)
    forged = replace(good.bundles[2], mlkem=evil, mlkem_digest=digest(Label.MLKEM, evil))
    refused(post.clients[1], swapped(good, forged), BadSignature, "Hospital 3")


def test_old_manifest_digest_in_a_wave() -> None:
    """The newcomer's study is another edition."""
    post = invited()
    other = signed(1, manifest(6, 1, roster_changes=9), wave=1)
    refused(post.clients[3], swapped(bundles_of_wave_1(post), other), ManifestMismatch, "Hospital 1")


def test_a_late_member_must_have_been_pinned_from_the_start() -> None:
    """Who may come later is in the manifest, and so in front of every site before its first message."""
    known = pins(OF) - {OF.member(6).identity}
    with pytest.raises(UnpinnedMember, match=r"6 \(Hospital 6\)"):
        client(OF, 2, pins=known)


def test_second_different_bundle_of_a_wave() -> None:
    post = invited()
    good = bundles_of_wave_1(post)
    post.clients[2].receive(good)
    refused(post.clients[2], swapped(good, signed(3, OF, wave=1)), SecondMessage, "Bundles of wave 1")
    refused(post.clients[3], swapped(good, signed(3, OF, wave=1)), SecondMessage, "not the one we sent")


@pytest.mark.parametrize(
    ("victim", "lie", "match"),
    [
        (2, lambda good: replace(good, newcomers=(1, 3)), "the invitation named"),
        (1, lambda good: replace(good, newcomers=(1, 3)), "the invitation named"),
        (2, lambda good: replace(good, owner=3), "not those that this site knows"),
        (2, lambda good: replace(good, bundles=good.bundles[:-1]), "not those that this site knows"),
        (2, lambda good: swapped(good, signed(6, OF, wave=1)), "not those that this site knows"),
        (1, lambda good: replace(good, owner=1), "cannot own the group key"),
        (1, lambda good: replace(good, bundles=good.bundles[:-1]), "3 sites, at least 4"),
        (5, lambda good: replace(good, bundles=good.bundles[:-1]), "member 5, sent a bundle"),
    ],
)
def test_who_is_in_a_wave(victim: int, lie: Any, match: str) -> None:
    post = invited()
    refused(post.clients[victim], lie(bundles_of_wave_1(post)), RosterRefused, match)


def test_a_newcomer_that_is_shown_another_owner_or_group_gets_no_confirmation() -> None:
    """It cannot know who is established; the honest ones among them do, and confirm nothing else."""
    for lie in (lambda each: replace(each, owner=3), lambda each: swapped(each, signed(6, OF, wave=1))):

        def fork(member: int, message: Any, lie: Any = lie) -> list[Any]:
            return [lie(message)] if isinstance(message, Bundles) and member == 1 and message.wave else [message]

        def cut(_member: int, message: Any) -> list[Any]:
            if isinstance(message, Encapsulations | Confirmations) and message.sender == 1:
                return [replace(message, to=tuple(row for row in message.to if row[0] != 6))]
            return [message]

        post = established(to_site=fork, to_server=cut)
        join(post, 1)
        assert not post.clients[1].ready
        assert {3, 4, 5} <= post.errors.keys()
        assert Unconfirmed in kinds(post.errors)


# ---- attacks: ciphertexts, confirmations, boxes ----


def attacked(change: Any) -> Post:
    post = established(to_site=lambda member, message: change(member, message) if message.wave else [message])
    join(post, 1)
    assert post.errors
    assert not post.relay.ready & {1, 6}
    return post


def confirmed(change: Any) -> Any:
    """An attacker that changes confirmations: (receiver, sender, MAC, box) → (MAC, box)."""

    def attack(member: int, message: Any) -> list[Any]:
        if isinstance(message, Confirmed):
            return [
                replace(message, of=tuple((each, *change(member, each, mac, box)) for each, mac, box in message.of))
            ]
        return [message]

    return attack


def test_reflected_confirmation_in_a_wave() -> None:
    post = established()

    def own(member: int, peer: int) -> bytes:
        (sent,) = [each for each in under_way(post, member).sent if isinstance(each, Confirmations)]
        return {each: mac for each, mac, _ in sent.to}[peer]

    post.to_site = confirmed(lambda member, sender, _mac, box: (own(member, sender), box))
    join(post, 1)
    assert post.errors.keys() == {1, 2, 3, 4, 5}
    assert kinds(post.errors) == {Unconfirmed}


def test_confirmation_of_wave_0_replayed_in_a_wave() -> None:
    post = join(established(), 6)
    old = {(member, sender): mac for member, messages in post.received.items()
           for each in messages if isinstance(each, Confirmed) for sender, mac, _ in each.of}  # fmt: skip
    post.to_site = confirmed(lambda member, sender, mac, box: (old.get((member, sender), old[2, 3]), box))
    join(post, 1)
    assert kinds(post.errors) == {Unconfirmed}


def test_a_group_box_from_another_member_or_none_from_the_owner_in_a_wave() -> None:
    for change, error, victims in [
        (lambda _member, _sender, mac, _box: (mac, b""), MalformedMessage, {1}),
        (lambda _member, sender, mac, box: (mac, bytes(48) if sender == 3 else box), MalformedMessage, {1}),
        (lambda member, _sender, mac, box: (mac, box if member == 1 else bytes(48)), MalformedMessage, {2, 3, 4, 5}),
        (lambda _member, _sender, mac, box: (mac, box and bytes(48)), Unconfirmed, {1}),
    ]:
        post = attacked(confirmed(change))
        assert post.errors.keys() == victims
        assert kinds(post.errors) == {error}


def test_a_newcomer_takes_no_group_key_from_a_newcomer() -> None:
    post = established()
    post.to_site = confirmed(lambda _member, sender, mac, box: (mac, box or bytes(48) if sender in (1, 6) else box))
    both_at_once(post)
    assert post.errors.keys() == {1, 2, 3, 4, 5, 6}
    assert kinds(post.errors) == {MalformedMessage}


def test_swapped_ciphertext_in_a_wave() -> None:
    def change(member: int, message: Any) -> list[Any]:
        if isinstance(message, Ciphertexts) and member == 4:
            ((sender, ciphertext),) = message.of
            return [Ciphertexts(1, ((sender, bytes([ciphertext[0] ^ 1]) + ciphertext[1:]),))]
        return [message]

    post = attacked(change)
    assert post.errors.keys() == {1, 4}
    assert kinds(post.errors) == {Unconfirmed}


def test_batches_of_a_wave_hold_exactly_the_new_peers() -> None:
    post = invited()
    good = bundles_of_wave_1(post)
    for member in range(1, 6):
        post.clients[member].receive(good)
    ciphertexts = Ciphertexts(1, ((1, bytes(1088)), (2, bytes(1088))))
    refused(post.clients[3], ciphertexts, MalformedMessage, r"those of \(1,\)")
    rows = tuple((each, bytes(32), b"") for each in (2, 3, 4))
    refused(post.clients[1], Confirmed(1, rows), MalformedMessage, r"those of \(2, 3, 4, 5\)")


def test_messages_of_another_wave_at_a_member_without_one_under_way() -> None:
    post = established()
    refused(post.clients[2], Ciphertexts(1, ((1, bytes(1088)),)), UnexpectedMessage, "wave 1 in phase Rounds")
    refused(post.clients[3], Confirmed(1, ((1, bytes(32), b""),)), UnexpectedMessage, "wave 1 in phase Rounds")


def test_waves_change_the_keys_of_a_pair() -> None:
    """The number of the wave is in what is signed and in the keys: the same secrets agree on others."""
    from secagg.keys import pair_keys

    values: dict[str, Any] = {"mlkem": b"K" * 32, "x25519": b"X" * 32}
    keys = [pair_keys(b"M" * 32, b"R" * 32, wave, (1, 2), (b"b", b"c"), b"C", **values) for wave in (0, 1)]
    assert keys[0].chain != keys[1].chain


def test_the_same_message_again_is_ignored_in_a_wave() -> None:
    def twice(_member: int, message: Any) -> list[Any]:
        return [message, message]

    post = join(established(to_site=twice, to_server=twice), 1, 6)
    post.check(1, 2, 3, 4, 5, 6)
    assert passed(1, "x") == ["x"]
    for member, messages in post.received.items():
        for message in messages:
            assert post.clients[member].receive(message) == []
