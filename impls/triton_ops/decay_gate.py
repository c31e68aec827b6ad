"""Decay gate: two small networks, one on the token and one on its context, whose product is the decay.

Clauses     GAMMA-1 to GAMMA-7
Parallel    the projections are matrix products by torch (_gate_networks.py), and everything between and after them is
            one kernel each (_gate_kernels.py), one program per tile of tokens and channels
Memory      each kernel reads its inputs once and writes its result once. Saved for backward: what enters each
            gelu and each sigmoid, unrounded, and what leaves the gelus.
Precision   float32 (float64 for float64) from the first projection to the clip, TF32 off; rounds once, after
            the clip. Products of bfloat16 run on tensor cores, what is computed in as many parts as keep its float32
            (_parts.py).
"""

import torch
from torch.autograd.function import once_differentiable

from ._checks import check_arrays, check_choice, check_values
from ._gate_networks import SHAPES, Kept, Networks, decays_of, logits_adjoint, logits_of, networks_adjoint
from ._launch import apply


class _DecayGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, form, keep, *arguments):
        nets = Networks.of(arguments)
        gamma = torch.empty_like(arguments[0], memory_format=torch.contiguous_format)
        kept = logits_of(nets, form)
        decays_of(nets, kept.logits, gamma)
        ctx.form = form
        if keep:
            ctx.save_for_backward(*arguments, *kept)
        return gamma

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        nets, kept = Networks.of(ctx.saved_tensors[:10]), Kept(*ctx.saved_tensors[10:])
        dlogits, db2 = logits_adjoint(nets, kept.logits, grad)
        dz, dk, *dparameters = networks_adjoint(nets, kept, dlogits, db2, ctx.form)
        return None, None, dz.view_as(grad), dk.view_as(grad), *dparameters


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
    given = (z, k, base_w1, base_b1, base_w2, base_b2, context_w1, context_b1, context_w2, context_b2)
    arrays = dict(zip(SHAPES, zip(given, SHAPES.values(), strict=True), strict=True))
    check_arrays(**arrays)
    check_choice("gelu", gelu, ("tanh", "erf"))
    check_values(**{name: (array,) for name, (array, _) in arrays.items()})
    return apply(_DecayGate, (gelu,), *given)
