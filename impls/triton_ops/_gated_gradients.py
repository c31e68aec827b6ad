"""What surrounds the adjoint of the gated recurrence: its coefficients before, the gradients of all arguments after.

Clauses     ADJ-5
Parallel    one program per tile of steps' channels; matrix products by torch (_parts.py)
Memory      each kernel reads its inputs once and writes its results once
Precision   float32 (float64 for float64); gradients of z and gamma are rounded once, where they are stored
"""

import torch
import triton
import triton.language as tl

from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import sigmoid
from ._launch import cdiv, launch
from ._parts import multiply

BLOCK = 1024

# ---- device code -------------------------------------------------------------------


@triton.jit
def slopes_kernel(
    logits_ptr, bias_ptr, z_ptr, slopes_ptr, T, D, z_stride_b, z_stride_t, z_stride_d, BLOCK: tl.constexpr
):
    """The gate, in place of its logits, and how the step feels them, z gate (1 - gate), last step first."""
    dtype: tl.constexpr = logits_ptr.dtype.element_ty
    t, b = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = d < D
    at = logits_ptr + (b * T + t) * D + d
    bias = tl.load(bias_ptr + d, mask=inside, other=0.0).to(dtype)
    gate = sigmoid(tl.load(at, mask=inside, other=0.0) + bias)
    z = tl.load(z_ptr + b * z_stride_b + t * z_stride_t + d * z_stride_d, mask=inside, other=0.0).to(dtype)
    tl.store(at, gate, mask=inside)
    tl.store(slopes_ptr + (b * T + T - 1 - t) * D + d, z * (gate * (1.0 - gate)), mask=inside)


@triton.jit
def gradients_kernel(
    grad_ptr, wanted_ptr, gates_ptr, slopes_ptr, before_ptr, dz_ptr, dgamma_ptr, T, D,
    grad_stride_b, grad_stride_t, grad_stride_d, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of z, gamma and, in place of the gates, of the logits; wanted and slopes have the last step first."""
    t, b = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = d < D
    at, back = (b * T + t) * D + d, (b * T + T - 1 - t) * D + d
    adjoint = tl.load(grad_ptr + b * grad_stride_b + t * grad_stride_t + d * grad_stride_d, mask=inside, other=0.0)
    later = d < tl.where(t < T - 1, D, 0)  # no channel has a step after the last
    adjoint = adjoint.to(gates_ptr.dtype.element_ty) + tl.load(wanted_ptr + back - D, mask=later, other=0.0)
    gate = tl.load(gates_ptr + at, mask=inside, other=0.0)
    before = tl.load(before_ptr + at, mask=inside, other=0.0)
    slope = tl.load(slopes_ptr + back, mask=inside, other=0.0)
    tl.store(dz_ptr + at, (adjoint * gate).to(dz_ptr.dtype.element_ty), mask=inside)
    tl.store(dgamma_ptr + at, (adjoint * before).to(dgamma_ptr.dtype.element_ty), mask=inside)
    tl.store(gates_ptr + at, adjoint * slope, mask=inside)


def compile_specs() -> list[CompileSpec]:
    arithmetic = ("logits_ptr", "slopes_ptr", "wanted_ptr", "gates_ptr", "before_ptr")
    kernels = (slopes_kernel, gradients_kernel)
    return [compile_spec(kernel, storage, arithmetic, BLOCK=BLOCK) for kernel in kernels for storage in STORAGES]


# ---- launch ------------------------------------------------------------------------


def slopes_and_gates(
    z: torch.Tensor, W: torch.Tensor, bias: torch.Tensor, before: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """z gate (1 - gate), last step first, and the gate of every step [B, T, D], given the states before [B, T, D]."""
    B, T, D = z.shape
    gates = multiply(before.view(-1, D), W.T).view(B, T, D)
    slopes = torch.empty_like(gates)
    grid = (T, cdiv(D, BLOCK), B)
    launch(slopes_kernel, grid, z.device, gates, bias, z, slopes, T, D, *z.stride(), BLOCK=BLOCK)
    return slopes, gates


def gradients(
    grad: torch.Tensor, wanted: torch.Tensor, gates: torch.Tensor, slopes: torch.Tensor, before: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Of z, gamma, W_g and b_g; those of z and gamma in the dtype of `grad`, the others in that of the gates. Uses up gates."""
    B, T, D = gates.shape
    dz, dgamma = (torch.empty(gates.shape, dtype=grad.dtype, device=grad.device) for _ in range(2))
    launch(
        gradients_kernel, (T, cdiv(D, BLOCK), B), grad.device,
        grad, wanted, gates, slopes, before, dz, dgamma, T, D, *grad.stride(), BLOCK=BLOCK,
    )  # fmt: skip
    dlogits = gates.view(-1, D)
    return dz, dgamma, multiply(dlogits.T, before.view(-1, D)), dlogits.sum(0)
