"""Decay gate: two small networks, one on the token and one on its context, whose product is the decay.

Clauses     GAMMA-1 to GAMMA-7
Parallel    one program per tile of elements; the four projections are matrix products by torch
Memory      each kernel reads its inputs once and writes its result once. Saved for backward: what enters each
            gelu and each sigmoid, unrounded; the gelu is computed again there.
Precision   float32 (float64 for float64) from the first projection to the clip, TF32 off; rounds once, after
            the clip
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from ._checks import check_arrays, check_choice, check_values
from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import clip, gelu, gelu_derivative, sigmoid
from ._launch import apply, arithmetic_dtype, launch
from ._matmul import linear, product

LOWEST_DECAY = tl.constexpr(1e-6)
HIGHEST_DECAY = tl.constexpr(1.0 - 1e-6)
BLOCK = 1024

# ---- device code -------------------------------------------------------------------


@triton.jit
def gelu_forward_kernel(x_ptr, out_ptr, N, FORM: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    inside = i < N
    x = tl.load(x_ptr + i, mask=inside, other=0.0)
    tl.store(out_ptr + i, gelu(x, FORM), mask=inside)


@triton.jit
def gelu_backward_kernel(x_ptr, grad_ptr, dx_ptr, N, FORM: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    inside = i < N
    x = tl.load(x_ptr + i, mask=inside, other=0.0)
    grad = tl.load(grad_ptr + i, mask=inside, other=0.0)
    tl.store(dx_ptr + i, grad * gelu_derivative(x, FORM), mask=inside)


@triton.jit
def gate_forward_kernel(base_ptr, context_ptr, gamma_ptr, N, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    inside = i < N
    base = sigmoid(tl.load(base_ptr + i, mask=inside, other=0.0))
    context = sigmoid(tl.load(context_ptr + i, mask=inside, other=0.0))
    gamma = clip(base * context, LOWEST_DECAY, HIGHEST_DECAY)
    tl.store(gamma_ptr + i, gamma.to(gamma_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gate_backward_kernel(
    grad_ptr, base_ptr, context_ptr, dbase_ptr, dcontext_ptr, N, T, D, grad_stride_b, grad_stride_t,
    grad_stride_d,
    BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK], positions of [B, T, D]
    inside = i < N
    token = i // D
    grad_position = token // T * grad_stride_b + token % T * grad_stride_t + i % D * grad_stride_d
    grad = tl.load(grad_ptr + grad_position, mask=inside, other=0.0).to(base_ptr.dtype.element_ty)
    base = sigmoid(tl.load(base_ptr + i, mask=inside, other=0.0))
    context = sigmoid(tl.load(context_ptr + i, mask=inside, other=0.0))
    gamma = base * context
    slope = tl.where((gamma >= LOWEST_DECAY) & (gamma <= HIGHEST_DECAY), grad * gamma, 0.0)
    tl.store(dbase_ptr + i, slope * (1.0 - base), mask=inside)
    tl.store(dcontext_ptr + i, slope * (1.0 - context), mask=inside)


def compile_specs() -> list[CompileSpec]:
    specs = []
    for storage in STORAGES:
        specs.append(compile_spec(gate_forward_kernel, storage, ("base_ptr", "context_ptr"), BLOCK=BLOCK))
        saved = ("base_ptr", "context_ptr", "dbase_ptr", "dcontext_ptr")
        specs.append(compile_spec(gate_backward_kernel, storage, saved, BLOCK=BLOCK))
    for arithmetic in ("fp32", "fp64"):
        for form in ("tanh", "erf"):
            specs.append(compile_spec(gelu_forward_kernel, arithmetic, FORM=form, BLOCK=BLOCK))
            specs.append(compile_spec(gelu_backward_kernel, arithmetic, FORM=form, BLOCK=BLOCK))
    return specs


# ---- launch ------------------------------------------------------------------------


def _over_elements(kernel, N: int, device: torch.device, *arguments, **options) -> None:
    if N:
        launch(kernel, (triton.cdiv(N, BLOCK),), device, *arguments, BLOCK=BLOCK, **options)


def _gelu(x: torch.Tensor, form: str) -> torch.Tensor:
    out = torch.empty_like(x)
    _over_elements(gelu_forward_kernel, x.numel(), x.device, x, out, x.numel(), FORM=form)
    return out


def _network(x, w1, b1, w2, b2, form: str) -> tuple[torch.Tensor, torch.Tensor]:
    """x [N, D] -> (what enters the gelu [N, E], what enters the sigmoid [N, D])."""
    hidden = linear(x, w1, b1)
    return hidden, linear(_gelu(hidden, form), w2, b2)


def _network_adjoint(x, w1, w2, hidden, dlogits, form: str) -> tuple[torch.Tensor, ...]:
    """The gradients of x, w1, b1, w2, b2."""
    dw2 = product(dlogits.T, _gelu(hidden, form))
    dactivation = product(dlogits, w2)
    dhidden = torch.empty_like(hidden)
    _over_elements(
        gelu_backward_kernel, hidden.numel(), hidden.device, hidden, dactivation, dhidden, hidden.numel(), FORM=form
    )
    return product(dhidden, w1), product(dhidden.T, x), dhidden.sum(0), dw2, dlogits.sum(0)


class _DecayGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, form, keep, z, k, *parameters):
        z2, k2, w1, b1, w2, b2, wc1, bc1, wc2, bc2 = _in_arithmetic(z, k, *parameters)
        base_hidden, base = _network(z2, w1, b1, w2, b2, form)
        context_hidden, context = _network(k2, wc1, bc1, wc2, bc2, form)
        gamma = torch.empty_like(z, memory_format=torch.contiguous_format)
        _over_elements(gate_forward_kernel, z.numel(), z.device, base, context, gamma, z.numel())
        ctx.form = form
        if keep:
            ctx.save_for_backward(z, k, *parameters, base_hidden, base, context_hidden, context)
        return gamma

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        *arguments, base_hidden, base, context_hidden, context = ctx.saved_tensors
        z, (B, T, D) = arguments[0], arguments[0].shape
        dbase, dcontext = torch.empty_like(base), torch.empty_like(context)
        _over_elements(
            gate_backward_kernel,
            z.numel(),
            z.device,
            grad,
            base,
            context,
            dbase,
            dcontext,
            z.numel(),
            T,
            D,
            *grad.stride(),
        )
        z2, k2, base_w1, _, base_w2, _, context_w1, _, context_w2, _ = _in_arithmetic(*arguments)
        dz, *dbase_parameters = _network_adjoint(z2, base_w1, base_w2, base_hidden, dbase, ctx.form)
        dk, *dcontext_parameters = _network_adjoint(k2, context_w1, context_w2, context_hidden, dcontext, ctx.form)
        gradients = (dz.reshape(B, T, D), dk.reshape(B, T, D), *dbase_parameters, *dcontext_parameters)
        return None, None, *(gradient.to(z.dtype) for gradient in gradients)


def _in_arithmetic(z, k, *parameters) -> list[torch.Tensor]:
    """All in the arithmetic dtype, the tokens of z and k as rows."""
    dtype = arithmetic_dtype(z.dtype)
    D = z.shape[-1]
    rows = (x.to(dtype).reshape(-1, D) for x in (z, k))
    return [*rows, *(parameter.to(dtype) for parameter in parameters)]


def decay_gate(
    z: torch.Tensor, k: torch.Tensor,
    base_w1: torch.Tensor, base_b1: torch.Tensor, base_w2: torch.Tensor, base_b2: torch.Tensor,
    context_w1: torch.Tensor, context_b1: torch.Tensor, context_w2: torch.Tensor, context_b2: torch.Tensor,
    *, gelu: str = "tanh",
) -> torch.Tensor:  # fmt: skip
    """gamma = clip(sigmoid(W2 gelu(W1 z + b1) + b2) * sigmoid(Wc2 gelu(Wc1 k + bc1) + bc2), 1e-6, 1 - 1e-6)
    (GAMMA-1..7).

    Args:
        z, k: [B, T, D]. base_w1, context_w1: [E, D]. base_b1, context_b1: [E]. base_w2, context_w2: [D, E].
        base_b2, context_b2: [D]. One dtype: float64, float32, bfloat16 or float16; any strides.
        gelu: "tanh" or "erf".
    Returns:
        gamma [B, T, D]. Differentiable with respect to every array; the gradient is 0 where the clip binds.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    arrays = {
        "z": (z, "BTD"), "k": (k, "BTD"),
        "base_w1": (base_w1, "ED"), "base_b1": (base_b1, "E"), "base_w2": (base_w2, "DE"),
        "base_b2": (base_b2, "D"),
        "context_w1": (context_w1, "ED"), "context_b1": (context_b1, "E"),
        "context_w2": (context_w2, "DE"), "context_b2": (context_b2, "D"),
    }  # fmt: skip
    check_arrays(**arrays)
    check_choice("gelu", gelu, ("tanh", "erf"))
    check_values(**{name: (array,) for name, (array, _) in arrays.items()})
    return apply(_DecayGate, (gelu,), *(array for array, _ in arrays.values()))
