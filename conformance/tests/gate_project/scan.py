"""A linear recurrence in Triton, in blocks of time: small, so that the gate can be shown at work on it.

Parallel    one program per batch row and tile of channels; time is walked in blocks, a carry between them
"""

from types import SimpleNamespace

import torch
import triton
import triton.language as tl

BLOCK_T, BLOCK_D = 16, 32


@triton.jit
def scan_kernel(a_ptr, b_ptr, h0_ptr, h_ptr, T, D, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    inside = d < D
    carry = tl.load(h0_ptr + row * D + d, mask=inside, other=0.0)
    for first in range(0, T, BLOCK_T):
        h = carry
        for t in range(first, tl.minimum(first + BLOCK_T, T)):
            place = (row * T + t) * D + d
            a = tl.load(a_ptr + place, mask=inside, other=0.0)
            b = tl.load(b_ptr + place, mask=inside, other=0.0)
            h = a * h + b
            tl.store(h_ptr + place, h, mask=inside)
        carry = h


def compile_specs():
    """What the gate compiles without a GPU."""
    pointers = dict.fromkeys(("a_ptr", "b_ptr", "h0_ptr", "h_ptr"), "*fp32")
    signature = {**pointers, "T": "i32", "D": "i32", "BLOCK_T": "constexpr", "BLOCK_D": "constexpr"}
    blocks = {"BLOCK_T": BLOCK_T, "BLOCK_D": BLOCK_D}
    return [SimpleNamespace(kernel=scan_kernel, storage="fp32", signature=signature, constexprs=blocks,
                            options={"num_warps": 1})]  # fmt: skip


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, h0):
        a, b, h0 = (array.contiguous() for array in (a, b, h0))
        B, T, D = a.shape
        h = torch.empty_like(b)
        if T:
            scan_kernel[(B, triton.cdiv(D, BLOCK_D))](a, b, h0, h, T, D, BLOCK_T, BLOCK_D, num_warps=1)
        ctx.save_for_backward(a, h, h0)
        return h

    @staticmethod
    def backward(ctx, g):
        """The adjoint is the same recurrence, walked from the end with a of the step after."""
        a, h, h0 = ctx.saved_tensors
        after = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
        db = Scan.apply(after.flip(1), g.flip(1), torch.zeros_like(h0)).flip(1)
        before = torch.cat([h0[:, None], h], 1)[:, :-1]
        dh0 = a[:, 0] * db[:, 0] if a.shape[1] else torch.zeros_like(h0)
        return db * before, db, dh0


def linear_recurrence(a, b, h0):
    """[B,T,D], [B,T,D], [B,D] -> [B,T,D], computed in float32; ValueError or TypeError names a wrong argument."""
    for name, array, axes in (("a", a, "BTD"), ("b", b, "BTD"), ("h0", h0, "BD")):
        if array.dtype not in (torch.float32, torch.bfloat16) or array.dtype != b.dtype:
            raise TypeError(f"{name} is {array.dtype} beside b's {b.dtype}, expected float32 or bfloat16, all the same")
        if array.ndim != len(axes):
            raise ValueError(f"{name} has {array.ndim} axes, expected {axes}")
    if a.shape != b.shape or h0.shape != b.shape[::2]:
        raise ValueError(f"a, b, h0 have shapes {a.shape}, {b.shape}, {h0.shape}, which do not fit together")
    return Scan.apply(a.float(), b.float(), h0.float()).to(b.dtype)
