"""One site's rounds, with the test as coordinator."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secagg import Client, MisuseError, SecaggError, context, masks
from secagg.errors import ForgedSum, LaneOverflow, RosterRefused, RoundRefused, SessionOver, UnexpectedMessage
from secagg.messages import Agreement, Blame, CanaryKeys, Step, Sum, Survivors
from secagg.ratchet import WINDOW, Ratchet, signed
from secagg.tag import RoundTag
from tests.federation import Study, entropy, identity, manifest, pins, play, ready, roster

OF = manifest(4)


@pytest.fixture
def sites() -> Any:
    return ready(OF)


def terms(site: Any, members: Any = 4) -> Any:
    return site.terms(members)


def test_a_round_from_step_to_sum(sites: Any) -> None:
    total, expected = play(sites, 1)
    for site in sites.values():
        assert site.client.accept(total, terms(site)).tolist() == expected
        assert site.client.sums == 1
        assert site.client.last_round == 1
    assert len({site.client.transcript for site in sites.values()}) == 1
    assert sites[1].client.transcript != context.start(OF)


def test_uploads_alone_say_nothing(sites: Any) -> None:
    """Each upload is masked by three streams: no word of it is near the data."""
    of = roster(sites)
    words = [np.frombuffer(sites[m].upload(Step(1, 0, of)).words, dtype="<i8")[:-2] for m in sites]
    assert all(abs(int(word)) > 2**36 for upload in words for word in upload)


def test_a_context_serves_once(sites: Any) -> None:
    site = sites[1]
    opened = site.client.open(Step(1, 0, roster(sites)), terms(site))
    values = site.study.data(1, 0, 0)
    site.client.upload(opened, values)
    with pytest.raises(MisuseError, match="one upload, ever"):
        site.client.upload(opened, values)
    with pytest.raises(MisuseError, match="one upload, ever"):
        site.client.upload(site.client.context(2, roster(sites), terms(site)), values)


def test_a_round_that_is_overtaken_cannot_be_uploaded(sites: Any) -> None:
    site = sites[1]
    first = site.client.open(Step(1, 0, roster(sites)), terms(site))
    second = site.client.open(Step(2, 0, roster(sites)), terms(site))
    with pytest.raises(MisuseError):
        site.client.upload(first, site.study.data(1, 0, 0))
    site.client.upload(second, site.study.data(1, 0, 0))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(5, dtype=np.uint32),
        np.zeros(5, dtype=bool),
        np.zeros(5),
        [0] * 5,
        np.zeros(4, dtype=np.int64),
        np.zeros((1, 5), dtype=np.int64),
        np.array([0, 0, 0, 0, 2**40 + 1]),
        np.array([-(2**63), 0, 0, 0, 0]),
    ],
)
def test_a_vector_of_the_wrong_kind_leaves_the_round_open(sites: Any, values: Any) -> None:
    site = sites[1]
    opened = site.client.open(Step(1, 0, roster(sites)), terms(site))
    with pytest.raises(MisuseError):
        site.client.upload(opened, values)
    site.client.upload(opened, site.study.data(1, 0, 0))


REFUSED = [
    (lambda s: Step(1, 1, roster(s)), RoundRefused, "used up"),  # after a first round 1
    (lambda s: Step(2 + WINDOW, 1, roster(s)), RoundRefused, "more than 1024"),
    (lambda s: Step(2, 1, roster(s, 1, 2)), RosterRefused, "at least 3"),
    (lambda s: Step(2, 1, roster(s, 2, 3, 4)), RosterRefused, "not on the roster"),
    (lambda s: Step(2, 1, (*roster(s, 1, 2, 3), (9, bytes(32)))), RosterRefused, "not in the manifest"),
    (lambda s: Step(2, 0, roster(s)), RoundRefused, "counts 0 sums, this site has 1"),
    (lambda s: Step(2, 1, ((1, bytes(32)), *roster(s, 2, 3, 4))), RosterRefused, "another session"),
]


@pytest.mark.parametrize(("step", "error", "match"), REFUSED)
def test_steps_that_end_the_session(sites: Any, step: Any, error: type[Exception], match: str) -> None:
    site = sites[1]
    total, _ = play(sites, 1)
    site.client.accept(total, terms(site))
    message = step(sites)
    with pytest.raises(error, match=match):
        site.client.open(message, terms(site, len(message.roster)))
    for call in (site.client.hello, site.client.begin, lambda: site.client.open(message, terms(site))):
        with pytest.raises(SessionOver, match=error.code):
            call()
    with pytest.raises(SessionOver):
        site.client.accept(total, terms(site))


def test_the_last_round_of_the_manifest() -> None:
    of = manifest(4, 1, max_rounds=3)
    sites = ready(of)
    play(sites, 3)
    with pytest.raises(RoundRefused, match="ends with round 3"):
        sites[1].client.open(Step(4, 0, roster(sites)), terms(sites[1]))


def test_ratchet_flood(sites: Any, monkeypatch: Any) -> None:
    """A huge round number is refused before a single key turns."""
    monkeypatch.setattr(Ratchet, "advance", lambda *_: pytest.fail("a key turned"))
    with pytest.raises(RoundRefused):
        sites[1].client.open(Step(1 << 20, 0, roster(sites)), terms(sites[1]))


def test_no_round_before_set_up() -> None:
    client = Client(OF, 1, identity(1), entropy=entropy("x"), nonce=b"n" * 32, pins=pins(OF))
    total = Sum(1, tuple((i, b"n" * 32) for i in (1, 2, 3)), (1, 2, 3), bytes(56))
    with pytest.raises(UnexpectedMessage, match="Advertised"):
        client.accept(total, Study().terms(0, 3, 1))


def test_the_roster_change_budget_counts_rosters_asked_for(sites: Any) -> None:
    """Also in rounds that never complete."""
    site = sites[1]
    for number, members in enumerate([(1, 2, 3, 4), (1, 2, 3), (1, 2, 4), (1, 3, 4), (1, 2, 3, 4)], 1):
        site.client.open(Step(number, 0, roster(sites, *members)), terms(site, len(members)))
    site.client.open(Step(6, 0, roster(sites)), terms(site))
    with pytest.raises(RosterRefused, match="change number 5; the study allows 4"):
        site.client.open(Step(7, 0, roster(sites, 1, 2, 3)), terms(site, 3))


def test_rosters_of_missed_sums_count_too(sites: Any) -> None:
    """A site that was away sees R, R\\{it}, R: two changes around its own contribution."""
    for number in range(1, 5, 2):
        total, _ = play(sites, number)
        for site in sites.values():
            site.client.accept(total, terms(site))
        total, _ = play(sites, number + 1, 1, 2, 3)
        for site in sites.values():
            site.client.accept(total, terms(site, 3))
    assert sites[4].client._progress.changes == 3
    sites[4].client.open(Step(5, 4, roster(sites)), terms(sites[4]))
    with pytest.raises(RosterRefused, match="change number 5"):
        sites[4].client.open(Step(6, 4, roster(sites, 1, 2, 4)), terms(sites[4], 3))


def test_the_budget_survives_a_restart(sites: Any) -> None:
    site = sites[1]
    for number, members in enumerate([(1, 2, 3, 4), (1, 2, 3), (1, 2, 4), (1, 3, 4), (1, 2, 3, 4)], 1):
        site.client.open(Step(number, 0, roster(sites, *members)), terms(site, len(members)))
    again = Client(
        OF,
        1,
        identity(1),
        entropy=entropy("x"),
        nonce=b"n" * 32,
        pins=pins(OF),
        snapshot=site.client.snapshot(),
    )
    of = ((1, b"n" * 32), *roster(sites, 2, 3))
    with pytest.raises(RosterRefused, match="change number 5"):
        again.open(Step(6, 0, of), terms(site, 3))


def test_terms_for_another_roster_are_our_own_mistake(sites: Any) -> None:
    site = sites[1]
    with pytest.raises(MisuseError, match="count on 2 honest"):
        site.client.open(Step(1, 0, roster(sites)), terms(site, 3))
    site.client.open(Step(1, 0, roster(sites)), terms(site))


def test_sums_come_before_the_round(sites: Any) -> None:
    total, _ = play(sites, 1)
    site = sites[1]
    with pytest.raises(MisuseError, match="accept all 1 sums before opening a round; so far 0 are"):
        site.client.open(Step(2, 1, roster(sites)), terms(site))
    site.client.accept(total, terms(site))
    site.client.open(Step(2, 1, roster(sites)), terms(site))


def test_a_sum_again_or_out_of_order_is_refused(sites: Any) -> None:
    first, _ = play(sites, 1)
    second, _ = play(sites, 2)
    site = sites[1]
    site.client.accept(first, terms(site))
    with pytest.raises(SecaggError) as refusal:
        site.client.accept(first, terms(site))
    assert isinstance(refusal.value, RoundRefused)
    # Round 2 was masked under the empty history: after round 1 it is not a sum of this history.
    sites[2].client.accept(first, terms(sites[2]))
    with pytest.raises(ForgedSum):
        sites[2].client.accept(second, terms(sites[2]))


@pytest.mark.parametrize("change", [8, -8])
def test_a_sum_of_the_wrong_size(sites: Any, change: Any) -> None:
    total, _ = play(sites, 1)
    words = total.words[:change] if change < 0 else total.words + bytes(change)
    with pytest.raises(ForgedSum, match="expected 7"):
        sites[1].client.accept(replace(total, words=words), terms(sites[1]))


def test_forward_secrecy(sites: Any) -> None:
    """Keys of a round are in no later snapshot, and neither is anything they follow from."""
    site = sites[1]
    first = site.client._phase.ratchet
    ratchet = first.advance(1)
    opened = site.client.open(Step(1, 0, roster(sites)), terms(site))
    keys = ratchet.keys(1, opened.members, OF.mode, opened.digest)
    assert site.client._round.after.canary == keys.canary
    reserved = site.client.snapshot()
    site.client.upload(opened, site.study.data(1, 0, 0))
    for stored in (reserved, site.client.snapshot()):
        for secret in (*first.chains.values(), *ratchet.chains.values(), *keys.mask.values(), *keys.canary.values()):
            assert secret not in stored
        assert site.client._nonce not in stored


def clone(site: Any, backend: masks.Backend = masks.CTR) -> Client:
    """A client that another process could only be with our session nonce: same contexts, same keys."""
    nonce, stored = site.client._nonce, site.client.snapshot()
    of, me = site.manifest, site.member
    return Client(
        of, me, identity(me), entropy=entropy("x"), nonce=nonce, pins=pins(of), snapshot=stored, backend=backend
    )


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", ">i4", "<i8"])
def test_any_signed_integers_give_the_same_upload(sites: Any, kind: str) -> None:
    site, step = sites[1], Step(1, 0, roster(sites))
    values = np.array([-128, 127, 0, -1, 5])
    same = [clone(site), clone(site)]
    words = [
        each.upload(each.open(step, terms(site)), given).words
        for each, given in zip(same, (values, values.astype(kind)), strict=True)
    ]
    assert words[0] == words[1]


def test_values_with_gaps_in_memory(sites: Any) -> None:
    site, step = sites[1], Step(1, 0, roster(sites))
    values = np.arange(10)[::2]
    plain, strided = clone(site), clone(site)
    expected = plain.upload(plain.open(step, terms(site)), values.copy())
    assert strided.upload(strided.open(step, terms(site)), values) == expected


def test_every_backend_gives_the_same_upload_and_takes_the_same_sum(sites: Any) -> None:
    total, expected = play(sites, 1)
    step, values = Step(2, 0, roster(sites)), np.arange(5)
    uploads = []
    for backend in (masks.CTR, masks.GCM):
        client = clone(sites[1], backend)
        uploads.append(client.upload(client.open(step, terms(sites[1])), values))
        assert client.accept(total, terms(sites[1])).tolist() == expected
    assert uploads[0] == uploads[1]


class Hand:
    """An executor whose work a test does by hand."""

    def __init__(self) -> None:
        self.work: list[Any] = []

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: Future[Any] = Future()
        self.work.append((future, lambda: function(*args, **kwargs)))
        return future

    def do(self) -> None:
        future, work = self.work.pop(0)
        future.set_result(work())


def test_masks_are_computed_while_the_caller_computes(sites: Any) -> None:
    site, step, values = sites[1], Step(1, 0, roster(sites)), np.arange(5)
    plain, ahead, hand = clone(site), clone(site), Hand()
    context = ahead.open(step, terms(site), executor=hand)  # type: ignore[arg-type]  # all of it that is used
    assert len(hand.work) == 1
    hand.do()  # before the vector is there
    assert ahead.upload(context, values) == plain.upload(plain.open(step, terms(site)), values)
    assert not hand.work


def test_an_upload_waits_for_its_masks(sites: Any) -> None:
    site, step, values = sites[1], Step(1, 0, roster(sites)), np.arange(5)
    plain, ahead = clone(site), clone(site)
    with ThreadPoolExecutor(1) as pool:
        begin = threading.Event()
        pool.submit(begin.wait)
        context = ahead.open(step, terms(site), executor=pool)
        threading.Timer(0.05, begin.set).start()
        assert ahead.upload(context, values) == plain.upload(plain.open(step, terms(site)), values)


def test_masks_of_a_round_that_is_overtaken_are_dropped(sites: Any) -> None:
    site, hand, values = sites[1], Hand(), np.arange(5)
    plain, ahead = clone(site), clone(site)
    first = ahead.open(Step(1, 0, roster(sites)), terms(site), executor=hand)  # type: ignore[arg-type]
    second = ahead.open(Step(2, 0, roster(sites)), terms(site), executor=hand)  # type: ignore[arg-type]
    hand.do()
    hand.do()
    with pytest.raises(MisuseError):
        ahead.upload(first, values)
    assert ahead.upload(second, values) == plain.upload(plain.open(Step(2, 0, roster(sites)), terms(site)), values)


def test_masks_that_fail_cost_the_round_and_nothing_else(sites: Any) -> None:
    site, hand, values = sites[1], Hand(), np.arange(5)
    context = site.client.open(Step(1, 0, roster(sites)), terms(site), executor=hand)
    hand.work[0][0].set_exception(MemoryError())
    with pytest.raises(MemoryError):
        site.client.upload(context, values)
    with pytest.raises(MisuseError, match="not open"):
        site.client.upload(context, values)
    site.client.upload(site.client.open(Step(2, 0, roster(sites)), terms(site)), values)


def test_a_roster_with_a_member_we_share_no_keys_with(sites: Any) -> None:
    """As a site that has not joined yet: refused, not a crash."""
    site = sites[1]
    chains = {peer: chain for peer, chain in site.client._phase.ratchet.chains.items() if peer != 3}
    site.client._phase = replace(site.client._phase, ratchet=Ratchet(0, chains))
    site.client.open(Step(1, 0, roster(sites, 1, 2, 4)), terms(site, 3))
    with pytest.raises(RosterRefused, match=r"shares no keys with member 3 \(Hospital 3\)"):
        site.client.open(Step(2, 0, roster(sites)), terms(site))


def test_a_sum_over_a_part_of_the_roster_is_not_one(sites: Any) -> None:
    total, _ = play(sites, 1)
    with pytest.raises(ForgedSum, match="over 3 of 4 sites"):
        sites[1].client.accept(replace(total, survivors=(1, 2, 3)), terms(sites[1]))


def test_a_coordinate_beyond_the_bound_with_a_right_tag(sites: Any) -> None:
    """Whoever holds the group key can make one, and it is refused for its range alone."""
    total, expected = play(sites, 1)
    site = sites[1]
    opened = site.client.context(1, total.roster, terms(site))
    forged = np.array([*expected[:-1], 2**40 + 1])
    tag = RoundTag(site.client._phase.group, opened.digest, 5, bound=2**40).expected(forged, (1, 2, 3, 4))
    words = np.array([*forged, tag, 4], dtype="<i8").tobytes()
    with pytest.raises(ForgedSum, match="coordinate beyond the proven bound"):
        site.client.accept(replace(total, words=words), terms(site))


def test_nothing_is_uploaded_before_set_up_and_nothing_breaks(sites: Any) -> None:
    client = Client(OF, 1, identity(1), entropy=entropy("x"), nonce=b"n" * 32, pins=pins(OF))
    context = sites[1].client.context(1, roster(sites), terms(sites[1]))
    with pytest.raises(MisuseError, match="not open"):
        client.upload(context, np.arange(5))
    assert client.begin()


# ---- blame ----


def test_blame_shows_canary_keys_and_no_others(sites: Any) -> None:
    of = roster(sites)
    uploads = {member: site.upload(Step(1, 0, of)) for member, site in sites.items()}
    keys = {}
    for member, site in sites.items():
        (answer,) = site.client.receive(Blame(1))
        assert isinstance(answer, CanaryKeys)
        assert (answer.member, answer.round) == (member, 1)
        keys[member] = dict(answer.keys)
        assert site.client.receive(Blame(1)) == [answer]
    for member, upload in uploads.items():
        assert keys[member].keys() == sites.keys() - {member}
        assert all(keys[member][peer] == keys[peer][member] for peer in keys[member])
        words = np.frombuffer(upload.words, dtype="<u8").copy()
        add, subtract = signed(member, keys[member])
        masks.apply(words[-1:], add=subtract, subtract=add)
        assert words[-1] == 1  # they explain the canary word …
        masks.apply(words, add=subtract, subtract=add)
        data = sites[member].disk.data[sites[member].contexts[-1]]
        assert not np.intersect1d(words[:-2], data.view(np.uint64)).size  # … and no other


def overtake(sites: Any) -> None:
    sites[1].upload(Step(1, 0, roster(sites)))
    sites[1].client.open(Step(2, 0, roster(sites)), terms(sites[1]))


def summed(sites: Any) -> None:
    total, _ = play(sites, 1)
    sites[1].client.accept(total, terms(sites[1]))


def restart(sites: Any) -> None:
    sites[1].upload(Step(1, 0, roster(sites)))
    sites[1].client = clone(sites[1])


UNBLAMABLE = {
    "no round yet": lambda s: None,
    "not uploaded": lambda s: s[1].client.open(Step(1, 0, roster(s)), terms(s[1])),
    "another round": lambda s: s[1].upload(Step(2, 0, roster(s))),
    "overtaken": overtake,
    "summed": summed,
    "restarted": restart,
}


@pytest.mark.parametrize("before", UNBLAMABLE.values(), ids=UNBLAMABLE)
def test_blame_is_for_the_last_upload_alone(sites: Any, before: Any) -> None:
    before(sites)
    with pytest.raises(UnexpectedMessage, match="Blame of round 1"):
        sites[1].client.receive(Blame(1))
    with pytest.raises(SessionOver):
        sites[1].client.hello()


@pytest.mark.parametrize("message", [Survivors(1, (1, 2, 3, 4)), Agreement(1, ((2, bytes(32)),), ((2, bytes(48)),))])
@pytest.mark.parametrize("before", [lambda s: s[1].upload(Step(1, 0, roster(s))), summed, restart])
def test_mode_a_opens_nothing_ever(sites: Any, before: Any, message: Any) -> None:
    before(sites)
    with pytest.raises(UnexpectedMessage):
        sites[1].client.receive(message)


@pytest.mark.parametrize("message", [Survivors(1, (1, 2, 3)), Blame(1)])
def test_no_answer_about_rounds_before_set_up(message: Any) -> None:
    client = Client(OF, 1, identity(1), entropy=entropy("x"), nonce=b"n" * 32, pins=pins(OF))
    with pytest.raises(UnexpectedMessage, match="set-up is not complete"):
        client.receive(message)


def test_a_seen_sum_turns_the_keys_of_a_site_that_was_away(sites: Any) -> None:
    total, _ = play(sites, 7, 1, 2, 3)
    sites[4].client.accept(total, terms(sites[4], 3))
    assert sites[4].client.last_round == 7
    assert sites[4].client._phase.ratchet.position == 8


def test_the_database_is_a_second_line_behind_an_old_snapshot(sites: Any) -> None:
    site = sites[1]
    snapshot = site.client.snapshot()
    client = Client(
        OF,
        1,
        identity(1),
        entropy=entropy("x"),
        nonce=b"n" * 32,
        pins=pins(OF),
        snapshot=snapshot,
        last_round=5,
    )
    assert client.hello().last_round == 5
    with pytest.raises(RoundRefused):
        client.open(Step(5, 0, ((1, b"n" * 32), *roster(sites, 2, 3, 4))), terms(site))


@pytest.mark.parametrize("bits", [10, 12, 16, 21, 32, 64])
def test_every_lane_width_sums_exactly(bits: int) -> None:
    bound = (1 << (bits - 1)) - 1 if bits < 64 else 1 << 40
    sites = ready(manifest(4, 1, lane_bits=bits), Study(bound=bound, scale=bound // 4, length=11))
    total, expected = play(sites, 1)
    for site in sites.values():
        assert site.client.accept(total, terms(site)).tolist() == expected


def test_a_sum_that_does_not_fit_its_lanes_is_never_masked() -> None:
    sites = ready(manifest(4, 1, lane_bits=16), Study(bound=1 << 15, scale=1))
    with pytest.raises(LaneOverflow):
        sites[1].client.open(Step(1, 0, roster(sites)), terms(sites[1]))


def test_misuse_of_the_constructor() -> None:
    with pytest.raises(MisuseError, match="nonce"):
        Client(OF, 1, identity(1), entropy=entropy("x"), nonce=b"short", pins=pins(OF))
    with pytest.raises(MisuseError, match="no member 9"):
        Client(OF, 9, identity(1), entropy=entropy("x"), nonce=b"n" * 32, pins=pins(OF))


def test_a_ratchet_never_turns_back() -> None:
    with pytest.raises(MisuseError, match="gone"):
        Ratchet(5, {}).advance(4)
    chains = {2: b"c" * 32}
    assert Ratchet(0, chains).advance(3).advance(5) == Ratchet(0, chains).advance(5)
