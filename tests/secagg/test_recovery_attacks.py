"""Attacks on the recovery of mode B and on what the manifest fixes, each by its name, each refused.

ATTACKS maps every attack that the protocol must defeat to the tests that play it.
"""

import random
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from secagg import recovery
from secagg.errors import (
    MalformedMessage,
    RosterRefused,
    SecondMessage,
    Unconfirmed,
    UnexpectedMessage,
)
from secagg.manifest import Mode
from secagg.messages import Agreement, Confirmed, Consent, Part, Shares, Step, Survivors, Upload
from tests.federation import Federation, Site, Study, complete, manifest, ready
from tests.secagg import model
from tests.secagg.coordinator import NO_BOX, Round, assert_noise, over, plain
from tests.sweeps import thinned

ATTACKS: Final = {
    "Lying about dropouts": (
        "secagg/test_recovery_attacks::test_lying_about_dropouts",
        "secagg/test_recovery_attacks::test_reflected_u3_tag",
        "secagg/test_recovery_attacks::test_replayed_share_box",
        "secagg/test_recovery_attacks::test_the_model_is_the_code",
        "secagg/test_key_attacks::test_t_shares_and_no_fewer",
        "secagg/test_model::test_no_sum_of_fewer_than_t_less_c_honest_members_is_ever_isolated",
    ),
    "A peer listed as both alive and dropped": ("secagg/test_recovery_attacks::test_own_id_in_the_dropouts",),
    "Model inconsistency": (
        "secagg/test_attacks::test_model_inconsistency",
        "secagg/test_attacks::test_forked_history",
        "secagg/test_key_attacks::test_query_confusion_same_length",
    ),
    "Rosters that differ by one client": (
        "secagg/test_client::test_the_roster_change_budget_counts_rosters_asked_for",
        "secagg/test_key_attacks::test_no_noise_smaller_roster_refused",
        "secagg/test_key_attacks::test_no_noise_smaller_survivors_refused",
        "secagg/test_key_attacks::test_aborted_round_then_a_smaller_roster",
    ),
    "Sybil clients and substituted keys": (
        "secagg/test_key_attacks::test_sybil_by_coordinator",
        "secagg/test_agreement::test_bundle_not_signed_by_the_pinned_identity",
    ),
    "Two-time pad": (
        "secagg/test_key_attacks::test_two_time_pad",
        "secagg/test_key_attacks::test_rollback_same_context",
        "secagg/test_key_reuse::test_no_stream_is_ever_used_twice",
        "secagg/test_attacks::test_replayed_round",
        "secagg/test_key_attacks::test_mode_confusion",
    ),
    "Low-entropy generators": ("secagg/test_key_attacks::test_low_entropy_keys",),
    "The server chooses the threshold, the cohort, the modulus": (
        "secagg/test_key_attacks::test_server_chooses_threshold_1",
        "secagg/test_key_attacks::test_server_chooses_a_cohort_of_2",
        "secagg/test_key_attacks::test_server_chooses_the_modulus",
    ),
    "Silent overflow": (
        "secagg/test_client::test_a_sum_that_does_not_fit_its_lanes_is_never_masked",
        "secagg/test_lanes::test_the_proven_bound_is_tight",
        "dp/test_noise_shares::test_a_sum_that_may_leave_the_tag_range_names_the_ways_out",
    ),
    "Malicious weights that make the sum reveal one record": (
        "models/test_training::test_one_patient_whatever_he_is_moves_the_sum_by_at_most_the_clip",
        "dp/test_noise_shares::test_the_realised_multiplier_is_at_least_the_declared_one",
    ),
    "A client that drops between any two messages": (
        "secagg/test_drops::test_drop_between_any_two_messages",
        "secagg/test_drops::test_drop_and_return_between_any_two_messages",
        "secagg/test_recovery_attacks::test_late_upload_after_drop",
    ),
    "The same secret key at every client": (
        "secagg/test_attacks::test_every_pair_has_its_own_keys",
        "secagg/test_key_attacks::test_the_same_secret_at_every_client",
    ),
    "Garbage": (
        "secagg/test_key_attacks::test_garbage_public_keys",
        "secagg/test_recovery_attacks::test_garbage_in_recovery",
        "secagg/test_recovery_attacks::test_repeated_ids",
        "secagg/test_attacks::test_wrong_session",
    ),
}

OF = manifest(5, 1, mode=Mode.B, minimum_roster=4)  # t = 4; member 5 is the colluder where one is needed
T = OF.threshold
LONG = Study(length=400)
ALL = OF.indices
HONEST = ALL[:-1]


def test_every_attack_has_its_tests() -> None:
    everything = Path(__file__).parents[1]
    for attack, tests in ATTACKS.items():
        for each in tests:
            module, name = each.split("::")
            assert f"\ndef {name}(" in (everything / f"{module}.py").read_text(), (attack, each)


# ---- two sets of survivors
# -----------------------------------------------------------------------------------------


def test_reflected_u3_tag() -> None:
    """Member 1 alone is told that it survived, and gets its own MACs back as those of the others."""
    first = Round.opened(ready(OF, LONG), 1)
    rest = ALL[1:]
    first.show(ALL, 1)
    first.show(rest)
    for each in rest:
        first.ask(each, rest)  # they agree that 1 has dropped out, and reveal their masks with it
    own = first.consents[1]
    over(first.sites[1], Unconfirmed, first.ask, 1, ALL, macs=own)
    assert_noise(first.stripped(1, T, [5]))
    assert_noise(first.stripped(1, T, [5]) - plain(first, [1]))


FALSE_MACS: Final = {
    "none": lambda of, _: dict.fromkeys((2, 3, 4), bytes(32)),
    "of another set": lambda of, _: of.macs(1, (2, 3, 4)),
    "of the previous round": lambda _, old: old.macs(1, (2, 3, 4)),
    "of one member, for all": lambda of, _: dict.fromkeys((2, 3, 4), of.colluder_mac(5, 1, ALL)),
    "of members, for another receiver": lambda of, old: {each: old.consents[each][5] for each in (2, 3, 4)},
}


@pytest.mark.parametrize("lie", FALSE_MACS)
def test_a_set_that_too_few_have_consented_to(lie: str) -> None:
    """With the true MAC of a colluder and false ones of all others, a member does not answer."""
    sites = ready(OF, LONG)
    before = Round.opened(sites, 1)
    before.show(ALL)
    now = Round.opened(sites, 2)
    now.show(ALL, 1)
    now.show((1, 2, 3, 4), 2, 3, 4)
    macs = FALSE_MACS[lie](now, before) | {5: now.colluder_mac(5, 1, ALL)}
    over(sites[1], Unconfirmed, now.ask, 1, ALL, macs=macs)


def test_macs_of_members_that_dropped_out_do_not_count() -> None:
    """t = 5 of six: three others have consented, and the right MAC of a member outside the set is no fourth one."""
    of = manifest(6, 3, mode=Mode.B, minimum_roster=5)
    first = Round.opened(ready(of), 1)
    survivors = (1, 2, 4, 5, 6)
    first.show(survivors, 1, 4, 5, 6)
    outside = {3: first.colluder_mac(3, 1, survivors)}
    over(first.sites[1], Unconfirmed, first.ask, 1, survivors, macs=outside)


@pytest.mark.slow
def test_lying_about_dropouts() -> None:
    """For every way to divide the sites between two sets: at most one set is answered, and only by t that saw it."""
    for k in range(1, 5):
        for some in combinations(ALL, k):
            round_ = Round.opened(ready(OF), 1)
            views = {
                member: ALL if member in some else tuple(each for each in ALL if each != some[0]) for member in ALL
            }
            for member, view in views.items():
                round_.show(view, member)
            answered = [member for member, view in views.items() if round_.try_(member, view)]
            expected = [m for m in ALL if sum(view == views[m] for view in views.values()) >= T]
            assert answered == expected
            assert len({views[member] for member in answered}) <= 1


def test_one_set_of_survivors_per_round() -> None:
    """A member tags one set, ever: asked for another one it stops, before and after it has answered."""
    for answer in (False, True):
        first = Round.opened(ready(OF), 1)
        first.show(ALL)
        if answer:
            first.ask(1, ALL)
        assert first.sites[1].client.receive(Survivors(1, ALL)) == [Consent(1, 1, tuple(first.consents[1].items()))]
        over(first.sites[1], SecondMessage, first.show, (1, 2, 3, 4), 1)


def test_consent_survives_a_restart() -> None:
    """The set is durable before the consent leaves; the round's keys are not, so nothing more is ever said."""
    first = Round.opened(ready(OF), 1)
    first.show(ALL, 1)
    disk = first.sites[1].disk
    disk.snapshot = first.sites[1].client.snapshot()
    again = Site(OF, 1, Study(), disk, "again")
    assert again.client.receive(Survivors(1, ALL)) == []
    first.show(ALL, 2, 3, 4, 5)
    assert again.client.receive(first.agreement(1, ALL)) == []
    with pytest.raises(SecondMessage):
        again.client.receive(Survivors(1, (1, 2, 3, 4)))


@pytest.mark.parametrize("after", ["upload", "consent", "answer"])
def test_everything_is_answered_once(after: str) -> None:
    first = Round.opened(ready(OF), 1)
    site = first.sites[1]
    if after == "upload":
        over(site, UnexpectedMessage, site.client.receive, Agreement(1, ((2, bytes(32)),), ((2, NO_BOX),)))
        return
    first.show(ALL)
    agreement = first.agreement(1, ALL)
    if after == "answer":
        answers = site.client.receive(agreement)
        assert len(answers) == 1
        assert site.client.receive(agreement) == answers  # byte for byte: a stream may have broken with it
        over(site, SecondMessage, site.client.receive, replace(agreement, macs=agreement.macs[1:]))
    else:
        over(site, Unconfirmed, site.client.receive, replace(agreement, macs=agreement.macs[2:]))


# ---- boxes
# ---------------------------------------------------------------------------------------------------------


def test_replayed_share_box() -> None:
    """A withheld upload, opened in the next round by handing out its old boxes: they do not open."""
    sites = ready(OF, LONG)
    first = Round.opened(sites, 1)
    rest = ALL[1:]
    first.show(rest)
    for each in rest:
        first.ask(each, rest)
    assert first.pair_keys([5]).keys() >= {(1, each) for each in rest}
    second = Round.opened(sites, 2)
    second.show(ALL)
    for each in (2, 3, 4):
        over(sites[each], Unconfirmed, second.ask, each, ALL, boxes={1: first.boxes(each, [1])[1]})
    assert len(first.shares(1, [5])) == 1  # the colluder's own
    assert_noise(first.stripped(1, T, [5]) - plain(first, [1]))


WRONG_BOXES: Final = {
    "of the other direction": lambda of: dict(of.uploads[2].boxes)[1],
    "for another receiver": lambda of: dict(of.uploads[1].boxes)[3],
    "of another sender": lambda of: dict(of.uploads[3].boxes)[2],
    "changed": lambda of: bytes([dict(of.uploads[1].boxes)[2][0] ^ 1]) + dict(of.uploads[1].boxes)[2][1:],
}


@pytest.mark.parametrize("wrong", WRONG_BOXES)
def test_a_wrong_box_ends_the_session(wrong: str) -> None:
    first = Round.opened(ready(OF), 1)
    first.show(ALL)
    over(first.sites[2], Unconfirmed, first.ask, 2, ALL, boxes={1: WRONG_BOXES[wrong](first)})


def test_boxes_of_exactly_the_survivors() -> None:
    """No share of a member that dropped out is ever opened, however its box is smuggled in."""
    for change in ("one more", "one fewer"):
        first = Round.opened(ready(OF), 1)
        survivors = (1, 2, 3, 4)
        first.show(survivors)
        agreement = first.agreement(1, survivors)
        boxes = (*agreement.boxes, (5, first.boxes(1, [5])[5])) if change == "one more" else agreement.boxes[1:]
        over(first.sites[1], UnexpectedMessage, first.sites[1].client.receive, replace(agreement, boxes=boxes))


def test_late_upload_after_drop() -> None:
    """The upload of a member that was declared dropped arrives late: its pair masks are known, and it stays closed."""
    first = Round.opened(ready(OF, LONG), 1)
    survivors = (1, 2, 3, 5)
    first.show(survivors)
    for each in survivors:
        first.ask(each, survivors)
    total = sum(first.stripped(each, T, [5]) for each in survivors)
    assert (total == plain(first, survivors)).all()
    assert first.pair_keys([5]).keys() >= {(4, each) for each in survivors}
    late = first.stripped(4, T, [5])
    assert_noise(late)
    assert_noise(late - plain(first, [4]))
    # Nobody opens its box afterwards either: every answer was the only one, and the keys of the round are gone.
    for each in (1, 2, 3):
        again = Agreement(1, first.agreement(each, survivors).macs, tuple(first.boxes(each, ALL).items()))
        over(first.sites[each], SecondMessage, first.sites[each].client.receive, again)


def test_late_parts_are_discarded_by_the_adder() -> None:
    held: list[Part] = []

    def hold(member: int, message: Any) -> list[Any]:
        if member == 4 and isinstance(message, Part) and message.round == 1:
            held.append(message)
            return []
        return [message]

    federation = Federation(OF, to_server=hold)
    federation.start()
    federation.run()
    federation.deadline()
    federation.run(lambda: len(federation.sums) == 1)
    assert federation.sums[0].survivors == (1, 2, 3, 5)
    for part in held:
        federation._do(federation.server.receive(4, part))
    complete(federation)


GARBAGE: Final = [
    Survivors(9, ALL),
    Survivors(1, (1, 2, 3)),
    Survivors(1, (2, 3, 4, 5)),
    Survivors(1, (1, 2, 3, 4, 77)),
    Agreement(1, ((2, bytes(32)),), ((2, NO_BOX),)),
    Agreement(9, ((2, bytes(32)),), ((2, NO_BOX),)),
]


@pytest.mark.parametrize("message", GARBAGE, ids=str)
def test_garbage_in_recovery(message: Any) -> None:
    """Too few, strangers, ourselves left out, unknown rounds, wrong stage: a named error and no key left."""
    site = Round.opened(ready(OF), 1).sites[1]
    over(site, (RosterRefused, UnexpectedMessage), site.client.receive, message)


def test_repeated_ids() -> None:
    """No message can list anybody twice, so no share is counted twice."""
    twice = ((2, bytes(32)), (2, bytes(32)))
    for build in (
        lambda: Survivors(1, (1, 2, 2, 3)),
        lambda: Consent(1, 1, twice),
        lambda: Agreement(1, twice, ((2, NO_BOX),)),
        lambda: Agreement(1, ((2, bytes(32)),), ((2, NO_BOX), (2, NO_BOX))),
        lambda: Shares(1, 1, twice, ()),
        lambda: Shares(1, 1, twice[:1], ((3, bytes(64)), (3, bytes(64)))),
        lambda: Step(1, 0, twice),
        lambda: Upload(1, 1, bytes(24), ((2, NO_BOX), (2, NO_BOX))),
        lambda: Confirmed(0, ((2, bytes(32), b""), (2, bytes(32), b""))),
    ):
        with pytest.raises(MalformedMessage):
            build()


def test_own_id_in_the_dropouts() -> None:
    """The server names survivors only; who dropped out follows. So nobody is both, and nobody is told he dropped."""
    lists = {kind: [each.name for each in fields(kind)] for kind in (Survivors, Agreement)}
    assert lists == {Survivors: ["round", "members"], Agreement: ["round", "macs", "boxes"]}
    first = Round.opened(ready(OF), 1)
    with pytest.raises(RosterRefused, match="not among them"):
        first.show((2, 3, 4, 5), 1)
    second = Round.opened(ready(OF), 1)
    second.show((1, 2, 3, 4))
    for member in (1, 2, 3, 4):
        answer = second.ask(member, (1, 2, 3, 4))
        alive, dropped = [each for each, _ in answer.shares], [each for each, _ in answer.keys]
        assert (alive, dropped) == ([1, 2, 3, 4], [5])


# ---- the model
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", thinned(range(25)))
def test_the_model_is_the_code(seed: int) -> None:
    """Random plays with real clients: who answers, what then opens and what stays noise is as the model says."""
    chance = random.Random(seed)
    of = manifest(5, 1 + seed % 2, mode=Mode.B, minimum_roster=4)
    world = model.World(5, of.collusion, of.threshold)
    sites = ready(of, LONG)
    absent = [member for member in world.honest if chance.random() < 0.1]
    played = Round.opened(sites, 1, *(member for member in of.indices if member not in absent))
    context = model.Context(1, world.everybody)
    everybody = model.views(world, world.everybody, world.honest[0])
    favourite = chance.choice(everybody)
    seats = []
    for member in world.honest:
        options = model.choices(world, world.everybody, member)[1:]
        view = favourite if favourite in options and chance.random() < 0.7 else chance.choice(options)
        if member not in absent:
            seats.append(model.Seat(member, context, view))
            if view:
                played.show(model.unpack(view), member)
    for seat in (each for each in seats if each.view):
        view = model.unpack(seat.view)
        macs = {each: played.colluder_mac(each, seat.member, view) for each in set(world.colluders) & set(view)}
        answers = played.try_(seat.member, view, macs=macs)
        accepts = model._accepts(world, seats, seat, recovery.agreed, model.SOUND)
        boxed = model._boxes(world, seats, seat, model.SOUND, None) is not None
        assert answers == (accepts and boxed)
    isolated = [{seat.member for seat in each} for each in model.isolated(world, seats, recovery.agreed)]
    present = [seat.member for seat in seats]
    bare = {member: played.stripped(member, of.threshold, world.colluders) for member in present}
    for some in (set(each) for k in range(1, len(present) + 1) for each in combinations(present, k)):
        total = np.array([bare[member] for member in some]).sum(axis=0, dtype=np.uint64)
        opens = [each for each in isolated if each <= some]
        if opens and set().union(*opens) == some:
            assert (total == plain(played, some)).all()
        else:
            assert_noise(total)
