import math
from typing import Any

import numpy as np
import pytest

from audits.errors import MisuseError
from audits.mechanism import PathRun, conformance, detectable_deficit, null_contributions, rounds_needed
from dp import noise_shares
from dp.events import Account
from dp.queries import Query
from tests.audits.sample import MemoryPath, checked, honest_noise

Shape = tuple[int, int, int]


def scaled(factor: Any) -> Any:
    return lambda rng, shape, std: factor * honest_noise(rng, shape, std)


def missing_share(rng: np.random.Generator, shape: Shape, std: float) -> np.ndarray:
    noise = honest_noise(rng, shape, std)
    noise[:, -1] = 0.0
    return noise


def same_each_step(rng: np.random.Generator, shape: Shape, std: float) -> np.ndarray:
    return np.broadcast_to(honest_noise(rng, (1, *shape[1:]), std), shape)


def repeats_after_seven(rng: np.random.Generator, shape: Shape, std: float) -> np.ndarray:
    noise = honest_noise(rng, shape, std)
    noise[7:14] = noise[:7]
    return noise


def bare_last_block(rng: np.random.Generator, shape: Shape, std: float) -> np.ndarray:
    noise = honest_noise(rng, shape, std)
    noise[:, :, -10:] = 0.0
    return noise


def every_other_step(rng: np.random.Generator, shape: Shape, std: float) -> np.ndarray:
    noise = honest_noise(rng, shape, std)
    noise[1::2] = 0.0
    return noise


def shifted(rng: np.random.Generator, shape: Shape, std: float) -> np.ndarray:
    return honest_noise(rng, shape, std) + 0.05 * std


def uniform(rng: np.random.Generator, shape: Shape, std: float) -> np.ndarray:
    # one site draws nothing, another draws uniform noise of the right variance for both: right size, wrong
    # law
    noise = np.zeros(shape)
    noise[:, 0] = rng.uniform(-1, 1, (shape[0], shape[2])) * std * math.sqrt(3 * shape[1])
    return noise


def repeated_block(rng: np.random.Generator, shape: Shape, std: float) -> np.ndarray:
    noise = honest_noise(rng, shape, std)
    noise[:, :, 1::2] = noise[:, :, ::2]
    return noise


MUTANTS = {
    "size of the noise, total": [scaled(0.9), scaled(0.97), scaled(1.1), missing_share, every_other_step],
    "size of the noise, per block": [bare_last_block],
    "size of the noise, per round": [every_other_step],
    "same noise in two rounds": [same_each_step, repeats_after_seven],
    "lag-1 autocorrelation over rounds": [same_each_step],
    "lag-1 autocorrelation over coordinates": [repeated_block],
    "mean": [shifted],
    "normal shape": [uniform],
}


@pytest.mark.parametrize(("name", "mutant"), [(n, m) for n, ms in MUTANTS.items() for m in ms])
def test_a_wrong_trainer_is_caught_by_the_test_meant_for_it(name: str, mutant: Any) -> None:
    found = checked(MemoryPath(noise=mutant), rounds=160)
    assert not found.conforms
    assert name in {test.name for test in found.tests if test.rejected}


@pytest.mark.parametrize("seed", range(12))
def test_the_correct_trainer_is_not_rejected(seed: int) -> None:
    found = checked(MemoryPath(seed=seed), rounds=60)
    assert found.conforms
    assert found.multiplier.estimate == pytest.approx(17.0, rel=0.03)


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_promised() -> None:
    rejected = sum(not checked(MemoryPath(seed=1000 + seed, length=40), rounds=12).conforms for seed in range(120))
    assert rejected <= 2  # 0.12 expected; P(more than 2) < 3e-4


def test_synthetic_contributions_are_subtracted() -> None:
    path = MemoryPath()
    given = np.random.default_rng(5).normal(0, 30, (30, 6, 160))
    assert conformance(path.run(given), given).conforms
    assert not conformance(path.run(given), np.zeros_like(given)).conforms


def test_the_production_lattice_conforms() -> None:
    """Encode, exact discrete noise shares, integer sum, decode: the code of dp, without masks."""
    query = Query("gradient", 0, 94, 3.0, 17.0, Account.TRAINING, 500)
    sites, collusion, rounds = 6, 1, 12
    lattice = noise_shares.lattice(query, sites, honest=sites - collusion)
    keystream = np.random.default_rng(9).bytes  # any bytes will do for statistics; production uses a CSPRNG
    zeros = np.zeros((rounds, sites, 94))
    sums = np.stack(
        [
            noise_shares.decode(
                sum(
                    noise_shares.encode(zeros[r, s], query, lattice) + noise_shares.draw(keystream, 94)
                    for s in range(sites)
                ),
                query,
                lattice,
            )
            for r in range(rounds)
        ]
    )
    found = conformance(PathRun(query, sums, sites, sites - collusion), zeros)
    assert found.conforms
    short = conformance(PathRun(query, sums, sites + 2, sites + 1 - collusion), zeros)
    assert found.multiplier.estimate == pytest.approx(17.0, rel=0.1)
    assert short.multiplier.estimate != found.multiplier.estimate


def test_the_power_statement_is_true() -> None:
    rounds = rounds_needed(94, 0.05)
    assert detectable_deficit(rounds * 94) <= 0.05
    caught = sum(
        not checked(MemoryPath(noise=scaled(0.95), seed=seed, length=94), rounds=rounds).conforms for seed in range(20)
    )
    assert caught >= 19


def test_bad_input_is_refused() -> None:
    path = MemoryPath()
    zeros = null_contributions(path, 4)
    run = path.run(zeros)
    with pytest.raises(MisuseError):
        conformance(run, zeros[:3])
    with pytest.raises(MisuseError):
        conformance(run, zeros, blocks=(100, 59))
    broken = PathRun(run.query, np.full_like(run.sums, np.nan), 6, 5)
    with pytest.raises(MisuseError):
        conformance(broken, zeros)
    with pytest.raises(MisuseError):
        conformance(PathRun(run.query, run.sums[:1], 6, 5), zeros[:1])
    assert conformance(run, zeros, blocks=(100, 60)).tests[1].places == 2
