"""Gated recurrence h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} in Triton.

Clauses     REC-1
Parallel    one program per batch row; time is a serial loop inside it up to 128 channels, one launch per step
            above (_recurrence.py)
Memory      reads z, gamma once; writes h once. For the gradient forward also writes h_{t-1} and the gate, and
            backward the gradient of the gate's logits, from which one matrix product gives that of W_g.
Precision   loads any float; state, gate, matrix products and saved arrays in float32 (float64 for float64);
            rounds once, at each store of a result
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from ._checks import check_arrays, check_values
from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import reduce_sum, sigmoid
from ._launch import apply, arithmetic_dtype, launch
from ._matmul import product
from ._recurrence import lanes_over_outputs, load_matrix, row_options, walk_backward, walk_forward

# ---- device code -------------------------------------------------------------------


@triton.jit(do_not_specialize=["first", "steps"])
def forward_kernel(
    z_ptr, gamma_ptr, W_transposed_ptr, bias_ptr, products_ptr, carry_ptr, out_ptr, previous_ptr, gates_ptr,
    first, steps, T, D,
    z_stride_b, z_stride_t, z_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    W_transposed_stride_k, W_transposed_stride_d, bias_stride_d,
    KEEP: tl.constexpr, FUSED: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = carry_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D).to(tl.int64)  # [BLOCK_D]
    inside = d < D
    start = tl.full((), first, tl.int64)
    z_step = z_ptr + row * z_stride_b + start * z_stride_t + d * z_stride_d
    gamma_step = gamma_ptr + row * gamma_stride_b + start * gamma_stride_t + d * gamma_stride_d
    result = (row * T + start) * D + d

    bias = tl.load(bias_ptr + d * bias_stride_d, mask=inside, other=0.0).to(dtype)
    h = tl.load(carry_ptr + row * D + d, mask=inside, other=0.0)
    if FUSED:
        W_transposed = load_matrix(W_transposed_ptr, W_transposed_stride_k, W_transposed_stride_d, d, inside, dtype)
    for _ in range(steps):
        if FUSED:
            Wh = reduce_sum(W_transposed * h[:, None], axis=0)
        else:
            Wh = tl.load(products_ptr + row * D + d, mask=inside, other=0.0)
        gate = sigmoid(Wh + bias)
        if KEEP:
            tl.store(previous_ptr + result, h, mask=inside)
            tl.store(gates_ptr + result, gate, mask=inside)
        z = tl.load(z_step, mask=inside, other=0.0).to(dtype)
        gamma = tl.load(gamma_step, mask=inside, other=0.0).to(dtype)
        h = z * gate + gamma * h
        tl.store(out_ptr + result, h.to(out_ptr.dtype.element_ty), mask=inside)
        z_step += z_stride_t
        gamma_step += gamma_stride_t
        result += D
    tl.store(carry_ptr + row * D + d, h, mask=inside)


@triton.jit(do_not_specialize=["first", "steps"])
def backward_kernel(
    grad_ptr, z_ptr, gamma_ptr, W_ptr, previous_ptr, gates_ptr, carry_ptr, dz_ptr, dgamma_ptr, dlogits_ptr,
    first, steps, T, D,
    grad_stride_b, grad_stride_t, grad_stride_d, z_stride_b, z_stride_t, z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d, W_stride_i, W_stride_d,
    FUSED: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = carry_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D).to(tl.int64)  # [BLOCK_D]
    inside = d < D
    last = tl.full((), first + steps - 1, tl.int64)
    grad_step = grad_ptr + row * grad_stride_b + last * grad_stride_t + d * grad_stride_d
    z_step = z_ptr + row * z_stride_b + last * z_stride_t + d * z_stride_d
    gamma_step = gamma_ptr + row * gamma_stride_b + last * gamma_stride_t + d * gamma_stride_d
    grad_back, z_back, gamma_back = -grad_stride_t, -z_stride_t, -gamma_stride_t
    result = (row * T + last) * D + d

    inflow = tl.load(carry_ptr + row * D + d, mask=inside, other=0.0)  # what later steps add to its adjoint
    if FUSED:
        W = load_matrix(W_ptr, W_stride_i, W_stride_d, d, inside, dtype)
    for _ in range(steps):
        adjoint = tl.load(grad_step, mask=inside, other=0.0).to(dtype) + inflow
        previous = tl.load(previous_ptr + result, mask=inside, other=0.0)
        gate = tl.load(gates_ptr + result, mask=inside, other=0.0)
        z = tl.load(z_step, mask=inside, other=0.0).to(dtype)
        gamma = tl.load(gamma_step, mask=inside, other=0.0).to(dtype)
        dz = adjoint * gate
        dlogits = dz * z * (1.0 - gate)
        tl.store(dz_ptr + result, dz.to(dz_ptr.dtype.element_ty), mask=inside)
        tl.store(dgamma_ptr + result, (adjoint * previous).to(dgamma_ptr.dtype.element_ty), mask=inside)
        tl.store(dlogits_ptr + result, dlogits, mask=inside)
        inflow = adjoint * gamma
        if FUSED:
            inflow += reduce_sum(W * dlogits[:, None], axis=0)
        grad_step += grad_back
        z_step += z_back
        gamma_step += gamma_back
        result -= D
    tl.store(carry_ptr + row * D + d, inflow, mask=inside)


def compile_specs() -> list[CompileSpec]:
    specs = []
    saved = ("products_ptr", "carry_ptr", "previous_ptr", "gates_ptr", "dlogits_ptr")
    for storage in STORAGES:
        for D in (128, 1000):
            options = row_options(D)
            specs.append(compile_spec(forward_kernel, storage, saved, KEEP=True, **options))
            specs.append(compile_spec(backward_kernel, storage, saved, **options))
    return specs


# ---- launch ------------------------------------------------------------------------


class _GatedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keep, z, gamma, W_g, b_g, h0):
        B, T, D = z.shape
        carry = torch.empty((B, D), dtype=arithmetic_dtype(z.dtype), device=z.device).copy_(h0)
        out = torch.empty_like(z, memory_format=torch.contiguous_format)
        W_transposed = lanes_over_outputs(W_g)
        previous, gates = (carry.new_empty((B, T, D)) for _ in range(2)) if keep else (carry, carry)

        def run(first, steps, products):
            launch(
                forward_kernel, (B,), z.device,
                z, gamma, W_transposed, b_g, products, carry, out, previous, gates, first, steps, T, D,
                *z.stride(), *gamma.stride(), *W_transposed.stride(), *b_g.stride(), KEEP=keep,
                **row_options(D),
            )  # fmt: skip

        walk_forward(run, W_g, carry, T)
        if keep:
            ctx.save_for_backward(z, gamma, W_g, previous, gates)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, gamma, W_g, previous, gates = ctx.saved_tensors
        B, T, D = z.shape
        carry = previous.new_zeros((B, D))
        dz, dgamma = (torch.empty_like(z, memory_format=torch.contiguous_format) for _ in range(2))
        dlogits = torch.empty_like(previous)

        def run(first, steps):
            launch(
                backward_kernel, (B,), z.device,
                grad, z, gamma, W_g, previous, gates, carry, dz, dgamma, dlogits, first, steps, T, D,
                *grad.stride(), *z.stride(), *gamma.stride(), *W_g.stride(), **row_options(D),
            )  # fmt: skip

        walk_backward(run, W_g, carry, dlogits)
        dW = product(dlogits.reshape(-1, D).T, previous.reshape(-1, D))
        gradients = (dz, dgamma, dW, dlogits.sum((0, 1)), carry)
        return None, *(gradient.to(z.dtype) for gradient in gradients)


def gated_recurrence(
    z: torch.Tensor, gamma: torch.Tensor, W_g: torch.Tensor, b_g: torch.Tensor, h0: torch.Tensor
) -> torch.Tensor:
    """h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} (REC-1).

    Args:
        z, gamma: [B, T, D], gamma in [0, 1]. W_g: [D, D]. b_g: [D]. h0: [B, D]. One dtype: float64, float32,
        bfloat16 or float16; any strides.
    Returns:
        h [B, T, D]. Differentiable with respect to every array.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    check_arrays(z=(z, "BTD"), gamma=(gamma, "BTD"), W_g=(W_g, "DD"), b_g=(b_g, "D"), h0=(h0, "BD"))
    check_values(z=(z,), gamma=(gamma, 0.0, 1.0), W_g=(W_g,), b_g=(b_g,), h0=(h0,))
    return apply(_GatedRecurrence, (), z, gamma, W_g, b_g, h0)
