"""Nonlinear recurrences solved in parallel over time by Triton kernels: speculate, scan, verify, splice.

    gated_recurrence_parallel(z, gamma, W_g, b_g, h0) -> (h, report)
    stabilized_recurrence_parallel(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0) -> (h, report)

The folder rows beside this one takes all chunks through time, as many rows; _chunks speculates and corrects the borders of
chunks, _splice and _stabilized_splice judge where they meet (_verdict). _solver puts them together and knows no recurrence.
`SUBJECT` puts it before whoever judges the loop.
"""

import torch

from .._checks import checked
from ._solver import Report
from .gated_recurrence import gated_recurrence, gated_recurrence_parallel
from .stabilized_recurrence import stabilized_recurrence, stabilized_recurrence_parallel

SUBJECT = {
    "name": "triton-parallel",
    "framework": "torch",
    "device": "cuda" if torch.cuda.is_available() else "cpu",
    "ops": {"gated_recurrence": gated_recurrence, "stabilized_recurrence": stabilized_recurrence},
    "checked": checked,
}

__all__ = [
    "SUBJECT",
    "Report",
    "checked",
    "gated_recurrence",
    "gated_recurrence_parallel",
    "stabilized_recurrence",
    "stabilized_recurrence_parallel",
]
