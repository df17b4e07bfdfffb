"""A small symbolic model of both modes: which honest sums can a coordinator with c colluding members isolate?

**What is modelled.** Members 1…n−c are honest, the others collude with the coordinator and are always believed. An
honest member that has uploaded in a context (round, roster, mode, history) has a :class:`Seat` there; in mode B it has
been shown one set of survivors, or none. The coordinator decides all of it for each member separately, and:

* it holds every upload, also those of members that it declared to have dropped out;
* as "the MAC of v" it may give any MAC it has seen, of any sender and receiver (reflected, of members outside the
  set), in any context (replayed), over any set, and any MAC of a colluder over anything; the package's own ``agreed``
  decides what they are worth;
* as "the box of v" it may give any box it has seen;
* colluders know their own shares of every self-mask seed and their pair keys with everybody, whatever the context.

An answer shows the receiver's own share of its own seed, the shares in the boxes it was given, and the keys of its
pairs with members that dropped out. An upload is x + PRG(b) + Σ ±PRG(K). A sum of honest uploads can be isolated iff
every mask in it is known or cancels. So the smallest isolated sets are those connected components of the graph of
uploads, with unknown pair masks for edges, in which every seed is known and no unknown pair mask lacks its other end;
:func:`isolated` returns them, and all other isolated sets are unions of these. Nothing revealed opens anything further
(a seed opens no box, a pair key makes no MAC), so this is the whole closure.

**What is not modelled.** Attacks on the primitives, set-up (pair keys are just there), liveness, forged sums, and what
a sum of many hospitals tells about one. Uploads of two rounds are different unknowns.

**Why it is enough to enumerate less than everything.** (1) *One context at a time*: every key, box and MAC is bound to
its context, so a member that is seated elsewhere gives to this context what an absent one gives; "absent" is one of the
choices, and the contexts of a run are examined one by one. (2) *Symmetry*: honest members differ by name only, and so
do colluders. Plays are enumerated up to permutations of honest members (:func:`plays`), rosters up to both. (3)
*Monotony*: a further message shows the coordinator more and takes nothing from it, and with more masks known,
components open or split; so it gives every MAC that passes, and every member that can answer does. The tests compare
with enumerations that use neither (1) nor (2).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import permutations, product
from typing import Final, NamedTuple, TypeAlias

Agreed: TypeAlias = Callable[[int, tuple[int, ...], frozenset[int], int], bool]
Members: TypeAlias = int
"""A set of members: bit i for member i."""


@dataclass(frozen=True)
class World:
    """Members 1…n, the last c of them colluders, and a threshold, sensible or not."""

    n: int
    c: int
    threshold: int

    @cached_property
    def honest(self) -> tuple[int, ...]:
        return tuple(range(1, self.n - self.c + 1))

    @cached_property
    def colluders(self) -> tuple[int, ...]:
        return tuple(range(self.n - self.c + 1, self.n + 1))

    @cached_property
    def everybody(self) -> Members:
        return pack(range(1, self.n + 1))


@dataclass(frozen=True)
class Rules:
    """The guards of the protocol; each can be taken away to see what it is for."""

    consistency: bool = True  # an answer needs agreeing MACs
    tagged_once: bool = True  # one set of survivors per member and context is ever tagged
    directed_macs: bool = True  # a MAC says from whom and to whom
    macs_bound_to_context: bool = True
    boxes_bound_to_context: bool = True
    mode_in_context: bool = True


SOUND: Final = Rules()


class Context(NamedTuple):
    """What all keys of a round are bound to. `history` stands for the transcript."""

    round: int
    roster: Members
    mode: str = "B"
    history: int = 0


class Seat(NamedTuple):
    """An honest member has uploaded in a context, and was shown a set of survivors there (or none: 0)."""

    member: int
    context: Context
    view: Members = 0


@cache
def unpack(members: Members) -> tuple[int, ...]:
    """Return a set's members in ascending order."""
    return tuple(i for i in range(members.bit_length()) if members >> i & 1)


def pack(members: Iterable[int]) -> Members:
    """Return members as a set."""
    return sum(1 << member for member in set(members))


Box: TypeAlias = tuple[int, int, Context]
"""The share of whose seed, at whose coordinate, of which context."""
Pair: TypeAlias = tuple[int, int, Context]
"""The mask key of two members, the lower first, in a context."""


# ---- what a play gives away


def isolated(
    world: World, seats: Sequence[Seat], agreed: Agreed, rules: Rules = SOUND, prefer: Context | None = None
) -> list[frozenset[Seat]]:
    """Return the smallest sets of uploads whose sums the coordinator can compute, as disjoint sets of seats.

    Args:
        world: who is who.
        seats: what the coordinator has made of the run; one seat per member and context.
        agreed: the acceptance rule of the package.
        rules: the guards in force.
        prefer: the context whose boxes are delivered wherever they open; without binding that is a choice.
    """
    shares = {
        (seat.member, seat.context): {each for each in world.colluders if seat.context.roster >> each & 1}
        for seat in seats
    }
    keys: set[Pair] = set()
    for seat in seats:
        if not seat.view or not _accepts(world, seats, seat, agreed, rules):
            continue
        boxes = _boxes(world, seats, seat, rules, prefer)
        if boxes is None:
            continue  # one does not open: the session is over
        for owner, coordinate, context in [*boxes, (seat.member, seat.member, seat.context)]:
            shares[owner, context].add(coordinate)
        keys.update(_pair(seat, dropped, rules) for dropped in unpack(seat.context.roster & ~seat.view))
    bare = [
        seat for seat in seats if seat.context.mode == "A" or len(shares[seat.member, seat.context]) >= world.threshold
    ]
    return _components(world, seats, bare, keys, rules) if bare else []


def _accepts(world: World, seats: Sequence[Seat], seat: Seat, agreed: Agreed, rules: Rules) -> bool:
    peers = unpack(seat.view & ~(1 << seat.member))
    valid = [each for each in peers if not rules.consistency or _has_mac(world, seats, each, seat, rules)]
    return agreed(seat.member, unpack(seat.view), frozenset(valid), world.threshold)


def _has_mac(world: World, seats: Sequence[Seat], sender: int, seat: Seat, rules: Rules) -> bool:
    """Whether anything the coordinator holds passes at `seat` for the sender's MAC over the seat's view."""
    if sender in world.colluders:
        return True
    makers = [(sender, seat.member)] if rules.directed_macs else [(sender, seat.member), (seat.member, sender)]
    return any(
        other.member == maker
        and (other.context == seat.context or not rules.macs_bound_to_context)
        # Tagged were the MACs to every other member of the set that `other` was shown.
        and ((other.view == seat.view and other.view >> receiver & 1) or not rules.tagged_once)
        for maker, receiver in makers
        for other in seats
    )


def _boxes(world: World, seats: Sequence[Seat], seat: Seat, rules: Rules, prefer: Context | None) -> list[Box] | None:
    """Return the boxes given to a member for its honest fellow survivors, or None if one is lacking."""
    given: list[Box] = []
    for sender in unpack(seat.view & ~(1 << seat.member)):
        if sender in world.colluders:
            continue  # colluders box whatever they like, and their seeds are known anyway
        opening = [each.context for each in seats if each.member == sender and _opens(each, seat, rules)]
        if not opening:
            return None
        given.append((sender, seat.member, prefer if prefer in opening else opening[0]))
    return given


def _opens(sender: Seat, receiver: Seat, rules: Rules) -> bool:
    """Whether the box that one seat has made for another's member opens as one of the other's context."""
    if rules.boxes_bound_to_context and sender.context != receiver.context:
        return False
    return sender.context.mode == "B" and bool(sender.context.roster >> receiver.member & 1)


def _pair(seat: Seat, peer: int, rules: Rules) -> Pair:
    """Name the mask key of a seat's member with a peer, the same at both ends."""
    key = seat.context if rules.mode_in_context else seat.context._replace(mode="")
    return (seat.member, peer, key) if seat.member < peer else (peer, seat.member, key)


def _components(
    world: World, seats: Sequence[Seat], bare: Sequence[Seat], keys: set[Pair], rules: Rules
) -> list[frozenset[Seat]]:
    """Group uploads by the unknown pair masks between them; leave out groups in which any mask remains."""
    ends: dict[Pair, list[int]] = {}
    for i, seat in enumerate(seats):
        for peer in unpack(seat.context.roster & ~(1 << seat.member)):
            if peer not in world.colluders and (pair := _pair(seat, peer, rules)) not in keys:
                ends.setdefault(pair, []).append(i)
    group = list(range(len(seats)))
    for both in ends.values():
        old, new = group[both[0]], group[both[-1]]
        group = [new if each == old else each for each in group]
    spoiled = {group[i] for both in ends.values() if len(both) != 2 for i in both}
    spoiled |= {group[i] for i, seat in enumerate(seats) if seat not in bare}
    return [
        frozenset(seat for seat, each in zip(seats, group, strict=True) if each == name)
        for name in sorted(set(group) - spoiled)
    ]


# ---- all plays


def rosters(world: World, least: int) -> list[Members]:
    """Return all rosters of at least `least` members, one for each class under renaming."""
    sizes = product(range(1, len(world.honest) + 1), range(world.c + 1))
    return [pack((*world.honest[:a], *world.colluders[:b])) for a, b in sizes if a + b >= least]


def views(world: World, roster: Members, member: int) -> list[Members]:
    """Return every set of survivors that an honest member of a roster tags: it is in it, and it is large enough."""
    return [
        each
        for each in range(1 << member, roster + 1)
        if each | roster == roster and each >> member & 1 and each.bit_count() >= world.threshold
    ]


ABSENT: Final = -1


def choices(world: World, roster: Members, member: int) -> list[int]:
    """Return what may happen to an honest member in a context: absent, uploaded and shown nothing, or shown a set."""
    return [ABSENT, 0, *views(world, roster, member)]


def plays(world: World, roster: Members) -> Iterator[tuple[int, ...]]:
    """Yield every assignment of choices to the roster's honest members, at least one of each class under renaming.

    Member by member: of the assignments to the first k members, one is kept of each class under permutations of these
    k and of the others. By induction every assignment to all has an equal one here: a permutation that takes its first
    k choices to the ones kept maps the rest to choices that are tried next.
    """
    honest = [member for member in unpack(roster) if member in world.honest]
    level: set[tuple[int, ...]] = {()}
    for k, member in enumerate(honest):
        level = {(*base, choice) for base in level for choice in choices(world, roster, member)}
        if k + 1 < len(honest):  # the last level is larger to sort than to play
            level = _representatives(level, honest, k + 1)
    yield from level


def _representatives(level: set[tuple[int, ...]], honest: Sequence[int], known: int) -> set[tuple[int, ...]]:
    renamings = [(*a, *b) for a, b in product(permutations(honest[:known]), permutations(honest[known:]))]
    tables = [_table(dict(zip(honest, names, strict=True))) for names in renamings]
    order = [[names.index(member) for member in honest[:known]] for names in renamings]
    return {
        min(tuple(table[each[i]] for i in places) for table, places in zip(tables, order, strict=True))
        for each in level
    }


def _table(names: dict[int, int]) -> dict[int, int]:
    top = 1 << 7
    renamed = {each: pack(names.get(i, i) for i in unpack(each)) for each in range(top)}
    return renamed | {ABSENT: ABSENT}


def seated(context: Context, members: Iterable[int], play: Iterable[int]) -> list[Seat]:
    """Return the seats of an assignment."""
    return [Seat(member, context, view) for member, view in zip(members, play, strict=True) if view != ABSENT]
