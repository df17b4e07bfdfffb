"""One site's rounds, with the test as coordinator."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secagg import Client, MisuseError, SecaggError, context
from secagg.errors import ForgedSum, LaneOverflow, RosterRefused, RoundRefused, SessionOver, UnexpectedMessage
from secagg.messages import Step, Sum
from secagg.ratchet import WINDOW, Ratchet
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
    words = [np.frombuffer(sites[m].upload(Step(1, of, ())).words, dtype="<i8")[:-2] for m in sites]
    assert all(abs(int(word)) > 2**36 for upload in words for word in upload)


def test_a_context_serves_once(sites: Any) -> None:
    site = sites[1]
    opened = site.client.open(Step(1, roster(sites), ()), terms(site))
    values = site.study.data(1, 0, 0)
    site.client.upload(opened, values)
    with pytest.raises(MisuseError, match="one upload, ever"):
        site.client.upload(opened, values)
    with pytest.raises(MisuseError, match="one upload, ever"):
        site.client.upload(site.client.context(2, roster(sites), terms(site)), values)


def test_a_round_that_is_overtaken_cannot_be_uploaded(sites: Any) -> None:
    site = sites[1]
    first = site.client.open(Step(1, roster(sites), ()), terms(site))
    second = site.client.open(Step(2, roster(sites), ()), terms(site))
    with pytest.raises(MisuseError):
        site.client.upload(first, site.study.data(1, 0, 0))
    site.client.upload(second, site.study.data(1, 0, 0))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(5, dtype=np.int32),
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
    opened = site.client.open(Step(1, roster(sites), ()), terms(site))
    with pytest.raises(MisuseError):
        site.client.upload(opened, values)
    site.client.upload(opened, site.study.data(1, 0, 0))


REFUSED = [
    (lambda s: Step(1, roster(s), ()), RoundRefused, "used up"),  # after a first round 1
    (lambda s: Step(2 + WINDOW, roster(s), ()), RoundRefused, "more than 1024"),
    (lambda s: Step(2, roster(s, 1, 2), ()), RosterRefused, "at least 3"),
    (lambda s: Step(2, roster(s, 2, 3, 4), ()), RosterRefused, "not on the roster"),
    (lambda s: Step(2, (*roster(s, 1, 2, 3), (9, bytes(32))), ()), RosterRefused, "not in the manifest"),
    (lambda s: Step(2, ((1, bytes(32)), *roster(s, 2, 3, 4)), ()), RosterRefused, "another session"),
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
        sites[1].client.open(Step(4, roster(sites), ()), terms(sites[1]))


def test_ratchet_flood(sites: Any, monkeypatch: Any) -> None:
    """A huge round number is refused before a single key turns."""
    monkeypatch.setattr(Ratchet, "advance", lambda *_: pytest.fail("a key turned"))
    with pytest.raises(RoundRefused):
        sites[1].client.open(Step(1 << 20, roster(sites), ()), terms(sites[1]))


def test_no_round_before_set_up() -> None:
    client = Client(OF, 1, identity(1), entropy=entropy("x"), nonce=b"n" * 32, pins=pins(OF))
    total = Sum(1, tuple((i, b"n" * 32) for i in (1, 2, 3)), bytes(56))
    with pytest.raises(UnexpectedMessage, match="Advertised"):
        client.accept(total, Study().terms(0, 3, 1))


def test_the_roster_change_budget_counts_rosters_asked_for(sites: Any) -> None:
    """Also in rounds that never complete."""
    site = sites[1]
    for number, members in enumerate([(1, 2, 3, 4), (1, 2, 3), (1, 2, 4), (1, 3, 4), (1, 2, 3, 4)], 1):
        site.client.open(Step(number, roster(sites, *members), ()), terms(site, len(members)))
    site.client.open(Step(6, roster(sites), ()), terms(site))
    with pytest.raises(RosterRefused, match="change number 5; the study allows 4"):
        site.client.open(Step(7, roster(sites, 1, 2, 3), ()), terms(site, 3))


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
    sites[4].client.open(Step(5, roster(sites), ()), terms(sites[4]))
    with pytest.raises(RosterRefused):
        sites[4].client.open(Step(6, roster(sites, 1, 2, 4), ()), terms(sites[4], 3))


def test_the_budget_survives_a_restart(sites: Any) -> None:
    site = sites[1]
    for number, members in enumerate([(1, 2, 3, 4), (1, 2, 3), (1, 2, 4), (1, 3, 4), (1, 2, 3, 4)], 1):
        site.client.open(Step(number, roster(sites, *members), ()), terms(site, len(members)))
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
        again.open(Step(6, of, ()), terms(site, 3))


def test_terms_for_another_roster_are_our_own_mistake(sites: Any) -> None:
    site = sites[1]
    with pytest.raises(MisuseError, match="count on 2 honest"):
        site.client.open(Step(1, roster(sites), ()), terms(site, 3))
    site.client.open(Step(1, roster(sites), ()), terms(site))


def test_missed_sums_come_before_the_round(sites: Any) -> None:
    total, _ = play(sites, 1)
    site = sites[1]
    with pytest.raises(MisuseError, match="accept the sums missed up to round 1"):
        site.client.open(Step(2, roster(sites), (total,)), terms(site))
    site.client.accept(total, terms(site))
    site.client.open(Step(2, roster(sites), (total,)), terms(site))


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
    before = set(site.client._phase.ratchet.chains.values())
    opened = site.client.open(Step(1, roster(sites), ()), terms(site))
    keys = site.client._phase.keys
    reserved = site.client.snapshot()
    site.client.upload(opened, site.study.data(1, 0, 0))
    for stored in (reserved, site.client.snapshot()):
        for secret in (*before, *keys.add, *keys.subtract, *keys.canary_add, *keys.canary_subtract):
            assert secret not in stored
        assert site.client._nonce not in stored


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
        client.open(Step(5, ((1, b"n" * 32), *roster(sites, 2, 3, 4)), ()), terms(site))


@pytest.mark.parametrize("bits", [16, 21, 32, 64])
def test_every_lane_width_sums_exactly(bits: int) -> None:
    bound = (1 << (bits - 1)) - 1 if bits < 64 else 1 << 40
    sites = ready(manifest(4, 1, lane_bits=bits), Study(bound=bound, scale=bound // 4, length=11))
    total, expected = play(sites, 1)
    for site in sites.values():
        assert site.client.accept(total, terms(site)).tolist() == expected


def test_a_sum_that_does_not_fit_its_lanes_is_never_masked() -> None:
    sites = ready(manifest(4, 1, lane_bits=16), Study(bound=1 << 15, scale=1))
    with pytest.raises(LaneOverflow):
        sites[1].client.open(Step(1, roster(sites), ()), terms(sites[1]))


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
