"""The gated recurrence solved in parallel over time by Triton kernels: speculate, scan, verify, splice.

    gated_recurrence_parallel(z, gamma, W_g, b_g, h0) -> (h, report)

_cell says what is stepped, the recurrence or its adjoint. _advance takes many rows through many steps in one launch, and
.._gated_walk few rows through all steps; _chunks speculates and corrects the borders of chunks, _splice judges where they
meet; _solver puts them together. `SUBJECT` puts it before whoever judges the loop.
"""

import torch

from .._checks import checked
from ._solver import Report
from .gated_recurrence import gated_recurrence, gated_recurrence_parallel

SUBJECT = {
    "name": "triton-parallel",
    "framework": "torch",
    "device": "cuda" if torch.cuda.is_available() else "cpu",
    "ops": {"gated_recurrence": gated_recurrence},
    "checked": checked,
}

__all__ = ["SUBJECT", "Report", "checked", "gated_recurrence", "gated_recurrence_parallel"]
