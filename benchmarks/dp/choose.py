"""Choose the presets of `benchmarks.dp.settings` on METABRIC, one for each way of adding noise.

    python -m benchmarks.dp.choose [--data DIR] [--seeds 6]

Sixteen unequal hospitals of which three may collude, ε = 1 and 3 (with its 1,216 training patients the same signal
against noise as 2,200 at ε = 0.55 and 1.7), four fifths train, a fifth is scored; every seed deals patients, hospitals
and noise anew. Score: mean C-index. Pooled laws stand for the sums (`Distributed` with one site draws everybody's
shares), because only the law matters to a search. Cohorts that are reported are never read.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import report, timing
from benchmarks.cohorts import CohortMissing, load, split
from benchmarks.dp.federation import Distributed, descend, fedavg, score, stream, tensors
from benchmarks.dp.settings import DELTA, WAYS, Way, multiplier, preset_of

SITES: Final = 16
COLLUSION: Final = 3
EPSILONS: Final = (1.0, 3.0)
_NAME: Final = "METABRIC"


def candidates(kind: str) -> Iterator[Way]:
    """Every setting that is tried for one way of adding noise."""
    if kind == "fedavg":  # dear: at the width and the clip norm that both sums chose
        for rate, rounds in itertools.product((0.01, 0.02, 0.04), (3, 6, 12)):
            yield Way((16,), 3.0, rate, 3.0, rounds)
        return
    for hidden, clip, rate in itertools.product(((8,), (16,)), (1.0, 3.0), (0.01, 0.02, 0.04)):
        yield Way(hidden, clip, rate, 3.0)


def trial(kind: str, way: Way, seed: int) -> float:
    """Train once per ε and return the mean C-index."""
    from models.training import initial_weights

    cohort = load(_NAME)
    rng = np.random.default_rng([7, seed])
    order = rng.permutation(len(cohort))
    test, train = cohort.data.rows(order[: len(order) // 5]), cohort.data.rows(order[len(order) // 5 :])
    preset = preset_of(_NAME, way, len(train))
    weights = initial_weights(preset, train.features, b"benchmarks/dp/choose/%d" % seed)
    parts = [tensors(train.rows(part), preset) for part in split(len(train), SITES, rng)]
    pooled = [tensors(train, preset)]
    block = -(-len(train) // 64) * 64
    found = []
    for epsilon in EPSILONS:
        streams = [stream("choose", kind, seed, epsilon, i) for i in range(2 * SITES)]
        z = multiplier(epsilon)
        if kind == "fedavg":
            params = fedavg(preset, weights, parts, streams[:SITES], z, way.rounds)
        else:
            # Two shares on the lattice of two honest sites are one site's whole noise.
            door = (
                Distributed(SITES, SITES - COLLUSION, streams[:SITES])
                if kind == "distributed"
                else Distributed(SITES, 2, streams)
            )
            params = descend(preset, weights, pooled, door, z, block=block)
        found.append(score(preset, cohort.features, params, test))
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", choices=tuple(WAYS), help="search for one way alone, and write nothing")
    arguments = parser.parse_args()
    timing.single_threaded()
    try:
        load(_NAME, arguments.data)
    except CohortMissing as error:
        sys.exit(f"choose: {error}")
    start = time.monotonic()
    tables: dict[str, list[dict[str, object]]] = {}
    for kind in [arguments.only] if arguments.only else WAYS:
        rows = []
        for way in candidates(kind):
            scores = [trial(kind, way, seed) for seed in range(arguments.seeds)]
            rows.append(
                {**vars(way), "c_index": float(np.mean(scores)), "se": float(np.std(scores) / len(scores) ** 0.5)}
            )
            print(kind, rows[-1], file=sys.stderr, flush=True)
        rows.sort(key=lambda row: -float(row["c_index"]))  # type: ignore[arg-type]
        tables[kind] = rows
        print(kind, "best:", rows[0], "now in settings:", WAYS[kind])
    if arguments.only:
        return
    facts = {
        "cohort": _NAME,
        "sites": SITES,
        "collusion": COLLUSION,
        "epsilons": list(EPSILONS),
        "delta": DELTA,
        "seeds": arguments.seeds,
        "search": tables,
        "seconds": round(time.monotonic() - start),
    }
    print("written:", report.write("dp-preset", [], facts))


if __name__ == "__main__":
    main()
