"""Is a federation with distributed noise the same as pooled DP gradient descent, and what is it worth?

    python benchmarks/equivalence.py [--pilot 40] [--most 400]        (needs the extra 'demo'; about ten
    minutes on one core)

LeukSurv, six hospitals by district, hold-out one in five by keyed hash with a key per seed, ε = 2 and δ =
1e-5 in total, preset "aml-small" (chosen on other cohorts). Federated: six sites in threads, each clips its
own patients, rounds to the lattice, adds its own exact share σ²/(|R|−c), and the integers are added; masks
are left out because they cancel exactly. Pooled: all patients in one place, the same realised σ, independent
noise. The paired difference in C-index (same split, same initial weights) must have its 95 % interval inside
± 0.01; a pilot says how many seeds that takes. Only this program can compute the other arms, because it
holds all patients.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import os
import platform
import random
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dp import noise_shares
from dp.calibration import split_budget
from dp.central import CentralSum, UnprotectedSum
from dp.queries import Float64, Int64, Keystream, Query, SecureSum
from harmonize.profile import load as load_profile
from harmonize.split import in_holdout
from models.data import SurvivalData
from models.metrics import harrell_c, negative_log_likelihood
from models.plan import Outcome, Spec, survival_plan
from models.presets import Preset, preset
from models.training import initial_weights
from nodes.demo.cohort import hospitals
from nodes.protocol import SPARE_UPLOADS, TRAINING_SHARES

EPSILON, DELTA, SITES, COLLUSION, MARGIN, AIM = 2.0, 1e-5, 6, 1, 0.01, 0.0008
FEATURES = ("age", "sex", "wbc", "tpi")
OUT = Path(__file__).resolve().parent / "results" / "equivalence.json"


@dataclass(frozen=True)
class Site:
    """One hospital's patients, scaled by the public constants of the profile."""

    pids: list[str]
    data: SurvivalData


def sites() -> list[Site]:
    """The demo's hospitals."""
    scale = {v.name: v.scale for v in load_profile("aml_core").variables}

    def column(name: str, values: np.ndarray) -> np.ndarray:
        s = scale[name]
        clipped = np.clip(values, *(float(bound) for bound in s.clip))
        return ((np.log1p(clipped) if s.transform == "log1p" else clipped) - float(s.centre)) / float(s.spread)

    found = []
    for hospital in hospitals(SITES):
        f = hospital.frame
        values = {"age": f.age, "sex": (f.sex == "male"), "wbc": f.wbc, "tpi": f.tpi}
        x = np.stack([column(name, values[name].to_numpy(dtype=float)) for name in FEATURES], axis=1)
        data = SurvivalData(x, np.isfinite(x), f.time.to_numpy(dtype=float), f.event.to_numpy(dtype=bool))
        found.append(Site(f.patient.astype(str).tolist(), data))
    return found


def joined(parts: list[SurvivalData]) -> SurvivalData:
    """All patients in one table."""
    return SurvivalData(
        *(np.concatenate([getattr(p, k) for p in parts]) for k in ("x", "observed", "duration", "event"))
    )


class Federation:
    """Six sites in threads: encode, own exact noise share, integer addition, decode."""

    def __init__(self, keystreams: list[Keystream]) -> None:
        """One secret keystream per site."""
        self._keys = keystreams
        self._uploads: list[Int64] = [np.zeros(0, dtype=np.int64)] * len(keystreams)
        self._noises = list(self._uploads)
        self._barrier = threading.Barrier(len(keystreams))
        self.noise: list[Int64] = []

    def site(self, index: int) -> SecureSum:
        """The door of one site."""

        def secure_sum(query: Query, contribution: Callable[[], Float64]) -> Float64:
            lattice = noise_shares.lattice(query, len(self._keys), honest=len(self._keys) - COLLUSION)
            self._noises[index] = noise_shares.draw(self._keys[index], query.length)
            self._uploads[index] = noise_shares.encode(contribution(), query, lattice) + self._noises[index]
            if self._barrier.wait() == 0:
                self.noise.append(np.sum(np.stack(self._noises), axis=0))
            total = np.sum(np.stack(self._uploads), axis=0)
            self._barrier.wait()
            return noise_shares.decode(total, query, lattice)

        return secure_sum

    def run(self, spec: Spec, trains: list[SurvivalData], nobody: SurvivalData) -> Outcome:
        """Run the plan at all sites; they must end with one model."""
        with ThreadPoolExecutor(len(trains)) as pool:
            jobs = [pool.submit(survival_plan, spec, t, nobody, self.site(i)) for i, t in enumerate(trains)]
            outcomes = [job.result() for job in jobs]
        if len({o.model.digest for o in outcomes}) != 1:
            sys.exit("equivalence: the sites own different models")
        return outcomes[0]


class SameNoise:
    """Pooled sum with the very noise that a federation drew, to compare the two mechanisms without chance."""

    def __init__(self, noise: list[Int64]) -> None:
        """Noise totals in the order of the queries."""
        self._noise = iter(noise)

    def __call__(self, query: Query, contribution: Callable[[], Float64]) -> Float64:
        """Pooled, encoded once."""
        lattice = noise_shares.lattice(query, SITES, honest=SITES - COLLUSION)
        pooled = replace(lattice, clamp=lattice.clamp * SITES)
        total = noise_shares.encode(contribution(), query, pooled) + next(self._noise)
        return noise_shares.decode(total, query, lattice)


def training_shares(chosen: Preset) -> dict[str, tuple[float, int]]:
    """Kind of release → (share of μ², uploads), as a real study declares them."""
    return {
        kind: (share, chosen.uploads if kind == "gradient" else 1 + SPARE_UPLOADS.get(kind, 0))
        for kind, share in TRAINING_SHARES.items()
    }


def study(chosen: Preset, seed: int) -> Spec:
    """Training and recalibration at the total ε; the hold-out is scored in the open here."""
    weights = initial_weights(chosen, len(FEATURES), seed.to_bytes(8, "little"))
    multipliers = split_budget(EPSILON, DELTA, training_shares(chosen))
    return Spec(chosen, FEATURES, weights, multipliers, patient_cap=2000)


def without_privacy(chosen: Preset) -> Preset:
    """The same descent with a clip that no gradient reaches."""
    return replace(chosen, clip=1e4, breslow_bound=1e4, breslow_pseudo_events=0.0)


def one_seed(seed: int, cohort: list[Site], chosen: Preset, *, oracles: bool) -> dict[str, tuple[float, float]]:
    """Every arm on one split: name → (C-index, −log-likelihood per patient) on the pooled hold-out."""
    rng = random.Random(seed)  # noqa: S311 - a benchmark that anybody can repeat; the product's keystream is a CSPRNG
    key = rng.randbytes(32)
    held = [np.array([in_holdout(key, pid) for pid in site.pids]) for site in cohort]
    trains = [site.data.rows(~h) for site, h in zip(cohort, held, strict=True)]
    test = joined([site.data.rows(h) for site, h in zip(cohort, held, strict=True)]).bounded(chosen.horizon)
    pooled, nobody = joined(trains), test.rows(np.zeros(len(test), dtype=bool))

    def keystream() -> Keystream:
        return random.Random(rng.randbytes(16)).randbytes  # noqa: S311 - as above

    def scored(outcome: Outcome) -> tuple[float, float]:
        model = outcome.model
        return harrell_c(model.risk(test.x, test.observed), test), negative_log_likelihood(model, test)

    spec, linear = study(chosen, seed), study(replace(chosen, hidden=()), seed)
    same_sigma = (SITES, COLLUSION, SITES)
    arms = {
        "federated": Federation([keystream() for _ in cohort]).run(spec, trains, nobody),
        "pooled, same realised noise": survival_plan(spec, pooled, nobody, CentralSum(keystream(), *same_sigma)),
    }
    if oracles:
        arms["federated, linear path only"] = survival_plan(
            linear, pooled, nobody, CentralSum(keystream(), *same_sigma)
        )
        arms["pooled, same ε (trusted curator)"] = survival_plan(spec, pooled, nobody, CentralSum(keystream()))
        open_spec = study(without_privacy(chosen), seed)
        arms["pooled, no privacy"] = survival_plan(open_spec, pooled, nobody, UnprotectedSum())
        linear_open = study(replace(without_privacy(chosen), hidden=()), seed)
        arms["pooled, no privacy, linear path only"] = survival_plan(linear_open, pooled, nobody, UnprotectedSum())
        for i, (site, train) in enumerate(zip(cohort, trains, strict=True)):
            declared = 0.8 * len(site.data)
            name = f"hospital {i + 1} of {SITES} ({len(site.data)} patients) alone"
            own = study(chosen.sized(declared), seed)
            arms[f"{name}, same ε"] = survival_plan(own, train, nobody, CentralSum(keystream()))
            own_open = study(without_privacy(chosen.sized(declared)), seed)
            arms[f"{name}, no privacy"] = survival_plan(own_open, train, nobody, UnprotectedSum())
    return {name: scored(outcome) for name, outcome in arms.items()}


def coupled(cohort: list[Site], chosen: Preset) -> float:
    """Largest parameter difference between federated and pooled training under the same noise."""
    spec = study(chosen, 0)
    trains = [site.data for site in cohort]
    nobody = trains[0].rows(np.zeros(len(trains[0]), dtype=bool))
    federation = Federation([random.Random(i).randbytes for i in range(SITES)])  # noqa: S311 - as above
    one = federation.run(spec, trains, nobody)
    other = survival_plan(spec, joined(trains), nobody, SameNoise(federation.noise))
    return float(np.max(np.abs(np.frombuffer(one.trained.params) - np.frombuffer(other.trained.params))))


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % normal interval."""
    mean, half = (
        float(np.mean(differences)),
        1.96 * float(np.std(differences, ddof=1)) / math.sqrt(len(differences)),
    )
    return mean, mean - half, mean + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pilot", type=int, default=40)
    parser.add_argument("--most", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cohort = sites()
    total = sum(len(site.data) for site in cohort)
    chosen = preset("aml-small").sized(round(0.8 * total))

    results = [one_seed(s, cohort, chosen, oracles=True) for s in range(args.pilot)]

    def differences(score: int) -> list[float]:
        return [r["federated"][score] - r["pooled, same realised noise"][score] for r in results]

    spread = float(np.std(differences(0), ddof=1))
    needed = math.ceil((1.96 * spread / AIM) ** 2)
    seeds = min(max(needed, args.pilot), args.most)
    print(
        f"pilot: sd of the difference {spread:.4f}; half-width {AIM} takes {needed} seeds, running {seeds}",
        flush=True,
    )
    results += [one_seed(s, cohort, chosen, oracles=False) for s in range(args.pilot, seeds)]

    mean, low, high = interval(differences(0))
    nll, nll_low, nll_high = interval(differences(1))
    drift = coupled(cohort, chosen)
    figure = "distributed noise = pooled DP"
    rows = [
        row(figure, "paired C-index difference, mean", mean, "C-index"),
        row(figure, "95 % interval, lower end", low, "C-index", -MARGIN, "higher", passed=low > -MARGIN),
        row(figure, "95 % interval, upper end", high, "C-index", MARGIN, "lower", passed=high < MARGIN),
        row(figure, "paired -log-likelihood difference, mean", nll, "nats/patient"),
        row(figure, "95 % interval, half-width", (nll_high - nll_low) / 2, "nats/patient"),
        row(figure, "seeds needed for half-width 0.0008", needed, "seeds"),
        row(figure, "seeds run", seeds, "seeds"),
        row(
            figure,
            "same noise: largest parameter difference",
            drift,
            "parameter",
            1e-5,
            "lower",
            passed=drift < 1e-5,
        ),
    ]
    for name in results[0]:
        runs = [r[name] for r in results if name in r]
        c, n = np.array(runs).T
        rows += [
            row("LeukSurv hold-out, ε = 2", f"{name}: C-index, mean", float(c.mean()), "C-index"),
            row(
                "LeukSurv hold-out, ε = 2",
                f"{name}: C-index, sd over {len(runs)} seeds",
                float(c.std(ddof=1)),
                "C-index",
            ),
            row("LeukSurv hold-out, ε = 2", f"{name}: -log-likelihood, mean", float(n.mean()), "nats/patient"),
        ]
    report = {
        "rows": rows,
        "seeds": seeds,
        "pilot_seeds": args.pilot,
        "epsilon": EPSILON,
        "delta": DELTA,
        "preset": chosen.to_json(),
        "hospitals": [len(site.data) for site in cohort],
        "cores": os.cpu_count(),
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    table(results, mean, low, high)
    if not (low > -MARGIN and high < MARGIN):
        sys.exit("equivalence: the interval is not inside ± 0.01")


def row(
    figure: str, name: str, value: float, unit: str, bar: float | None = None, better: str | None = None,
    *, passed: bool | None = None,
) -> dict[str, object]:  # fmt: skip
    """One row of the results file."""
    return {
        "figure": figure,
        "name": name,
        "value": value,
        "unit": unit,
        "bar": bar,
        "better": better,
        "passed": passed,
    }


def table(results: list[dict[str, tuple[float, float]]], mean: float, low: float, high: float) -> None:
    """Print the comparison."""
    print(f"\n{'arm':52} {'seeds':>5}  {'C-index':>15}  {'-log-lik.':>15}")
    for name in results[0]:
        runs = np.array([r[name] for r in results if name in r])
        (c, n), (sc, sn) = runs.mean(axis=0), runs.std(axis=0, ddof=1)
        print(f"{name:52} {len(runs):5}  {c:.4f} ± {sc:.4f}  {n:.4f} ± {sn:.4f}")
    print(f"\nfederated - pooled, C-index: {mean:+.4f} (95 % {low:+.4f} to {high:+.4f}); required: ± {MARGIN}")


if __name__ == "__main__":
    main()
