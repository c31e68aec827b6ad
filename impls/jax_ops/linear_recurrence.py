"""Linear recurrence: a state that decays and takes in.

Clauses     MDI-1
Parallel    over rows, channels and, on CUDA, time: _scan.py
Memory      reads and writes every number once
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import jax

from ._checks import check_arrays
from ._scan import scan


def _coefficients(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    return a, b  # MDI-1


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
    return scan(_coefficients, (a, b), h0)
