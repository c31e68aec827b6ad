"""The gradients of the stabilized recurrence's arguments, once it is known what the loss wants of every mix.

Clauses     ADJ-6, ADJ-8
Parallel    one program per tile of channels and steps; matrix products by torch (_parts.py)
Memory      each kernel reads its inputs once and writes its results once
Precision   float32 (float64 for float64); gradients of z and gamma are rounded once, where they are stored
"""

import torch
import triton
import triton.language as tl

from ._compile import STORAGES, CompileSpec, compile_spec
from ._launch import cdiv, launch, next_power_of_2
from ._parts import multiply
from ._stabilized_mixing import Mixing
from ._stabilizer import before_clip
from .rows._stabilized_cell import Stabilizer

BLOCK = 1024
STEPS = 64  # that a program sums

# ---- device code -------------------------------------------------------------------


@triton.jit
def streams_kernel(dmixed_ptr, gates_ptr, before_ptr, slopes_ptr, dz_ptr, dgamma_ptr, N, BLOCK: tl.constexpr):
    """Gradients of z, gamma and, in place of the slopes, of the logits."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    inside = i < N
    dmixed = tl.load(dmixed_ptr + i, mask=inside, other=0.0)
    gate = tl.load(gates_ptr + i, mask=inside, other=0.0)
    before = tl.load(before_ptr + i, mask=inside, other=0.0)
    slope = tl.load(slopes_ptr + i, mask=inside, other=0.0)
    tl.store(dz_ptr + i, (dmixed * gate).to(dz_ptr.dtype.element_ty), mask=inside)
    tl.store(dgamma_ptr + i, (dmixed * before).to(dgamma_ptr.dtype.element_ty), mask=inside)
    tl.store(slopes_ptr + i, dmixed * slope, mask=inside)


@triton.jit
def norm_kernel(
    grad_ptr, gamma_ptr, dmixed_ptr, gates_ptr, through_ptr, standards_ptr, weight_ptr, shift_ptr, dweight_ptr,
    dshift_ptr, T, D, grad_stride_b, grad_stride_t, grad_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    NORM: tl.constexpr, CLIP: tl.constexpr, STEPS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Gradients of the norm's weight and shift, summed over some steps. `through` is what the gates of each step hand to the
    state before it."""
    dtype: tl.constexpr = dmixed_ptr.dtype.element_ty
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    b = tl.program_id(2).to(tl.int64)
    inside = d < D
    weight = tl.load(weight_ptr + d, mask=inside, other=0.0).to(dtype)
    shift = tl.load(shift_ptr + d, mask=inside, other=0.0).to(dtype)
    dweight, dshift = tl.zeros((BLOCK_D,), dtype), tl.zeros((BLOCK_D,), dtype)
    first = tl.program_id(1) * STEPS
    for t in range(first, tl.minimum(first + STEPS, T)):
        time = tl.full((), 0, tl.int64) + t
        at = (b * T + time) * D + d
        later = d < tl.where(t + 1 < T, D, 0)
        gamma_step = gamma_ptr + b * gamma_stride_b + (time + 1) * gamma_stride_t + d * gamma_stride_d
        gamma = tl.load(gamma_step, mask=later, other=0.0).to(dtype)
        gate = tl.load(gates_ptr + at + D, mask=later, other=0.0)
        dmixed = tl.load(dmixed_ptr + at + D, mask=later, other=0.0)
        wanted = tl.fma(dmixed, 1.0 - gate + gamma, tl.load(through_ptr + at + D, mask=later, other=0.0))
        grad_step = grad_ptr + b * grad_stride_b + time * grad_stride_t + d * grad_stride_d
        grad = tl.load(grad_step, mask=inside, other=0.0)
        standard = tl.load(standards_ptr + at, mask=inside, other=0.0)
        value = before_clip(grad.to(dtype) + wanted, standard, weight, shift, NORM, CLIP)
        dweight = tl.fma(value, standard, dweight)
        dshift += value
    place = (b * tl.num_programs(1) + tl.program_id(1)) * D + d
    tl.store(dweight_ptr + place, dweight, mask=inside)
    tl.store(dshift_ptr + place, dshift, mask=inside)


def compile_specs() -> list[CompileSpec]:
    kept = (
        "dmixed_ptr",
        "gates_ptr",
        "before_ptr",
        "slopes_ptr",
        "through_ptr",
        "standards_ptr",
        "dweight_ptr",
        "dshift_ptr",
    )
    streams = [compile_spec(streams_kernel, storage, kept, BLOCK=BLOCK) for storage in STORAGES]
    norms = [
        compile_spec(norm_kernel, storage, kept, NORM=norm, CLIP=100.0, STEPS=STEPS, BLOCK_D=256)
        for storage, norm in (("bf16", "rms"), ("fp32", "layer"), ("fp64", "rms"))
    ]
    return [*streams, *norms]


# ---- launch ------------------------------------------------------------------------


def gradients(
    grad: torch.Tensor, gamma: torch.Tensor, W: torch.Tensor, before: torch.Tensor, dmixed: torch.Tensor, mixing: Mixing,
    form: Stabilizer, storage: torch.dtype,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    """Of z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias and h0; those of z and gamma in dtype `storage`, the others in
    the arithmetic dtype. Uses up mixing.

    Args:
        grad, gamma: [B, T, D] with any strides; before, dmixed: [B, T, D], contiguous, in the arithmetic dtype. W: W_h.
    """
    B, T, D = dmixed.shape
    dz, dgamma = (torch.empty(dmixed.shape, dtype=storage, device=dmixed.device) for _ in range(2))
    launch(
        streams_kernel, (cdiv(dmixed.numel(), BLOCK),), dmixed.device,
        dmixed, mixing.gates, before, mixing.slopes, dz, dgamma, dmixed.numel(), BLOCK=BLOCK,
    )  # fmt: skip
    dlogits = mixing.slopes
    dW, db = multiply(dlogits.view(-1, D).T, before.view(-1, D)), dlogits.sum((0, 1))
    through = multiply(dlogits.view(-1, D), W).view(B, T, D)
    first = slice(0, 1)  # no step, if there is none
    kept = 1 - mixing.gates[:, first] + gamma[:, first]
    dinitial = torch.addcmul(through[:, first], kept, dmixed[:, first]).sum(1)
    dweight = dshift = dmixed.new_zeros(D)
    if form.norm != "none":
        dweights, dshifts = (dmixed.new_empty((B, cdiv(T, STEPS), D)) for _ in range(2))
        block = min(256, next_power_of_2(D))
        launch(
            norm_kernel, (cdiv(D, block), cdiv(T, STEPS), B), dmixed.device,
            grad, gamma, dmixed, mixing.gates, through, mixing.standards, form.weight, form.shift, dweights, dshifts, T, D,
            *grad.stride(), *gamma.stride(), NORM=form.norm, CLIP=form.clip, STEPS=STEPS, BLOCK_D=block,
        )  # fmt: skip
        dweight = dweights.sum((0, 1))
        dshift = dshifts.sum((0, 1)) if form.norm == "layer" else dshift
    return dz, dlogits, dgamma, dW, db, dweight, dshift, dinitial
