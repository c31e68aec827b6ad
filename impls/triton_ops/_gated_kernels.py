"""The device code of the gated recurrence where one program holds its whole matrix; gated_recurrence.py says what it
computes and how it is launched."""

import triton
import triton.language as tl

from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import reduce_sum, sigmoid
from ._row import load_matrix, row_options


@triton.jit(do_not_specialize=["T"])
def forward_kernel(
    z_ptr, gamma_ptr, W_transposed_ptr, bias_ptr, initial_ptr, out_ptr, previous_ptr, gates_ptr, T, D,
    z_stride_b, z_stride_t, z_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    W_transposed_stride_k, W_transposed_stride_d, bias_stride_d,
    KEEP: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = initial_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D).to(tl.int64)  # [BLOCK_D]
    inside = d < D
    z_step = z_ptr + row * z_stride_b + d * z_stride_d
    gamma_step = gamma_ptr + row * gamma_stride_b + d * gamma_stride_d
    result = row * T * D + d

    bias = tl.load(bias_ptr + d * bias_stride_d, mask=inside, other=0.0).to(dtype)
    h = tl.load(initial_ptr + row * D + d, mask=inside, other=0.0)
    W_transposed = load_matrix(W_transposed_ptr, W_transposed_stride_k, W_transposed_stride_d, d, inside, dtype)
    for _ in range(T):
        Wh = reduce_sum(W_transposed * h[:, None], axis=0)
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


@triton.jit(do_not_specialize=["T"])
def backward_kernel(
    grad_ptr, z_ptr, gamma_ptr, W_ptr, previous_ptr, gates_ptr, dz_ptr, dgamma_ptr, dlogits_ptr, dinitial_ptr, T, D,
    grad_stride_b, grad_stride_t, grad_stride_d, z_stride_b, z_stride_t, z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d, W_stride_i, W_stride_d, BLOCK_D: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = previous_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D).to(tl.int64)  # [BLOCK_D]
    inside = d < D
    last = tl.full((), T - 1, tl.int64)
    grad_step = grad_ptr + row * grad_stride_b + last * grad_stride_t + d * grad_stride_d
    z_step = z_ptr + row * z_stride_b + last * z_stride_t + d * z_stride_d
    gamma_step = gamma_ptr + row * gamma_stride_b + last * gamma_stride_t + d * gamma_stride_d
    grad_back, z_back, gamma_back = -grad_stride_t, -z_stride_t, -gamma_stride_t
    result = (row * T + last) * D + d

    inflow = tl.zeros((BLOCK_D,), dtype)  # what later steps add to its adjoint
    W = load_matrix(W_ptr, W_stride_i, W_stride_d, d, inside, dtype)
    for _ in range(T):
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
        inflow = adjoint * gamma + reduce_sum(W * dlogits[:, None], axis=0)
        grad_step += grad_back
        z_step += z_back
        gamma_step += gamma_back
        result -= D
    tl.store(dinitial_ptr + row * D + d, inflow, mask=inside)


def compile_specs() -> list[CompileSpec]:
    specs = []
    saved = ("initial_ptr", "previous_ptr", "gates_ptr", "dlogits_ptr", "dinitial_ptr")
    for storage in STORAGES:
        specs.append(compile_spec(forward_kernel, storage, saved, KEEP=True, **row_options(128)))
        specs.append(compile_spec(backward_kernel, storage, saved, **row_options(128)))
    return specs
