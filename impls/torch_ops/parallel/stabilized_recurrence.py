"""Stabilized recurrence in parallel over time: chunks advance together from guessed states, until every splice is sound.

Clauses     REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, REC-16, REC-PAR-1, REC-PAR-2, REC-PAR-3, ADJ-6
Parallel    all chunks of time at once, step by step within them
Memory      states, inputs and, for the gradient, five more arrays of all steps
Precision   float32 for the narrow dtypes and float32, float64 for float64; the product with W_h and means in float64

What is guessed is the state that a step would lead to from 0: its input, normalised. No scan tells more, since with a gate
frozen the weight 1 - g + gamma of the state exceeds 1, and products of it overflow. Sixteen or 64 steps with the gate
frozen and the norm in them were no better guess: chunks met after 126 steps instead of 136, or 29 instead of 31 (measured).
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .._precision import arithmetic_dtype, contiguous_double, linear
from .._steps import zero_of
from ..stabilized_recurrence import Stabilizer, check_call, mix
from ._gradients import of_gate_parameters
from ._layout import Chunks, default_steps
from ._options import check_options
from ._solver import Cell, Report, solve
from ._stabilized_cells import Backward, Forward


def stabilized_recurrence_parallel(
    z: torch.Tensor,
    gate_z: torch.Tensor,
    gamma: torch.Tensor,
    W_h: torch.Tensor,
    b_h: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    h0: torch.Tensor,
    *,
    norm: str = "rms",
    eps: float = 1e-6,
    clip: float = 100.0,
    chunk: int | None = None,
    tolerance: float = 1.0,
) -> tuple[torch.Tensor, Report]:
    """Return h_t = clip(norm(u_t), -clip, clip), u_t = (1 - g_t) h_{t-1} + g_t z_t + gamma_t h_{t-1}, and how it was found.

    The gate is g_t = sigmoid(gate_z_t + W_h h_{t-1} + b_h), as in `torch_ops.stabilized_recurrence`.

    Clauses  REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, REC-16, REC-PAR-1, REC-PAR-2, REC-PAR-3
    Args     z, gate_z    [B, T, D]  input and its share of the gate, per step
             gamma        [B, T, D]  decay per step, in [0, 1]
             W_h, b_h     [D, D], [D]  weight (acting on column vectors) and bias of the state's share of the gate
             norm_weight, norm_bias  [D]
             h0           [B, D]     state before step 0
             norm         "rms", "layer" or "none";  eps >= 0;  clip > 0
             chunk        steps of a chunk; by default what gives at most 512 rows
             tolerance    share of the error granted to one step that a splice may use; 0 is the exact mode, and what
                          float64 always has
    Returns  h [B, T, D] in the dtype of the arguments, differentiable; the report of the forward solution
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape, or an option is out of its range;
             in checked mode, value
    """
    check_call(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, norm=norm, eps=eps, clip=clip)
    check_options(chunk, tolerance)
    B, T, _ = z.shape
    if T == 0:
        return z + zero_of(gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0), Report(0.0, 0, False, 0)
    chunks = Chunks(B, T, min(chunk or default_steps(B, T), T))
    arithmetic = arithmetic_dtype(z.dtype)
    reports: list[Report] = []
    arrays = [array.to(arithmetic) for array in (z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0)]
    share = 0.0 if arithmetic == torch.float64 else float(tolerance)
    h = _StabilizedRecurrence.apply(chunks, share, (norm, eps, clip), reports, *arrays)
    return h.to(z.dtype), reports[0]


def stabilized_recurrence(
    z: torch.Tensor,
    gate_z: torch.Tensor,
    gamma: torch.Tensor,
    W_h: torch.Tensor,
    b_h: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    h0: torch.Tensor,
    *,
    norm: str = "rms",
    eps: float = 1e-6,
    clip: float = 100.0,
) -> torch.Tensor:
    """The op of that name by the solver: `stabilized_recurrence_parallel` with its defaults, without the report."""
    return stabilized_recurrence_parallel(
        z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, norm=norm, eps=eps, clip=clip
    )[0]


class _StabilizedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        chunks: Chunks,
        tolerance: float,
        options: tuple[str, float, float],
        reports: list[Report],
        *arrays: torch.Tensor,
    ) -> torch.Tensor:
        z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0 = arrays
        stabilizer = Stabilizer(norm_weight, norm_bias, *options)
        weight, bias, cut = contiguous_double(W_h), contiguous_double(b_h), chunks.cut
        cell = Forward(cut(z), cut(gate_z), cut(gamma), weight, bias, stabilizer)
        guesses = led_to_from_0(cell, chunks, h0)
        states, report = solve(cell, h0.contiguous(), guesses, chunks.steps, tolerance)
        h = chunks.join(states)
        reports.append(report)
        ctx.chunks, ctx.tolerance, ctx.options = chunks, tolerance, options
        ctx.save_for_backward(*arrays, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The adjoint by the same solver, last step first; then every gradient is a product with it (ADJ-6)."""
        z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, h = ctx.saved_tensors
        stabilizer, weight = Stabilizer(norm_weight, norm_bias, *ctx.options), contiguous_double(W_h)
        before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
        gate = torch.sigmoid(gate_z + linear(before, weight, contiguous_double(b_h)))
        kept, slope_of_gate = 1 - gate + gamma, (z - before) * (gate * (1 - gate))
        mixed = mix(z, gamma, gate, before)
        unclipped = stabilizer.normalize(mixed).abs() <= stabilizer.clip  # ADJ-8
        direction, scale = stabilizer.standardize(mixed)
        felt = torch.ones_like(norm_weight) if stabilizer.norm == "none" else norm_weight

        def backwards(array: torch.Tensor) -> torch.Tensor:
            return ctx.chunks.cut(array.flip(1))

        cell = Backward(
            backwards(g), backwards(of_next_step(kept)), backwards(of_next_step(slope_of_gate)), weight,
            backwards(unclipped * felt), backwards(direction), backwards(scale), stabilizer,
        )  # fmt: skip
        nothing = torch.zeros_like(h0)
        guesses = led_to_from_0(cell, ctx.chunks, h0)
        states, _ = solve(cell, nothing, guesses, ctx.chunks.steps, ctx.tolerance)
        dmixed = ctx.chunks.join(states).flip(1)
        dlogits = dmixed * slope_of_gate
        wanted = (dlogits.double() @ weight).to(g.dtype) + kept * dmixed  # of the state before each step
        of_value = (g + of_next_step(wanted)).where(unclipped, 0.0).double()
        zero = torch.zeros_like(norm_weight)
        dweight = zero if stabilizer.norm == "none" else (of_value * direction).sum((0, 1)).to(g.dtype)
        dbias = of_value.sum((0, 1)).to(g.dtype) if stabilizer.norm == "layer" else zero
        dW, db = of_gate_parameters(dlogits, before)
        per_step = dmixed * gate, dlogits, dmixed * before
        return None, None, None, None, *per_step, dW, db, dweight, dbias, wanted[:, 0]


def led_to_from_0(cell: Cell, chunks: Chunks, h0: torch.Tensor) -> torch.Tensor:
    """Guesses: what the last step of each chunk but the last would lead to from 0, [(count - 1) * B, D]."""
    nothing = h0.new_zeros(((chunks.count - 1) * chunks.B, h0.shape[1]))
    return cell.step(chunks.steps - 1, slice(len(nothing)), nothing)[0]


def of_next_step(array: torch.Tensor) -> torch.Tensor:
    """At every step of [B, T, D] what stands at the next one, and 0 at the last."""
    return torch.cat([array[:, 1:], torch.zeros_like(array[:, :1])], dim=1)
