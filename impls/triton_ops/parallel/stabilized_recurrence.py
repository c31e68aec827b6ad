"""Stabilized recurrence in parallel over time in Triton, forwards and backwards.

Clauses     REC-10 to REC-16, ADJ-6, ADJ-8, REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
Parallel    all chunks of time at once (_solver.py); the gradient by the same solver on the adjoint, last step first
Memory      reads z, gate_z and gamma once for all chunks, and once more for the few steps of speculation and restarts. Keeps
            the states in float32 for the gradient, which computes mix and norm of all steps again from one product.
Precision   state, gate, norm and adjoint in float32; products by tensor cores where the weight is bfloat16 (_parts.py).
            float64, and what has more channels or batch rows than the device can advance at once, is walked.
"""

import torch
from torch.autograd.function import once_differentiable

from .._launch import apply
from .._stabilized_gradients import gradients
from .._stabilized_mixing import mixing_of
from .._walk import states_before
from ..rows._rows import Cell
from ..rows._stabilized_adjoint import BackwardRows, walk_backward
from ..rows._stabilized_advance import ForwardRows, walk_forward
from ..rows._stabilized_cell import Backward, Forward, Stabilizer
from ..rows._tiles import most_rows
from ..stabilized_recurrence import check_call
from ..stabilized_recurrence import stabilized_recurrence as walked
from ._options import check_options, check_rows
from ._solver import Method, Report, solve
from ._stabilized_splice import AdjointSplices, Splices


def nothing_carried(cell: Cell, chunk: int, skipped: int) -> tuple[torch.Tensor, torch.Tensor]:
    """In place of linear maps of steps: that they forget their state. With the gate frozen the weight 1 - g + gamma of the state
    exceeds 1, and products of it overflow; the norm, which prevents that, is not linear."""
    B, T, D = cell.shape
    nothing = torch.zeros((2, -(-T // chunk), B, D), dtype=torch.float32, device=cell.device)
    return nothing, nothing


FORWARDS = Method(ForwardRows, Splices, nothing_carried, walk_forward)
BACKWARDS = Method(BackwardRows, AdjointSplices, nothing_carried, walk_backward)


class _StabilizedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, solver, options, reports, keep, z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0):
        form = Stabilizer(norm_weight.contiguous(), norm_bias.contiguous(), *options)
        cell = Forward(z, gate_z, gamma, W_h.contiguous(), b_h.contiguous(), form)
        h, report = solve(FORWARDS, cell, h0.float().contiguous(), *solver)
        reports.append(report)
        ctx.solver, ctx.options = solver, options
        if keep:
            ctx.save_for_backward(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, h)
        return h.to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        """What is wanted of every mix; then every gradient is a product with it (ADJ-6)."""
        z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, h = ctx.saved_tensors
        before = states_before(h0, h)
        mixing = mixing_of(z, gate_z, gamma, W_h, b_h.contiguous(), before, *ctx.options[:2])
        form = Stabilizer(norm_weight.contiguous(), norm_bias.contiguous(), *ctx.options)
        adjoint = Backward(g, gamma, mixing, W_h.T.contiguous(), form)
        dmixed, _ = solve(BACKWARDS, adjoint, torch.zeros_like(h0, dtype=torch.float32), *ctx.solver)
        found = gradients(g, gamma, W_h, before, dmixed, mixing, form, z.dtype)
        return None, None, None, None, *(gradient.to(z.dtype) for gradient in found)


def stabilized_recurrence_parallel(
    z: torch.Tensor, gate_z: torch.Tensor, gamma: torch.Tensor, W_h: torch.Tensor, b_h: torch.Tensor,
    norm_weight: torch.Tensor, norm_bias: torch.Tensor, h0: torch.Tensor,
    *, norm: str = "rms", eps: float = 1e-6, clip: float = 100.0, chunk: int | None = None, tolerance: float = 1.0,
) -> tuple[torch.Tensor, Report]:  # fmt: skip
    """g = sigmoid(gate_z_t + W_h h + b_h); u = (1 - g) h + g z_t + gamma_t h; h_t = clip(norm(u), -clip, clip)
    (REC-10..16), and how it was found (REC-PAR-2).

    Args:
        z, gate_z, gamma: [B, T, D], gamma in [0, 1]. W_h: [D, D]. b_h, norm_weight, norm_bias: [D]. h0: [B, D]. One dtype:
        float64, float32, bfloat16 or float16; any strides.
        norm: "rms" (norm_bias unused), "layer", or "none" (norm_weight and norm_bias unused). eps: added to the mean square or
        the variance. clip: bound of abs(h).
        chunk: steps of a chunk; by default as many as let all be done soonest.
        tolerance: share of the error granted to one step that a splice may use, from 0 (exact mode) to 1.
    Returns:
        h [B, T, D], differentiable with respect to every array, and the report of the forward solution.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    arrays = (z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0)
    check_call(*arrays, norm=norm, eps=eps, clip=clip)
    check_options(chunk, tolerance)
    B, T, D = z.shape
    if T == 0 or z.dtype == torch.float64 or most_rows(D, z.device) < B:
        return walked(*arrays, norm=norm, eps=eps, clip=clip), Report(0.0, min(T, 1), T > 0, T)
    check_rows(chunk, B, T, D, z.device)
    reports: list[Report] = []
    options = (norm, float(eps), float(clip))
    return apply(_StabilizedRecurrence, ((chunk, tolerance), options, reports), *arrays), reports[0]


def stabilized_recurrence(
    z: torch.Tensor, gate_z: torch.Tensor, gamma: torch.Tensor, W_h: torch.Tensor, b_h: torch.Tensor,
    norm_weight: torch.Tensor, norm_bias: torch.Tensor, h0: torch.Tensor,
    *, norm: str = "rms", eps: float = 1e-6, clip: float = 100.0,
) -> torch.Tensor:  # fmt: skip
    """The op of that name by the solver: `stabilized_recurrence_parallel` with its defaults, without the report."""
    arrays = (z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0)
    return stabilized_recurrence_parallel(*arrays, norm=norm, eps=eps, clip=clip)[0]
