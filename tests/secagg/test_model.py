"""Exhaustive check of both modes for n ≤ 6: what can be isolated, and what each guard is for."""

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from typing import Final

import pytest

from secagg.errors import ManifestError
from secagg.manifest import Mode
from secagg.recovery import agreed
from tests.federation import manifest
from tests.secagg.model import (
    SOUND,
    Context,
    Rules,
    Seat,
    World,
    choices,
    isolated,
    pack,
    plays,
    rosters,
    seated,
    unpack,
)
from tests.sweeps import thinned


def _smallest_roster(n: int, c: int, mode: Mode) -> int | None:
    """The smallest roster that a manifest may have; None if nobody can agree to one."""
    for least in range(1, n + 1):
        with suppress(ManifestError):
            return manifest(n, c, mode=mode, minimum_roster=least).minimum_roster
    return None


def _allowed(n: int, c: int) -> World | None:
    """The world of a mode B manifest: its rosters are never smaller than its threshold."""
    least = _smallest_roster(n, c, Mode.B)
    return World(n, c, manifest(n, c, mode=Mode.B, minimum_roster=least).threshold) if least else None


WORLDS: Final = [world for n in range(2, 7) for c in range(1, n) if (world := _allowed(n, c))]
MODE_A: Final = [
    (n, c, least) for n in range(2, 7) for c in range(1, n) if (least := _smallest_roster(n, c, Mode.A)) is not None
]
# With 2t > n + c alone, without t > 2n/3: one more world.
WIDER: Final = [*WORLDS, World(6, 1, 4)]


def long(members: int) -> tuple[pytest.MarkDecorator, ...]:
    """Six members take most of the time, and are checked in `make test`."""
    return (pytest.mark.slow,) if members == 6 else ()


def name(world: object) -> str:
    assert isinstance(world, World)
    return f"n{world.n}-c{world.c}-t{world.threshold}"


def honest_of(world: World, members: int) -> frozenset[int]:
    return frozenset(unpack(members)) & frozenset(world.honest)


def members_of(seats: frozenset[Seat]) -> frozenset[int]:
    return frozenset(seat.member for seat in seats)


def runs(world: World) -> Iterator[list[Seat]]:
    """All plays of one context, up to renaming."""
    for roster in rosters(world, world.threshold):
        honest = sorted(honest_of(world, roster))
        for play in plays(world, roster):
            yield seated(Context(1, roster), honest, play)


def assert_sound(world: World, seats: Sequence[Seat]) -> int:
    """One sum at most opens in a context: that of all honest survivors of one set. Return its size or 0."""
    found = isolated(world, seats, agreed)
    assert len(found) <= len({seat.context for seat in seats})
    for each in found:
        assert len(each) >= world.threshold - world.c
        assert len({seat.context for seat in each}) == 1
        context = next(iter(each)).context
        of = [seat.view for seat in each] if context.mode == "B" else [context.roster]
        assert members_of(each) in {honest_of(world, view) for view in of}
    return min(map(len, found), default=0)


def test_the_worlds_that_a_manifest_allows() -> None:
    assert [(world.n, world.c, world.threshold) for world in WORLDS] == [
        (3, 1, 3), (4, 1, 3), (4, 2, 4), (5, 1, 4), (5, 2, 4), (5, 3, 5), (6, 1, 5), (6, 2, 5), (6, 3, 5), (6, 4, 6),
    ]  # fmt: skip
    for world in WORLDS:
        assert world.threshold - world.c >= 2
        assert _smallest_roster(world.n, world.c, Mode.B) == world.threshold
    assert [(n, c) for n, c, _ in MODE_A] == [(world.n, world.c) for world in WORLDS]


def test_the_acceptance_rule() -> None:
    """With us, t survivors: our own MAC and those of members outside the set count for nothing."""
    everybody = range(1, 6)
    for size, threshold in product(range(1, 6), range(1, 6)):
        for survivors in combinations(everybody, size):
            for valid in (frozenset(each) for k in range(6) for each in combinations(everybody, k)):
                enough = len(valid & set(survivors) - {1}) + 1 >= threshold
                assert agreed(1, survivors, valid, threshold) == (1 in survivors and enough)


# ---- mode B
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [pytest.param(each, marks=long(each.n)) for each in WIDER], ids=name)
def test_no_sum_of_fewer_than_t_less_c_honest_members_is_ever_isolated(world: World) -> None:
    """Whatever every honest member is shown, and the bound is met: some play opens exactly t − c."""
    sizes = {assert_sound(world, seats) for seats in runs(world)}
    assert min(sizes - {0}) == world.threshold - world.c
    assert max(sizes) == len(world.honest)


def _seats(world: World, member: int, number: int, modes: str, histories: int) -> Iterator[Seat | None]:
    """Everything that may happen to a member in one round, in whichever context."""
    yield None
    for size in range(world.threshold, world.n + 1):
        for roster in map(pack, combinations(range(1, world.n + 1), size)):
            if not roster >> member & 1:
                continue
            for mode, history in product(modes, range(histories)):
                for view in choices(world, roster, member)[1:] if mode == "B" else [0]:
                    yield Seat(member, Context(number, roster, mode, history), view)


def _mixed(world: World, rounds: int, modes: str = "AB", histories: int = 2) -> list[list[tuple[Seat, ...]]]:
    """For each honest member, every sequence of what may happen to it in these rounds."""
    lives = []
    for member in world.honest:
        one = [list(_seats(world, member, number, modes, histories)) for number in range(1, rounds + 1)]
        lives.append([tuple(seat for seat in life if seat) for life in product(*one)])
    return lives


@pytest.mark.parametrize(
    ("world", "rounds"),
    thinned(
        pytest.param(*each, id=str(each[0])) for each in [(World(3, 1, 3), 2), (World(4, 1, 3), 1), (World(4, 2, 4), 2)]
    ),
    ids=str,
)
def test_nothing_more_opens_across_contexts(world: World, rounds: int) -> None:
    """No reduction at all: rosters, modes, histories and rounds mixed at will, members shown anything."""
    for lives in product(*_mixed(world, rounds)):
        assert_sound(world, [seat for life in lives for seat in life])


@pytest.mark.parametrize("world", thinned(world for world in WORLDS if world.n > 4), ids=name)
def test_nothing_more_opens_across_contexts_at_random(world: World) -> None:
    """The same for larger worlds, by chance; half of the members follow the first one, or nothing would open."""
    chance = random.Random(name(world))
    lives = _mixed(world, 2, histories=1)
    opened = 0
    for _ in range(1500):
        seats = [seat for each in lives for seat in chance.choice(each)]
        leader = [seat for seat in seats if seat.member == 1]
        for seat in leader:
            for member in honest_of(world, seat.view or seat.context.roster) - {1}:
                if chance.random() < 0.8:
                    seats = [
                        each for each in seats if (each.member, each.context.round) != (member, seat.context.round)
                    ]
                    seats.append(seat._replace(member=member))
        opened += assert_sound(world, seats) > 0
    assert opened > 100


def _unreduced(world: World) -> set[int]:
    """Sizes of isolated sets over all plays of all rosters, without any use of symmetry."""
    sizes = set()
    for size in range(world.threshold, world.n + 1):
        for roster in map(pack, combinations(range(1, world.n + 1), size)):
            honest = sorted(honest_of(world, roster))
            for play in product(*(choices(world, roster, member) for member in honest)):
                sizes.add(assert_sound(world, seated(Context(1, roster), honest, play)))
    return sizes


@pytest.mark.parametrize("world", [world for world in WORLDS if world.n < 6], ids=name)
def test_symmetry_hides_nothing(world: World) -> None:
    assert _unreduced(world) == {assert_sound(world, seats) for seats in runs(world)}


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("world", [world for world in WIDER if world.n == 6], ids=name)
def test_symmetry_hides_nothing_with_six(world: World) -> None:
    assert _unreduced(world) == {assert_sound(world, seats) for seats in runs(world)}


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_nothing_more_opens_across_two_rounds() -> None:
    world = World(4, 1, 3)
    for lives in product(*_mixed(world, 2, modes="B", histories=1)):
        assert_sound(world, [seat for life in lives for seat in life])


@pytest.mark.slow
def test_components_are_the_smallest_isolated_sets() -> None:
    """Against the definition: for each set of uploads, is any mask left in its sum?"""
    chance = random.Random(1)
    world, rules = World(5, 1, 3), replace(SOUND, consistency=False)
    seen = set()
    context = Context(1, world.everybody)
    options = [choices(world, world.everybody, member) for member in world.honest]
    for _ in range(2000):
        seats = seated(context, world.honest, [chance.choice(each) for each in options])
        answers = {s.member: s for s in seats if s.view and honest_of(world, s.view) <= {s.member for s in seats}}
        seeds = {
            seat.member
            for seat in seats
            if sum(bool(each.view >> seat.member & 1) for each in answers.values()) + world.c >= world.threshold
        }
        open_sets = []
        for size in range(1, len(seats) + 1):
            for some in combinations([seat.member for seat in seats], size):
                left = {
                    (u, v)
                    for u in some
                    for v in set(world.honest) - set(some)
                    if not any(a in answers and not answers[a].view >> b & 1 for a, b in [(u, v), (v, u)])
                }
                if set(some) <= seeds and not left:
                    open_sets.append(frozenset(some))
        smallest = {each for each in open_sets if not any(other < each for other in open_sets)}
        assert smallest == {members_of(each) for each in isolated(world, seats, agreed, rules)}
        seen |= {len(each) for each in smallest}
    assert seen == {1, 2, 3, 4}


# ---- what each guard is for
# -----------------------------------------------------------------------------------------


@cache
def _worst(world: World, rules: Rules) -> tuple[Seat, ...]:
    """A play of one context that isolates as few as any."""
    best, size = (), 99
    for seats in runs(world):
        found = min((len(each) for each in isolated(world, seats, agreed, rules)), default=99)
        if found < size:
            best, size = tuple(seats), found
        if size == 1:  # nothing can be smaller
            break
    return best


def _least(world: World, seats: Sequence[Seat], rules: Rules, prefer: Context | None = None) -> int:
    return min(map(len, isolated(world, seats, agreed, rules, prefer)), default=0)


UNCHECKED: Final = replace(SOUND, consistency=False)


@pytest.mark.parametrize("world", thinned(WIDER), ids=name)
def test_without_the_consistency_check(world: World) -> None:
    """As few as 2t − n − c are isolated: t > 2n/3 alone protects nobody."""
    least = _least(world, _worst(world, UNCHECKED), UNCHECKED)
    bound = 2 * world.threshold - world.n - world.c
    # Where a set may lack one member only, six are too many to be cut apart: four of five is all that comes out.
    assert least == (4 if world == World(6, 1, 5) else bound)
    if (world.n, world.c) in {(4, 1), (5, 2), (6, 3)}:
        assert least == 1
        assert world.threshold > 2 * world.n / 3


BROKEN: Final = {
    "reflected: undirected MACs": replace(SOUND, directed_macs=False),
    "tagged twice: a crash between consent and answer": replace(SOUND, tagged_once=False),
}


@pytest.mark.parametrize("rules", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("world", [world for world in WORLDS if world.threshold < world.n], ids=name)
def test_a_check_that_can_be_fooled_is_no_check(world: World, rules: Rules) -> None:
    seats = _worst(world, UNCHECKED)
    assert_sound(world, seats)
    assert _least(world, seats, rules) == _least(world, seats, UNCHECKED)


@pytest.mark.parametrize("world", [world for world in WORLDS if world.threshold < world.n], ids=name)
def test_macs_without_a_context_are_replayed(world: World) -> None:
    """Earlier rounds in which everybody was shown what each one is shown now leave all the MACs one could want."""
    rules = replace(SOUND, macs_bound_to_context=False)
    seats = list(_worst(world, UNCHECKED))
    target = seats[0].context
    for number, view in enumerate(sorted({seat.view for seat in seats if seat.view > 0}), start=2):
        before = target._replace(round=number)
        seats += [Seat(member, before, view) for member in honest_of(world, view)]
    now = [each for each in isolated(world, seats, agreed, rules) if next(iter(each)).context == target]
    assert min(map(len, now)) == _least(world, _worst(world, UNCHECKED), UNCHECKED)
    assert_sound(world, seats)


@pytest.mark.parametrize("world", [world for world in WORLDS if world.threshold < world.n], ids=name)
def test_boxes_without_a_context_open_a_withheld_upload(world: World) -> None:
    """Round 1: hold back hospital 1, say that it dropped. Round 2: hand out its boxes of round 1."""
    first, second = Context(1, world.everybody), Context(2, world.everybody)
    rest = world.everybody & ~pack([1])
    seats = [Seat(member, first, rest) for member in world.honest if member != 1]
    seats += [Seat(1, first)]
    seats += [Seat(member, second, world.everybody) for member in world.honest]
    rules = replace(SOUND, boxes_bound_to_context=False)
    assert frozenset([Seat(1, first)]) in isolated(world, seats, agreed, rules, prefer=first)
    assert assert_sound(world, seats) >= world.threshold - world.c


@pytest.mark.parametrize("world", [world for world in WORLDS if world.threshold < world.n], ids=name)
def test_one_round_in_both_modes_opens_who_has_no_self_mask(world: World) -> None:
    roster = world.everybody
    victim = Seat(1, Context(1, roster, mode="A"))
    seats = [Seat(member, Context(1, roster), roster & ~pack([1])) for member in world.honest if member != 1]
    assert frozenset([victim]) in isolated(world, [victim, *seats], agreed, replace(SOUND, mode_in_context=False))
    assert_sound(world, [victim, *seats])


@pytest.mark.parametrize("missing", [1, 2])
def test_one_mac_fewer_is_too_few(missing: int) -> None:
    """The rule's t − 1 is exact: with fewer MACs two sets of survivors open side by side, or fewer members come out."""
    broken = []
    for world in WORLDS:
        for seats in runs(world):
            found = isolated(world, seats, lambda me, of, valid, t: agreed(me, of, valid, t - missing))
            if len(found) > 1 or any(len(each) < world.threshold - world.c for each in found):
                broken.append((world.n, world.c))
                break
    assert broken


THRESHOLDS: Final = [World(n, c, t) for n in range(3, 7) for c in range(1, n - 1) for t in range(1, n + 1)]


@pytest.mark.parametrize("world", [each for each in THRESHOLDS if 2 * each.threshold <= each.n + each.c], ids=name)
def test_two_sums_of_one_round_open_if_2t_is_at_most_n_plus_c(world: World) -> None:
    """One set is shown to t − c honest members, another to the rest: both find their t."""
    some = world.honest[: max(world.threshold - world.c, 1)]
    rest = [member for member in world.honest if member not in some]
    roster = world.everybody
    context = Context(1, roster)
    seats = [Seat(member, context, roster) for member in some]
    seats += [Seat(member, context, roster & ~pack(some)) for member in rest]
    assert {members_of(each) for each in isolated(world, seats, agreed)} == {frozenset(some), frozenset(rest)}


def test_two_thirds_alone_are_too_few() -> None:
    """t = ⌊2n/3⌋ + 1 without 2t > n + c: a single hospital comes out although the check is in force."""
    short = [
        each for each in THRESHOLDS if each.threshold == 2 * each.n // 3 + 1 and 2 * each.threshold <= each.n + each.c
    ]
    assert [(each.n, each.c, each.threshold) for each in short] == [(4, 2, 3), (5, 3, 4), (6, 4, 5)]
    for world in short:
        seats = [Seat(1, Context(1, world.everybody), world.everybody)]
        seats += [Seat(2, Context(1, world.everybody), world.everybody & ~pack([1]))]
        assert _least(world, seats, SOUND) == 1


# ---- mode A
# ----------------------------------------------------------------------------------------------------------


def _forks(n: int, c: int, least: int) -> Iterator[tuple[World, tuple[Context, Context]]]:
    """Every two contexts of mode A: of one round with two rosters, and of two histories in one round or in two."""
    world = World(n, c, n)
    of = [pack(some) for size in range(least, n + 1) for some in combinations(range(1, n + 1), size)]
    for one, two in product(rosters(world, least), of):  # the first up to renaming
        for number, history in ((1, 0), (1, 1), (2, 1)):
            if one != two or history:
                yield world, (Context(1, one, "A"), Context(number, two, "A", history))


def _both_open(n: int, c: int, least: int) -> bool:
    """Whether two contexts, both of one round or of two histories, ever open; insist that each opens whole or not."""
    both = False
    for world, contexts in _forks(n, c, least):
        for where in product((0, 1, None), repeat=len(world.honest)):
            # A member uploads once per round and has one history: it sits in one of the two, or in neither.
            seats = [
                Seat(member, contexts[i])
                for member, i in zip(world.honest, where, strict=True)
                if i is not None and contexts[i].roster >> member & 1
            ]
            found = isolated(world, seats, agreed)
            assert all(members_of(each) == honest_of(world, next(iter(each)).context.roster) for each in found)
            both |= len(found) > 1
    return both


@pytest.mark.parametrize(("n", "c", "least"), [pytest.param(*each, marks=long(each[0])) for each in MODE_A])
def test_mode_a_opens_one_context_and_whole(n: int, c: int, least: int) -> None:
    """n_min > (n + c)/2: no two contexts of a round both open, nor two histories ever; and no part of a roster."""
    assert not _both_open(n, c, least)


@pytest.mark.parametrize(("n", "c"), thinned(pytest.param(*each) for each in [(4, 1), (5, 1), (6, 2)]))
def test_mode_a_forks_with_a_smaller_roster(n: int, c: int) -> None:
    assert _both_open(n, c, (n + c) // 2)
