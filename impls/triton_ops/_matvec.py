"""One step's matrix-vector products for recurrences too wide to keep their matrix in registers.

Parallel    one program per batch row and tile of output channels; the inputs are walked in tiles
Memory      reads the matrix once per row and step; the result is added to or replaces `out`, each element by
            its one program
Precision   multiply and add in the dtype of `x` (float32 or float64), no tensor cores; partial sums per lane,
            then one tree
"""

import torch
import triton
import triton.language as tl

from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import reduce_sum
from ._launch import INTERPRETED, launch

# ---- device code -------------------------------------------------------------------


@triton.jit
def matvec_kernel(
    W_ptr, x_ptr, out_ptr, D, W_stride_i, W_stride_k, x_stride_b, out_stride_b,
    ADD: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)  # [BLOCK_I]
    dtype = x_ptr.dtype.element_ty
    partial = tl.full((BLOCK_I, BLOCK_K), 0.0, dtype)
    for first in range(0, D, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K).to(tl.int64)  # [BLOCK_K]
        x = tl.load(x_ptr + row * x_stride_b + k, mask=k < D, other=0.0)
        tile = W_ptr + i[:, None] * W_stride_i + k[None, :] * W_stride_k
        W = tl.load(tile, mask=(i < D)[:, None] & (k < D)[None, :], other=0.0).to(dtype)  # [BLOCK_I, BLOCK_K]
        partial += W * x[None, :]
    total = reduce_sum(partial, axis=1)
    out = out_ptr + row * out_stride_b + i
    if ADD:
        total += tl.load(out, mask=i < D, other=0.0)
    tl.store(out, total, mask=i < D)


def compile_specs() -> list[CompileSpec]:
    return [
        compile_spec(matvec_kernel, storage, ("x_ptr", "out_ptr"), ADD=add, BLOCK_I=32, BLOCK_K=128)
        for storage in STORAGES
        for add in (False, True)
    ]


# ---- launch ------------------------------------------------------------------------


def matvec(W: torch.Tensor, x: torch.Tensor, out: torch.Tensor, *, add: bool = False) -> None:
    """out = W x, or out += W x, per row: W [D, D] of any strides, x and out [B, D] with contiguous
    channels."""
    B, D = x.shape
    block_i, block_k = (256, 256) if INTERPRETED else (32, 128)
    launch(
        matvec_kernel,
        (B, triton.cdiv(D, block_i)),
        x.device,
        W,
        x,
        out,
        D,
        *W.stride(),
        x.stride(0),
        out.stride(0),
        ADD=add,
        BLOCK_I=block_i,
        BLOCK_K=block_k,
    )
