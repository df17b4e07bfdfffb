"""The generator as a `ctgan.CTGAN`, for whoever works with that package.

Constants that put margins right become part of the last layer's bias, so the package needs nothing but weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.data import Float64
from models.generators.ctgan.form import CERTAIN, named
from models.generators.ctgan.model import CTGAN

if TYPE_CHECKING:
    import ctgan
    import pandas as pd

__all__ = ["to_ctgan"]

_ROWS = 512  # of one of its batches


def to_ctgan(model: CTGAN) -> ctgan.CTGAN:
    """A `ctgan.CTGAN` whose `sample(n)` returns patients of this generator as a data frame.

    Columns are those of the dictionary in scaled units (NaN: not observed), then "duration" in days and "event". It
    draws from the global streams of numpy and torch, as that package does: no public seed repeats it. Conditions are
    levels of follow-up by released frequencies, not their logarithms. Numbers are float32, the package's type.

    Raises:
        ConfigError: the package ctgan is not installed.
    """
    import torch  # noqa: PLC0415 - whoever only draws needs no torch

    from models.generators.ctgan.adversaries import generator_of  # noqa: PLC0415

    generator = generator_of(model.form)
    from ctgan import CTGAN as Theirs  # noqa: PLC0415, N811 - installed, or the line above has said so

    made = Theirs(
        embedding_dim=model.latent, generator_dim=model.units, batch_size=_ROWS, log_frequency=False, pac=1,
        enable_gpu=False,
    )  # fmt: skip
    state = {name: torch.tensor(values) for name, values in named(model.params, model.form.layout).items()}
    last, many = f"seq.{len(model.units)}", model.form.conditions
    state[f"{last}.bias"] = state[f"{last}.bias"] + torch.from_numpy(model.constants)
    state[f"{last}.weight"][-many:], state[f"{last}.bias"][-many:] = 0.0, 0.0
    state[f"{last}.weight"][-many:, -many:] = CERTAIN * torch.eye(many)  # as `Form.answers` has it
    for k, (mean, variance) in enumerate(model.statistics):
        state[f"seq.{k}.bn.running_mean"], state[f"seq.{k}.bn.running_var"] = torch.tensor(mean), torch.tensor(variance)
        state[f"seq.{k}.bn.num_batches_tracked"] = torch.tensor(1)
    generator.load_state_dict(state)
    made._generator = generator.float().eval()  # noqa: SLF001 - the package has no public door for weights
    made._transformer = _Transformer(model)  # noqa: SLF001
    made._data_sampler = _Sampler(model)  # noqa: SLF001
    return made


def _generator_of_numpy() -> np.random.Generator:
    return np.random.default_rng(np.random.randint(0, 2**31, size=4))  # noqa: NPY002 - the package's stream


@dataclass(frozen=True)
class _Sampler:
    """What `ctgan.CTGAN.sample` asks of a `DataSampler`."""

    model: CTGAN

    def dim_cond_vec(self) -> int:
        return self.model.form.conditions

    def sample_original_condvec(self, batch: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        draws = np.random.random(batch)  # noqa: NPY002 - the package's stream
        return self.model.coding.conditions(draws).astype(np.float32)


@dataclass(frozen=True)
class _Transformer:
    """What it asks of a `DataTransformer`."""

    model: CTGAN

    @property
    def output_dimensions(self) -> int:
        return self.model.form.width

    @property
    def output_info_list(self) -> list[list[Any]]:
        """A scalar and a one-hot, or a one-hot, of every column, in order."""
        from ctgan.data_transformer import SpanInfo  # noqa: PLC0415 - see the module

        scalars, out = dict(self.model.coding.places.scalars), []
        for j, group in enumerate(self.model.coding.places.groups):
            levels = SpanInfo(group.stop - group.start, "softmax")
            out.append([SpanInfo(1, "tanh"), levels] if j in scalars else [levels])
        return out

    def inverse_transform(self, rows: Float64) -> pd.DataFrame:
        """Rows as patients."""
        import pandas as pd  # noqa: PLC0415

        data = self.model.decoded(np.asarray(rows, dtype=np.float64), _generator_of_numpy())
        frame = pd.DataFrame(np.where(data.observed, data.x, np.nan), columns=list(self.model.dictionary.names))
        return frame.assign(duration=data.duration, event=data.event)
