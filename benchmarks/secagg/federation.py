"""Rows 3.3 to 3.8 and 3.11: what an aggregation costs a client and the server, in CPU time and in octets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from benchmarks.report import Row
from benchmarks.secagg import parties
from benchmarks.secagg.assembly import Assembly, Contribution
from benchmarks.secagg.contributions import Narrow, Wide
from benchmarks.secagg.flower_process import Flower
from benchmarks.timing import cpu, median
from nodes import chunks, wire
from secagg import lanes
from secagg.masks import Backend
from secagg.messages import Step
from secagg.tag import RoundTag

__all__ = ["LENGTH", "against_flower", "octets", "overlap", "set_up", "verification"]

LENGTH: Final = 10**6
AGGREGATIONS: Final = {5: 6, 10: 4, 50: 1}
"""Sites → aggregations of the peer; each gives one time for every client."""

_CLIENT_BARS: Final = {5: ("3.3a", 9.0, 15.0), 10: ("3.3b", 12.0, 20.0), 50: ("3.3c", 35.0, 60.0)}
_SERVER_BARS: Final = {5: 30.0, 50: 1000.0}
_WIDE_BAR: Final = 5.0  # clients, n = 10
_TOLERANCE: Final = 1e-3  # of the peer's average: many steps of its quantisation, far below any wrong sum


def against_flower(flower: Flower, backend: Backend, tell: Callable[[str], None]) -> list[Row]:
    """Run the peer's aggregations with ours in between, and compare medians.

    Args:
        flower: the peer.
        backend: cipher implementation of our clients.
        tell: where to say what is going on.
    """
    rows: list[Row] = []
    for n, repeats in AGGREGATIONS.items():
        tell(f"{n} sites, {repeats} aggregation(s) of the peer, ours in between")
        narrow = Assembly(parties.manifest(n, bits=16), Narrow(LENGTH, backend), backend)
        wide = Assembly(parties.manifest(n), Wide(LENGTH, backend), backend)
        turns: list[Iterator[None]] = []
        for assembly in (narrow, wide):
            assembly.set_up()
            turns.append(assembly.turns())
            next(turns[-1])  # tables of the noise are made here, once in the life of a process

        def between(turns: list[Iterator[None]] = turns) -> None:
            for each in turns:
                next(each)

        clients: list[float] = []
        servers: list[float] = []
        for _ in range(repeats):
            done = flower.aggregate(n, LENGTH, between)
            assert done.error < _TOLERANCE, "the peer's average is wrong: it was not driven correctly"
            clients += done.clients
            servers.append(done.server)
        for figure, name, assembly in (("3.3", "b = 16", narrow), ("3.11", "wide lattice", wide)):
            rows += _compared(figure, f"n = {n}, {name}", n, assembly, median(clients), median(servers))
        rows.append(Row("3.3", f"Flower's client, n = {n}", median(clients), "CPU s"))
        rows.append(Row("3.4", f"Flower's server, n = {n}", median(servers), "CPU s"))
    return rows


def _compared(figure: str, name: str, n: int, ours: Assembly, client: float, server: float) -> list[Row]:
    """Return the rows of one lattice: the peer's medians over ours."""
    costs = ours.costs
    upload, accept, added = median(costs.client[1:]), median(costs.accept), median(costs.server)
    ratio, served = client / upload, server / added
    letter, bar, aim = _CLIENT_BARS[n]
    what = f"Flower's client ÷ ours with exact noise, {name}"
    if figure == "3.3":
        first = Row(letter, what, ratio, "times", bar, aim=aim)
        second = Row("3.4", f"Flower's server ÷ ours, {name}", served, "times", _SERVER_BARS.get(n))
    else:
        first = Row(figure, what, ratio, "times", _WIDE_BAR if n == 10 else None)
        second = Row(figure, f"Flower's server ÷ ours, {name}", served, "times")
    return [
        first,
        Row(first.figure, f"the same with our check of the broadcast sum, {name}", client / (upload + accept), "times"),
        second,
        Row(first.figure, f"our client, {name}", upload, "CPU s"),
        Row(first.figure, f"our check of the broadcast sum, {name}", accept, "CPU s"),
        Row(second.figure, f"our server, {name}", added, "CPU s"),
    ]


def octets(backend: Backend) -> list[Row]:
    """Weigh one step of ten sites as it travels: protobuf messages, without TLS and HTTP/2."""
    least = 8 * (lanes.word_count(LENGTH, 12) + 2) / LENGTH
    rows = [Row("3.5", "b = 12: words of an upload", least, "B/parameter", aim=1.6)]
    for bits, bar in ((64, 8.01), (16, 2.01)):
        contribution: Contribution = Wide(LENGTH, backend) if bits == 64 else Narrow(LENGTH, backend)
        assembly = Assembly(parties.manifest(10, bits=bits), contribution, backend)
        assembly.set_up()
        turns = assembly.turns()
        step = assembly.steps[1]
        for _ in range(11):  # the first turn of the second round comes after the first sum
            next(turns)
        total, upload = assembly.sums[0], assembly.last
        assert upload is not None
        up = sum(len(wire.to_coordinator(part).SerializeToString()) for part in chunks.outgoing(upload))
        pieces: list[chunks.Downstream] = [*chunks.cut(total), step]
        down = sum(len(wire.to_site(piece).SerializeToString()) for piece in pieces)
        name = "wide lattice" if bits == 64 else f"b = {bits}"
        rows.append(Row("3.5", f"{name}: upload", up / LENGTH, "B/parameter", bar, "lower"))
        rows.append(Row("3.5", f"{name}: sum and next step", down / LENGTH, "B/parameter", bar, "lower"))
        if bits == 16:
            rows.append(Row("3.6", "round trips per step", max(assembly.trips), "round trips", 1, "lower"))
    return rows


def overlap(backend: Backend, repeats: int = 20) -> list[Row]:
    """Weigh what is left of masking when it goes on beside the computation of the vector."""
    with ThreadPoolExecutor(1) as pool:
        assembly = Assembly(parties.manifest(10, bits=16), Narrow(LENGTH, backend), backend)
        assembly.set_up()
        step, client = assembly.steps[1], assembly.clients[1]
        contribution = assembly.contribution
        assert contribution is not None
        taken: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(2 * repeats):
            beside = turn % 2 == 0
            terms = contribution.terms(assembly.manifest, len(step.roster))
            context = client.open(Step(step.round + turn, 0, step.roster), terms, executor=pool if beside else None)
            coordinates = contribution.coordinates(1, context)
            pool.submit(int).result()  # whatever is computed beside us is done when a real computation ends
            start = time.thread_time()
            client.upload(context, coordinates)
            taken[beside].append(time.thread_time() - start)
    left = median(taken[True]) / median(taken[False])
    return [Row("3.6", "share of masking and tag left in the upload when masks overlap, b = 16, n = 10", left, "")]


def set_up(backend: Backend, n: int = 100, repeats: int = 3) -> list[Row]:
    """Set `n` sites up and weigh the site that has most to do."""
    times: dict[int, list[float]] = {}
    for run in range(repeats):
        assembly = Assembly(parties.manifest(n, run=run), None, backend)
        assembly.set_up()
        for member, seconds in assembly.setup_cpu.items():
            times.setdefault(member, []).append(seconds)
    each = sorted(median(values) for values in times.values())
    up, down = max(assembly.octets_up.values()), max(assembly.octets_down.values())
    what = f"set-up at n = {n}, snapshots encoded"
    return [
        Row("3.7", f"{what}: CPU of the site with most to do", 1e3 * each[-1], "ms", 50, "lower"),
        Row("3.7", f"{what}: CPU of the median site", 1e3 * median(each), "ms"),
        Row("3.7", f"set-up at n = {n}: sent by a site, at most", up / 1e3, "KB", 150, "lower"),
        Row("3.7", f"set-up at n = {n}: received by a site, at most", down / 1e3, "KB", 150, "lower"),
    ]


def verification(backend: Backend, length: int = 1 << 20, repeats: int = 30) -> list[Row]:
    """Weigh the tag of the verifiable sum against everything else a client does for an upload."""
    assembly = Assembly(parties.manifest(10, bits=16), Narrow(length, backend), backend)
    assembly.set_up()
    turns, contribution = assembly.turns(), assembly.contribution
    assert contribution is not None
    step = assembly.steps[1]
    terms = contribution.terms(assembly.manifest, len(step.roster))
    context = assembly.clients[1].context(step.round, step.roster, terms)
    coordinates = contribution.coordinates(1, context)

    def tag() -> int:
        keys = RoundTag(bytes(32), context.digest, length, bound=terms.total_bound, backend=backend)
        return keys.share(coordinates, 1)

    tags = []
    for _ in range(repeats):
        next(turns)
        tags.append(cpu(tag)[0])
    share = 100 * median(tags[1:]) / median(assembly.costs.client[1:])
    name = "tag ÷ whole client (opening, rounding, noise, tag, masks), d = 2^20, n = 10, b = 16"
    return [Row("3.8", name, share, "%", 15, "lower", 6)]
