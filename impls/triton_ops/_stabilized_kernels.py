"""The device code of the stabilized recurrence; stabilized_recurrence.py says what it computes and how it is
launched."""

import triton
import triton.language as tl

from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import clip, reduce_sum, sigmoid
from ._launch import device_function
from ._recurrence import load_matrix, row_options


@device_function
def standardize(u, inside, D, NORM: tl.constexpr, EPS: tl.constexpr):
    """u over its root mean square, or over its standard deviation after its mean is taken off; and that
    scale."""
    if NORM == "layer":
        u = tl.where(inside, u - reduce_sum(u, axis=0) / D, 0.0)
    scale = tl.rsqrt(reduce_sum(u * u, axis=0) / D + EPS)
    return u * scale, scale


@triton.jit(do_not_specialize=["first", "steps"])
def forward_kernel(
    z_ptr, gate_z_ptr, gamma_ptr, W_transposed_ptr, bias_ptr, weight_ptr, shift_ptr, products_ptr, carry_ptr,
    out_ptr, previous_ptr, gates_ptr, first, steps, T, D,
    z_stride_b, z_stride_t, z_stride_d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d, W_transposed_stride_k, W_transposed_stride_d,
    bias_stride_d, weight_stride_d, shift_stride_d,
    NORM: tl.constexpr, EPS: tl.constexpr, CLIP: tl.constexpr, KEEP: tl.constexpr, FUSED: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = carry_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D).to(tl.int64)  # [BLOCK_D]
    inside = d < D
    start = tl.full((), first, tl.int64)
    z_step = z_ptr + row * z_stride_b + start * z_stride_t + d * z_stride_d
    gate_z_step = gate_z_ptr + row * gate_z_stride_b + start * gate_z_stride_t + d * gate_z_stride_d
    gamma_step = gamma_ptr + row * gamma_stride_b + start * gamma_stride_t + d * gamma_stride_d
    result = (row * T + start) * D + d

    bias = tl.load(bias_ptr + d * bias_stride_d, mask=inside, other=0.0).to(dtype)
    weight = tl.load(weight_ptr + d * weight_stride_d, mask=inside, other=0.0).to(dtype)
    shift = tl.load(shift_ptr + d * shift_stride_d, mask=inside, other=0.0).to(dtype)
    h = tl.load(carry_ptr + row * D + d, mask=inside, other=0.0)
    if FUSED:
        W_transposed = load_matrix(W_transposed_ptr, W_transposed_stride_k, W_transposed_stride_d, d, inside, dtype)
    for _ in range(steps):
        if FUSED:
            Wh = reduce_sum(W_transposed * h[:, None], axis=0)
        else:
            Wh = tl.load(products_ptr + row * D + d, mask=inside, other=0.0)
        gate_z = tl.load(gate_z_step, mask=inside, other=0.0).to(dtype)
        gate = sigmoid(gate_z + Wh + bias)
        if KEEP:
            tl.store(previous_ptr + result, h, mask=inside)
            tl.store(gates_ptr + result, gate, mask=inside)
        z = tl.load(z_step, mask=inside, other=0.0).to(dtype)
        gamma = tl.load(gamma_step, mask=inside, other=0.0).to(dtype)
        u = (1.0 - gate) * h + gate * z + gamma * h
        if NORM != "none":
            standard, _scale = standardize(u, inside, D, NORM, EPS)
            u = standard * weight
            if NORM == "layer":
                u += shift
        h = clip(u, -CLIP, CLIP)
        tl.store(out_ptr + result, h.to(out_ptr.dtype.element_ty), mask=inside)
        z_step += z_stride_t
        gate_z_step += gate_z_stride_t
        gamma_step += gamma_stride_t
        result += D
    tl.store(carry_ptr + row * D + d, h, mask=inside)


@triton.jit(do_not_specialize=["first", "steps"])
def backward_kernel(
    grad_ptr, z_ptr, gamma_ptr, W_ptr, weight_ptr, shift_ptr, previous_ptr, gates_ptr, carry_ptr,
    dz_ptr, dgamma_ptr, dlogits_ptr, dweight_ptr, dshift_ptr, first, steps, T, D,
    grad_stride_b, grad_stride_t, grad_stride_d, z_stride_b, z_stride_t, z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d, W_stride_i, W_stride_d, weight_stride_d, shift_stride_d,
    NORM: tl.constexpr, EPS: tl.constexpr, CLIP: tl.constexpr, FUSED: tl.constexpr, BLOCK_D: tl.constexpr,
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

    weight = tl.load(weight_ptr + d * weight_stride_d, mask=inside, other=0.0).to(dtype)
    shift = tl.load(shift_ptr + d * shift_stride_d, mask=inside, other=0.0).to(dtype)
    dweight = tl.load(dweight_ptr + row * D + d, mask=inside, other=0.0)
    dshift = tl.load(dshift_ptr + row * D + d, mask=inside, other=0.0)
    inflow = tl.load(carry_ptr + row * D + d, mask=inside, other=0.0)  # what later steps add to its adjoint
    if FUSED:
        W = load_matrix(W_ptr, W_stride_i, W_stride_d, d, inside, dtype)
    for _ in range(steps):
        adjoint = tl.load(grad_step, mask=inside, other=0.0).to(dtype) + inflow
        previous = tl.load(previous_ptr + result, mask=inside, other=0.0)
        gate = tl.load(gates_ptr + result, mask=inside, other=0.0)
        z = tl.load(z_step, mask=inside, other=0.0).to(dtype)
        gamma = tl.load(gamma_step, mask=inside, other=0.0).to(dtype)
        u = (1.0 - gate) * previous + gate * z + gamma * previous
        if NORM == "none":
            du = tl.where(tl.abs(u) <= CLIP, adjoint, 0.0)
        else:
            standard, scale = standardize(u, inside, D, NORM, EPS)
            normalized = standard * weight
            if NORM == "layer":
                normalized += shift
            dnormalized = tl.where(tl.abs(normalized) <= CLIP, adjoint, 0.0)
            dweight += dnormalized * standard
            dstandard = dnormalized * weight
            du = dstandard - standard * (reduce_sum(dstandard * standard, axis=0) / D)
            if NORM == "layer":
                dshift += dnormalized
                du -= reduce_sum(dstandard, axis=0) / D
            du = tl.where(inside, du * scale, 0.0)
        dz = du * gate
        dlogits = dz * (1.0 - gate) * (z - previous)
        tl.store(dz_ptr + result, dz.to(dz_ptr.dtype.element_ty), mask=inside)
        tl.store(dgamma_ptr + result, (du * previous).to(dgamma_ptr.dtype.element_ty), mask=inside)
        tl.store(dlogits_ptr + result, dlogits, mask=inside)
        inflow = du * (1.0 - gate + gamma)
        if FUSED:
            inflow += reduce_sum(W * dlogits[:, None], axis=0)
        grad_step += grad_back
        z_step += z_back
        gamma_step += gamma_back
        result -= D
    tl.store(carry_ptr + row * D + d, inflow, mask=inside)
    tl.store(dweight_ptr + row * D + d, dweight, mask=inside)
    tl.store(dshift_ptr + row * D + d, dshift, mask=inside)


def compile_specs() -> list[CompileSpec]:
    specs = []
    saved = ("products_ptr", "carry_ptr", "previous_ptr", "gates_ptr", "dlogits_ptr", "dweight_ptr", "dshift_ptr")
    for storage in STORAGES:
        for D, norms in ((128, ("rms", "layer", "none")), (1000, ("layer",))):
            for norm in norms:
                options = {"NORM": norm, "EPS": 1e-6, "CLIP": 100.0, **row_options(D)}
                specs.append(compile_spec(forward_kernel, storage, saved, KEEP=True, **options))
                specs.append(compile_spec(backward_kernel, storage, saved, **options))
    return specs
