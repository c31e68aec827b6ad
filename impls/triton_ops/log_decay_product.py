"""Logarithm of a running product of decays, for products below the float range, in Triton.

Clauses     SCAN-6, STAB-3
Parallel    one program per batch row, tile of channels and chunk of time (kernels in _scan_kernels.py)
Memory      reads log_gamma once; writes s once; one state of every chunk is exchanged (_scan.py)
Precision   sums by chunks in float32 (float64 for float64); clamped terms are exact
"""

import math

import torch

from ._checks import check_arrays, check_values
from ._scan import scan


def log_decay_product(log_gamma: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """s_t = initial + sum_{i<=t} clamp(log_gamma_i, -50, 0), per channel (SCAN-6).

    Args:
        log_gamma: [B, T, D] in [-inf, 0]. initial: [B, D]. One dtype: float64, float32, bfloat16 or float16;
        any strides.
    Returns:
        s [B, T, D]; NaN from the first NaN on. Differentiable with respect to log_gamma and initial; the
        gradient is 0 where the clamp binds.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    check_arrays(log_gamma=(log_gamma, "BTD"), initial=(initial, "BD"))
    check_values(log_gamma=(log_gamma, -math.inf, 0.0), initial=(initial,))
    return scan("log_sum", log_gamma, None, initial)
