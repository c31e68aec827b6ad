"""Stabilized recurrence in Triton: a gated mixture plus decay, normalized and clipped at every step.

Clauses     REC-10 to REC-16, ADJ-6, ADJ-8
Parallel    time is a serial loop inside one launch. Up to 128 channels one program per batch row, which holds W_h
            (_row.py, _stabilized_kernels.py); above, all programs walk together: a row after another, as matrix times vector
            (_walk.py, _stabilized_walk.py), or all rows of a larger batch at once, on tensor cores
            (rows/_stabilized_advance.py, rows/_stabilized_adjoint.py)
Memory      reads z, gate_z, gamma once; writes h once, and for the gradient in float32. Backward computes mix and norm
            again, above 128 channels the gates too, from one product with W_h; and from the gradient of the gate's
            logits another product gives that of W_h, and a third what the state before is told through the gates.
Precision   loads any float; state, gate, norm (two passes), matrix products and saved arrays in float32
            (float64 for float64); rounds once, at each store of a result. On tensor cores the products are those of
            bfloat16 parts (_parts.py)
"""

import torch
from torch.autograd.function import once_differentiable

from ._checks import check_arrays, check_choice, check_number, check_values
from ._launch import apply, arithmetic_dtype, launch
from ._matmul import product
from ._row import WIDEST_ROW, row_options
from ._stabilized_gradients import gradients
from ._stabilized_kernels import backward_kernel, forward_kernel
from ._stabilized_mixing import mixing_of
from ._walk import states_before
from .rows._stabilized_adjoint import walk_backward
from .rows._stabilized_advance import walk_forward
from .rows._stabilized_cell import Backward, Forward, Stabilizer


def constants(norm: str, eps: float, clip: float) -> dict[str, str | float]:
    """As kernels name them."""
    return {"NORM": norm, "EPS": eps, "CLIP": clip}


class _Row(torch.autograd.Function):
    """One program per batch row."""

    @staticmethod
    def forward(ctx, options, keep, z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0):
        B, T, D = z.shape
        initial = h0.to(arithmetic_dtype(z.dtype)).contiguous()
        out = torch.empty_like(z, memory_format=torch.contiguous_format)
        W_transposed = W_h.T.contiguous()
        previous, gates = (initial.new_empty((B, T, D)) for _ in range(2)) if keep else (initial, initial)
        launch(
            forward_kernel, (B,), z.device,
            z, gate_z, gamma, W_transposed, b_h, norm_weight, norm_bias, initial, out, previous, gates, T, D,
            *z.stride(), *gate_z.stride(), *gamma.stride(), *W_transposed.stride(), *b_h.stride(),
            *norm_weight.stride(), *norm_bias.stride(), KEEP=keep, **constants(*options), **row_options(D),
        )  # fmt: skip
        ctx.options = options
        if keep:
            ctx.save_for_backward(z, gamma, W_h, norm_weight, norm_bias, previous, gates)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, gamma, W_h, norm_weight, norm_bias, previous, gates = ctx.saved_tensors
        B, T, D = z.shape
        dz, dgamma = (torch.empty_like(z, memory_format=torch.contiguous_format) for _ in range(2))
        dlogits = torch.empty_like(previous)
        dweight, dshift, dinitial = (previous.new_empty((B, D)) for _ in range(3))
        launch(
            backward_kernel, (B,), z.device,
            grad, z, gamma, W_h, norm_weight, norm_bias, previous, gates, dz, dgamma, dlogits,
            dweight, dshift, dinitial, T, D, *grad.stride(), *z.stride(), *gamma.stride(), *W_h.stride(),
            *norm_weight.stride(), *norm_bias.stride(), **constants(*ctx.options), **row_options(D),
        )  # fmt: skip
        dW = product(dlogits.reshape(-1, D).T, previous.reshape(-1, D))
        found = (dz, dlogits, dgamma, dW, dlogits.sum((0, 1)), dweight.sum(0), dshift.sum(0), dinitial)
        return None, None, *(gradient.to(z.dtype) for gradient in found)


class _Walk(torch.autograd.Function):
    """All programs together, for all batch rows."""

    @staticmethod
    def forward(ctx, options, keep, z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0):
        arithmetic = arithmetic_dtype(z.dtype)
        h = torch.empty(z.shape, dtype=arithmetic if keep else z.dtype, device=z.device)
        state = h0.to(arithmetic, memory_format=torch.contiguous_format, copy=True)
        form = Stabilizer(norm_weight.contiguous(), norm_bias.contiguous(), *options)
        walk_forward(Forward(z, gate_z, gamma, W_h.contiguous(), b_h.contiguous(), form), state, h)
        ctx.options = options
        if keep:
            ctx.save_for_backward(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, h)
        return h.to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """What is wanted of every mix; then every gradient is a product with it (ADJ-6)."""
        z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, h = ctx.saved_tensors
        form = Stabilizer(norm_weight.contiguous(), norm_bias.contiguous(), *ctx.options)
        before = states_before(h0, h)
        mixing = mixing_of(z, gate_z, gamma, W_h, b_h.contiguous(), before, form.norm, form.eps)
        dmixed, state = torch.empty_like(h), h.new_zeros(h0.shape)
        walk_backward(Backward(grad, gamma, mixing, W_h.T.contiguous(), form), state, dmixed)
        found = gradients(grad, gamma, W_h, before, dmixed, mixing, form, z.dtype)
        return None, None, *(gradient.to(z.dtype) for gradient in found)


def check_call(
    z: torch.Tensor, gate_z: torch.Tensor, gamma: torch.Tensor, W_h: torch.Tensor, b_h: torch.Tensor,
    norm_weight: torch.Tensor, norm_bias: torch.Tensor, h0: torch.Tensor, *, norm: str, eps: float, clip: float,
) -> None:  # fmt: skip
    """Raise TypeError or ValueError for an argument outside the contract, by name."""
    check_arrays(
        z=(z, "BTD"),
        gate_z=(gate_z, "BTD"),
        gamma=(gamma, "BTD"),
        W_h=(W_h, "DD"),
        b_h=(b_h, "D"),
        norm_weight=(norm_weight, "D"),
        norm_bias=(norm_bias, "D"),
        h0=(h0, "BD"),
    )
    check_choice("norm", norm, ("rms", "layer", "none"))
    check_number("eps", eps, zero_allowed=True)
    check_number("clip", clip, zero_allowed=False)
    check_values(
        z=(z,),
        gate_z=(gate_z,),
        gamma=(gamma, 0.0, 1.0),
        W_h=(W_h,),
        b_h=(b_h,),
        norm_weight=(norm_weight,),
        norm_bias=(norm_bias,),
        h0=(h0,),
    )


def stabilized_recurrence(
    z: torch.Tensor, gate_z: torch.Tensor, gamma: torch.Tensor, W_h: torch.Tensor, b_h: torch.Tensor,
    norm_weight: torch.Tensor, norm_bias: torch.Tensor, h0: torch.Tensor,
    *, norm: str = "rms", eps: float = 1e-6, clip: float = 100.0,
) -> torch.Tensor:  # fmt: skip
    """g = sigmoid(gate_z_t + W_h h + b_h); u = (1 - g) h + g z_t + gamma_t h; h_t = clip(norm(u), -clip,
    clip) (REC-10..16).

    Args:
        z, gate_z, gamma: [B, T, D], gamma in [0, 1]. W_h: [D, D]. b_h, norm_weight, norm_bias: [D]. h0: [B,
        D]. One dtype: float64, float32, bfloat16 or float16; any strides.
        norm: "rms" (norm_bias unused), "layer", or "none" (norm_weight and norm_bias unused). eps: added to
        the mean square or the variance. clip: bound of abs(h).
    Returns:
        h [B, T, D]. Differentiable with respect to every array; the gradient of an unused one is 0, and so is
        that of the clip outside its range.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    check_call(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, norm=norm, eps=eps, clip=clip)
    options = (norm, float(eps), float(clip))
    return apply(
        _Row if z.shape[2] <= WIDEST_ROW else _Walk, (options,), z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0
    )
