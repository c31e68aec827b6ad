"""Running product of decays in log space, for products below the range of floating point.

Clauses     SCAN-6, STAB-3
Parallel    over rows, channels and, on CUDA, time: _scan.py
Memory      reads and writes every number once
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import math

import jax

from ._checks import check_arrays
from ._precision import clamp
from ._scan import scan


def _coefficients(log_gamma: jax.Array) -> tuple[None, jax.Array]:
    return None, clamp(log_gamma, -50.0, 0.0)  # SCAN-6, STAB-3


def log_decay_product(log_gamma: jax.Array, initial: jax.Array) -> jax.Array:
    """Return s_t = initial + sum_{i <= t} clamp(log_gamma_i, -50, 0).

    A NaN gives NaN from its step on. The gradient is zero where the clamp binds; at exactly -50 and 0 it does not.

    Clauses  SCAN-6, STAB-3
    Args     log_gamma  [B, T, D]  logarithm of the decay per step, in [-inf, 0]
             initial    [B, D]     logarithm before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays({"log_gamma": (log_gamma, "BTD"), "initial": (initial, "BD")}, domains={"log_gamma": (-math.inf, 0.0)})
    return scan(_coefficients, (log_gamma,), initial)
