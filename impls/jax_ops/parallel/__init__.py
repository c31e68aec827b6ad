"""Nonlinear recurrences solved in parallel over time: speculate, scan, verify, splice.

    gated_recurrence_parallel(z, gamma, W_g, b_g, h0) -> (h, report)

`_solver.py` and `_advance.py` know no recurrence, `_cells.py` the gated one's step forwards and backwards, `_layout.py` where the
steps of a chunk lie, `_room.py` how far a splice may err, `_products.py` how a state is multiplied by narrow weights.
`SUBJECT` puts the solver before whoever judges the loop, in the loop's place.
"""

from .._checks import checked
from ._solver import Report
from .gated_recurrence import gated_recurrence, gated_recurrence_parallel

SUBJECT = {
    "name": "jax-parallel",
    "framework": "jax",
    "ops": {"gated_recurrence": gated_recurrence},
    "checked": checked,
}

__all__ = ["SUBJECT", "Report", "checked", "gated_recurrence", "gated_recurrence_parallel"]
