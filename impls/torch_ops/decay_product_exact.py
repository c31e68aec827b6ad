"""Running product of decays, exactly zero from the first decay of zero on.

Clauses     STAB-8, SCAN-2, STAB-9
Parallel    all steps at once: the doubling scan of _scan.py
Memory      a few copies of [B, T, D] in the arithmetic dtype
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import math

import torch

from ._checks import check_arrays
from ._precision import arithmetic_dtype
from ._scan import running_product


def decay_product_exact(gamma: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
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
    arithmetic = arithmetic_dtype(gamma.dtype)
    decay = gamma.to(arithmetic)
    factors = torch.where(decay < 0, math.nan, decay)
    return running_product(factors, initial.to(arithmetic)).to(gamma.dtype)
