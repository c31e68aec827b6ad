"""Linear recurrence: a state that decays and takes in.

Clauses     MDI-1
Parallel    all steps at once: the associative scan of _scan.py
Memory      a few copies of [B, T, D] in the arithmetic dtype
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import jax

from ._checks import check_arrays
from ._precision import widen
from ._scan import recurrence


def linear_recurrence(a: jax.Array, b: jax.Array, h0: jax.Array) -> jax.Array:
    """Return h_t = a_t h_{t-1} + b_t with h_{-1} = h0.

    Clauses  MDI-1
    Args     a   [B, T, D]  decay per step, in [-1, 1]
             b   [B, T, D]  inflow per step
             h0  [B, D]     state before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays({"a": (a, "BTD"), "b": (b, "BTD"), "h0": (h0, "BD")}, domains={"a": (-1.0, 1.0)})
    return recurrence(*widen(a, b, h0)).astype(a.dtype)
