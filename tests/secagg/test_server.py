"""The adder: rosters, drops, returns, restarts, and members that misbehave."""

import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from secagg import MisuseError, Server, Stop
from secagg.actions import Arm, Send, SendSums, StoreRound, StoreSetup, SumRecord
from secagg.errors import (
    BadSignature,
    MalformedMessage,
    ManifestMismatch,
    SecondMessage,
    UnexpectedMessage,
)
from secagg.messages import (
    Bundle,
    CanaryKeys,
    Complete,
    Confirmations,
    Consent,
    Encapsulations,
    Finish,
    Part,
    Ready,
    Refused,
    Shares,
    Step,
    Sum,
)
from tests.federation import Federation, Site, Study, complete, manifest
from tests.sweeps import thinned

OF = manifest(6)


def federation(*, until: int = 1, of: Any = OF, **changes: Any) -> Federation:
    """A federation that has just stored so many sums."""
    made = Federation(of, **changes)
    made.start()
    made.run(lambda: len(made.sums) >= until)
    return made


def members(of: Sum | StoreRound) -> tuple[int, ...]:
    return of.roster if isinstance(of, StoreRound) else tuple(member for member, _ in of.roster)


# ---- order of things
# ----------------------------------------------------------------------------------------------


def test_everything_is_durable_before_it_is_sent() -> None:
    made = Federation(OF)
    order: list[str] = []
    real = made._do

    def record(actions: Any) -> None:
        for action in actions:
            name = type(action).__name__
            order.append(f"Send {type(action.message).__name__}" if isinstance(action, Send) else name)
        real(actions)

    made._do = record
    made.start()
    complete(made)
    for position, name in enumerate(order):
        before = order[:position]
        if name == "Send Step":
            # a number per Step sent so far, and the sum of the round before
            assert before.count("StoreRound") == before.count("Send Step") // 6 + 1
            assert before.count("StoreSum") == before.count("StoreRound") - 1
        if name == "Send Bundles":
            assert before.count("StoreSetup") >= 7  # what the members sent, and who is in this wave
        if name == "SendSums":
            # everybody gets each sum once, after it is stored
            assert before.count("StoreSum") == before.count("SendSums") // 6 + 1
    assert order[-1] == "Stop"
    assert Counter(order)["StoreRound"] == 4


def test_the_first_round_waits_for_everybody() -> None:
    made = Federation(OF)
    made.start(1, 2, 3, 4, 5)
    made.run()
    assert not made.rounds
    assert made.timer == "patience"
    made.start(6)
    complete(made)
    assert members(made.sums[0]) == (1, 2, 3, 4, 5, 6)


def test_set_up_with_too_few_stops_with_the_names() -> None:
    made = Federation(OF)
    made.start(1, 2, 3)
    made.run()
    made.deadline()
    made.run()
    assert made.stopped is not None
    assert not made.stopped.ok
    assert "6 (Hospital 6)" in made.stopped.reason
    assert made.sites[1].reason == made.stopped.reason


def test_set_up_that_never_completes_stops_with_the_name() -> None:
    """A site that has offered its keys is in the first wave, and the others cannot do without it."""
    made = Federation(OF)
    made.start()
    made.run(lambda: len(made.setup) == 7)
    made.kill(6)
    made.run()
    assert made.timer == "patience"
    made.deadline()
    made.run()
    assert made.stopped is not None
    assert not made.stopped.ok
    assert "6 (Hospital 6)" in made.stopped.reason


# ---- drop, return, rejoin
# -----------------------------------------------------------------------------------------


def test_a_site_that_goes_away_ends_the_round_at_once() -> None:
    made = federation()
    made.run(lambda: bool(made.rounds[1:]))
    made.kill(3)
    assert members(made.rounds[-1]) == (1, 2, 4, 5, 6)
    assert made.rounds[-1].changes == 1
    complete(made)


def test_a_site_that_has_uploaded_is_not_needed_any_more() -> None:
    """Its upload counts; the round goes on and nobody else's charge is wasted."""
    made = Federation(OF, Study(steps=1))
    made.start()
    made.run(lambda: bool(made.rounds) and made.uploaded(3))
    made.disconnect(3)
    assert len(made.rounds) == 1
    made.run(lambda: bool(made.sums))
    assert members(made.sums[0]) == (1, 2, 3, 4, 5, 6)
    made.check()


def test_a_returning_site_gets_exactly_the_sums_it_missed() -> None:
    made = federation(study=Study(steps=5))
    made.kill(3)
    made.run(lambda: len(made.sums) == 2)
    seen: list[Any] = []
    made.to_site = lambda member, message: (seen.append(message) if member == 3 else None, [message])[1]
    had = len(made.disks[3].applied)
    made.start(3)
    complete(made)
    sums = [message for message in seen if isinstance(message, Sum)]
    assert sums == made.sums[had:]
    for position, message in enumerate(seen):
        if isinstance(message, Step | Finish):
            # it has been sent all the sums there are, and is told how many that is
            assert message.sums == had + sum(isinstance(each, Sum) for each in seen[:position])
    assert 3 in members(made.sums[-1])


def test_a_site_that_is_not_on_the_roster_gets_every_sum_at_once() -> None:
    made = federation(of=manifest(6, 1, roster_changes=1), study=Study(steps=4))
    made.kill(3)
    made.start(3)
    made.run(lambda: len(made.sums) == 3)
    made.run(lambda: made.sites[3].client.sums == 3)
    assert all(3 not in members(total) for total in made.sums[1:])
    assert len(made.sums) == 3


def test_a_return_is_taken_only_with_a_change_in_reserve() -> None:
    made = federation(of=manifest(6, 1, roster_changes=2), study=Study(steps=4))
    made.kill(3)
    made.run(lambda: len(made.sums) == 2)
    made.start(3)
    complete(made)
    # One change was used; taking site 3 back would leave none for the next loss: it watches to the end …
    assert all(3 not in members(total) for total in made.sums[2:])
    assert made.sites[3].client.sums == 4  # … and has the model all the same
    assert made.sites[3].reason == "complete"


def test_without_a_change_left_the_coordinator_waits_for_the_missing_site() -> None:
    made = federation(of=manifest(6, 1, roster_changes=0))
    made.kill(3)
    made.run()
    assert made.timer == "patience"
    assert len(made.sums) == 1
    made.start(3)
    complete(made)


def test_without_patience_it_stops_and_says_for_whom_it_waited() -> None:
    made = federation(of=manifest(6, 1, roster_changes=0))
    made.kill(3)
    made.run()
    made.deadline()
    made.run()
    assert made.stopped == Stop(made.stopped.reason, ok=False)
    assert "3 (Hospital 3)" in made.stopped.reason
    assert all(site.client.sums == 1 for site in made.sites.values())


def test_too_few_sites_wait_and_go_on() -> None:
    made = federation()
    made.kill(1)
    made.run(lambda: len(made.sums) == 2)
    made.kill(2)
    made.kill(3)
    made.run()
    assert made.timer == "patience"
    made.start(1)
    made.run()
    complete(made)


def test_one_change_serves_for_a_loss_and_a_return_together() -> None:
    made = federation(of=manifest(6, 1, roster_changes=2), study=Study(steps=5))
    made.kill(3)
    made.run(lambda: len(made.sums) == 2)
    made.start(3)
    made.run(lambda: len(made.sums) == 3)
    made.kill(5)
    complete(made)
    assert members(made.sums[-1]) == (1, 2, 3, 4, 6)
    assert made.rounds[-1].changes == 2


def test_a_stalled_site_is_left_out_and_comes_back_when_it_answers() -> None:
    held = []

    def hold(member: int, message: Any) -> list[Any]:
        if member == 2 and isinstance(message, Step) and not held:
            held.append(message)
            return []
        return [message]

    made = Federation(OF, to_site=hold, study=Study(steps=4))
    made.start()
    made.run()
    assert made.timer == "round"
    made.deadline()
    made.run(lambda: len(made.sums) == 1)
    assert 2 not in members(made.sums[0])
    made.up[2].extend(made.sites[2].receive(held[0]))
    complete(made)
    assert 2 in members(made.sums[-1])


def test_a_reconnection_replaces_the_old_connection() -> None:
    made = federation()
    made.run(lambda: len(made.rounds) == 2)
    made.connect(4)
    assert len(made.rounds) == 3
    assert made.rounds[-1].changes == 0
    complete(made)


# ---- the end
# ------------------------------------------------------------------------------------------------------


def test_the_last_sum_reaches_everyone_and_late_members_too() -> None:
    made = federation(until=3)
    made.run(lambda: made.stopped is not None)
    late = made.sites[2]
    made.run()
    made.check()
    made.down[2].clear()
    made.connect(2)
    assert list(made.down[2]) == [Finish(3, "complete")]
    assert late.client.sums == 3


def test_a_member_that_was_away_at_the_end_gets_its_sums_in_finish() -> None:
    made = federation()
    made.kill(3)
    complete(made)
    made.start(3)
    made.run()
    assert made.sites[3].client.sums == 3
    assert made.sites[3].reason == "complete"
    made.check()


def test_a_site_that_breaks_off_when_all_others_are_complete_does_not_hold_up_the_end() -> None:
    def last(member: int, message: Any) -> list[Any]:
        return [] if member == 6 and isinstance(message, Complete) else [message]

    made = Federation(manifest(6, 1, roster_changes=0), to_server=last)
    made.start()
    made.run()
    assert made.stopped is None
    made.kill(6)
    assert made.stopped == Stop("complete", ok=True)


def test_different_histories_at_the_end_are_named() -> None:
    def other(member: int, message: Any) -> list[Any]:
        return [Complete(5, b"x" * 32)] if member == 5 and isinstance(message, Complete) else [message]

    made = Federation(OF, to_server=other)
    made.start()
    made.run()
    assert made.stopped is not None
    assert not made.stopped.ok
    assert "another history: 5 (Hospital 5)" in made.stopped.reason


def test_one_member_that_claims_to_be_complete_only_leaves() -> None:
    def claim(member: int, message: Any) -> list[Any]:
        if member == 5 and isinstance(message, Part):
            return [Complete(5, bytes(32))] if message.last else []
        return [message]

    made = Federation(OF, to_server=claim)
    made.start()
    made.run()
    assert made.stopped == Stop("complete", ok=True)
    assert all(members(total) == (1, 2, 3, 4, 6) for total in made.sums)


def test_fewer_than_the_minimum_roster_do_not_make_the_run_complete() -> None:
    made = federation(of=manifest(3))
    made.run(lambda: len(made.rounds) == 2)
    for member in (1, 2):
        made._do(made.server.receive(member, Complete(member, bytes(32))))
    made.disconnect(3)
    assert made.stopped is None
    assert made.timer == "patience"


def test_after_the_end_nothing_moves_any_more() -> None:
    made = federation(until=3)
    made.run()
    server = made.server
    assert server.receive(1, Ready(1, 0)) == []
    assert server.disconnect(1) == []
    assert server.deadline() == []
    assert server.sums == 3


# ---- members that stop or misbehave
# -------------------------------------------------------------------------------


def test_a_refusing_site_leaves_the_roster() -> None:
    made = federation()
    made.run(lambda: len(made.rounds) == 2)
    made._do(made.server.receive(2, Refused(2, "budget")))
    assert members(made.rounds[-1]) == (1, 3, 4, 5, 6)
    made.sites[2].error = RuntimeError("stopped")
    made.run()
    assert made.stopped == Stop("complete", ok=True)


def test_when_too_many_have_refused_the_run_stops_with_their_codes() -> None:
    made = federation()
    for member, code in ((2, "budget"), (3, "forged-sum"), (4, "policy")):
        if made.stopped is None:
            made._do(made.server.receive(member, Refused(member, code)))
    assert made.stopped is not None
    assert "2 (Hospital 2): budget, 3 (Hospital 3): forged-sum, 4 (Hospital 4): policy" in made.stopped.reason


def test_a_refusal_in_set_up_stops_the_run() -> None:
    made = Federation(OF)
    made.start()
    made.run(lambda: len(made.setup) == 7)
    made._do(made.server.receive(4, Refused(4, "unconfirmed")))
    assert made.stopped is not None
    assert "4 (Hospital 4): unconfirmed" in made.stopped.reason


@pytest.mark.parametrize("late", [False, True])
def test_a_refusal_before_any_keys_are_offered_is_done_without(late: bool) -> None:
    made = Federation(OF)
    made.start()
    if not late:  # else its keys arrive after it has stopped
        made.up[4].clear()
    made._do(made.server.receive(4, Refused(4, "unpinned-member")))
    complete(made)
    assert all(members(total) == (1, 2, 3, 5, 6) for total in made.sums)


@pytest.mark.parametrize("odd", [1, 3, 6])
def test_an_upload_of_another_length_is_left_out(odd: int) -> None:
    def longer(member: int, message: Any) -> list[Any]:
        if member == odd and isinstance(message, Part):
            size, words = message.size + 8, message.words + bytes(8) * message.last
            return [replace(message, size=size, words=words)]
        return [message]

    made = Federation(OF, to_server=longer)
    made.start()
    made.run()
    assert made.stopped == Stop("complete", ok=True)
    assert all(odd not in members(total) for total in made.sums)
    made.check()


def test_uploads_without_a_majority_length_stop_the_run() -> None:
    made = Federation(OF, studies={member: Study(length=6) for member in (1, 2, 3)})
    made.start()
    made.run()
    assert made.stopped is not None
    assert "different length" in made.stopped.reason


def test_sizes_are_checked_before_any_memory_is_taken() -> None:
    made = Federation(OF)
    made.start()
    made.run(lambda: bool(made.rounds))
    tracemalloc.start()
    with pytest.raises(MalformedMessage, match="Hospital 2"):
        made.server.receive(2, Part(2, 1, 8 * ((1 << 20) + 1), 0, bytes(8)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    complete(made)


@pytest.mark.parametrize(
    ("member", "message", "error"),
    thinned(
        (
            pytest.param(*each)
            for each in [
                (2, Part(2, 9, 56, 0, bytes(56)), UnexpectedMessage),  # a round nobody opened
                (2, Consent(2, 9, ((1, bytes(32)),)), UnexpectedMessage),
                (2, Part(3, 1, 56, 0, bytes(56)), UnexpectedMessage),
                (2, Complete(3, bytes(32)), UnexpectedMessage),
                (2, Refused(3, "budget"), UnexpectedMessage),
                (2, Ready(3, 0), UnexpectedMessage),
                (2, Ready(2, 1), UnexpectedMessage),
                (2, Encapsulations(2, 0, ((4, bytes(1088)),)), SecondMessage),
                (2, Confirmations(2, 0, ((3, bytes(32), b""),)), SecondMessage),
                (2, Bundle(2, 0, bytes(32), b"", bytes(32), bytes(32), bytes(64)), SecondMessage),
                # what mode A does not have, in any round
                (2, Consent(2, 1, ((1, bytes(32)),)), UnexpectedMessage),
                (2, Shares(2, 1, ((1, bytes(32)),), ()), UnexpectedMessage),
                (2, CanaryKeys(2, 1, ((1, bytes(32)),)), UnexpectedMessage),
                # parts that are none
                (2, Part(2, 1, 56, 8, bytes(8)), MalformedMessage),
                (2, Part(2, 1, 56, 0, bytes(56), ((1, bytes(48)),)), MalformedMessage),
            ]
        ),
        2,
    ),
)
def test_a_misbehaving_member_changes_nothing(member: int, message: Any, error: type[Exception]) -> None:
    made = Federation(OF)
    made.start()
    made.run(lambda: bool(made.rounds))
    with pytest.raises(error, match=r"Hospital 2|member 2"):
        made.server.receive(member, message)
    complete(made)


@pytest.mark.parametrize("message", [Consent(2, 1, ((1, bytes(32)),)), Shares(2, 1, ((1, bytes(32)),), ())])
def test_mode_a_has_no_answers_of_mode_b_of_earlier_rounds_either(message: Any) -> None:
    made = federation()
    made.run(lambda: len(made.rounds) == 2)
    with pytest.raises(UnexpectedMessage, match="Hospital 2"):
        made.server.receive(2, message)
    complete(made)


def test_set_up_messages_are_checked_to_name_the_faulty_site() -> None:
    made = Federation(OF)
    made.start()
    bundle = made.sites[2].client.begin()[0]
    assert isinstance(bundle, Bundle)
    with pytest.raises(ManifestMismatch, match="Hospital 2"):
        made.server.receive(2, replace(bundle, manifest_digest=bytes(32)))
    with pytest.raises(BadSignature, match="Hospital 2"):
        made.server.receive(2, replace(bundle, x25519=bytes(32)))
    with pytest.raises(UnexpectedMessage, match="not decided"):
        made.server.receive(2, Ready(2, 0))
    made.run(lambda: len(made.setup) == 7)
    for message in (Encapsulations(2, 0, ((4, bytes(1088)),)), Confirmations(2, 0, ((3, bytes(32), b""),))):
        with pytest.raises(MalformedMessage, match="exactly its peers"):
            made.server.receive(2, message)
    complete(made)


def test_only_connected_members_speak() -> None:
    with pytest.raises(MisuseError, match="not connected"):
        Federation(OF).server.receive(1, Ready(1, 0))


def test_hellos_that_are_refused() -> None:
    made = federation()
    hello = made.sites[2].client.hello()
    with pytest.raises(UnexpectedMessage, match="another run"):
        made.server.connect(replace(hello, run_id=bytes(32)))
    with pytest.raises(UnexpectedMessage, match="not in the manifest"):
        made.server.connect(replace(hello, member=9))
    for change in ({"nonce": bytes(32)}, {"member": 3}, {"last_round": 9}, {"sums": 0}):
        with pytest.raises(BadSignature):
            made.server.connect(replace(hello, **(change if change != {"sums": 0} else {"sums": 1})))
    complete(made)


def test_a_site_ahead_of_the_coordinators_store_is_refused() -> None:
    """The coordinator was restored from a backup: it must not start another history."""
    made = federation(until=2)
    made.run(lambda: made.sites[1].client.sums == 2)
    made.sums = made.sums[:1]
    made.server = made._new_server()
    with pytest.raises(UnexpectedMessage, match="older than the run"):
        made.server.connect(made.sites[1].client.hello())


# ---- restart
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", thinned(range(0, 130, 17), 3))
def test_restart_of_the_server_at_any_moment(steps: int) -> None:
    made = Federation(OF, seed=steps)
    made.start()
    for _ in range(steps):
        made.step()
    made.restart_server()
    complete(made)
    assert made.rounds[-1].changes == 0
    numbers = [each.number for each in made.rounds]
    assert numbers == sorted(set(numbers))


def test_a_restarted_server_waits_for_the_last_roster_before_it_spends_a_change() -> None:
    made = federation()
    made.up, made.down, made.timer = {}, {}, None
    made.server = made._new_server()
    for member in (1, 2, 3, 4, 5):
        made.connect(member)
    made.run()
    assert made.timer == "patience"
    assert len(made.sums) == 1
    made.deadline()
    assert members(made.rounds[-1]) == (1, 2, 3, 4, 5)
    made.connect(6)
    complete(made)


def test_a_restarted_server_remembers_changes_in_rounds_that_were_given_up() -> None:
    made = federation(of=manifest(6, 1, roster_changes=1))
    made.kill(3)
    assert made.rounds[-1].changes == 1
    made.restart_server()
    made.start(3)
    complete(made)
    assert made.rounds[-1].changes == 1
    assert not any(site.error for site in made.sites.values())


def test_stored_sums_must_fit() -> None:
    records = [SumRecord.of(each) for each in federation(until=2).sums]
    with pytest.raises(MisuseError):
        Server(OF, sums=records[::-1], last_round=9, max_words=100)
    with pytest.raises(MisuseError):
        Server(OF, sums=records, last_round=0, max_words=100)


def test_one_member_cannot_push_numbers_out_of_the_others_reach() -> None:
    made = federation()
    made.kill(2)
    made.disks[2].uploads.append(replace(made.disks[2].uploads[-1], round=made.rounds[-1].number + 1))
    site = Site(OF, 2, Study(), made.disks[2], "liar")
    with pytest.raises(UnexpectedMessage):
        made.server.connect(site.client.hello())


def test_the_end_of_the_round_numbers() -> None:
    made = federation(of=manifest(6, 1, max_rounds=2))
    made.run()
    assert made.stopped is not None
    assert "2 round numbers" in made.stopped.reason
    made.check()


def test_actions_are_plain_data() -> None:
    assert Arm("round") == Arm("round")
    assert StoreSetup(Ready(1, 0)) == StoreSetup(Ready(1, 0))
    assert SendSums(1, 0, 2) == SendSums(1, 0, 2)
    assert StoreRound(1, (1, 2), 0) != StoreRound(1, (1, 2), 1)
