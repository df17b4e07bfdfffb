"""An Opacus `DPOptimizer` whose all-reduce is a secure sum, and an update every host computes alike.

`SecureSumOptimizer` replaces the parts of Opacus 1.6 that are unsound for us: it clips with an exact sum
(`dp.bookkeeping`), adds no noise of its own (the door does, inside the sum), and divides by a public
constant instead of the batch size (opacus#571, #819). One step is one pass over the patients that a
sampler names, so that nobody can count twice.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from opacus.optimizers import DPOptimizer

from dp.bookkeeping import ClippedGradients
from dp.errors import MisuseError
from dp.queries import Float64, Query, SecureSum
from dp.sampling import FULL_BATCH, Sampler


class SecureSumOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus ships no types
    """DP gradient descent over several hospitals: clip, secure sum, public division, public update.

    Each step releases one sum with the privacy of its `Query`; nothing else depends on patients.
    Every site that starts from the same parameters has bit-identical parameters after each step.

    Args:
        optimizer: the public update, normally `PublicUpdate`, over the parameters of the model in `gradients`.
        gradients: the clipped sum; its clip equals ``query(i).sensitivity``.
        patients: this site's patients, as the loss wants them; first axis = patient, possibly none.
        normaliser: public constant > 0 that divides the noisy sum: never N, never the batch size.
        secure_sum: the door.
        query: step index (0, 1, …) → the step's query.
        sampler: who takes part in an upload; its probability is the one that the query is charged for.

    Raises:
        MisuseError: the normaliser is not positive and finite, or the parameters are others than those of `gradients`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        gradients: ClippedGradients,
        patients: Sequence[torch.Tensor],
        *,
        normaliser: float,
        secure_sum: SecureSum,
        query: Callable[[int], Query],
        sampler: Sampler = FULL_BATCH,
    ) -> None:
        if not (np.isfinite(normaliser) and normaliser > 0):
            raise MisuseError("normaliser must be finite and > 0")
        super().__init__(
            optimizer,
            noise_multiplier=0.0,
            max_grad_norm=gradients.clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        if [id(p) for p in self.params] != [id(p) for p in gradients.parameters]:
            raise MisuseError("the optimizer's parameters are not those whose gradients are clipped")
        self.normaliser = float(normaliser)
        self.steps_done = 0
        self._gradients = gradients
        self._patients = tuple(patients)
        self._everybody = gradients.table(self._patients)
        self._secure_sum = secure_sum
        self._query = query
        self._sampler = sampler
        self._asking = False

    def step(self, closure: None = None) -> None:
        """Do one step. Forward and backward pass happen only if this site uploads, and again if a round is aborted.

        Raises:
            UploadsExhausted: the stage is over; the parameters are those of the last step.
            MisuseError: a closure; a query of another length, sensitivity or sampling probability.
        """
        if closure is not None:
            raise MisuseError("step takes no closure: the loss belongs to the clipped gradients")
        self._asking = True
        try:
            self.add_noise()
        finally:
            self._asking = False
        self.scale_grad()
        if self.step_hook is not None:
            self.step_hook(self)
        self.original_optimizer.step()
        self.steps_done += 1

    def clip_and_accumulate(self) -> None:
        """Set ``p.summed_grad`` to the clipped sum of the patients of this upload, float64."""
        chosen = self._sampler.draw(self._everybody.patients)
        table = self._everybody if chosen is None else self._gradients.table(self._patients, chosen)
        for p, part in self._parts(self._gradients.sum(table)):
            p.summed_grad = part

    def add_noise(self) -> None:
        """Hand the clipped sum over and set ``p.grad`` to the noisy sum of all sites; add nothing."""
        query = self._query(self.steps_done)
        if query.length != self._gradients.length or query.sensitivity != self.max_grad_norm:
            raise MisuseError(
                f"query of length {query.length} and sensitivity {query.sensitivity:g} for a model of "
                f"{self._gradients.length} parameters clipped to {self.max_grad_norm:g}"
            )
        if query.sampling_probability != self._sampler.probability:
            raise MisuseError(
                f"a query charged at sampling probability {query.sampling_probability:g}, a sampler of "
                f"{self._sampler.probability:g}"
            )
        total = self._secure_sum(query, self._contribution)
        if total.dtype != np.float64 or total.shape != (query.length,) or not np.isfinite(total).all():
            raise MisuseError("the secure sum returned something else than float64[d], finite")
        for p, part in self._parts(total.copy()):
            p.grad = part

    def scale_grad(self) -> None:
        """Divide the noisy sum by the public normaliser."""
        for p in self.params:
            p.grad.div_(self.normaliser)

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool | None:  # noqa: ARG002 - Opacus' signature
        """Not available: Opacus would clip before it knows whether this site uploads."""
        raise MisuseError("call step(); the parts of a step are not a public interface")

    def signal_skip_step(self, do_skip: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - Opacus' signature
        """Not available: virtual batches are not supported."""
        raise MisuseError("virtual batches are not supported: one pass over the patients per step")

    def _contribution(self) -> Float64:
        if not self._asking:
            raise MisuseError("the secure sum kept a contribution beyond its step")
        try:
            self.clip_and_accumulate()
            flat: Float64 = torch.cat([p.summed_grad.reshape(-1) for p in self.params]).numpy()
        finally:
            for p in self.params:
                p.summed_grad = None
        return flat

    def _parts(self, flat: Float64) -> Iterator[tuple[Any, torch.Tensor]]:
        """Each parameter with its part of a flat vector, as a tensor of its shape."""
        start = 0
        for p in self.params:
            yield p, torch.from_numpy(flat[start : start + p.numel()]).view_as(p)
            start += p.numel()


@dataclass(frozen=True)
class Momentum:
    """v ← decay·v + g,  θ ← θ − learning_rate·v  (heavy ball)."""

    learning_rate: float
    decay: float = 0.9


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015, algorithm 1, with bias correction."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


class PublicUpdate(torch.optim.Optimizer):
    """Update of public parameters by a released gradient, bit-identical on every IEEE-754 host.

    Element-wise float64 numpy with + − × ÷ √ alone, one correctly rounded operation at a time: no
    matrix product, no fused multiply-add, no power function.

    Args:
        params: float64 parameters on the CPU.
        rule: `Momentum` or `Adam`; the constants are part of the study.

    Raises:
        MisuseError: a parameter that is not float64 on the CPU, or groups of parameters.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], rule: Momentum | Adam) -> None:
        super().__init__(list(params), {})
        if len(self.param_groups) != 1:
            raise MisuseError("one rule for all parameters: groups are not supported")
        self._parameters: list[torch.nn.Parameter] = self.param_groups[0]["params"]
        if any(p.dtype != torch.float64 or p.device.type != "cpu" for p in self._parameters):
            raise MisuseError("the public update needs float64 parameters on the CPU")
        self._rule = rule
        # One vector for all parameters: an operation on many short ones costs its call, not its numbers.
        length = sum(p.numel() for p in self._parameters)
        self._first, self._second = np.zeros(length), np.zeros(length)
        # β^t by repeated multiplication: pow() may differ between C libraries in the last bit.
        self._power1 = self._power2 = 1.0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # never returns a loss: a loss is private
        """Apply the gradients in ``p.grad``; a parameter without one stops the step before any change.

        Raises:
            MisuseError: a closure (a loss would be a second look at patients) or a missing gradient.
        """
        if closure is not None:
            raise MisuseError("the public update looks at released gradients only: it takes no closure")
        parts = []
        for p in self._parameters:
            if p.grad is None:
                raise MisuseError("a parameter has no released gradient")
            parts.append(p.grad.numpy().reshape(-1))
        gradient = np.concatenate(parts)
        match self._rule:
            case Momentum() as rule:
                change = self._momentum(rule, gradient)
            case Adam() as rule:
                change = self._adam(rule, gradient)
        start = 0
        for p in self._parameters:
            theta = p.detach().numpy()  # shares the parameter's memory
            np.subtract(theta, change[start : start + theta.size].reshape(theta.shape), out=theta)
            start += theta.size

    def _momentum(self, rule: Momentum, g: Float64) -> Float64:
        v = self._first
        np.multiply(v, rule.decay, out=v)
        np.add(v, g, out=v)
        return np.asarray(rule.learning_rate * v)

    def _adam(self, rule: Adam, g: Float64) -> Float64:
        self._power1 *= rule.beta1
        self._power2 *= rule.beta2
        m, s = self._first, self._second
        np.add(rule.beta1 * m, (1.0 - rule.beta1) * g, out=m)
        np.add(rule.beta2 * s, (1.0 - rule.beta2) * (g * g), out=s)
        root = np.sqrt(s / (1.0 - self._power2))
        change = (m / (1.0 - self._power1)) / (root + rule.epsilon)
        return np.asarray(rule.learning_rate * change)
