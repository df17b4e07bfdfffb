"""A hostile coordinator of mode B: wrong words, wrong boxes, and two stories about who dropped out.

Seven hospitals, of which 6 and 7 may work with it: five shares open a seed, five sites must agree.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secagg import Client, Mode, masks, recovery
from secagg.errors import PeerError, SecondMessage, Unconfirmed, UnexpectedMessage
from secagg.keys import Label, derive
from secagg.messages import Agreement, Step, Survivors, Upload, encode
from secagg.ratchet import Ratchet
from secagg.recovery import Answered, Uploaded
from secagg.shamir import combine
from tests.federation import Site, add, manifest, ready, roster
from tests.secagg.test_recovery import EVERYBODY, OF, Macs, T, agreement, consent, consents, open_all, over, uploads
from tests.sweeps import thinned


@pytest.fixture
def sites() -> dict[int, Site]:
    return ready(OF)


# ---- agreements that open nothing ----


def agreeing(sites: Any, survivors: tuple[int, ...]) -> tuple[Macs, dict[int, Upload]]:
    sent = uploads(sites)
    return consents(sites, survivors), sent


def refused(client: Client, message: Agreement, error: type[PeerError], match: str) -> None:
    with pytest.raises(error, match=match):
        client.receive(message)
    over(client, error.code)


def test_reflected_u3_tag(sites: Any) -> None:
    """Our own MACs come back to us under others' names: they name their direction."""
    macs, sent = agreeing(sites, EVERYBODY)
    ours = {peer: {1: mac} for peer, mac in macs[1].items()}
    refused(sites[1].client, agreement(1, EVERYBODY, ours, sent), Unconfirmed, "0 other sites")


def test_our_own_word_does_not_count(sites: Any) -> None:
    macs, sent = agreeing(sites, EVERYBODY)
    few = {each: macs[each] for each in (2, 3, 4)}
    message = agreement(1, EVERYBODY, few, sent)
    refused(
        sites[1].client,
        replace(message, macs=((1, macs[1][2]), *message.macs)),
        Unconfirmed,
        "3 other sites were shown the survivors .* 4 are needed",
    )


def test_invalid_macs_do_not_count(sites: Any) -> None:
    macs, sent = agreeing(sites, EVERYBODY)
    wrong = {6: {each: bytes(32) for each in EVERYBODY}, 7: macs[6]}
    enough = {each: macs[each] for each in (2, 3, 4, 5)} | wrong
    assert len(sites[1].client.receive(agreement(1, EVERYBODY, enough, sent))) == 1
    few = {each: macs[each] for each in (1, 3, 4)} | wrong
    refused(sites[2].client, agreement(2, EVERYBODY, few, sent), Unconfirmed, "3 other sites")


def test_consent_from_outside(sites: Any) -> None:
    """A member that dropped out shares consent keys with us; its word over the survivors still does not count."""
    survivors, sent = (1, 2, 3, 4, 5), uploads(sites)
    outside = {each: sites[each].client._round for each in (6, 7)}
    macs = consents(sites, survivors)
    for each, phase in outside.items():
        macs[each] = {1: derive(phase.keys.consent[1], Label.CONSENT, each, 1, phase.context.digest, survivors)}
    few = {each: macs[each] for each in (2, 3, 6, 7)}
    refused(sites[1].client, agreement(1, survivors, few, sent), Unconfirmed, "2 other sites")
    all_of_them = {each: macs[each] for each in (1, 3, 4, 5, 6, 7)}
    assert len(sites[2].client.receive(agreement(2, survivors, all_of_them | {6: macs[1], 7: macs[1]}, sent))) == 1


def test_macs_over_other_survivors_do_not_count(sites: Any) -> None:
    """They are for us and verify over (1, …, 6), but we were shown everybody."""
    sent = uploads(sites)
    macs = {1: consent(sites[1], EVERYBODY)}
    macs |= {each: consent(sites[each], EVERYBODY[:-1]) for each in EVERYBODY[1:-1]}
    refused(sites[1].client, agreement(1, EVERYBODY, macs, sent), Unconfirmed, "0 other sites")


def test_macs_of_another_round_do_not_count(sites: Any) -> None:
    uploads(sites, 1)
    old = consents(sites, EVERYBODY, 1)
    sent = uploads(sites, 2)
    consents(sites, EVERYBODY, 2)
    refused(sites[1].client, agreement(1, EVERYBODY, old, sent, 2), Unconfirmed, "0 other sites")


def test_replayed_share_box(sites: Any) -> None:
    """Hold an upload back, collect the pair keys, and ask for the seed's shares a round later."""
    survivors = (2, 3, 4, 5, 6, 7)
    first = uploads(sites, 1)
    open_all(sites, survivors, first, 1)
    second = uploads(sites, 2)
    macs = consents(sites, EVERYBODY, 2)
    for member in survivors:
        message = agreement(member, EVERYBODY, macs, second | {1: first[1]}, 2)
        refused(sites[member].client, message, Unconfirmed, "the share that member 1 boxed for us does not open")


@pytest.mark.parametrize(
    "box",
    thinned(
        [
            lambda sent: dict(sent[2].boxes)[1],  # our own, reflected
            lambda sent: dict(sent[1].boxes)[3],  # for another receiver
            lambda sent: dict(sent[3].boxes)[2],  # of another sender
            lambda sent: bytes([dict(sent[1].boxes)[2][0] ^ 1]) + dict(sent[1].boxes)[2][1:],
        ],
        2,
    ),
)
def test_a_box_that_is_not_from_there_to_here(sites: Any, box: Any) -> None:
    macs, sent = agreeing(sites, EVERYBODY)
    message = agreement(2, EVERYBODY, macs, sent)
    boxes = tuple((each, box(sent) if each == 1 else real) for each, real in message.boxes)
    refused(sites[2].client, replace(message, boxes=boxes), Unconfirmed, "that member 1 boxed")


@pytest.mark.parametrize(
    "change",
    [
        lambda message, _: replace(message, boxes=message.boxes[1:]),
        lambda message, sent: replace(message, boxes=((*message.boxes, (7, dict(sent[7].boxes)[2])))),
        lambda message, sent: replace(message, boxes=(*message.boxes[:-1], (7, dict(sent[7].boxes)[2]))),
        lambda message, _: replace(message, boxes=(message.boxes[0], (2, bytes(48)), *message.boxes[1:])),
    ],
    ids=["one less", "one more", "a dropped one instead", "our own"],
)
def test_boxes_of_exactly_the_survivors(sites: Any, change: Any) -> None:
    """Above all: never a share of a member whose pair keys go out."""
    survivors = (1, 2, 3, 4, 5, 6)
    macs, sent = agreeing(sites, survivors)
    message = change(agreement(2, survivors, macs, sent), sent)
    refused(sites[2].client, message, UnexpectedMessage, "share boxes of")


def test_an_agreement_on_another_round(sites: Any) -> None:
    macs, sent = agreeing(sites, EVERYBODY)
    message = replace(agreement(1, EVERYBODY, macs, sent), round=2)
    refused(sites[1].client, message, UnexpectedMessage, "Agreement of round 2 in phase Consented")


def test_an_agreement_before_our_consent(sites: Any) -> None:
    sent = uploads(sites)
    macs = {each: consent(sites[each], EVERYBODY) for each in EVERYBODY[1:]}
    refused(sites[1].client, agreement(1, EVERYBODY, macs, sent), UnexpectedMessage, "phase Uploaded")


def test_a_second_agreement(sites: Any) -> None:
    macs, sent = agreeing(sites, EVERYBODY)
    message = agreement(1, EVERYBODY, macs, sent)
    sites[1].client.receive(message)
    refused(sites[1].client, replace(message, macs=message.macs[1:]), SecondMessage, "which is answered")


# ---- lying about who dropped out ----


def test_lying_about_dropouts(sites: Any) -> None:
    """Show some that hospital 1 survived and others that it did not: never does it open both ways.

    All ways to divide the honest hospitals 2 to 5, with 6 and 7 saying whatever is wanted to everybody.
    """
    sent = uploads(sites)
    phases_ = {member: site.client._round for member, site in sites.items()}
    divided = [set(some) for k in range(5) for some in itertools.combinations(range(2, 6), k)]
    opened = [answers(phases_, {1} | alive, sent, T) for alive in divided]
    assert not any(shares and keys for shares, keys in opened)
    assert opened[0] == (set(), {2, 3, 4, 5})
    assert opened[-1] == ({1, 2, 3, 4, 5}, set())
    # The test would notice: with one less to agree there are ways.
    assert any(all(answers(phases_, {1} | alive, sent, T - 1)) for alive in divided)


def answers(
    uploaded: Mapping[int, Uploaded], alive: set[int], sent: Mapping[int, Upload], threshold: int
) -> tuple[set[int], set[int]]:
    """Which honest members give a share of hospital 1's seed, and which their pair keys with it.

    Args:
        uploaded: everybody's phase.
        alive: the honest members that are told that hospital 1 survived; the other ones are told the contrary.
        sent: everybody's upload.
        threshold: how many have to agree.
    """
    stories = ((EVERYBODY, alive), (EVERYBODY[1:], {1, 2, 3, 4, 5} - alive))
    said = {
        survivors: {
            each: recovery.consent(uploaded[each], Survivors(1, survivors), threshold) for each in sorted(told | {6, 7})
        }
        for survivors, told in stories
    }
    everything = [(each, phase.consent.to) for so in said.values() for each, phase in so.items()]
    shares, keys = set(), set()
    for survivors, told in stories:
        for member in told:
            # Whatever anybody has said to this member, and from 6 and 7 what suits its story.
            heard = {each: dict(to) for each, to in everything if member in dict(to)}
            heard |= {each: dict(said[survivors][each].consent.to) for each in (6, 7)}
            message = agreement(member, survivors, dict(sorted(heard.items())), sent)
            try:
                answer = recovery.answer(said[survivors][member], message, threshold).shares
            except Unconfirmed:
                continue
            shares |= {member} if 1 in dict(answer.shares) else set()
            keys |= {member} if 1 in dict(answer.keys) else set()
    return shares, keys


def test_late_upload_after_drop(sites: Any) -> None:
    """Declared dead, hospital 1 uploads after all. Its pair keys are out; its seed stays closed for ever."""
    survivors, sent = (2, 3, 4, 5, 6, 7), uploads(sites)
    before = {member: site.client._round for member, site in sites.items()}
    revealed = open_all(sites, survivors, sent)
    # Everything public and everything that 6 and 7 know:
    known = {each: dict(revealed[each].keys)[1][:32] for each in survivors}
    words = np.frombuffer(sent[1].words, dtype="<u8").copy()
    masks.apply(words[:-1], add=[], subtract=[known[each] for each in survivors])
    data = sites[1].disk.data[sites[1].contexts[-1]].view(np.uint64)
    assert not np.intersect1d(words, data).size
    assert all(1 not in dict(answer.shares) for answer in revealed.values())
    # With five of its boxes open the seed, and the upload, would be; nobody honest opens one, now or later.
    held = {each: recovery._unseal(before[each], 1, dict(sent[1].boxes)[each]) for each in survivors}
    masks.apply(words[:-1], add=[], subtract=[recovery.self_mask_key(combine(held, T))])
    assert words[:-2].tolist() == data.tolist()
    for each in survivors:
        assert isinstance(sites[each].client._round, Answered)
        with pytest.raises(SecondMessage):
            sites[each].client.receive(Survivors(1, EVERYBODY))


def test_no_chain_key_ever_leaves_and_revealed_keys_open_this_round_only(sites: Any) -> None:
    survivors = (1, 2, 3, 4, 5)
    chains = [dict(site.client._phase.ratchet.advance(1).chains) for site in sites.values()]
    sent = uploads(sites, 1)
    revealed = open_all(sites, survivors, sent, 1)
    later = [dict(site.client._phase.ratchet.chains) for site in sites.values()]
    said = b"".join(encode(each) for each in (*sent.values(), *revealed.values()))
    assert not any(chain in said for each in (*chains, *later) for chain in each.values())
    uploads(sites, 2)
    for member, answer in revealed.items():
        phase = sites[member].client._round
        used = {*phase.masks.mask.values(), *phase.masks.canary.values()}
        assert not used & {part for _, keys in answer.keys for part in (keys[:32], keys[32:])}


def test_box_and_consent_keys_of_a_round() -> None:
    """A box key has one direction, a consent key none (its MACs have); all of them stand on chain and context."""
    ends = {1: Ratchet(1, {2: b"c" * 32}), 2: Ratchet(1, {1: b"c" * 32})}
    one, other = (ends[me].recovery_keys(me, (1, 2), b"x" * 32) for me in (1, 2))
    assert (one.seal[2], one.unseal[2], one.consent[2]) == (other.unseal[1], other.seal[1], other.consent[1])
    for changed in (
        ends[1].recovery_keys(1, (1, 2), b"y" * 32),
        ends[1].advance(2).recovery_keys(1, (1, 2), b"x" * 32),
    ):
        keys = [each[2] for of in (one, changed) for each in (of.seal, of.unseal, of.consent)]
        assert len(set(keys)) == 6


def test_mode_confusion() -> None:
    """Pair keys of mode B open no upload of mode A, even if all else were the same."""
    ratchet = Ratchet(1, {2: b"c" * 32})
    keys = [ratchet.keys(1, (1, 2), mode, b"x" * 32) for mode in Mode]
    assert keys[0].mask[2] != keys[1].mask[2]


def test_mode_confusion_of_whole_uploads() -> None:
    """The same members and data under two manifests that differ in the mode: nothing cancels."""
    a, b = ready(manifest(4, 1)), ready(manifest(4, 1, mode=Mode.B))
    chains = {member: site.client._phase.ratchet for member, site in a.items()}
    for member, site in b.items():
        site.client._phase = replace(site.client._phase, ratchet=chains[member])
        site.client._nonce = a[member].client._nonce
    of = roster(a)
    assert a[1].client.context(1, of, a[1].terms(4)).digest != b[1].client.context(1, of, b[1].terms(4)).digest
    mixed = [a[1].upload(Step(1, 0, of))] + [b[each].upload(Step(1, 0, of)) for each in (2, 3, 4)]
    phases_ = {each: b[each].client._round for each in (2, 3, 4)}
    total = np.frombuffer(add(1, of, *mixed).words, dtype="<u8").copy()
    for each in (2, 3, 4):
        boxes = dict(mixed[each - 1].boxes)
        held = {other: recovery._unseal(phases_[other], each, boxes[other]) for other in (2, 3, 4) if other != each}
        seed = combine(held | {each: phases_[each].share}, 3)
        masks.apply(total, add=[], subtract=[recovery.self_mask_key(seed)])
    assert total[-1] != 4
    assert all(abs(int(word)) > 1 << 36 for word in total[:-2].view(np.int64))
