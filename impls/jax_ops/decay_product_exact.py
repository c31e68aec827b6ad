"""Running product of decays, exactly zero from the first decay of zero on.

Clauses     STAB-8, SCAN-2, STAB-9
Parallel    over rows, channels and, on CUDA, time: _scan.py
Memory      reads and writes every number once
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import jax
import jax.numpy as jnp

from ._checks import check_arrays
from ._scan import scan


def _coefficients(gamma: jax.Array) -> tuple[jax.Array, None]:
    return jnp.where(gamma < 0, jnp.nan, gamma), None  # STAB-8


def decay_product_exact(gamma: jax.Array, initial: jax.Array) -> jax.Array:
    """Return y_t = initial * prod_{i <= t} gamma_i.

    A negative or NaN decay gives NaN from its step on. At a decay of zero the gradient is the product of all the
    other factors.

    Clauses  STAB-8, SCAN-2, STAB-9
    Args     gamma    [B, T, D]  decay per step, in [0, 1]
             initial  [B, D]     value before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays({"gamma": (gamma, "BTD"), "initial": (initial, "BD")}, domains={"gamma": (0.0, 1.0)})
    return scan(_coefficients, (gamma,), initial)
