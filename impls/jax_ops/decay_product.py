"""Running product of decays, each kept from falling below e^-50.

Clauses     SCAN-2, STAB-3, STAB-9
Parallel    over rows, channels and, on CUDA, time: _scan.py
Memory      reads and writes every number once
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import math

import jax
import jax.numpy as jnp

from ._checks import check_arrays
from ._precision import at_least
from ._scan import scan

FLOOR = math.exp(-50.0)


def _coefficients(gamma: jax.Array) -> tuple[jax.Array, None]:
    return jnp.where(gamma < 0, jnp.nan, at_least(gamma, FLOOR)), None  # SCAN-2, STAB-3


def decay_product(gamma: jax.Array, initial: jax.Array) -> jax.Array:
    """Return y_t = initial * prod_{i <= t} max(gamma_i, e^-50).

    A negative or NaN decay gives NaN from its step on. The gradient is zero where the floor binds.

    Clauses  SCAN-2, STAB-3, STAB-9
    Args     gamma    [B, T, D]  decay per step, in [0, 1]
             initial  [B, D]     value before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays({"gamma": (gamma, "BTD"), "initial": (initial, "BD")}, domains={"gamma": (0.0, 1.0)})
    return scan(_coefficients, (gamma,), initial)
