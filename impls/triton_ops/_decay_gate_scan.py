"""Decay gate and the linear recurrence that consumes its decays, in one: the decays are never in memory.

Clauses     GAMMA-1 to GAMMA-6, then MDI-1
Parallel    the gate's projections (_gate_networks.py), then the scan (_scan.py), whose kernels read the two logits of a step
            where they would read its factor
Memory      forward reads both logits and b once and writes h once; backward reads the gradient, both logits and b (or h)
            once and writes the gradients of the logits and of b once
Precision   as both ops, but a decay is not rounded to the storage dtype before it multiplies: next to 1, bfloat16
            holds no decay between 1 - 2^-8 and 1
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ._checks import check_arrays, check_choice, check_values
from ._gate_networks import SHAPES, Kept, Networks, logits_of, networks_adjoint
from ._launch import apply, triton_dtype
from ._parts import operand_dtype
from ._scan import BACKWARD, FORWARD, GATED_VECTOR, Exchange, computes_again, division, held, room_for_states
from ._scan_kernels import backward_kernel, forward_kernel

SUMMARIES = ("factor", "flow")


class _DecayGateScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, form, keep, b, h0, *arguments):
        nets = Networks.of(arguments)
        kept = logits_of(nets, form)
        base, context = kept.logits.view(2, *b.shape)
        h = torch.empty_like(b, memory_format=torch.contiguous_format)
        ctx.form, ctx.again = form, computes_again("linear", b.dtype)
        arrays = [base, b, h0]
        every = _division(BACKWARD, arrays, b)["ROWS"] if keep and ctx.again else 0
        states = room_for_states(b, every) if every else h
        if b.shape[1]:
            Exchange(arrays, SUMMARIES, _division(FORWARD, arrays, b)).run(
                forward_kernel, base, context, torch.stack(nets.b2), b, h0, h, states,
                KIND="linear", GATED=True, KEEP=every, ARITHMETIC=triton_dtype(base.dtype),
            )  # fmt: skip
        if keep:
            ctx.save_for_backward(b, h0, states, *arguments, *kept)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (b, h0, states), rest = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        nets, kept = Networks.of(rest[:10]), Kept(*rest[10:])
        logits, (N, D, _), parts = kept.logits, nets.sizes, nets.parts
        base, context = logits.view(2, *b.shape)
        arrays = [grad, base, b, h0]
        exchange = Exchange(arrays, SUMMARIES, _division(BACKWARD, arrays, b))
        dlogits = logits.new_empty(2, N, parts * D, dtype=operand_dtype(b.dtype))
        db2 = logits.new_empty(2, exchange.segments * b.shape[0], D)
        db = torch.empty_like(b, memory_format=torch.contiguous_format)
        dh0 = torch.empty_like(h0, memory_format=torch.contiguous_format)
        if b.shape[1]:
            exchange.run(
                backward_kernel, grad, base, context, torch.stack(nets.b2), b, h0, states, dlogits, db2, db, dh0,
                KIND="linear", GATED=True, PARTS=parts, AGAIN=ctx.again, ARITHMETIC=triton_dtype(base.dtype),
            )  # fmt: skip
        else:
            dh0.zero_()
        dz, dk, *dparameters = networks_adjoint(nets, kept, dlogits, db2, ctx.form)
        return None, None, db, dh0, dz.view_as(grad), dk.view_as(grad), *dparameters


def _division(table, arrays: list[torch.Tensor], b: torch.Tensor) -> dict[str, Any]:
    return division(arrays, held(table, "linear", True, b.dtype), GATED_VECTOR)


def decay_gate_scan(
    z: torch.Tensor, k: torch.Tensor,
    base_w1: torch.Tensor, base_b1: torch.Tensor, base_w2: torch.Tensor, base_b2: torch.Tensor,
    context_w1: torch.Tensor, context_b1: torch.Tensor, context_w2: torch.Tensor, context_b2: torch.Tensor,
    b: torch.Tensor, h0: torch.Tensor, *, gelu: str = "tanh",
) -> torch.Tensor:  # fmt: skip
    """h_t = gamma_t h_{t-1} + b_t with gamma = decay_gate(z, k, ...), per channel; gamma stays in float32 at least.

    Args:
        z, k and the parameters: as decay_gate takes them. b: [B, T, D]. h0: [B, D]. One dtype; any strides.
        gelu: "tanh" or "erf".
    Returns:
        h [B, T, D]. Differentiable with respect to every array; no gradient passes a decay where the clip binds.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    given = (z, k, base_w1, base_b1, base_w2, base_b2, context_w1, context_b1, context_w2, context_b2, b, h0)
    arrays = dict(zip([*SHAPES, "b", "h0"], zip(given, [*SHAPES.values(), "BTD", "BD"], strict=True), strict=True))
    check_arrays(**arrays)
    check_choice("gelu", gelu, ("tanh", "erf"))
    check_values(**{name: (array,) for name, (array, _) in arrays.items()})
    return apply(_DecayGateScan, (gelu,), b, h0, *given[:-2])
