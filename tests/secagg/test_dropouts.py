"""Mode B at the server: whoever drops out at whatever stage, the sum of the survivors opens exactly or not at all."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from secagg import Mode, Stop
from secagg.collecting import Consenting, Revealing
from secagg.errors import MalformedMessage, SecondMessage, UnexpectedMessage
from secagg.messages import Agreement, Complete, Consent, Part, Refused, Shares, Step, Survivors
from tests.federation import Federation, Study, complete, manifest
from tests.sweeps import thinned

OF = manifest(6, mode=Mode.B)  # t = 5
ALL = OF.indices


def started(of: Any = OF, **changes: Any) -> Federation:
    made = Federation(of, **changes)
    made.start()
    made.run(lambda: bool(made.rounds))
    return made


def sent(made: Federation, member: int, kind: type, round_: int = 1) -> bool:
    """Whether a member's message of a round has reached the server."""
    return any(
        isinstance(message, kind) and getattr(message, "sender", getattr(message, "member", 0)) == member
        and message.round == round_ for message in made.log
    )  # fmt: skip


def without(member: int, kind: type, round_: int = 1) -> Callable[[int, Any], list[Any]]:
    """A wire that loses one member's messages of a kind in one round."""
    return lambda m, message: (
        [] if m == member and isinstance(message, kind) and getattr(message, "round", 0) == round_ else [message]
    )


def survivors(made: Federation) -> list[tuple[int, ...]]:
    return [total.survivors for total in made.sums]


def patient(made: Federation) -> None:
    """Run to the end, letting every deadline of a round pass."""
    made.run()
    while made.timer == "round" and not made.stopped:
        made.deadline()
        made.run()


@pytest.mark.parametrize("kind", [Consent, Shares])
def test_what_is_lost_with_a_stream_is_said_again(kind: type) -> None:
    lost: list[Any] = []

    def wire(member: int, message: Any) -> list[Any]:
        if member == 3 and isinstance(message, kind) and not lost:
            lost.append(message)
            return []
        return [message]

    made = started(to_server=wire)
    made.run(lambda: bool(lost))
    made.disconnect(3)
    made.connect(3)
    complete(made)
    assert survivors(made) == [ALL] * 3
    assert made.rounds[-1].changes == 0


def test_with_everybody_there_no_deadline_passes() -> None:
    made = started()
    complete(made)
    assert survivors(made) == [ALL] * 3
    assert made.rounds[-1].changes == 0
    assert [each.number for each in made.rounds] == [1, 2, 3, 4]


# ---- dropping out at every stage
# -----------------------------------------------------------------------------------

STAGES: dict[str, tuple[Callable[[Federation], bool], bool]] = {
    # when member 3 dies, and whether its upload is in the sum
    "asked": (lambda made: bool(made.rounds), False),
    "first part": (lambda made: sent(made, 3, Part), False),
    "uploaded": (lambda made: made.uploaded(3), True),
    "consented": (lambda made: sent(made, 3, Consent), True),
    "revealed": (lambda made: sent(made, 3, Shares), True),
}


@pytest.mark.parametrize("seed", thinned(range(3)))
@pytest.mark.parametrize("stage", thinned(STAGES, 2))
def test_a_member_that_dies_costs_the_others_nothing(stage: str, seed: int) -> None:
    reached, summed = STAGES[stage]
    made = started(seed=seed)
    made.run(lambda: reached(made))
    made.kill(3)
    patient(made)
    assert made.stopped == Stop("complete", ok=True)
    made.check()
    assert made.sums[0].round == 1
    assert made.sums[0].survivors == (ALL if summed else (1, 2, 4, 5, 6))
    assert [member for member, _ in made.sums[0].roster] == list(ALL)
    assert len(made.sums) == 3
    assert made.rounds[-1].changes == 1


@pytest.mark.parametrize("stage", thinned(STAGES, 2))
def test_a_member_that_restarts_is_not_waited_for(stage: str) -> None:
    """Its keys of the round were in its old process; what it has uploaded whole still counts."""
    reached, summed = STAGES[stage]
    made = started()
    made.run(lambda: reached(made))
    made.kill(3)
    made.start(3)
    complete(made)
    assert made.sums[0].survivors == (ALL if summed else (1, 2, 4, 5, 6))
    assert made.sites[3].error is None
    assert survivors(made)[-1] == ALL


@pytest.mark.parametrize("stage", thinned(STAGES, 2))
def test_a_member_whose_stream_breaks_goes_on_where_it_was(stage: str) -> None:
    made = started()
    made.run(lambda: STAGES[stage][0](made))
    made.disconnect(3)
    made.connect(3)
    patient(made)
    assert made.stopped == Stop("complete", ok=True)
    made.check()
    assert survivors(made) == [ALL] * 3
    assert made.rounds[-1].changes == 0


@pytest.mark.parametrize("member", thinned(ALL))
@pytest.mark.parametrize("kind", [Survivors, Agreement])
def test_what_was_lost_with_a_stream_is_sent_again(member: int, kind: type) -> None:
    made = started(to_site=without(member, kind))
    made.run()
    assert made.timer == "round"
    made.disconnect(member)
    made.to_site = lambda _member, message: [message]
    made.connect(member)
    complete(made)
    assert len(made.rounds) == 4


def test_a_step_that_was_lost_with_a_stream_is_sent_again_and_once_only() -> None:
    made = started(to_site=without(3, Step))
    made.run()
    made.to_site = lambda _member, message: [message]
    made.disconnect(3)
    made.connect(3)
    made.disconnect(3)
    made.connect(3)
    complete(made)
    assert survivors(made)[0] == ALL


def test_two_deaths_are_one_too_many_here() -> None:
    made = started()
    made.kill(3)
    made.kill(4)
    made.run()
    assert made.timer == "round"  # either may come back in time
    made.deadline()
    assert not made.sums
    assert not any(isinstance(message, Consent) for message in made.log)
    assert made.timer == "patience"
    made.start(3, 4)
    complete(made)
    made.check()


def test_two_may_go_where_the_threshold_allows_it() -> None:
    of = manifest(9, 1, mode=Mode.B)  # t = 7
    made = started(of=of)
    made.run(lambda: sent(made, 2, Part) and sent(made, 9, Part))
    made.kill(2)
    made.kill(9)
    patient(made)
    assert made.stopped == Stop("complete", ok=True)
    made.check()
    assert {len(each) for each in survivors(made)} <= {7, 8, 9}
    assert len(survivors(made)[-1]) == 7


def test_a_dropout_and_its_return_cost_two_changes_as_in_mode_a() -> None:
    made = started(study=Study(steps=4))
    made.kill(3)
    made.run()
    made.deadline()
    made.run(lambda: len(made.sums) == 1)
    assert [(each.number, each.changes) for each in made.rounds][:2] == [(1, 0), (1, 1)]
    assert made.rounds[1].roster == (1, 2, 4, 5, 6)
    made.start(3)
    complete(made)
    assert made.rounds[-1].changes == 2
    assert max(site.client._progress.changes for site in made.sites.values()) == 2


def test_a_change_too_many_gives_the_round_up_and_waits() -> None:
    made = started(of=manifest(6, mode=Mode.B, roster_changes=0))
    made.kill(3)
    made.run()
    made.deadline()
    made.run()
    assert not made.sums
    assert not any(isinstance(message, Consent) for message in made.log)
    assert made.timer == "patience"
    made.start(3)
    complete(made)
    assert made.rounds[-1].changes == 0


def test_the_parts_of_a_member_that_dropped_out_come_too_late() -> None:
    held: list[Part] = []

    def hold(member: int, message: Any) -> list[Any]:
        if member == 3 and isinstance(message, Part) and message.round == 1:
            held.append(message)
            return []
        return [message]

    made = started(to_server=hold)
    made.run()
    made.deadline()
    late = iter(held)
    made._do(made.server.receive(3, next(late)))  # in the next stage
    made.run(lambda: bool(made.sums))
    for part in late:  # in the next round
        made._do(made.server.receive(3, part))
    complete(made)
    assert survivors(made)[0] == (1, 2, 4, 5, 6)
    assert survivors(made)[-1] == ALL


# ---- consent and shares
# --------------------------------------------------------------------------------------------


def test_shares_of_t_suffice_if_nobody_has_dropped_out() -> None:
    for kind in (Consent, Shares):
        made = started(to_server=without(2, kind))
        made.run()
        assert not made.sums
        made.deadline()
        made.run(lambda made=made: bool(made.sums))
        assert survivors(made) == [ALL]
        made.run()
        made.check()


def test_below_t_consents_the_round_is_given_up_and_nobody_reveals_anything() -> None:
    made = started()
    made.to_server = lambda member, message: [] if member in (2, 5) and isinstance(message, Consent) else [message]
    made.run()
    made.deadline()
    assert not any(isinstance(message, Shares) for message in made.log)
    assert made.timer == "patience"  # both are stalled now, and four are too few
    made.to_server = lambda _member, message: [message]
    for member in (2, 5):
        made.disconnect(member)
        made.connect(member)
    complete(made)
    assert made.sums[0].round == 2


def test_after_a_dropout_everybody_is_needed() -> None:
    """Each survivor's keys with the one that is gone are in the sum."""
    for kind in (Consent, Shares):
        of = manifest(9, 1, mode=Mode.B, roster_changes=6)  # t = 7
        made = started(of=of, to_server=without(2, kind))
        made.kill(3)
        made.run()
        made.deadline()
        made.run()
        made.deadline()
        assert any(isinstance(message, Shares) for message in made.log) == (kind is Shares)
        assert not made.sums
        assert made.rounds[-1].number == 2
        made.run()
        assert made.stopped == Stop("complete", ok=True)
        made.check()


def test_below_t_shares_the_round_is_given_up() -> None:
    made = started()
    made.to_server = lambda member, message: [] if member in (2, 5) and isinstance(message, Shares) else [message]
    made.run()
    made.deadline()
    assert not made.sums
    assert made.timer == "patience"


def wrong(round_: int, *rounds: int) -> Callable[[int, Any], list[Any]]:
    """A wire on which member 1 reveals a wrong share in some rounds."""

    def change(member: int, message: Any) -> list[Any]:
        if member == 1 and isinstance(message, Shares) and message.round in (round_, *rounds):
            return [replace(message, shares=((1, bytes(32)), *message.shares[1:]))]
        return [message]

    return change


def test_a_wrong_share_costs_the_round() -> None:
    made = started(to_server=wrong(1))
    complete(made)
    assert [total.round for total in made.sums] == [2, 3, 4]


def test_wrong_shares_in_two_rounds_running_end_the_run() -> None:
    made = started(to_server=wrong(2, 3))
    made.run()
    assert len(made.sums) == 1
    assert made.stopped is not None
    assert not made.stopped.ok
    assert "round 3: the second one running that does not open" in made.stopped.reason
    assert made.sites[4].reason == made.stopped.reason
    made.check()


def test_two_rounds_that_are_not_running_do_not() -> None:
    made = started(to_server=wrong(1, 3), study=Study(steps=2))
    complete(made)
    assert [total.round for total in made.sums] == [2, 4]


def test_a_wrong_key_with_a_dropped_member_costs_the_round() -> None:
    def change(member: int, message: Any) -> list[Any]:
        if member == 5 and isinstance(message, Shares) and message.round == 1:
            assert message.keys
            return [replace(message, keys=((3, bytes(64)),))]
        return [message]

    made = started(to_server=change)
    made.kill(3)
    patient(made)
    assert made.stopped == Stop("complete", ok=True)
    assert made.sums[0].round == 2
    made.check()


def test_a_site_with_another_study_stops_the_run_after_two_rounds() -> None:
    made = Federation(OF, studies={2: replace(Study(), model="another")})
    made.start()
    patient(made)
    assert made.stopped is not None
    assert not made.stopped.ok
    assert not made.sums


# ---- members that stop or misbehave
# -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", thinned([Part, Consent, Shares], 2))
def test_a_member_that_refuses_is_not_waited_for(kind: type) -> None:
    made = started(to_server=without(2, kind))
    made.run()
    made._do(made.server.receive(2, Refused(2, "budget")))
    made.sites[2].error = RuntimeError("stopped")
    made.run()
    assert made.stopped == Stop("complete", ok=True)
    assert made.sums[0].round == 1
    assert survivors(made)[0] == ((1, 3, 4, 5, 6) if kind is Part else ALL)
    assert survivors(made)[1:] == [(1, 3, 4, 5, 6)] * 2


def test_a_member_that_claims_to_be_complete_is_left_out_of_the_sum() -> None:
    def claim(member: int, message: Any) -> list[Any]:
        if member == 5 and isinstance(message, Part):
            return [Complete(5, bytes(32))] if message.last else []
        return [message]

    made = started(to_server=claim)
    made.run()
    assert made.stopped == Stop("complete", ok=True)
    assert survivors(made) == [(1, 2, 3, 4, 6)] * 3


def test_an_upload_of_another_length_is_left_out() -> None:
    def longer(member: int, message: Any) -> list[Any]:
        if member == 3 and isinstance(message, Part):
            return [replace(message, size=message.size + 8, words=message.words + bytes(8) * message.last)]
        return [message]

    made = started(to_server=longer)
    made.run()
    assert made.stopped == Stop("complete", ok=True)
    assert survivors(made) == [(1, 2, 4, 5, 6)] * 3
    assert not any(sent(made, member, Consent) for member in ALL)  # the first round cannot open: nobody is asked


def stage(kind: type) -> Federation:
    """A federation in a stage in which nobody's answer has arrived, member 3 having dropped out of the round."""
    made = started()
    made.kill(3)
    made.run()
    made.deadline()
    made.run(lambda: isinstance(made.server._phase, kind))
    return made


@pytest.mark.parametrize(
    ("message", "error"),
    thinned(
        (
            pytest.param(*each)
            for each in [
                (Consent(2, 1, tuple((each, bytes(32)) for each in (1, 3, 4, 5, 6))), MalformedMessage),
                (Consent(2, 1, tuple((each, bytes(32)) for each in (1, 4, 5))), MalformedMessage),
                (Consent(2, 2, tuple((each, bytes(32)) for each in (1, 4, 5, 6))), UnexpectedMessage),
                (Consent(4, 1, tuple((each, bytes(32)) for each in (1, 2, 5, 6))), UnexpectedMessage),
                (
                    Shares(2, 1, tuple((each, bytes(32)) for each in (1, 2, 4, 5, 6)), ((3, bytes(64)),)),
                    UnexpectedMessage,
                ),
            ]
        ),
        2,
    ),
)
def test_a_consent_that_is_none_changes_nothing(message: Any, error: type[Exception]) -> None:
    made = stage(Consenting)
    with pytest.raises(error, match=r"member 2|Hospital 2"):
        made.server.receive(2, message)
    patient(made)
    made.check()
    assert made.sums[0].round == 1


@pytest.mark.parametrize(
    ("message", "error"),
    thinned(
        (
            pytest.param(*each)
            for each in [
                (Shares(2, 1, tuple((each, bytes(32)) for each in (1, 2, 4, 5, 6)), ()), MalformedMessage),
                (Shares(2, 1, tuple((each, bytes(32)) for each in (1, 2, 4, 5)), ((3, bytes(64)),)), MalformedMessage),
                (Shares(2, 1, tuple((each, bytes(32)) for each in ALL), ((3, bytes(64)),)), MalformedMessage),
                (
                    Shares(2, 2, tuple((each, bytes(32)) for each in (1, 2, 4, 5, 6)), ((3, bytes(64)),)),
                    UnexpectedMessage,
                ),
            ]
        ),
        2,
    ),
)
def test_shares_that_are_none_change_nothing(message: Any, error: type[Exception]) -> None:
    made = stage(Revealing)
    with pytest.raises(error, match=r"member 2|Hospital 2"):
        made.server.receive(2, message)
    patient(made)
    made.check()
    assert made.sums[0].round == 1


@pytest.mark.parametrize(("kind", "phase"), [(Consent, Consenting), (Shares, Revealing)])
def test_a_second_answer_is_refused_and_the_same_again_ignored(kind: type, phase: type) -> None:
    held: list[Any] = []
    made = started()
    made.to_server = lambda member, message: (held.append(message), [message])[1]
    made.run(lambda: bool(held) and isinstance(held[-1], kind) and isinstance(made.server._phase, phase))
    first = held[-1]
    member = first.sender if kind is Consent else first.member
    assert made.server.receive(member, first) == []
    other = {"to": tuple((each, bytes(32)) for each, _ in first.to)} if kind is Consent else {
        "shares": tuple((each, bytes(32)) for each, _ in first.shares)}  # fmt: skip
    with pytest.raises(SecondMessage, match=f"member {member}"):
        made.server.receive(member, replace(first, **other))
    complete(made)


def test_who_dropped_out_or_was_not_asked_has_no_say() -> None:
    made = stage(Consenting)
    made.start(3)
    with pytest.raises(UnexpectedMessage, match="was not asked"):
        made.server.receive(3, Consent(3, 1, tuple((each, bytes(32)) for each in (1, 2, 4, 5, 6))))
    made = started(to_server=without(2, Consent))
    made.run()
    made.deadline()
    made.run(lambda: isinstance(made.server._phase, Revealing))
    with pytest.raises(UnexpectedMessage, match="was not asked"):
        made.server.receive(2, Shares(2, 1, tuple((each, bytes(32)) for each in ALL), ()))


def test_answers_of_a_round_that_is_over_are_ignored() -> None:
    late: list[Any] = []

    def hold(member: int, message: Any) -> list[Any]:
        if member == 2 and isinstance(message, Consent) and message.round == 1:
            late.append(message)
            return []
        return [message]

    made = started(to_server=hold)
    made.run()
    made.deadline()
    assert made.server.receive(2, late[0]) == []  # while the shares are collected
    made.run(lambda: len(made.sums) == 1)
    made._do(made.server.receive(2, late[0]))
    made._do(made.server.receive(2, Shares(2, 1, tuple((each, bytes(32)) for each in ALL), ())))
    made.run()
    made.check()
    assert made.stopped == Stop("complete", ok=True)


# ---- restart
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", thinned(range(0, 260, 13), 10))
def test_restart_of_the_server_at_any_moment(steps: int) -> None:
    made = Federation(OF, seed=steps)
    made.start()
    for _ in range(steps):
        made.step()
    if made.stopped is None:
        made.restart_server()
    patient(made)
    complete(made)
    assert made.rounds[-1].changes == 0
    assert not any(site.error for site in made.sites.values())


@pytest.mark.parametrize("steps", thinned(range(0, 120, 6), 10))
def test_restart_of_the_server_at_any_moment_after_a_dropout(steps: int) -> None:
    made = started(seed=steps)
    made.kill(3)
    made.run()
    made.deadline()
    for _ in range(steps):
        made.step()
    changes = made.rounds[-1].changes
    if made.stopped is None:
        made.restart_server()
    assert made.server._here.changes == changes
    patient(made)
    assert made.stopped == Stop("complete", ok=True)
    made.check()
    assert not any(site.error for site in made.sites.values())
