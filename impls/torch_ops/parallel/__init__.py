"""Nonlinear recurrences solved in parallel over time: speculate, scan, verify, splice.

    gated_recurrence_parallel(z, gamma, W_g, b_g, h0) -> (h, report)
    stabilized_recurrence_parallel(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0) -> (h, report)

`_solver.py` knows no recurrence; `_gated_cells.py` and `_stabilized_cells.py` know one step of each forwards and backwards,
`_room.py` what is granted to the roundings of both, `_layout.py` where the steps of a chunk lie. `SUBJECT` puts the
solver before whoever judges the loop, in the loop's place.
"""

import torch

from .._checks import checked
from ._solver import Report
from .gated_recurrence import gated_recurrence, gated_recurrence_parallel
from .stabilized_recurrence import stabilized_recurrence, stabilized_recurrence_parallel

SUBJECT = {
    "name": "torch-parallel",
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
