"""The server's waves: who founds the run, and how a listed member joins late while rounds go on."""

from typing import Any

import pytest

from secagg import Stop
from secagg.messages import Bundle, Bundles, Confirmations, Encapsulations, Invite, Ready, Refused, Step
from secagg.waves import Waves
from tests.federation import Federation, Study, complete, manifest
from tests.sweeps import thinned

OF = manifest(6)


def founded(*, of: Any = OF, without: tuple[int, ...] = (6,), **changes: Any) -> Federation:
    """A federation whose first wave was closed without some members, by patience."""
    made = Federation(of, changes.pop("study", Study(steps=8)), **changes)
    made.start(*(member for member in of.indices if member not in without))
    made.run()
    assert not made.rounds
    made.deadline()
    return made


def rosters(made: Federation) -> list[tuple[int, ...]]:
    return [total.survivors for total in made.sums]


def invited(made: Federation) -> bool:
    return any(isinstance(message, Invite) for message in made.setup)


def test_enough_sites_begin_without_the_rest() -> None:
    made = founded()
    assert made.timer == "patience"  # anew, for the set-up that begins now
    complete(made)
    assert set(rosters(made)) == {(1, 2, 3, 4, 5)}
    assert made.rounds[-1].changes == 0


def test_a_listed_member_joins_late() -> None:
    made = founded()
    made.run(lambda: len(made.sums) == 2)
    made.start(6)
    made.run(lambda: invited(made))
    asked = made.rounds[-1].number
    made.run(lambda: 6 in made.rounds[-1].roster)
    assert made.rounds[-1].number > asked  # rounds went on meanwhile
    assert made.rounds[-1].changes == 1
    complete(made)
    assert rosters(made)[-1] == OF.indices
    assert made.disks[6].applied == made.sums  # it has checked the whole history
    assert [message.wave for message in made.setup if isinstance(message, Bundles)] == [0, 1]


def test_two_members_join_together_or_one_after_the_other() -> None:
    of = manifest(7, minimum_roster=5, roster_changes=6)
    for together in (True, False):
        made = founded(of=of, without=(2, 7), study=Study(steps=12))
        made.run(lambda made=made: len(made.sums) == 1)
        made.start(2)
        if not together:
            made.run(lambda made=made: 2 in made.rounds[-1].roster)
        made.start(7)
        complete(made)
        assert rosters(made)[-1] == of.indices


def test_nobody_is_invited_while_an_established_member_is_away() -> None:
    made = founded()
    made.run(lambda: len(made.sums) == 1)
    made.kill(3)
    made.start(6)
    made.run(lambda: len(made.sums) == 3)
    assert not invited(made)
    made.start(3)
    complete(made)
    assert invited(made)


def test_members_that_break_off_within_the_wave_take_it_up_again() -> None:
    made = founded(of=manifest(6, roster_changes=12), study=Study(steps=14))
    made.run(lambda: len(made.sums) == 1)
    made.start(6)
    made.run(lambda: invited(made))
    made.kill(3)
    made.start(3)
    made.disconnect(4)
    made.connect(4)
    made.run(lambda: any(isinstance(message, Bundles) and message.wave for message in made.setup))
    made.kill(6)
    made.start(6)
    made.kill(1)
    made.start(1)
    complete(made)
    assert not any(site.error for site in made.sites.values())
    assert rosters(made)[-1] == OF.indices


def test_a_newcomer_that_no_change_is_left_for_watches() -> None:
    made = founded(of=manifest(6, roster_changes=1))
    made.run(lambda: len(made.sums) == 1)
    made.start(6)
    complete(made)
    assert set(rosters(made)) == {(1, 2, 3, 4, 5)}
    assert made.disks[6].applied == made.sums
    assert made.sites[6].reason == "complete"


def test_a_newcomer_that_stops_does_not_stop_the_others() -> None:
    made = founded()
    made.run(lambda: len(made.sums) == 1)
    made.start(6)
    made.run(lambda: invited(made))
    made._do(made.server.receive(6, Refused(6, "unconfirmed")))
    made.sites[6].error = RuntimeError("stopped")
    made.run()
    assert made.stopped == Stop("complete", ok=True)
    assert set(rosters(made)) == {(1, 2, 3, 4, 5)}


def test_a_member_that_has_stopped_is_never_invited() -> None:
    """Neither before it has offered its keys nor after, while the others are on their way to it."""
    made = founded()
    made.run(lambda: len(made.sums) == 1)
    made.start(6)
    made.up[6].clear()
    made._do(made.server.receive(6, Refused(6, "budget")))
    made.up[6].extend(made.sites[6].greet())
    made.run()
    assert made.stopped == Stop("complete", ok=True)
    assert not invited(made)

    made = founded()
    made.run(lambda: len(made.sums) == 1)
    made.kill(3)
    made.start(6)
    made.run(lambda: len(made.sums) == 2)
    made._do(made.server.receive(6, Refused(6, "budget")))
    made.sites[6].error = RuntimeError("stopped")
    made.start(3)
    made.run()
    assert made.stopped == Stop("complete", ok=True)
    assert not invited(made)


def test_the_server_stores_its_decisions_before_it_sends_them() -> None:
    made = founded()
    order: list[Any] = []
    real = made._do
    made._do = lambda actions: (order.extend(actions), real(actions))[1]
    made.run(lambda: len(made.sums) == 1)
    made.start(6)
    complete(made)
    for kind in (Bundles, Invite):
        named = [action for action in order if isinstance(getattr(action, "message", None), kind)]
        assert [type(action).__name__ for action in named if action.message.wave == 1] == ["StoreSetup"] + ["Send"] * 6


@pytest.mark.parametrize("steps", thinned(range(0, 700, 35), 10))
def test_a_restart_of_the_server_at_any_moment_of_a_late_set_up(steps: int) -> None:
    made = founded(seed=steps, study=Study(steps=20))
    made.run(lambda: len(made.sums) == 1)
    made.start(6)
    for _ in range(steps):
        made.step()
    if made.stopped is None:
        made.restart_server()
    complete(made)
    assert rosters(made)[-1] == OF.indices
    assert not any(site.error for site in made.sites.values())


@pytest.mark.parametrize("steps", thinned(range(0, 130, 13), 10))
def test_a_restart_of_the_server_while_the_first_wave_is_incomplete(steps: int) -> None:
    made = Federation(OF, Study(steps=3), seed=steps)
    made.start(1, 2, 3, 4, 5)
    made.run()
    made.restart_server()
    made.run()
    made.deadline()
    for _ in range(steps):
        made.step()
    if made.stopped is None:
        made.restart_server()
    complete(made)


def test_sums_go_to_members_that_can_check_them_and_to_nobody_else() -> None:
    made = founded(study=Study(steps=3))
    made.run(lambda: len(made.sums) == 1)
    made.to_server = lambda member, message: [message] if member != 5 or not isinstance(message, Ready) else []
    seen: list[Any] = []
    made.to_site = lambda member, message: (seen.append(message) if member == 6 else None, [message])[1]
    made.start(6)
    made.run()
    assert made.stopped == Stop("complete", ok=True)
    # Member 5 is never ready for it: nobody knows that they share keys, and it is asked for nothing.
    assert {type(message) for message in seen}.isdisjoint({Step, type(made.sums[0])})
    assert made.sites[6].client.sums == 0
    assert made.sites[6].reason == "complete"


def test_set_up_messages_are_of_the_four_kinds() -> None:
    made = founded()
    complete(made)
    kinds = {type(message) for message in made.setup}
    assert kinds == {Bundle, Bundles, Encapsulations, Confirmations, Ready}


# ---- the decisions alone
# ------------------------------------------------------------------------------------------


def offered(made: Federation, *members: int) -> Waves:
    waves = Waves(OF, [])
    for member in members:
        (bundle,) = made.sites[member].client.begin()
        assert isinstance(bundle, Bundle)
        waves.receive(member, bundle)
    return waves


def test_when_the_first_wave_may_close() -> None:
    made = Federation(OF)
    made.start()
    waves = offered(made, 1, 2, 3)
    assert not waves.enough({})
    waves = offered(made, 1, 2, 3, 5)
    assert waves.enough({})
    assert waves.enough({6: "budget"})
    assert not waves.enough({5: "budget"})  # it is in the wave, and will never complete it
    assert waves.stuck({5: "budget"})
    assert not waves.stuck({6: "budget"})
    assert waves.proceed(frozenset(OF.indices), {}) == []
    assert not waves.founders
    assert waves.proceed(frozenset(OF.indices), {4: "budget", 6: "budget"})
    assert waves.founders == {1, 2, 3, 5}
    assert not waves.enough({})
