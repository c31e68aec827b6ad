"""Linear recurrence h_t = a_t h_{t-1} + b_t in Triton.

Clauses     MDI-1
Parallel    one program per batch row, tile of channels and chunk of time (kernels in _scan_kernels.py)
Memory      reads a, b once; writes h once; one state of every chunk is exchanged (_scan.py)
Precision   loads any float, accumulates in float32 (float64 for float64), stores the dtype of b
"""

import torch

from ._checks import check_arrays, check_values
from ._scan import scan


def linear_recurrence(a: torch.Tensor, b: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
    """h_t = a_t h_{t-1} + b_t, per channel (MDI-1).

    Args:
        a, b: [B, T, D]. h0: [B, D]. One dtype: float64, float32, bfloat16 or float16; any strides.
    Returns:
        h [B, T, D]. Differentiable with respect to a, b and h0.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    check_arrays(a=(a, "BTD"), b=(b, "BTD"), h0=(h0, "BD"))
    check_values(a=(a, -1.0, 1.0), b=(b,), h0=(h0,))
    return scan("linear", a, b, h0)
