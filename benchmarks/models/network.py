"""DeepSurv without privacy, fast: a few networks side by side in numpy, gradients by hand, Adam on the full batch.

The model is that of `models.deepsurv` (linear path, one hidden tanh layer, piecewise-constant baseline) and the loss
that of `models.losses.PiecewiseExponential`, divided by the patients, plus ½(λ‖w‖² + κ(‖W‖² + ‖v‖²))/patients. Members
of an ensemble differ in their first weights alone; the ensemble's risk is the mean of theirs. The product trains the
same (`models.training`, preset "deepsurv-mds-open") ten times as slowly, because it clips each patient's gradient
exactly; this one is for the arms that train hundreds of times in a fold. The loss of a federation is the sum over its
hospitals, so lockstep training is this training with one table for each hospital.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data import Float64, SurvivalData, exposures, inputs
from models.networks import RISK_BOUND

__all__ = ["Adam", "Network", "Settings", "Table", "penalised", "rounds", "train"]

Float32 = NDArray[np.float32]
F: Final = np.float32


@dataclass(frozen=True)
class Settings:
    """Public constants of one training.

    Args:
        hidden: units of the hidden layer.
        members: networks of the ensemble.
        linear_penalty: λ, of the linear path, on the sum over patients.
        hidden_penalty: κ, of the hidden layer's weights.
        learning_rate: of Adam.
        steps: at most, with early stopping; else exactly.
        grid: edges in days.
        log_hazard: where the baseline starts, log of deaths per year.
    """

    hidden: int
    members: int
    linear_penalty: float
    hidden_penalty: float
    learning_rate: float
    steps: int
    grid: tuple[float, ...]
    log_hazard: float


@dataclass(frozen=True, eq=False)
class Table:
    """One hospital's patients as the network takes them."""

    z: Float32
    at_risk: Float32
    deaths: Float32

    @classmethod
    def of(cls, data: SurvivalData, grid: tuple[float, ...]) -> Table:
        """Bound the data and split their follow-up over the grid."""
        kept = data.bounded(grid[-1])
        at_risk, deaths = exposures(kept, grid)
        return cls(inputs(kept.x, kept.observed).astype(F), at_risk.astype(F), deaths.astype(F))

    def __len__(self) -> int:
        return len(self.z)


Params = list[Float32]


@dataclass(frozen=True, eq=False)
class Network:
    """Weights of all members: baselines [E, K], linear [E, D], W [E·H, D], c [E·H], v [E, H]."""

    params: Params = field(repr=False)

    @classmethod
    def start(cls, settings: Settings, columns: int, seed: int) -> Network:
        """Nobody is ranked yet: only the hidden layers differ from zero, uniform in ±1/√fan_in."""
        e, h, rng = settings.members, settings.hidden, np.random.default_rng([3, seed])
        bound = 1.0 / np.sqrt(columns)
        return cls(
            [
                np.full((e, len(settings.grid) - 1), settings.log_hazard, dtype=F),
                np.zeros((e, columns), dtype=F),
                rng.uniform(-bound, bound, (e * h, columns)).astype(F),
                np.zeros(e * h, dtype=F),
                np.zeros((e, h), dtype=F),
            ]
        )

    def risks(self, z: Float32) -> Float32:
        """Log-risk of every patient under every member, [n, E]."""
        return self._forward(z)[0]

    def risk(self, data: SurvivalData) -> Float64:
        """Mean log-risk of the members, float64[n]."""
        z = inputs(data.x, data.observed).astype(F)
        mean: Float64 = np.clip(self.risks(z), -RISK_BOUND, RISK_BOUND).mean(axis=1, dtype=np.float64)
        return mean

    def _forward(self, z: Float32) -> tuple[Float32, Float32]:
        _, linear, weight, bias, out = self.params
        e, h = out.shape
        active = np.tanh(z @ weight.T + bias).reshape(len(z), e, h)
        return z @ linear.T + np.einsum("neh,eh->ne", active, out), active

    def loss(self, table: Table) -> Float64:
        """Summed −log-likelihood of each member, float64[E]."""
        f = np.clip(self.risks(table.z), -RISK_BOUND, RISK_BOUND)
        hazard = np.exp(self.params[0])
        expected = (table.at_risk @ hazard.T) * np.exp(f)
        total: Float64 = (expected - table.deaths @ self.params[0].T - table.deaths.sum(1)[:, None] * f).sum(
            axis=0, dtype=np.float64
        )
        return total

    def gradient(self, table: Table) -> Params:
        """Summed gradient of the −log-likelihood, one array per parameter."""
        base, out = self.params[0], self.params[4]
        f, active = self._forward(table.z)
        inside = np.abs(f) <= RISK_BOUND
        growth = np.exp(np.clip(f, -RISK_BOUND, RISK_BOUND))
        hazard = np.exp(base)
        of_base = hazard * (growth.T @ table.at_risk) - table.deaths.sum(axis=0)
        slope = ((table.at_risk @ hazard.T) * growth - table.deaths.sum(axis=1)[:, None]) * inside
        of_out = np.einsum("ne,neh->eh", slope, active)
        back = (slope[:, :, None] * out * (1 - active * active)).reshape(len(f), -1)
        return [of_base, slope.T @ table.z, back.T @ table.z, back.sum(axis=0), of_out]


class Adam:
    """Kingma & Ba, ICLR 2015, with the usual constants; makes new arrays, so networks stay what they were."""

    def __init__(self, rate: float) -> None:
        self._rate, self._step = rate, 0
        self._first: Params = []
        self._second: Params = []

    def step(self, params: Params, gradients: Params) -> Params:
        """Return the parameters one step on."""
        self._step += 1
        if not self._first:
            self._first = [np.zeros_like(p) for p in params]
            self._second = [np.zeros_like(p) for p in params]
        done = []
        for k, (p, g) in enumerate(zip(params, gradients, strict=True)):
            self._first[k] = 0.9 * self._first[k] + 0.1 * g
            self._second[k] = 0.999 * self._second[k] + 0.001 * g * g
            mean = self._first[k] / (1 - 0.9**self._step)
            spread = np.sqrt(self._second[k] / (1 - 0.999**self._step))
            done.append(p - self._rate * mean / (spread + 1e-8))
        return done


def penalised(
    network: Network, summed: Params, settings: Settings, patients: float, everybody: float | None = None
) -> Params:
    """Return the gradient of the mean loss of some patients, with the penalties' share of one patient of everybody."""
    penalties = (0.0, settings.linear_penalty, settings.hidden_penalty, 0.0, settings.hidden_penalty)
    whole = everybody or patients
    return [
        g / float(patients) + float(penalty / whole) * p
        for g, p, penalty in zip(summed, network.params, penalties, strict=True)
    ]


def train(settings: Settings, tables: Sequence[Table], seed: int, watch: Sequence[Table] = ()) -> tuple[Network, int]:
    """Train in lockstep: one step for all hospitals together.

    Args:
        settings: public constants.
        tables: each hospital's patients.
        seed: of the first weights.
        watch: patients of the training data that are held back; with any, the network of the step with their lowest
            loss (all members together) is returned.

    Returns:
        the network, and how many steps it has taken.
    """
    network = Network.start(settings, tables[0].z.shape[1], seed)
    patients = float(sum(map(len, tables)))
    rule = Adam(settings.learning_rate)
    best, lowest, at = network, np.inf, 0
    for step in range(1, settings.steps + 1):
        summed = [sum(parts) for parts in zip(*(network.gradient(table) for table in tables), strict=True)]
        network = Network(rule.step(network.params, penalised(network, summed, settings, patients)))
        if watch and step % 5 == 0:
            loss = float(sum(network.loss(table).sum() for table in watch))
            if loss < lowest:
                best, lowest, at = network, loss, step
            if step > 2 * at + 50:
                break
    return (best, at) if watch else (network, settings.steps)


def rounds(
    settings: Settings, tables: Sequence[Table], seed: int, number: int, local_steps: int, proximal: float = 0.0
) -> Network:
    """FedAvg, and with a proximal term FedProx: hospitals train alone between averages, weighted by their patients.

    Source: McMahan et al., AISTATS 2017; Li et al., MLSys 2020.

    Args:
        settings: as in `train`; `steps` is not used.
        tables: each hospital's patients.
        seed: of the first weights.
        number: of rounds.
        local_steps: of Adam, anew in each round, on a hospital's own mean loss and its share of the penalties.
        proximal: μ of μ/2·‖w − w_round‖².
    """
    sizes = np.array([len(table) for table in tables], dtype=np.float64)
    shares = (sizes / sizes.sum()).astype(F)
    network = Network.start(settings, tables[0].z.shape[1], seed)
    for _ in range(number):
        parts = []
        for table in tables:
            own, rule = network, Adam(settings.learning_rate)
            for _ in range(local_steps):
                gradients = penalised(own, own.gradient(table), settings, len(table), sizes.sum())
                gradients = [
                    g + proximal * (p - start)
                    for g, p, start in zip(gradients, own.params, network.params, strict=True)
                ]
                own = Network(rule.step(own.params, gradients))
            parts.append(own.params)
        network = Network([np.tensordot(shares, np.stack(p), axes=1) for p in zip(*parts, strict=True)])
    return network
