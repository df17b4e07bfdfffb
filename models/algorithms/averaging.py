"""FedAvg and FedProx: hospitals train alone for a few steps, the changes are added through the secure sum.

In round t all sites hold the same weights w. Site k takes E full-batch steps on its own patients from w,

    v ← rule(v, Σ_i clip(∇ℓ_i(v), C) [+ noise] / (π_k N)),    FedProx then  v ← (v + aw)/(1 + a),  a = μ·learning rate

and contributes π_k · cut(v − w, B). Everybody adds the sum, times a public rate, to w. N is the declared number of
patients of all sites and π_k the site's share of it: a public constant of the study, from declared size bands, never a
count. A site that is missing leaves its share of the weights where they were. With E = 1, plain steps and B out of
reach this is lockstep gradient descent for every choice of shares. The proximal term μ/2·‖v − w‖² is applied as its
proximal operator, which is stable for every μ; as μ → ∞ nobody leaves w.

Under differential privacy the noise is inside every local step (`models.algorithms.local`): "local noise". A share of
noise in the sum cannot cover what E steps did, and is refused. Full batches, E and the number of rounds are fixed; the
optimiser's state begins anew in each round, so that a site that comes back needs nothing but the released sums.

Sources: McMahan et al., AISTATS 2017 (FedAvg); Li et al., MLSys 2020 (FedProx); Reddi et al., ICLR 2021 (server rate).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from typing import Final

import numpy as np
import torch

from dp.arithmetic import chosen
from dp.bookkeeping import ClippedGradients, Table
from dp.errors import UploadsExhausted
from dp.optimizer import Adam, Momentum, PublicUpdate
from dp.queries import ACCOUNT_OF, Float64, Query, SecureSum
from models.algorithms.local import LocalNoise, cut, step_query
from models.algorithms.protection import UPDATE, WORDS, require_own_noise
from models.constants import canonical
from models.data import SurvivalData
from models.deepsurv import flat, pour
from models.errors import ConfigError, MisuseError
from models.learners import Trainable, trainable
from models.presets import Preset
from models.training import Trained, model_digest, ridge
from secagg.manifest import Noise

__all__ = ["Averaging", "Rounds", "Site", "average", "fit", "update_query"]

_WHOLE: Final = 1e-9  # shares add up to one within this


@dataclass(frozen=True)
class Averaging:
    """Public constants of the rounds; the preset holds the rest: its steps are rounds, its update the local rule.

    Args:
        local_steps: E, 1 … 1000.
        bound: B > 0, L2 norm that one site's change is cut to.
        proximal: μ ≥ 0; 0 is FedAvg.
        server_rate: > 0, what the sum of changes is multiplied by.
        shares: π_k > 0 of each site in the study's order, together 1; see `of_bands`.

    Raises:
        ConfigError: a value outside its range.
    """

    local_steps: int
    bound: float
    proximal: float
    server_rate: float
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the ranges."""
        if type(self.local_steps) is not int or not 1 <= self.local_steps <= 1000:
            raise ConfigError("local_steps must be 1 … 1000")
        if not all(0 < value < math.inf for value in (self.bound, self.server_rate)):
            raise ConfigError("bound and server_rate must be finite and positive")
        if not 0 <= self.proximal < math.inf:
            raise ConfigError("proximal must be finite and at least 0")
        if not self.shares or min(self.shares) <= 0 or not abs(math.fsum(self.shares) - 1.0) <= _WHOLE:
            raise ConfigError("shares must be positive and add up to 1: they are declared, one for each site")

    @classmethod
    def of_bands(
        cls,
        declared: tuple[float, ...],
        *,
        local_steps: int,
        bound: float,
        proximal: float = 0.0,
        server_rate: float = 1.0,
    ) -> Averaging:
        """Shares in proportion to declared sizes, e.g. the middles of the sites' size bands.

        >>> Averaging.of_bands((150.0, 50.0), local_steps=5, bound=10.0).shares
        (0.75, 0.25)

        Args:
            declared: patients of each site as a person typed them in, > 0; never counted.
            local_steps: see the class.
            bound: see the class.
            proximal: see the class.
            server_rate: see the class.
        """
        whole = math.fsum(declared)
        if not declared or min(declared) <= 0 or not math.isfinite(whole):
            raise ConfigError("every site declares a size above 0")
        return cls(local_steps, bound, proximal, server_rate, tuple(size / whole for size in declared))

    def to_json(self) -> dict[str, object]:
        """All fields as JSON values, for the study."""
        return asdict(self) | {"shares": list(self.shares)}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> Averaging:
        """Read them.

        Raises:
            ConfigError: a field is missing, unknown or of another type.
        """
        match dict(body):
            case {
                "local_steps": int(steps),
                "bound": int() | float() as bound,
                "proximal": int() | float() as proximal,
                "server_rate": int() | float() as rate,
                "shares": list(shares),
            } if len(body) == 5 and all(type(share) in {int, float} for share in shares):
                return cls(steps, float(bound), float(proximal), float(rate), tuple(float(share) for share in shares))
        raise ConfigError("averaging has the fields local_steps, bound, proximal, server_rate and shares")

    def digest(self) -> str:
        """Hex SHA-256 of all fields."""
        return hashlib.sha256(canonical(self.to_json())).hexdigest()


@dataclass(frozen=True)
class Rounds:
    """What the rounds left.

    Args:
        trained: averaged parameters, and completed rounds as its steps.
        noise: whose, in words: "local noise …" or "no noise …".
    """

    trained: Trained
    noise: str


def update_query(
    preset: Preset, averaging: Averaging, length: int, multiplier: float, patient_cap: int, index: int = 0
) -> Query:
    """The query of one round: Σ_k π_k cut(v_k − w, B).

    Its multiplier is what one upload costs: that of the E local steps together. Its sensitivity, B, is the largest
    contribution of a site, the unit of the integers; no noise is added on account of it.

    Args:
        preset: model and local constants.
        averaging: rounds.
        length: d.
        multiplier: z/√E > 0 (`local.upload_multiplier`); in a study without noise what it writes for none.
        patient_cap: public cap on patients per site.
        index: of the round.
    """
    constants: dict[str, object] = {
        "plan": "haemfed/averaging/v1",
        "preset": preset.digest().hex(),
        "averaging": averaging.digest(),
    }
    account = ACCOUNT_OF[UPDATE]
    return Query(UPDATE, index, length, averaging.bound, multiplier, account, patient_cap, canonical(constants))


def fit(
    preset: Preset,
    averaging: Averaging,
    site: int,
    features: int,
    weights: bytes,
    data: SurvivalData,
    secure_sum: SecureSum,
    query: Callable[[int], Query],
    on_step: Callable[[int, str], None] | None = None,
    *,
    noise: Noise,
    local_noise: LocalNoise | None = None,
) -> Rounds:
    """Train by rounds; all sites end with the same bits.

    Args:
        preset: any learner; `steps` are rounds, `uploads`, `clip`, `update`, `learning_rate`, `momentum` (of the local
            rule), `normaliser` (declared patients of all sites) and `averaging` as in lockstep.
        averaging: rounds.
        site: this site's place among the shares, 0-based.
        features: p.
        weights: initial weights from the study.
        data: this site's training patients; may be empty: then nothing but noise moves its weights.
        secure_sum: the door.
        query: round → `update_query`; each is asked about the present weights.
        on_step: called after each round with (rounds done, digest of the averaged parameters).
        noise: the study's.
        local_noise: of this site; exactly if the study's noise is local.

    Raises:
        NotPerPatient: (a TypeError) the study counts on shared noise.
        MisuseError: data, weights, query, site or local noise do not fit the study.
    """
    require_own_noise(noise)
    if (local_noise is None) is (noise is Noise.LOCAL):
        raise MisuseError("a site draws noise of its own if and only if the study's noise is local")
    if not 0 <= site < len(averaging.shares):
        raise MisuseError(f"site {site} of {len(averaging.shares)} shares")
    if data.features != features:
        raise MisuseError(f"the study has {features} features, the data {data.features}")
    made = trainable(preset, features)
    pour(made.module, weights)
    numbers = preset.uploads * averaging.local_steps * (len(weights) // 8)
    gradients = ClippedGradients(made.module, made.losses, clip=preset.clip, arithmetic=chosen(numbers))
    own = Site(preset, averaging, averaging.shares[site], made, gradients, data, local_noise)
    return Rounds(average(preset, averaging, weights, own.contribution, secure_sum, query, on_step), WORDS[noise])


def average(
    preset: Preset,
    averaging: Averaging,
    weights: bytes,
    contribution: Callable[[Query, Float64], Float64],
    secure_sum: SecureSum,
    query: Callable[[int], Query],
    on_step: Callable[[int, str], None] | None = None,
) -> Trained:
    """The rounds themselves: what all sites compute alike from public bytes and released sums.

    Args:
        preset: see `fit`.
        averaging: rounds.
        weights: where they start.
        contribution: (query of the round, its weights) → `Site.contribution`; in one process the sum of many.
        secure_sum: see `fit`.
        query: see `fit`.
        on_step: see `fit`.

    Raises:
        MisuseError: the query does not fit.
    """
    _check(query(0), averaging, len(weights) // 8)
    current = mean = _numbers(weights)
    done = 0
    while done < preset.steps:
        asked = query(done).about(current.astype("<f8").tobytes())
        try:
            total = secure_sum(asked, partial(contribution, asked, current))
        except UploadsExhausted:
            break
        done += 1
        current = current + averaging.server_rate * total
        rho = (preset.averaging + 1.0) / (done + preset.averaging)
        mean = (1.0 - rho) * mean + rho * current
        if on_step is not None:
            on_step(done, model_digest(mean.astype("<f8").tobytes()))
    return Trained(mean.astype("<f8").tobytes(), done)


class Site:
    """One hospital's local steps.

    Every contribution begins with the weights that it is given and keeps nothing but the count of its steps, so
    hospitals of one process may share network and kernel.

    Args:
        preset: see `fit`.
        averaging: rounds.
        share: π of this hospital.
        made: the network.
        gradients: clipped sums of that network, with the preset's clip norm.
        data: the hospital's training patients; may be empty.
        local_noise: see `fit`.
    """

    def __init__(
        self,
        preset: Preset,
        averaging: Averaging,
        share: float,
        made: Trainable,
        gradients: ClippedGradients,
        data: SurvivalData,
        local_noise: LocalNoise | None = None,
    ) -> None:
        self._preset, self._averaging, self._share = preset, averaging, share
        self._module, self._noise, self._gradients = made.module, local_noise, gradients
        self._patients: Table = gradients.table(made.columns(data.bounded(preset.horizon)))
        self._ridge = ridge(made.module, made.penalties, 1.0 / preset.normaliser)
        self._steps = count()  # never repeats, also when a round does

    def contribution(self, query: Query, start: Float64) -> Float64:
        """π · cut(v − w, B), float64[d]."""
        preset = self._preset
        pour(self._module, start.astype("<f8").tobytes())
        rule = (
            Adam(preset.learning_rate) if preset.update == "adam" else Momentum(preset.learning_rate, preset.momentum)
        )
        update = PublicUpdate(self._module.parameters(), rule)
        kept = 1.0 / (1.0 + self._averaging.proximal * preset.learning_rate)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite contributes zero
            for _ in range(self._averaging.local_steps):
                self._descend(update, self._noisy(query))
                if kept < 1.0:
                    v = _numbers(flat(self._module))
                    pour(self._module, (kept * v + (1.0 - kept) * start).astype("<f8").tobytes())
            change = _numbers(flat(self._module)) - start
        return self._share * cut(change, self._averaging.bound)

    def _noisy(self, upload: Query) -> Float64:
        """Clipped sum of one local step, with the site's whole noise where the study has any."""
        clipped = self._gradients.sum(self._patients)
        if self._noise is None:
            return clipped
        step = step_query(upload, self._preset.clip, self._averaging.local_steps, next(self._steps))
        return self._noise(step, clipped)

    def _descend(self, update: PublicUpdate, total: Float64) -> None:
        mean = total / (self._share * self._preset.normaliser)
        start = 0
        for p in self._module.parameters():
            p.grad = torch.from_numpy(mean[start : start + p.numel()].copy()).view_as(p)
            start += p.numel()
        self._ridge(None)
        update.step()


def _check(query: Query, averaging: Averaging, length: int) -> None:
    if query.kind != UPDATE or query.length != length or query.sensitivity != averaging.bound:
        raise MisuseError(
            f"the update query must have length {length} and unit {averaging.bound:g}; "
            f"got {query.kind}, {query.length}, {query.sensitivity:g}"
        )


def _numbers(params: bytes) -> Float64:
    return np.frombuffer(params, dtype="<f8").astype(np.float64)
