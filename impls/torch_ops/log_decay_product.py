"""Running product of decays in log space, for products below the range of floating point.

Clauses     SCAN-6, STAB-3
Parallel    all steps at once: the doubling scan of _scan.py, so the sum is a tree of depth ceil(log2 T) + 1
Memory      a few copies of [B, T, D] in the arithmetic dtype
Precision   float32 for the narrow dtypes and float32, float64 for float64
"""

import math

import torch

from ._checks import check_arrays
from ._precision import arithmetic_dtype
from ._scan import LinearRecurrence


def log_decay_product(log_gamma: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """Return s_t = initial + sum_{i <= t} clamp(log_gamma_i, -50, 0).

    A NaN gives NaN from its step on. The gradient is zero where the clamp binds; at exactly -50 and 0 it does not.

    Clauses  SCAN-6, STAB-3
    Args     log_gamma  [B, T, D]  logarithm of the decay per step, in [-inf, 0]
             initial    [B, D]     logarithm before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays({"log_gamma": (log_gamma, "BTD"), "initial": (initial, "BD")}, domains={"log_gamma": (-math.inf, 0.0)})
    arithmetic = arithmetic_dtype(log_gamma.dtype)
    terms = log_gamma.to(arithmetic).clamp(min=-50.0, max=0.0)
    sums = LinearRecurrence.apply(torch.ones_like(terms), terms, initial.to(arithmetic))
    return sums.to(log_gamma.dtype)
