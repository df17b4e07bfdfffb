"""Per-patient clipping of gradients: torch in, the exact sum of `dp.rows` out."""

from collections.abc import Sequence

import torch

from dp.errors import MisuseError
from dp.queries import Float64
from dp.rows import clipped_units, from_units


def clipped_sum(grad_samples: Sequence[torch.Tensor], clip: float) -> Float64:
    """Return Σ over patients of the patient's flat gradient, clipped to L2 norm `clip`.

    One patient more or less changes the exact result by at most `clip` in L2 norm; a patient with a
    NaN, an infinity or a gradient larger than 2⁶⁴·C contributes exactly zero (see `dp.rows`).

    Args:
        grad_samples: one float64 tensor [n, *shape] per parameter, first axis = patient.
        clip: C > 0.

    Returns:
        float64[d], parameters in order, each flattened row by row.

    Raises:
        MisuseError: float32 gradients (their sums leave the proof by a factor of 1,000), or
            tensors that disagree on the number of patients.
    """
    blocks = []
    for tensor in grad_samples:
        if tensor.dtype != torch.float64:
            raise MisuseError(f"gradients are {tensor.dtype}: train in float64 (model.double())")
        # Not reshape(n, -1): for a hospital without patients -1 would be ambiguous.
        flat = tensor.detach().reshape(tensor.shape[0], tensor.shape[1:].numel())
        blocks.append(flat.cpu().numpy())
    return from_units(clipped_units(blocks, clip), clip)
