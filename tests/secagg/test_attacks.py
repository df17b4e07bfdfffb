"""The attacks of the protocol's reviews, each by its name, each refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secagg import Stop, masks
from secagg.errors import ForgedSum, RosterRefused, RoundRefused, UnexpectedMessage
from secagg.messages import Part, Step, Sum
from secagg.tag import P
from tests.federation import (
    Federation,
    Site,
    Study,
    add,
    complete,
    manifest,
    play,
    ready,
    roster,
)
from tests.sweeps import thinned

OF = manifest(5)
LONG = Study(length=400)


def words_of(total: Sum) -> np.ndarray:
    return np.frombuffer(total.words, dtype="<u8").copy()


def with_words(total: Sum, words: np.ndarray) -> Sum:
    return replace(total, words=words.astype("<u8").tobytes())


def assert_noise(words: np.ndarray) -> None:
    """Uniformly random words: 64·n fair coins, within six standard deviations."""
    ones = int(np.unpackbits(words.view(np.uint8)).sum())
    coins = 64 * len(words)
    assert abs(ones - coins / 2) < 6 * np.sqrt(coins) / 2


# ---- one site is shown something else
# -----------------------------------------------------------------------------

INCONSISTENT = {
    "query_confusion_same_length": replace(LONG, model="another query"),
    "another_noise": replace(LONG, share_variance=LONG.share_variance // 4),
    "another_clamp": replace(LONG, clamp=LONG.clamp // 2),
    "another_bound": replace(LONG, bound=LONG.bound // 2),
}


@pytest.mark.parametrize("name", thinned(INCONSISTENT, 2))
def test_a_site_with_other_terms(name: str) -> None:
    """Nothing but noise comes out, the honest adder stops, and a lying adder is refused by everybody."""
    sites = ready(OF, LONG, {2: INCONSISTENT[name]})
    total, expected = play(sites, 1)
    assert_noise(words_of(total) - np.array([*expected, 0, 0], dtype=np.int64).view(np.uint64))
    assert_noise(words_of(total))
    for site in sites.values():
        with pytest.raises(ForgedSum, match="does not open"):
            site.client.accept(total, site.terms(5))

    repaired = ready(OF, LONG, {2: INCONSISTENT[name]})
    total, _ = play(repaired, 1)
    lie = with_words(total, np.append(words_of(total)[:-1], np.uint64(5)))
    for site in repaired.values():
        with pytest.raises(ForgedSum, match="bound"):
            site.client.accept(lie, site.terms(5))

    federation = Federation(OF, LONG, studies={2: INCONSISTENT[name]})
    federation.start()
    federation.run()
    assert not federation.sums
    assert isinstance(federation.stopped, Stop)
    assert not federation.stopped.ok
    assert "another study" in federation.stopped.reason


def shown(change: Any) -> None:
    """Play rounds in which member 2 gets a changed Step: only noise comes out, and nobody takes it."""
    for canary in (None, 5):
        sites = ready(OF, LONG)
        honest = roster(sites)
        steps = {member: Step(1, 0, honest) for member in sites}
        steps[2] = change(sites, steps[2])
        uploads = [sites[member].upload(steps[member]) for member in sites]
        vectors = np.array([list(site.disk.data.values())[-1] for site in sites.values()])
        total = add(1, honest, *uploads, canary=canary)
        assert_noise(words_of(total)[:-2])
        assert_noise(words_of(total)[:-2] - vectors.sum(axis=0).view(np.uint64))
        for site in sites.values():
            site.receive(total)
            assert isinstance(site.error, ForgedSum)


def test_roster_inconsistency_smaller() -> None:
    shown(lambda sites, step: replace(step, roster=roster(sites, 1, 2, 3, 4)))


def test_roster_inconsistency_other_session_of_a_peer() -> None:
    def change(sites: Any, step: Any) -> list[Any]:
        return replace(step, roster=(*roster(sites, 1, 2, 3, 4), (5, bytes(32))))

    shown(change)


def test_round_inconsistency() -> None:
    shown(lambda sites, step: replace(step, round=2))


def test_model_inconsistency() -> None:
    """Another history is another transcript: member 2 gets a sum that the others never saw."""
    sites = ready(OF, LONG)
    first, _ = play(sites, 1)
    for site in sites.values():
        if site.member != 2:
            site.accept(first)
    total, expected = play(sites, 2)
    assert_noise(words_of(total)[:-2] - np.array(expected).view(np.uint64))
    for site in sites.values():
        with pytest.raises(ForgedSum):
            site.accept(total)


def test_forked_history() -> None:
    """Two valid sums of one step, over two rosters: each site takes the one it is shown, and the fork is barren."""
    sites = ready(OF, LONG)
    of_four, _ = play(sites, 1, 1, 2, 3, 4)
    of_five, _ = play(sites, 2)
    for site in sites.values():
        site.accept(of_five if site.member == 2 else of_four)
    assert len({site.client.transcript for site in sites.values()}) == 2
    total, expected = play(sites, 3)
    assert_noise(words_of(total)[:-2])
    assert_noise(words_of(total)[:-2] - np.array(expected).view(np.uint64))
    for site in sites.values():
        with pytest.raises(ForgedSum):
            site.accept(total)


def test_replayed_round(monkeypatch: Any) -> None:
    """Replay of a Step, at once and after a restart: the site refuses and masks nothing."""
    sites = ready(OF)
    step = Step(1, 0, roster(sites))
    sites[1].upload(step)
    disk = sites[1].disk
    disk.snapshot = sites[1].client.snapshot()
    for name in ("apply", "pad"):
        monkeypatch.setattr(masks, name, lambda *_, **__: pytest.fail("something was masked"))
    with pytest.raises(RoundRefused, match="used up"):
        sites[1].upload(step)
    restarted = Site(OF, 1, Study(), disk, "again")
    with pytest.raises(RoundRefused, match="used up"):
        restarted.upload(step)


# ---- restored, cloned, forked
# -------------------------------------------------------------------------------------


def test_rollback_same_context() -> None:
    """A restored directory is asked for the very same round. No key is used again."""
    sites = ready(OF, LONG)
    backup = sites[1].disk.copy()
    step = Step(1, 0, roster(sites))
    others = [sites[member].upload(step) for member in (2, 3, 4, 5)]
    first = sites[1].upload(step)

    restored = Site(OF, 1, LONG, backup, "restored")
    with pytest.raises(RosterRefused, match="another session"):
        restored.upload(step)

    # Shown its own new session, it masks under another context: its two uploads share no mask …
    restored = Site(OF, 1, LONG, backup, "restored again")
    own = ((1, restored.client.hello().nonce), *roster(sites, 2, 3, 4, 5))
    second = restored.upload(Step(1, 0, own))
    difference = np.frombuffer(first.words, dtype="<u8") - np.frombuffer(second.words, dtype="<u8")
    assert_noise(difference)
    # … and the second opens with nothing the others sent for the first.
    assert_noise(words_of(add(1, own, second, *others))[:-2])


def test_clone_with_a_second_process() -> None:
    """Two processes on copies of one directory: the roster names one session, the other refuses."""
    sites = ready(OF)
    clone = Site(OF, 1, Study(), sites[1].disk.copy(), "clone")
    step = Step(1, 0, roster(sites))
    sites[1].upload(step)
    with pytest.raises(RosterRefused, match="second one under this identity"):
        clone.upload(step)


def test_forged_history_to_rejoiner() -> None:
    """A site that comes back is shown sums that never were, and applies none."""
    sites = ready(OF)
    total, _ = play(sites, 1, 1, 2, 3, 4)
    honest = words_of(total)
    for change in (np.uint64(1), np.uint64(1) << np.uint64(63)):
        forged = honest.copy()
        forged[0] += change
        site = Site(OF, 5, Study(), sites[5].disk.copy(), f"returned {change}")
        answers = site.receive(with_words(total, forged))
        assert isinstance(site.error, ForgedSum)
        assert site.client.sums == 0
        assert not site.disk.uploads
        assert answers[0].code == "forged-sum"


def test_a_sum_of_another_round_or_roster_passed_off() -> None:
    sites = ready(OF)
    total, _ = play(sites, 1)
    other = tuple((member, bytes(32)) if member == 3 else (member, nonce) for member, nonce in total.roster)
    for lie in (replace(total, round=2), replace(total, roster=other)):
        victim = Site(OF, 1, Study(), sites[1].disk.copy(), f"victim {lie.round}")
        with pytest.raises(ForgedSum, match="wrong tag"):
            victim.client.accept(lie, victim.terms(5))


# ---- forged sums
# --------------------------------------------------------------------------------------------------


def refused(sites: Any, lie: Sum, match: str) -> None:
    for member in (1, 5):
        disk = replace(sites[member].disk.copy(), snapshot=sites[member].client.snapshot())
        victim = Site(OF, member, Study(), disk, f"victim {member} {match}")
        before = victim.client.transcript
        with pytest.raises(ForgedSum, match=match):
            victim.client.accept(lie, victim.terms(5))
        assert victim.client.transcript == before


@pytest.fixture
def two_rounds() -> Any:
    sites = ready(OF)
    first, _ = play(sites, 1)
    for site in sites.values():
        site.accept(first)
    second, _ = play(sites, 2)
    return sites, first, second


def test_tag_top_bit(two_rounds: Any) -> None:
    """The textbook tag modulo 2**64 misses a flipped top bit every other time; here it is out of range."""
    sites, _, total = two_rounds
    for position in range(5):
        words = words_of(total)
        words[position] ^= np.uint64(1 << 63)
        refused(sites, with_words(total, words), "bound")


def test_tag_any_bit(two_rounds: Any) -> None:
    sites, _, total = two_rounds
    for bit in range(0, 64, 7):
        words = words_of(total)
        words[bit % 5] ^= np.uint64(1 << bit)
        refused(sites, with_words(total, words), "wrong tag|bound")


@pytest.mark.parametrize("factor", [2, 3, -1])
def test_tag_scaled(two_rounds: Any, factor: int) -> None:
    """Without pads (3S, 3T) would always pass."""
    sites, _, total = two_rounds
    words = words_of(total)
    for position in range(6):
        words[position] = np.uint64(int(words[position]) * factor % 2**64)
    refused(sites, with_words(total, words), "wrong tag")


def test_tag_linear_combination(two_rounds: Any) -> None:
    """With keys kept over rounds S₁ + S₂ with T₁ + T₂ would always pass, as would an old sum itself."""
    sites, first, second = two_rounds
    one, two = words_of(first), words_of(second)
    refused(sites, with_words(second, np.append(one[:-1], two[-1:])), "wrong tag")
    both = one + two
    both[-1] = two[-1]
    refused(sites, with_words(second, both), "wrong tag")


@pytest.mark.parametrize("distance", [P, -P, 1 << 40])
def test_tag_out_of_range(two_rounds: Any, distance: int) -> None:
    """Δ = p passes a tag modulo p; the range check of the proven bound stops it."""
    sites, _, total = two_rounds
    words = words_of(total)
    words[0] = np.uint64((int(words[0]) + distance) % 2**64)
    refused(sites, with_words(total, words), "wrong tag|bound")


def test_one_sum_has_one_transcript(two_rounds: Any) -> None:
    """T and T + p are the same tag; they must not fork the history."""
    sites, _, total = two_rounds
    words = words_of(total)
    words[-2] += np.uint64(P)
    for member, each in ((1, total), (2, with_words(total, words))):
        sites[member].accept(each)
    assert sites[1].client.transcript == sites[2].client.transcript


def test_a_forged_canary(two_rounds: Any) -> None:
    sites, _, total = two_rounds
    words = words_of(total)
    words[-1] = np.uint64(4)
    refused(sites, with_words(total, words), "canary")


# ---- uploads
# ------------------------------------------------------------------------------------------------------


def test_late_upload_after_drop() -> None:
    """A site's upload arrives after its round was given up: it is not added, and the site comes back."""
    held: list[Part] = []

    def hold(member: int, message: Any) -> list[Any]:
        if member == 4 and isinstance(message, Part) and message.round == 1:
            held.append(message)
            return []
        return [message]

    federation = Federation(OF, to_server=hold)
    federation.start()
    federation.run()
    assert federation.timer == "round"
    federation.deadline()
    federation.run(lambda: len(federation.sums) == 1)
    assert [member for member, _ in federation.sums[0].roster] == [1, 2, 3, 5]
    for part in held:
        federation._do(federation.server.receive(4, part))
    complete(federation)
    assert [member for member, _ in federation.sums[-1].roster] == [1, 2, 3, 4, 5]


def test_an_upload_is_added_once() -> None:
    def twice(member: int, message: Any) -> list[Any]:
        return [message, message] if isinstance(message, Part) and message.last else [message]

    federation = Federation(OF, to_server=twice)
    federation.start()
    complete(federation)


def test_a_part_is_added_once() -> None:
    """A part that comes twice is no part of the upload: its sender's connection is closed, and the round is over."""

    def twice(member: int, message: Any) -> list[Any]:
        return [message, message] if member == 2 and isinstance(message, Part) and message.round == 1 else [message]

    federation = Federation(OF, to_server=twice, strict=False)
    federation.start()
    complete(federation)
    assert federation.sums[0].round > 1


def test_an_upload_in_another_members_name() -> None:
    federation = Federation(OF)
    federation.start()
    federation.run(lambda: bool(federation.rounds))
    with pytest.raises(UnexpectedMessage, match="Hospital 2"):
        federation.server.receive(2, Part(1, 1, 56, 0, bytes(56)))
    complete(federation)


def test_a_colluding_site_that_withholds_opens_nothing() -> None:
    """Every subset of a roster's uploads is noise: the missing masks stay."""
    sites = ready(OF, LONG)
    of = roster(sites)
    uploads = [sites[member].upload(Step(1, 0, of)) for member in sites]
    for left_out in range(5):
        rest = uploads[:left_out] + uploads[left_out + 1 :]
        assert_noise(words_of(add(1, of, *rest)))


def test_wrong_session() -> None:
    """Messages of another run of the same hospitals: other keys, other contexts."""
    other = manifest(5, 1, run_id=b"Q" * 32)
    ours, theirs = ready(OF, LONG), ready(other, LONG)
    step = Step(1, 0, roster(ours))
    uploads = [ours[member].upload(step) for member in (1, 2, 3, 4)]
    stray = theirs[5].upload(Step(1, 0, roster(theirs)))
    assert_noise(words_of(add(1, step.roster, *uploads, stray)))
    assert not set(ours[1].client._phase.ratchet.chains.values()) & set(theirs[1].client._phase.ratchet.chains.values())


def test_every_pair_has_its_own_keys() -> None:
    """No key is shared by more than two sites, so that a colluding site opens only its own pairs."""
    sites = ready(OF)
    keys = [key for site in sites.values() for key in site.client._phase.ratchet.chains.values()]
    assert all(keys.count(key) == 2 for key in keys)
