"""What the recurrences share whose step multiplies the state by a matrix: how the steps are divided over
launches.

Parallel    one program per batch row, which holds all channels of the state
Memory      up to WIDEST_FUSED channels the matrix stays in registers and one launch walks all steps. Above,
            every step is one launch of the same kernel with the product W h computed before it (backward: W^T
            dlogits added after it) by _matvec.py; the state passes from launch to launch in the arithmetic
            dtype.
Precision   matrix-vector products are multiplied and summed in float32 (float64 for float64), without tensor
            cores
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from ._launch import device_function
from ._matvec import matvec

WIDEST_FUSED = 128


@device_function
def load_matrix(matrix_ptr, stride_row, stride_column, d, inside, dtype: tl.constexpr):
    """[BLOCK_D, BLOCK_D], zero outside. Give the matrix whose columns are contiguous lanes and whose rows are
    summed over: then a sum over rows stays within a thread and its warp's peers, and nothing spills."""
    tile = matrix_ptr + d[:, None] * stride_row + d[None, :] * stride_column
    return tl.load(tile, mask=inside[:, None] & inside[None, :], other=0.0).to(dtype)


def lanes_over_outputs(W: torch.Tensor) -> torch.Tensor:
    """W^T with contiguous rows, which the fused forward keeps; W itself where no kernel keeps it."""
    return W.T.contiguous() if W.shape[0] <= WIDEST_FUSED else W


def row_options(D: int) -> dict[str, Any]:
    """Launch options of a program that holds D channels.

    Without fused multiply-adds: the compiler keeps the state in two register layouts (one for the matrix product,
    one for memory) and computes it once for each. With fusion the two copies round differently and drift apart
    over the steps, so that the gate belongs to a state that was never stored.
    """
    block = triton.next_power_of_2(D)
    fused = D <= WIDEST_FUSED
    warps = 8 if fused and block >= 64 else 4
    return {"FUSED": fused, "BLOCK_D": block, "num_warps": warps, "enable_fp_fusion": False}


def walk_forward(run: Callable, W: torch.Tensor, carry: torch.Tensor, T: int) -> None:
    """run(first, steps, products) advances `carry` [B, D] by `steps` steps; `products` is W carry where it is
    not fused."""
    if carry.shape[1] <= WIDEST_FUSED:
        run(0, T, carry)
        return
    products = torch.empty_like(carry)
    for t in range(T):
        matvec(W, carry, products)
        run(t, 1, products)


def walk_backward(run: Callable, W: torch.Tensor, carry: torch.Tensor, dlogits: torch.Tensor) -> None:
    """run(first, steps) takes `carry` [B, D] back over `steps` steps and fills dlogits [B, T, D] there."""
    T, D = dlogits.shape[1:]
    if D <= WIDEST_FUSED:
        run(0, T)
        return
    for t in reversed(range(T)):
        run(t, 1)
        matvec(W.T, dlogits[:, t], carry, add=True)
