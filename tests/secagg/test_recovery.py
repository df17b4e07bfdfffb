"""Mode B at a site, with the test as coordinator: what opens a sum, and every way to make it open more.

Seven hospitals, of which 6 and 7 may work with the coordinator: five shares open a seed, five sites must agree.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secagg import Client, Mode, context, masks, recovery
from secagg.errors import (
    ForgedSum,
    RosterRefused,
    SecondMessage,
    SessionOver,
    UnexpectedMessage,
)
from secagg.messages import Agreement, Blame, Consent, Shares, Step, Survivors, Upload
from secagg.ratchet import signed
from secagg.recovery import Answered, Consented, Uploaded, agreed
from secagg.rounds import Idle, Opened
from secagg.shamir import combine
from tests.federation import Site, entropy, identity, manifest, pins, play, ready, roster
from tests.sweeps import thinned

OF = manifest(7, 2, mode=Mode.B)
T = OF.threshold
EVERYBODY = tuple(range(1, 8))

Macs = dict[int, dict[int, bytes]]


@pytest.fixture
def sites() -> dict[int, Site]:
    return ready(OF)


def uploads(sites: dict[int, Site], number: int = 1) -> dict[int, Upload]:
    """Everybody uploads."""
    of = roster(sites)
    return {member: site.upload(Step(number, site.client.sums, of)) for member, site in sites.items()}


def consents(sites: dict[int, Site], survivors: tuple[int, ...], number: int = 1) -> Macs:
    """All survivors consent: sender → receiver → MAC."""
    return {member: consent(sites[member], survivors, number) for member in survivors}


def consent(site: Site, survivors: tuple[int, ...], number: int = 1) -> dict[int, bytes]:
    (answer,) = site.client.receive(Survivors(number, survivors))
    assert isinstance(answer, Consent)
    assert (answer.sender, answer.round) == (site.member, number)
    assert [peer for peer, _ in answer.to] == [each for each in survivors if each != site.member]
    return dict(answer.to)


def agreement(me: int, survivors: Iterable[int], macs: Macs, sent: Mapping[int, Upload], number: int = 1) -> Agreement:
    """What an honest coordinator tells one survivor."""
    others = [each for each in survivors if each != me]
    boxes = {each: dict(sent[each].boxes)[me] for each in others}
    return Agreement(number, tuple((each, macs[each][me]) for each in macs if each != me), tuple(boxes.items()))


def open_all(sites: dict[int, Site], survivors: tuple[int, ...], sent: Any, number: int = 1) -> dict[int, Shares]:
    macs = consents(sites, survivors, number)
    answers = {}
    for member in survivors:
        (answer,) = sites[member].client.receive(agreement(member, survivors, macs, sent, number))
        assert isinstance(answer, Shares)
        answers[member] = answer
    return answers


def restarted(site: Site, stored: bytes | None = None) -> Client:
    return Client(
        OF, site.member, identity(site.member), entropy=entropy("again"), nonce=b"n" * 32, pins=pins(OF),
        snapshot=stored or site.client.snapshot(), last_round=1,
    )  # fmt: skip


def over(client: Client, code: str) -> None:
    """The session has ended and no key is left."""
    with pytest.raises(SessionOver, match=code):
        client.hello()
    assert isinstance(client._round, Idle)


# ---- the good way ----


@pytest.mark.parametrize("dropped", thinned([(), (7,), (1,), (3, 6), (1, 2)], 2))
def test_the_sum_of_the_survivors_opens_for_everybody(sites: Any, dropped: Any) -> None:
    total, expected = play(sites, 1, dropped=dropped)
    assert total.survivors == tuple(each for each in EVERYBODY if each not in dropped)
    for site in sites.values():
        assert site.client.accept(total, site.terms(7)).tolist() == expected
    assert len({site.client.transcript for site in sites.values()}) == 1
    total, expected = play(sites, 2)
    for site in sites.values():
        assert site.client.accept(total, site.terms(7)).tolist() == expected


def test_what_an_answer_opens(sites: Any) -> None:
    """Of each survivor a share, of each dropped member the pair's keys of this round; never both, never more."""
    survivors, sent = (1, 2, 4, 5, 6), uploads(sites)
    kept = {member: site.client._round for member, site in sites.items()}
    for member, answer in open_all(sites, survivors, sent).items():
        assert (answer.member, answer.round) == (member, 1)
        assert [each for each, _ in answer.shares] == [1, 2, 4, 5, 6]
        assert [each for each, _ in answer.keys] == [3, 7]
        assert dict(answer.shares)[member] == kept[member].share
        for each, keys in answer.keys:
            assert keys == kept[member].masks.mask[each] + kept[member].masks.canary[each]
            assert keys == kept[each].masks.mask[member] + kept[each].masks.canary[member]


def test_an_upload_has_a_box_for_every_other_member_of_the_roster(sites: Any) -> None:
    of = roster(sites, 1, 2, 3, 5, 7)
    upload = sites[3].upload(Step(1, 0, of))
    assert [peer for peer, _ in upload.boxes] == [1, 2, 5, 7]
    assert len({box for _, box in upload.boxes}) == 4


def test_one_honest_upload_is_hidden_by_its_self_mask_alone(sites: Any) -> None:
    """Even if all pair masks were known: no word of data, tag or canary is left uncovered."""
    upload, site = uploads(sites)[1], sites[1]
    words = without_pair_masks(upload, site.client._round)
    data = site.disk.data[site.contexts[-1]]
    assert not np.intersect1d(words[:-2], data.view(np.uint64)).size
    assert words[-1] != 1
    assert int(words[-2]) >> 56  # a tag in the clear is below 2**56


def without_pair_masks(upload: Upload, phase: Uploaded) -> Any:
    words = np.frombuffer(upload.words, dtype="<u8").copy()
    for part, keys in ((words[:-1], phase.masks.mask), (words[-1:], phase.masks.canary)):
        plus, minus = signed(upload.member, keys)
        masks.apply(part, add=minus, subtract=plus)
    return words


def test_every_round_has_a_fresh_seed(sites: Any) -> None:
    seeds = set()
    for number in (1, 2):
        sent = uploads(sites, number)
        for member, upload in sent.items():
            boxes = dict(upload.boxes)
            held = {each: recovery._unseal(sites[each].client._round, member, box) for each, box in boxes.items()}
            seeds.add(combine(held, T))
            assert combine(held | {member: sites[member].client._round.share}, T) in seeds
    assert len(seeds) == 14


def test_the_same_again_gives_the_same_again(sites: Any) -> None:
    survivors, sent = EVERYBODY, uploads(sites)
    macs = consents(sites, survivors)
    assert consent(sites[1], survivors) == macs[1]
    message = agreement(1, survivors, macs, sent)
    answers = sites[1].client.receive(message)
    assert len(answers) == 1
    assert sites[1].client.receive(message) == answers  # the stream may have broken with it on the way
    assert consent(sites[1], survivors) == macs[1]


def test_a_round_once_answered_has_no_keys_left(sites: Any) -> None:
    sent = uploads(sites)
    open_all(sites, EVERYBODY, sent)
    assert isinstance(sites[1].client._round, Answered)
    assert vars(sites[1].client._round).keys() == {"consent", "agreement", "shares"}


def test_no_phase_shows_its_keys(sites: Any) -> None:
    sent = uploads(sites)
    phase = sites[1].client._round
    secrets = [*phase.masks.mask.values(), *phase.masks.canary.values(), phase.share]
    secrets += [key for each in vars(phase.keys).values() for key in each.values()]
    consents(sites, EVERYBODY)
    for shown in (repr(phase), repr(phase.masks), repr(phase.keys), repr(sites[1].client._round), repr(sent[1])):
        assert not any(repr(secret)[2:-1] in shown for secret in secrets)


# ---- survivors that nobody consents to ----


REFUSED = {
    "self_not_in_survivors": ((2, 3, 4, 5, 6, 7), "member 1, has uploaded and is not among them"),
    "too_few_survivors": ((1, 2, 3, 4), "4 sites, 5 are needed"),
    "unknown_survivor": ((1, 2, 3, 4, 5, 9), "member 9 was not on the roster"),
}


@pytest.mark.parametrize(("survivors", "match"), REFUSED.values(), ids=REFUSED)
def test_survivors_refused(sites: Any, survivors: Any, match: str) -> None:
    uploads(sites)
    with pytest.raises(RosterRefused, match=match):
        sites[1].client.receive(Survivors(1, survivors))
    over(sites[1].client, "roster-refused")


def test_a_listed_member_that_was_not_asked_is_no_survivor(sites: Any) -> None:
    of = roster(sites, 1, 2, 3, 4, 5, 6)
    for member in (1, 2, 3, 4, 5, 6):
        sites[member].upload(Step(1, 0, of))
    with pytest.raises(RosterRefused, match="member 7 was not on the roster"):
        sites[1].client.receive(Survivors(1, EVERYBODY))


def test_second_survivors(sites: Any) -> None:
    uploads(sites)
    consent(sites[1], EVERYBODY)
    with pytest.raises(SecondMessage, match=r"survivors \(.*5, 6\), this site consented to \(.*6, 7\)"):
        sites[1].client.receive(Survivors(1, EVERYBODY[:-1]))
    over(sites[1].client, "second-message")


def test_second_survivors_after_the_answer(sites: Any) -> None:
    open_all(sites, EVERYBODY, uploads(sites))
    with pytest.raises(SecondMessage):
        sites[1].client.receive(Survivors(1, EVERYBODY[1:-1]))


@pytest.mark.parametrize("step", ["ready", "opened", "future"])
def test_survivors_of_a_round_not_uploaded(sites: Any, step: str) -> None:
    site = sites[1]
    if step == "opened":
        site.client.open(Step(1, 0, roster(sites)), site.terms(7))
    if step == "future":
        uploads(sites)
    number = 2 if step == "future" else 1
    with pytest.raises(UnexpectedMessage, match=f"Survivors of round {number}"):
        site.client.receive(Survivors(number, EVERYBODY))
    over(site.client, "unexpected-message")


def test_blame_is_not_for_mode_b(sites: Any) -> None:
    uploads(sites)
    with pytest.raises(UnexpectedMessage, match="Blame of round 1 in phase Uploaded"):
        sites[1].client.receive(Blame(1))


def test_survivors_count_against_the_roster_changes(sites: Any) -> None:
    """From the consent on, shown or not: the coordinator may open the sum and keep it."""
    for number in (1, 2):
        sent = uploads(sites, number)  # from the second round on, the roster comes back: one change
        consents(sites, (1, 2, 3, 4, 5, 6), number)  # and goes again: another
        assert sites[1].client._progress.changes == 2 * number - 1
    assert sent
    uploads(sites, 3)
    with pytest.raises(RosterRefused, match="change number 5; the study allows 4"):
        sites[1].client.receive(Survivors(3, (1, 2, 3, 4, 5, 6)))
    consent(sites[2], EVERYBODY, 3)


def test_without_roster_changes_a_round_opens_over_all_or_none() -> None:
    """What a study without noise needs: a sum over one hospital less would show that hospital."""
    sites = ready(manifest(7, 2, mode=Mode.B, roster_changes=0))
    uploads(sites)
    with pytest.raises(RosterRefused, match="change number 1"):
        sites[1].client.receive(Survivors(1, (1, 2, 3, 4, 5, 6)))
    consent(sites[2], EVERYBODY)


def test_a_drop_and_a_return_are_two_changes(sites: Any) -> None:
    for number, dropped, changes in ((1, (7,), 1), (2, (), 2), (3, (), 2)):
        total, _ = play(sites, number, dropped=dropped)
        for site in sites.values():
            site.client.accept(total, site.terms(7))
            assert site.client._progress.changes == changes, site.member


# ---- restarts, and rounds that are past ----


def test_answer_once_across_restart(sites: Any) -> None:
    sent = uploads(sites)
    macs = consents(sites, EVERYBODY)
    message = agreement(1, EVERYBODY, macs, sent)
    client = restarted(sites[1])
    assert client.receive(Survivors(1, EVERYBODY)) == []  # it cannot say it again: the keys are gone …
    assert client.receive(message) == []  # … and with them the answer
    with pytest.raises(SecondMessage, match="this site consented to"):
        client.receive(Survivors(1, EVERYBODY[:-1]))
    over(client, "second-message")


def test_an_old_disk_cannot_consent_either(sites: Any) -> None:
    uploads(sites)
    before = sites[1].client.snapshot()
    consent(sites[1], EVERYBODY)
    client = restarted(sites[1], before)
    assert client.receive(Survivors(1, EVERYBODY[:-1])) == []
    assert isinstance(client._round, Idle)


def test_no_snapshot_holds_a_key_of_the_round(sites: Any) -> None:
    sent = uploads(sites)
    phase = sites[1].client._round
    secrets = [*phase.masks.mask.values(), *phase.masks.canary.values(), phase.share]
    secrets += [key for each in vars(phase.keys).values() for key in each.values()]
    stored = [sites[1].client.snapshot()]
    macs = consents(sites, EVERYBODY)
    stored.append(sites[1].client.snapshot())
    sites[1].client.receive(agreement(1, EVERYBODY, macs, sent))
    stored.append(sites[1].client.snapshot())
    assert not any(secret in each for secret in secrets for each in stored)


def phases(sites: Any) -> Iterator[type]:
    """Bring site 1 through every phase of round 1."""
    site = sites[1]
    yield Idle
    context = site.client.open(Step(1, 0, roster(sites)), site.terms(7))
    yield Opened
    sent = {1: site.client.upload(context, site.study.data(1, 0, 0))}
    sent |= {each: sites[each].upload(Step(1, 0, roster(sites))) for each in EVERYBODY[1:]}
    yield Uploaded
    macs = consents(sites, EVERYBODY)
    yield Consented
    site.client.receive(agreement(1, EVERYBODY, macs, sent))
    yield Answered


@pytest.mark.parametrize("last", thinned([Idle, Opened, Uploaded, Consented, Answered], 2))
def test_a_step_is_taken_in_any_phase_and_ends_the_round_before(sites: Any, last: type) -> None:
    next(phase for phase in phases(sites) if phase is last)
    site = sites[1]
    assert isinstance(site.client._round, last)
    site.client.open(Step(2, 0, roster(sites)), site.terms(7))
    assert site.client._round.round == 2
    # Whatever comes late is about a round whose keys are gone.
    survivors = Survivors(1, EVERYBODY)
    assert site.client.receive(survivors) == []
    assert site.client.receive(Agreement(1, ((2, bytes(32)),), ((2, bytes(48)),))) == []


@pytest.mark.parametrize("last", thinned([Idle, Opened, Uploaded, Consented, Answered], 2))
def test_a_sum_is_taken_in_any_phase_and_ends_the_round(sites: Any, last: type) -> None:
    total, _ = play(ready(OF), 1)  # the same hospitals, started alike: one group key, one context
    next(phase for phase in phases(sites) if phase is last)
    site = sites[1]
    site.client.accept(total, site.terms(7))
    assert isinstance(site.client._round, Idle)
    assert site.client.receive(Survivors(1, EVERYBODY)) == []


# ---- sums ----


def test_survivors_forged_in_sum(sites: Any) -> None:
    """A sum over others than this site consented to, even after a restart."""
    total, _ = play(sites, 1, dropped=(7,))
    forged = replace(total, survivors=EVERYBODY)
    client = restarted(sites[1])
    for each in (sites[1].client, client):
        with pytest.raises(ForgedSum, match=r"over \(.*6, 7\); this site consented to \(.*5, 6\)"):
            each.accept(forged, sites[2].terms(7))
        over(each, "forged-sum")


def test_survivors_forged_in_the_sum_for_a_member_that_dropped_out(sites: Any) -> None:
    """It has consented to nothing; canary and tag stand for the survivors."""
    total, _ = play(sites, 1, dropped=(7,))
    words = bytearray(total.words)
    other = restarted(sites[7])
    with pytest.raises(ForgedSum, match="canary is not 5"):
        sites[7].client.accept(replace(total, survivors=(1, 2, 3, 4, 5)), sites[7].terms(7))
    words[-8:] = (5).to_bytes(8, "little")
    with pytest.raises(ForgedSum, match="wrong tag"):
        other.accept(replace(total, survivors=(1, 2, 3, 4, 5), words=bytes(words)), sites[6].terms(7))


def test_a_sum_of_too_few(sites: Any) -> None:
    total, _ = play(sites, 1, dropped=(6, 7))
    with pytest.raises(ForgedSum, match="over 4 sites; no sum opens below 5"):
        sites[7].client.accept(replace(total, survivors=(1, 2, 3, 4)), sites[7].terms(7))


def test_the_survivors_are_in_the_transcript(sites: Any) -> None:
    round_ = sites[1].client.context(1, roster(sites), sites[1].terms(7))
    histories = {context.extend(bytes(32), round_, each, bytes(40), 5) for each in (EVERYBODY, EVERYBODY[:-1])}
    assert len(histories) == 2


# ---- the rule alone ----


@pytest.mark.parametrize(
    ("me", "survivors", "valid", "threshold", "expected"),
    [
        (1, (1, 2, 3), {2, 3}, 3, True),
        (1, (1, 2, 3), {2}, 3, False),
        (1, (1, 2, 3), {1, 2}, 3, False),
        (1, (1, 2, 3), {2, 4}, 3, False),
        (1, (1, 2, 3, 4), {2, 4}, 3, True),
        (1, (2, 3, 4), {2, 3, 4}, 3, False),
        (1, (1,), set(), 1, True),
    ],
)
def test_agreed(me: int, survivors: Any, valid: Any, threshold: int, expected: bool) -> None:
    assert agreed(me, survivors, frozenset(valid), threshold) is expected
