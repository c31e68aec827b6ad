"""The scans over time in which channels do not mix: one forward and one backward kernel for four ops.

Clauses     MDI-1 (kind "linear"), SCAN-2 and STAB-3 ("product_floor"), STAB-8 ("product_exact"), SCAN-6
            ("log_sum")
Parallel    one program per batch row and tile of channels; time is a serial loop inside the program
Memory      forward reads each input once and writes the result once; backward reads the gradient, the input
            and the previous state once. The state stays in registers.
Precision   loads any float, computes in float64 for float64 and float32 otherwise, rounds once when it
            stores. Backward needs the unrounded state, so for the narrow dtypes forward also writes it in
            float32 when a gradient will be asked for; for float32 and float64 the result itself is that
            state.
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import clip
from ._launch import apply, arithmetic_dtype, channel_tile, launch, triton_dtype

LOWEST_LOG = tl.constexpr(-50.0)
FLOOR = tl.constexpr(1.9287498479639178e-22)  # e^-50

# ---- device code -------------------------------------------------------------------


@triton.jit
def decay_factor(gamma, KIND: tl.constexpr):
    """What one step multiplies by: NaN below zero, so that a sign error cannot pass for decay."""
    if KIND == "product_floor":
        # Not tl.maximum: it would round the constant to float32 also where gamma is float64.
        return tl.where(gamma >= 0, tl.where(gamma > FLOOR, gamma, FLOOR), float("nan"))
    else:
        return tl.where(gamma >= 0, gamma, float("nan"))


@triton.jit
def forward_kernel(
    a_ptr, b_ptr, initial_ptr, out_ptr, states_ptr, T, D,
    a_stride_b, a_stride_t, a_stride_d, b_stride_b, b_stride_t, b_stride_d, initial_stride_b,
    initial_stride_d,
    KIND: tl.constexpr, KEEP_STATES: tl.constexpr, ARITHMETIC: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    inside = d < D
    a_step = a_ptr + row * a_stride_b + d * a_stride_d
    b_step = b_ptr + row * b_stride_b + d * b_stride_d
    out_step = out_ptr + row * T * D + d
    states_step = states_ptr + row * T * D + d

    initial = tl.load(initial_ptr + row * initial_stride_b + d * initial_stride_d, mask=inside, other=0.0)
    state = initial.to(ARITHMETIC)
    for _ in range(T):
        a = tl.load(a_step, mask=inside, other=0.0).to(ARITHMETIC)
        if KIND == "linear":
            state = a * state + tl.load(b_step, mask=inside, other=0.0).to(ARITHMETIC)
            b_step += b_stride_t
        elif KIND == "log_sum":
            state = state + clip(a, LOWEST_LOG, 0.0)
        else:
            state = state * decay_factor(a, KIND)
        tl.store(out_step, state.to(out_ptr.dtype.element_ty), mask=inside)
        a_step += a_stride_t
        out_step += D
        if KEEP_STATES:
            tl.store(states_step, state, mask=inside)
            states_step += D


@triton.jit
def backward_kernel(
    grad_ptr, a_ptr, initial_ptr, states_ptr, da_ptr, db_ptr, dinitial_ptr, T, D,
    grad_stride_b, grad_stride_t, grad_stride_d, a_stride_b, a_stride_t, a_stride_d, initial_stride_b,
    initial_stride_d,
    KIND: tl.constexpr, ARITHMETIC: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    inside = d < D
    last = tl.full((), T - 1, tl.int64)
    grad_step = grad_ptr + row * grad_stride_b + last * grad_stride_t + d * grad_stride_d
    a_step = a_ptr + row * a_stride_b + last * a_stride_t + d * a_stride_d
    previous_step = states_ptr + (row * T + last - 1) * D + d
    da_step = da_ptr + (row * T + last) * D + d
    db_step = db_ptr + (row * T + last) * D + d

    initial = tl.load(initial_ptr + row * initial_stride_b + d * initial_stride_d, mask=inside, other=0.0)
    initial = initial.to(ARITHMETIC)
    inflow = tl.zeros((BLOCK_D,), ARITHMETIC)  # what later steps add to its adjoint
    for t in range(T - 1, -1, -1):
        adjoint = tl.load(grad_step, mask=inside, other=0.0).to(ARITHMETIC) + inflow
        a = tl.load(a_step, mask=inside, other=0.0).to(ARITHMETIC)
        if KIND == "log_sum":
            da = tl.where((a >= LOWEST_LOG) & (a <= 0), adjoint, 0.0)
            inflow = adjoint
        else:
            previous = tl.load(previous_step, mask=inside & (t > 0), other=0.0)
            da = adjoint * tl.where(t > 0, previous, initial)
            previous_step -= D
            if KIND == "linear":
                tl.store(db_step, adjoint.to(db_ptr.dtype.element_ty), mask=inside)
                db_step -= D
                inflow = a * adjoint
            else:
                inflow = decay_factor(a, KIND) * adjoint
                if KIND == "product_floor":
                    # float32 and float64 round e^-50 up: a gamma equal to FLOOR is above the floor.
                    da = tl.where(a >= FLOOR, da, 0.0)
        tl.store(da_step, da.to(da_ptr.dtype.element_ty), mask=inside)
        grad_step -= grad_stride_t
        a_step -= a_stride_t
        da_step -= D
    tl.store(dinitial_ptr + row * D + d, inflow.to(dinitial_ptr.dtype.element_ty), mask=inside)


def compile_specs() -> list[CompileSpec]:
    specs = []
    for kind in ("linear", "product_floor", "product_exact", "log_sum"):
        for storage in STORAGES:
            keep = kind != "log_sum" and storage == "bf16"
            states = ("states_ptr",)
            specs += [
                compile_spec(forward_kernel, storage, states, num_warps=1, KEEP_STATES=keep, KIND=kind, BLOCK_D=32),
                compile_spec(backward_kernel, storage, states, num_warps=1, KIND=kind, BLOCK_D=32),
            ]
    return specs


# ---- launch ------------------------------------------------------------------------


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kind, keep, a, b, initial):
        B, T, D = a.shape
        arithmetic = arithmetic_dtype(a.dtype)
        # The gradient of a sum needs no state, and an unrounded result is the state.
        keep_states = keep and kind != "log_sum" and a.dtype != arithmetic
        out = torch.empty_like(a, memory_format=torch.contiguous_format)
        states = torch.empty_like(out, dtype=arithmetic) if keep_states else out
        second = a if b is None else b  # the kinds without b never read it
        tile = channel_tile(D)
        launch(
            forward_kernel, (B, triton.cdiv(D, tile)), a.device,
            a, second, initial, out, states, T, D, *a.stride(), *second.stride(), *initial.stride(),
            KIND=kind, KEEP_STATES=keep_states, ARITHMETIC=triton_dtype(arithmetic), BLOCK_D=tile,
            num_warps=1,
        )  # fmt: skip
        ctx.kind = kind
        ctx.save_for_backward(a, initial, initial if kind == "log_sum" else states)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        a, initial, states = ctx.saved_tensors
        B, T, D = a.shape
        da = torch.empty_like(a, memory_format=torch.contiguous_format)
        db = torch.empty_like(da) if ctx.kind == "linear" else da
        dinitial = torch.empty_like(initial, memory_format=torch.contiguous_format)
        tile = channel_tile(D)
        launch(
            backward_kernel, (B, triton.cdiv(D, tile)), a.device,
            grad, a, initial, states, da, db, dinitial, T, D, *grad.stride(), *a.stride(), *initial.stride(),
            KIND=ctx.kind, ARITHMETIC=triton_dtype(arithmetic_dtype(a.dtype)), BLOCK_D=tile, num_warps=1,
        )  # fmt: skip
        return None, None, da, db if ctx.kind == "linear" else None, dinitial


def scan(kind: str, a: torch.Tensor, b: torch.Tensor | None, initial: torch.Tensor) -> torch.Tensor:
    """The recurrence of `kind` over dimension 1 of `a` [B, T, D], from `initial` [B, D]; only "linear" takes
    `b`."""
    return apply(_Scan, (kind,), a, b, initial)
