"""Whose fault it may be that canaries do not fit: named from canary keys, without touching data."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from secagg import Stop, masks
from secagg.blame import Diagnosis, diagnose
from secagg.errors import MalformedMessage, SecondMessage, UnexpectedMessage
from secagg.messages import Blame, CanaryKeys, Part
from tests.federation import Federation, Study, manifest

ROSTER = (1, 2, 4, 5, 9)
OF = manifest(5)
OTHER = {4: replace(Study(), model="another")}


def key(u: int, v: int, salt: str = "") -> bytes:
    return hashlib.sha256(f"{min(u, v)} {max(u, v)} {salt}".encode()).digest()


def honest() -> dict[int, dict[int, bytes]]:
    return {u: {v: key(u, v) for v in ROSTER if v != u} for u in ROSTER}


def canaries(revealed: dict[int, dict[int, bytes]]) -> dict[int, int]:
    """The canary words of members that masked with these keys."""
    words = {}
    for u, keys in revealed.items():
        first = {v: int(masks.expand(each, 1)[0]) for v, each in keys.items()}
        words[u] = (1 + sum(word if u < v else -word for v, word in first.items())) % 2**64
    return words


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    found = diagnose(ROSTER, canaries(honest()), honest())
    assert found == Diagnosis((), (), (), None)
    assert sum(canaries(honest()).values()) % 2**64 == len(ROSTER)
    assert found.sentence(str) == "All canary keys agree: nobody can be named"


@pytest.mark.parametrize("odd", ROSTER)
def test_a_member_that_masked_for_something_else_is_named(odd: int) -> None:
    revealed = honest()
    revealed[odd] = {v: key(odd, v, "else") for v in ROSTER if v != odd}
    found = diagnose(ROSTER, canaries(revealed), revealed)
    pairs = tuple(sorted((min(odd, v), max(odd, v)) for v in ROSTER if v != odd))
    assert found == Diagnosis((), (), pairs, odd)
    assert found.sentence(OF.call).startswith(f"Member {OF.call(odd)} masked for something else than all the others")


def test_one_pair_that_disagrees_names_both_ends() -> None:
    revealed = honest()
    revealed[4][9] = key(4, 9, "else")
    found = diagnose(ROSTER, canaries(revealed), revealed)
    assert found == Diagnosis((), (), ((4, 9),), None)
    assert "either end may be wrong: member 4 and member 9" in found.sentence(lambda index: f"member {index}")


def test_two_camps_name_nobody() -> None:
    revealed = {u: {v: key(u, v, "ab"[u > 2]) for v in ROSTER if v != u} for u in ROSTER}
    found = diagnose(ROSTER, canaries(revealed), revealed)
    assert found.odd is None
    assert found.disagreeing == ((1, 4), (1, 5), (1, 9), (2, 4), (2, 5), (2, 9))


def test_all_against_one_but_not_only() -> None:
    revealed = honest()
    revealed[5] = {v: key(5, v, "else") for v in ROSTER if v != 5}
    revealed[1][2] = key(1, 2, "else")
    assert diagnose(ROSTER, canaries(revealed), revealed).odd is None


def test_a_canary_word_that_its_own_keys_do_not_explain() -> None:
    words = canaries(honest())
    words[2] ^= 1
    found = diagnose(ROSTER, words, honest())
    assert found == Diagnosis((), (2,), (), None)
    assert "by its own doing: member 2" in found.sentence(lambda index: f"member {index}").lower()


def test_a_member_that_lies_about_a_key_is_in_both_lists() -> None:
    words, revealed = canaries(honest()), honest()
    revealed[2][5] = key(2, 5, "lie")
    found = diagnose(ROSTER, words, revealed)
    assert found == Diagnosis((), (2,), ((2, 5),), None)


def test_who_is_silent_is_said_and_in_no_pair() -> None:
    revealed = honest()
    revealed[1][9] = key(1, 9, "else")
    words = canaries(revealed)
    del revealed[9]
    found = diagnose(ROSTER, words, revealed)
    assert found == Diagnosis((9,), (), (), None)
    assert found.sentence(str) == "Showed no canary keys: 9"


def test_of_two_that_speak_neither_is_the_odd_one() -> None:
    revealed = honest()
    revealed[1][2] = key(1, 2, "else")
    two = {member: revealed[member] for member in (1, 2)}
    found = diagnose(ROSTER, canaries(revealed), two)
    assert found.disagreeing == ((1, 2),)
    assert found.odd is None


# ---- in a federation
# ----------------------------------------------------------------------------------------------


def blamed(**changes: Any) -> Federation:
    """A federation in which member 4 runs another study, when the server has just asked for canary keys."""
    made = Federation(OF, studies=OTHER, **changes)
    made.start()
    made.run(lambda: any(isinstance(each, Blame) for wire in made.down.values() for each in wire))
    return made


def test_the_site_with_another_study_is_named_and_everybody_told() -> None:
    made = blamed()
    made.run()
    assert not made.sums
    assert made.stopped is not None
    assert not made.stopped.ok
    assert "round 1: the uploads do not fit. Member 4 (Hospital 4) masked for something else" in made.stopped.reason
    assert made.sites[1].reason == made.stopped.reason
    assert not any(site.error for site in made.sites.values())
    assert not any(isinstance(message, Part) and message.round > 1 for message in made.log)


def test_a_member_that_changes_its_canary_word_is_named() -> None:
    def tamper(member: int, message: Any) -> list[Any]:
        if member == 2 and isinstance(message, Part) and message.last:
            return [replace(message, words=message.words[:-8] + bytes(8))]
        return [message]

    made = Federation(OF, to_server=tamper)
    made.start()
    made.run()
    assert made.stopped is not None
    assert "by its own doing: 2 (Hospital 2)" in made.stopped.reason
    assert "another study" not in made.stopped.reason


def test_who_does_not_answer_is_waited_for_until_one_deadline() -> None:
    made = blamed(to_server=lambda member, message: [] if (member, type(message)) == (2, CanaryKeys) else [message])
    made.run()
    assert made.stopped is None
    assert made.timer == "round"
    made.deadline()
    assert made.stopped is not None
    assert "Member 4 (Hospital 4) masked for something else" in made.stopped.reason
    assert "Showed no canary keys: 2 (Hospital 2)" in made.stopped.reason


def test_a_restarted_site_is_not_waited_for() -> None:
    """Its canary keys were in the memory of its old process."""
    made = blamed()
    made.kill(2)
    made.start(2)
    made.run()
    assert made.stopped is not None
    assert "Showed no canary keys: 2 (Hospital 2)" in made.stopped.reason
    assert made.sites[2].error is None


def test_a_site_that_restarted_after_its_upload_is_not_asked() -> None:
    made = Federation(OF, studies=OTHER)
    made.start()
    made.run(lambda: bool(made.rounds) and made.uploaded(2))
    made.kill(2)
    made.start(2)
    made.run()
    assert made.stopped is not None
    assert "Showed no canary keys: 2 (Hospital 2)" in made.stopped.reason
    assert made.sites[2].error is None


def test_a_site_that_comes_back_in_the_same_session_is_asked_again() -> None:
    made = blamed()
    for member in OF.indices:
        made.disconnect(member)
        made.connect(member)
    made.run()
    assert made.stopped is not None
    assert "Showed no canary keys" not in made.stopped.reason


def test_a_site_that_refuses_is_not_waited_for() -> None:
    made = blamed(to_site=lambda member, message: [] if (member, type(message)) == (1, Blame) else [message])
    made.run()
    assert made.stopped is None
    made._do(made.server.receive(1, made.sites[1].receive(Blame(7))[0]))  # it stops at a Blame nobody has earned
    assert made.stopped is not None
    assert "Showed no canary keys: 1 (Hospital 1)" in made.stopped.reason


def test_canary_keys_are_checked() -> None:
    made = blamed()
    (keys,) = made.sites[1].receive(made.down[1][-1])
    assert isinstance(keys, CanaryKeys)
    with pytest.raises(MalformedMessage, match="exactly its peers"):
        made.server.receive(1, replace(keys, keys=keys.keys[:-1]))
    with pytest.raises(UnexpectedMessage):
        made.server.receive(1, replace(keys, round=2))
    assert made.server.receive(1, keys) == []
    assert made.server.receive(1, keys) == []
    with pytest.raises(SecondMessage):
        made.server.receive(1, replace(keys, keys=((2, bytes(32)), *keys.keys[1:])))


def test_who_was_not_in_the_round_has_nothing_to_show() -> None:
    made = Federation(manifest(6), studies={4: replace(Study(), model="another", steps=4)}, study=Study(steps=4))
    made.start(1, 2, 3, 4, 5)
    made.run()
    made.deadline()  # member 6 joins later
    made.run(lambda: any(isinstance(each, Blame) for wire in made.down.values() for each in wire))
    made.start(6)
    with pytest.raises(UnexpectedMessage, match="was not in it"):
        made.server.receive(6, CanaryKeys(6, 1, ((1, bytes(32)),)))


def test_a_restart_of_the_server_forgets_the_blame_and_finds_it_again() -> None:
    made = blamed()
    made.restart_server()
    made.run()
    assert made.stopped is not None
    assert "round 2: the uploads do not fit. Member 4" in made.stopped.reason
    assert made.stopped == Stop(made.stopped.reason, ok=False)
