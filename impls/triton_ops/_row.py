"""What do the recurrences share where one program holds all channels of a batch row, and the matrix that multiplies them?

Memory      the matrix stays in registers, which suffice for WIDEST_ROW channels; one launch walks all steps
Precision   products are multiplied and summed in float32 (float64 for float64), without tensor cores
"""

from typing import Any

import triton.language as tl

from ._launch import device_function, next_power_of_2

WIDEST_ROW = 128


@device_function
def load_matrix(matrix_ptr, stride_row, stride_column, d, inside, dtype: tl.constexpr):
    """[BLOCK_D, BLOCK_D], zero outside. Give the matrix whose columns are contiguous lanes and whose rows are
    summed over: then a sum over rows stays within a thread and its warp's peers, and nothing spills."""
    tile = matrix_ptr + d[:, None] * stride_row + d[None, :] * stride_column
    return tl.load(tile, mask=inside[:, None] & inside[None, :], other=0.0).to(dtype)


def row_options(D: int) -> dict[str, Any]:
    """Launch options of a program that holds D channels.

    Without fused multiply-adds: the compiler keeps the state in two register layouts (one for the matrix product,
    one for memory) and computes it once for each. With fusion the two copies round differently and drift apart
    over the steps, so that the gate belongs to a state that was never stored.
    """
    block = next_power_of_2(D)
    return {"BLOCK_D": block, "num_warps": 8 if block >= 64 else 4, "enable_fp_fusion": False}
