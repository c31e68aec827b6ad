"""Running product of decays without a floor in Triton.

Clauses     SCAN-2, STAB-8
Parallel    one program per batch row, tile of channels and chunk of time (kernels in _scan_kernels.py)
Memory      reads gamma once; writes y once; one state of every chunk is exchanged (_scan.py)
Precision   a direct product in float32 (float64 for float64): one rounding per factor, none for factors 0, 1
            and 2^-k
"""

import torch

from ._checks import check_arrays, check_values
from ._scan import scan


def decay_product_exact(gamma: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """y_t = initial * prod_{i<=t} gamma_i, per channel; exactly 0 from the first gamma = 0 on (SCAN-2,
    STAB-8).

    Args:
        gamma: [B, T, D] in [0, 1]. initial: [B, D]. One dtype: float64, float32, bfloat16 or float16; any
        strides.
    Returns:
        y [B, T, D]; NaN from the first gamma that is negative or NaN. Differentiable with respect to gamma
        and initial; the gradient at a zero is the product of the other factors.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    check_arrays(gamma=(gamma, "BTD"), initial=(initial, "BD"))
    check_values(gamma=(gamma, 0.0, 1.0), initial=(initial,))
    return scan("product_exact", gamma, None, initial)
