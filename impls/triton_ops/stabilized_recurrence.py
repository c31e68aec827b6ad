"""Stabilized recurrence in Triton: a gated mixture plus decay, normalized and clipped at every step.

Clauses     REC-10 to REC-16
Parallel    one program per batch row; time is a serial loop inside it up to 128 channels, one launch per step
            above (_recurrence.py); kernels in _stabilized_kernels.py
Memory      reads z, gate_z, gamma once; writes h once. For the gradient forward also writes h_{t-1} and the
            gate; backward computes the norm again from them, and writes the gradient of the gate's logits,
            from which one matrix product gives that of W_h.
Precision   loads any float; state, gate, norm (two passes), matrix products and saved arrays in float32
            (float64 for float64); rounds once, at each store of a result
"""

import torch
from torch.autograd.function import once_differentiable

from ._checks import check_arrays, check_choice, check_not_negative, check_values
from ._launch import apply, arithmetic_dtype, launch
from ._matmul import product
from ._recurrence import lanes_over_outputs, row_options, walk_backward, walk_forward
from ._stabilized_kernels import backward_kernel, forward_kernel


class _StabilizedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, options, keep, z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0):
        B, T, D = z.shape
        carry = torch.empty((B, D), dtype=arithmetic_dtype(z.dtype), device=z.device).copy_(h0)
        out = torch.empty_like(z, memory_format=torch.contiguous_format)
        W_transposed = lanes_over_outputs(W_h)
        previous, gates = (carry.new_empty((B, T, D)) for _ in range(2)) if keep else (carry, carry)

        def run(first, steps, products):
            launch(
                forward_kernel, (B,), z.device,
                z, gate_z, gamma, W_transposed, b_h, norm_weight, norm_bias, products, carry, out, previous,
                gates, first, steps, T, D,
                *z.stride(), *gate_z.stride(), *gamma.stride(), *W_transposed.stride(), *b_h.stride(),
                *norm_weight.stride(),
                *norm_bias.stride(), KEEP=keep, **options, **row_options(D),
            )  # fmt: skip

        walk_forward(run, W_h, carry, T)
        ctx.options = options
        if keep:
            ctx.save_for_backward(z, gamma, W_h, norm_weight, norm_bias, previous, gates)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, gamma, W_h, norm_weight, norm_bias, previous, gates = ctx.saved_tensors
        B, T, D = z.shape
        carry, dweight, dshift = (previous.new_zeros((B, D)) for _ in range(3))
        dz, dgamma = (torch.empty_like(z, memory_format=torch.contiguous_format) for _ in range(2))
        dlogits = torch.empty_like(previous)

        def run(first, steps):
            launch(
                backward_kernel, (B,), z.device,
                grad, z, gamma, W_h, norm_weight, norm_bias, previous, gates, carry, dz, dgamma, dlogits,
                dweight, dshift,
                first, steps, T, D, *grad.stride(), *z.stride(), *gamma.stride(), *W_h.stride(),
                *norm_weight.stride(),
                *norm_bias.stride(), **ctx.options, **row_options(D),
            )  # fmt: skip

        walk_backward(run, W_h, carry, dlogits)
        dW = product(dlogits.reshape(-1, D).T, previous.reshape(-1, D))
        gradients = (dz, dlogits, dgamma, dW, dlogits.sum((0, 1)), dweight.sum(0), dshift.sum(0), carry)
        return None, None, *(gradient.to(z.dtype) for gradient in gradients)


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
    check_not_negative("eps", eps)
    check_not_negative("clip", clip)
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
    options = {"NORM": norm, "EPS": float(eps), "CLIP": float(clip)}
    return apply(_StabilizedRecurrence, (options,), z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0)
