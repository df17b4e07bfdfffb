"""Late fusion of modalities: proportional hazards from blocks of features, any of which a hospital may lack.

The columns come in blocks (clinical, cytogenetic, mutations, an image embedding …), each encoded on its own:

    f(x) = clip(s·u + r·(1 − b) + v·head(b_1 c_1, …, b_B c_B), ±8),  c_j = tanh(E_j u_j + e_j),  factors = e^baseline

| block   | present (b_j = 1) if  | u_j where present               | u_j where absent |
|---------|-----------------------|---------------------------------|------------------|
| numbers | any column is observed| (x · observed, 1 − observed)    | 0                |
| vector  | every column is       | x / √width                      | 0                |

A hospital that has no images has b = 0 there: its patients move no weight of that block's encoder or linear path, what
stands in its columns is never read, and that a block is absent is one indicator, not one for each of its numbers (768
of them would use up a patient's clip norm). A vector has no meaning in parts, so one mask is enough; it is divided by
√width so that a vector of unit spread is an input of length one, as a public constant must do what a batch norm does
elsewhere.

Source: Chen et al., Cancer Cell 2022;40:865 (late fusion of histology and genomics); the linear path as in DeepSurv.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models import portable
from models.data import Bool, Float64, inputs
from models.errors import MisuseError
from models.networks.base import Arrays, Layout, row_product
from models.networks.hazards import RISK_BOUND

__all__ = ["FusedBlocks"]


@dataclass(frozen=True)
class FusedBlocks:
    """The public form of a fusion network.

    Args:
        hidden: widths of the head's hidden layers; () joins the codes linearly.
        latent: L ≥ 1, length of each block's code.
        blocks: widths of the blocks in column order, together p; () = all columns are one block.
        vectors: which blocks (0-based, increasing) are vectors: observed as a whole or not at all.
    """

    hidden: tuple[int, ...]
    latent: int
    blocks: tuple[int, ...]
    vectors: tuple[int, ...]

    @property
    def learner(self) -> str:
        """Its kind."""
        return "fusion"

    def widths(self, features: int) -> tuple[int, ...]:
        """Columns of each block.

        Raises:
            MisuseError: the blocks are not p columns together.
        """
        widths = self.blocks or (features,)
        if features < 1 or min(widths) < 1 or sum(widths) != features:
            raise MisuseError(f"blocks of {widths} columns are not the {features} features of the study")
        return widths

    def seen(self, features: int) -> tuple[int, ...]:
        """Length of each block's u_j."""
        widths = self.widths(features)
        return tuple(w if j in self.vectors else 2 * w for j, w in enumerate(widths))

    def layout(self, features: int, intervals: int) -> Layout:
        """See `Network`.

        >>> FusedBlocks((), 2, (1, 3), (1,)).layout(4, 5)[1:4]
        (('skip.weight', (1, 7)), ('encoders.0.weight', (2, 2)), ('encoders.0.bias', (2,)))
        """
        lengths = self.seen(features)
        known = all(a < b for a, b in pairwise((-1, *self.vectors, len(lengths))))
        if intervals < 1 or self.latent < 1 or not known or any(width < 1 for width in self.hidden):
            raise MisuseError(
                f"no fusion of {len(lengths)} blocks, vectors {self.vectors}, hidden {self.hidden}, "
                f"latent {self.latent}, {intervals} intervals"
            )
        parts: list[tuple[str, tuple[int, ...]]] = [
            ("baseline.weight", (intervals, 1)),
            ("skip.weight", (1, sum(lengths) + len(lengths))),
        ]
        for j, length in enumerate(lengths):
            parts += [(f"encoders.{j}.weight", (self.latent, length)), (f"encoders.{j}.bias", (self.latent,))]
        widths = (self.latent * len(lengths), *self.hidden)
        for i, (a, b) in enumerate(pairwise(widths)):
            parts += [(f"head.{i}.weight", (b, a)), (f"head.{i}.bias", (b,))]
        return (*parts, ("out.weight", (1, widths[-1])))

    def start(self, name: str, shape: tuple[int, ...], seed: bytes, log_hazard: float) -> Float64:
        """Baseline = the public guess; linear path and output layer 0: the untrained model ranks nobody."""
        count = math.prod(shape)
        if name == "baseline.weight":
            return np.full(count, log_hazard)
        if name.startswith(("encoders.", "head.")) and name.endswith(".weight"):
            return portable.symmetric(seed, count, fan_in=shape[1])
        return np.zeros(count)

    def factors(self, arrays: Arrays, intervals: int) -> Float64:
        """Baseline hazards per year, e^b."""
        return portable.exp(arrays["baseline.weight"].reshape(intervals))

    def inputs(self, x: Float64, observed: Bool) -> Float64:
        """(u_1, …, u_B, 1 − b), float64[n, Σ length + B]; row i is a function of patient i alone.

        Args:
            x: float64[n, p]; what is not observed is ignored.
            observed: bool[n, p].
        """
        parts: list[Float64] = []
        absent: list[Float64] = []
        first = 0
        for j, width in enumerate(self.widths(x.shape[1])):
            block, seen = x[:, first : first + width], observed[:, first : first + width]
            present: Bool = np.all(seen, axis=1) if j in self.vectors else np.any(seen, axis=1)
            whole = block / math.sqrt(width) if j in self.vectors else inputs(block, seen)
            parts.append(np.where(present[:, None], whole, 0.0))
            absent.append(1.0 - present[:, None].astype(np.float64))
            first += width
        return np.concatenate([*parts, *absent], axis=1)

    def log_relative(self, arrays: Arrays, x: Float64, observed: Bool, grid: tuple[float, ...]) -> Float64:  # noqa: ARG002 - as in Network
        """f, float64[n, 1] in ±`RISK_BOUND`."""
        u = self.inputs(x, observed)
        lengths = self.seen(x.shape[1])
        codes: list[Float64] = []
        first = 0
        for j, length in enumerate(lengths):
            code = row_product(u[:, first : first + length], arrays[f"encoders.{j}.weight"])
            present = 1.0 - u[:, sum(lengths) + j, None]
            codes.append(np.tanh(code + arrays[f"encoders.{j}.bias"]) * present)
            first += length
        active = np.concatenate(codes, axis=1)
        for i in range(len(self.hidden)):
            active = np.tanh(row_product(active, arrays[f"head.{i}.weight"]) + arrays[f"head.{i}.bias"])
        f = row_product(u, arrays["skip.weight"]) + row_product(active, arrays["out.weight"])
        risk: Float64 = np.clip(f, -RISK_BOUND, RISK_BOUND)
        return risk

    def to_json(self) -> dict[str, object]:
        """Widths, length of the codes, blocks, which of them are vectors."""
        return {
            "hidden": list(self.hidden),
            "latent": self.latent,
            "blocks": list(self.blocks),
            "vectors": list(self.vectors),
        }
