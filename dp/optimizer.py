"""An Opacus `DPOptimizer` whose all-reduce is a secure sum, and an update every host computes alike.

`SecureSumOptimizer` replaces the parts of Opacus 1.6 that are unsound for us: it clips in float64
with an exact sum, adds no noise of its own (the door does, inside the sum), divides by a public
constant instead of the batch size (opacus#571, #819), and refuses accumulation over several
backward passes, which would count a patient twice.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator

from dp.clipping import clipped_sum
from dp.errors import MisuseError
from dp.queries import Float64, Query, SecureSum


def per_patient_gradients(model: torch.nn.Module) -> GradSampleModule:
    """Wrap a model so that a backward pass leaves one gradient per patient in ``p.grad_sample``.

    Args:
        model: float64, without buffers or layers that mix patients. Its loss is a *sum* of
            per-patient losses.

    Raises:
        MisuseError: the model is unsound under per-patient clipping, or not float64.
    """
    problems = ModuleValidator.validate(model, strict=False)
    if problems:
        raise MisuseError(f"the model cannot be trained per patient: {problems[0]}")
    if next(model.buffers(), None) is not None:
        raise MisuseError("the model has buffers: constants from data would leave the hospital unprotected")
    if any(p.dtype != torch.float64 for p in model.parameters()):
        raise MisuseError("the model is not float64: call model.double()")
    # "mean" would multiply each patient's gradient by the number of patients.
    return GradSampleModule(model, loss_reduction="sum", strict=True)


class SecureSumOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus ships no types
    """DP gradient descent over several hospitals: clip, secure sum, public division, public update.

    Each step releases one sum with the privacy of its `Query`; nothing else depends on patients.
    Every site that starts from the same parameters has bit-identical parameters after each step.

    Args:
        optimizer: the public update, normally `PublicUpdate`. Its parameters belong to a module
            wrapped by `per_patient_gradients`.
        clip: C > 0, L2 bound of one patient's gradient; equals ``query(i).sensitivity``.
        normaliser: public constant > 0 that divides the noisy sum: never N, never the batch size.
        secure_sum: the door.
        query: step index (0, 1, …) → the step's query.

    Raises:
        MisuseError: clip or normaliser is not positive and finite, or a parameter is not float64.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        clip: float,
        normaliser: float,
        secure_sum: SecureSum,
        query: Callable[[int], Query],
    ) -> None:
        for name, value in (("clip", clip), ("normaliser", normaliser)):
            if not (np.isfinite(value) and value > 0):
                raise MisuseError(f"{name} must be finite and > 0")
        super().__init__(
            optimizer,
            noise_multiplier=0.0,
            max_grad_norm=clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        if any(p.dtype != torch.float64 for p in self.params):
            raise MisuseError("parameters are not float64: every host must compute the same bits")
        self.normaliser = float(normaliser)
        self.steps_done = 0
        self._secure_sum = secure_sum
        self._query = query
        self._closure: Callable[[], object] | None = None
        self._length = sum(p.numel() for p in self.params)

    def step(self, closure: Callable[[], object] | None = None) -> None:
        """Do one step.

        Args:
            closure: forward and backward pass over the site's whole batch, of the *sum* of
                per-patient losses. Called only inside the contribution, so never for a step that is
                replayed from stored sums, and again if the round is aborted.

        Raises:
            UploadsExhausted: the stage is over; the parameters are those of the last step.
            MisuseError: no closure; gradients that are not per patient; a query of another length
                or sensitivity.
        """
        if closure is None:
            raise MisuseError("step needs the closure that does the forward and backward pass")
        self._closure = closure
        try:
            self.add_noise()
        finally:
            self._closure = None
        self.scale_grad()
        if self.step_hook is not None:
            self.step_hook(self)
        self.original_optimizer.step()
        self.steps_done += 1

    def clip_and_accumulate(self) -> None:
        """Set ``p.summed_grad`` to the clipped sum of this site's patients, float64.

        Raises:
            MisuseError: a parameter without per-patient gradients, or several backward passes.
        """
        samples = []
        for p in self.params:
            sample = getattr(p, "grad_sample", None)
            if isinstance(sample, list):
                raise MisuseError("several backward passes in one step: a patient would count more than once")
            if sample is None:
                raise MisuseError(
                    "a parameter has no per-patient gradient: wrap the model by per_patient_gradients "
                    "and use every parameter in the loss"
                )
            samples.append(sample)
        for p, part in self._parts(clipped_sum(samples, self.max_grad_norm)):
            p.summed_grad = part

    def add_noise(self) -> None:
        """Hand the clipped sum over and set ``p.grad`` to the noisy sum of all sites; add nothing."""
        query = self._query(self.steps_done)
        if query.length != self._length or query.sensitivity != self.max_grad_norm:
            raise MisuseError(
                f"query of length {query.length} and sensitivity {query.sensitivity:g} for a model of "
                f"{self._length} parameters clipped to {self.max_grad_norm:g}"
            )
        total = self._secure_sum(query, self._contribution)
        if total.dtype != np.float64 or total.shape != (self._length,) or not np.isfinite(total).all():
            raise MisuseError("the secure sum returned something else than float64[d], finite")
        for p, part in self._parts(total.copy()):
            p.grad = part.to(p.device)

    def scale_grad(self) -> None:
        """Divide the noisy sum by the public normaliser."""
        for p in self.params:
            p.grad.div_(self.normaliser)

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool | None:  # noqa: ARG002 - Opacus' signature
        """Not available: Opacus would clip before it knows whether this site uploads."""
        raise MisuseError("call step(closure); the parts of a step are not a public interface")

    def signal_skip_step(self, do_skip: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 - Opacus' signature
        """Not available: virtual batches are not supported."""
        raise MisuseError("virtual batches are not supported: one backward pass per step")

    def _contribution(self) -> Float64:
        if self._closure is None:
            raise MisuseError("the secure sum kept a contribution beyond its step")
        self._forget()  # whatever an aborted round left
        try:
            with torch.enable_grad():
                self._closure()
            self.clip_and_accumulate()
            flat: Float64 = torch.cat([p.summed_grad.reshape(-1) for p in self.params]).numpy()
        finally:
            self._forget()
        return flat

    def _parts(self, flat: Float64) -> Iterator[tuple[Any, torch.Tensor]]:
        """Each parameter with its part of a flat vector, as a tensor of its shape."""
        start = 0
        for p in self.params:
            yield p, torch.from_numpy(flat[start : start + p.numel()]).view_as(p)
            start += p.numel()

    def _forget(self) -> None:
        """Drop everything that depends on patients: ``p.grad`` of a backward pass is a raw gradient."""
        for p in self.params:
            p.grad = None
            p.grad_sample = None
            p.summed_grad = None


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
        self._first = [np.zeros(p.shape) for p in self._parameters]
        self._second = [np.zeros(p.shape) for p in self._parameters]
        # β^t by repeated multiplication: pow() may differ between C libraries in the last bit.
        self._power1 = self._power2 = 1.0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # never returns a loss: a loss is private
        """Apply the gradients in ``p.grad``; a parameter without one stops the step before any change.

        Raises:
            MisuseError: a closure (a loss would be a second look at patients) or a missing gradient.
        """
        if closure is not None:
            raise MisuseError("the public update looks at released gradients only: it takes no closure")
        gradients = []
        for p in self._parameters:
            if p.grad is None:
                raise MisuseError("a parameter has no released gradient")
            gradients.append(p.grad.numpy())
        match self._rule:
            case Momentum() as rule:
                self._momentum(rule, gradients)
            case Adam() as rule:
                self._adam(rule, gradients)

    def _momentum(self, rule: Momentum, gradients: list[Float64]) -> None:
        for p, g, v in zip(self._parameters, gradients, self._first, strict=True):
            np.multiply(v, rule.decay, out=v)
            np.add(v, g, out=v)
            theta = p.detach().numpy()  # shares the parameter's memory
            np.subtract(theta, rule.learning_rate * v, out=theta)

    def _adam(self, rule: Adam, gradients: list[Float64]) -> None:
        self._power1 *= rule.beta1
        self._power2 *= rule.beta2
        for p, g, m, s in zip(self._parameters, gradients, self._first, self._second, strict=True):
            np.add(rule.beta1 * m, (1.0 - rule.beta1) * g, out=m)
            np.add(rule.beta2 * s, (1.0 - rule.beta2) * (g * g), out=s)
            root = np.sqrt(s / (1.0 - self._power2))
            change = (m / (1.0 - self._power1)) / (root + rule.epsilon)
            theta = p.detach().numpy()
            np.subtract(theta, rule.learning_rate * change, out=theta)
