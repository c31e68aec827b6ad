"""Gated recurrence in parallel over time in Triton, forwards and backwards.

Clauses     REC-1, ADJ-5, REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
Parallel    all chunks of time at once (_solver.py); the gradient by the same solver on the adjoint, last step first
Memory      reads z and gamma once to speculate, once to sweep, and once more for the few steps of each restart. Keeps the
            states in float32 for the gradient, which computes the gates again in one product.
Precision   state, gate and adjoint in float32; products by tensor cores where the weight is bfloat16 (_parts.py).
            float64, and what has more channels or batch rows than the device can advance at once, is walked.
"""

import torch
from torch.autograd.function import once_differentiable

from .._checks import check_arrays, check_values
from .._gated_gradients import gradients, slopes_and_gates
from .._launch import apply
from .._walk import states_before
from ..gated_recurrence import gated_recurrence as walked
from ..rows._advance import Rows, walk
from ..rows._cell import Cell
from ..rows._tiles import most_rows
from ._chunks import freeze
from ._options import check_options, check_rows
from ._solver import Method, Report, solve
from ._splice import Splices

GATED = Method(Rows, Splices, freeze, walk)


class _GatedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, chunk, tolerance, reports, keep, z, gamma, W_g, b_g, h0):
        cell = Cell(z, gamma, None, W_g.contiguous(), b_g.contiguous())
        h, report = solve(GATED, cell, h0.float().contiguous(), chunk, tolerance)
        reports.append(report)
        ctx.chunk, ctx.tolerance = chunk, tolerance
        if keep:
            ctx.save_for_backward(z, gamma, W_g, b_g, h0, h)
        return h.to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        """The adjoint; then every gradient is a product with it (ADJ-5)."""
        z, gamma, W_g, b_g, h0, h = ctx.saved_tensors
        before = states_before(h0, h)
        slopes, gates = slopes_and_gates(z, W_g, b_g.contiguous(), before)
        adjoint = Cell(g.flip(1), gamma.flip(1), slopes, W_g.T.contiguous(), torch.zeros_like(b_g))
        wanted, _ = solve(GATED, adjoint, torch.zeros_like(h0, dtype=torch.float32), ctx.chunk, ctx.tolerance)
        found = (*gradients(g, wanted, gates, slopes, before), wanted[:, -1])
        return None, None, None, None, *(gradient.to(z.dtype) for gradient in found)


def gated_recurrence_parallel(
    z: torch.Tensor, gamma: torch.Tensor, W_g: torch.Tensor, b_g: torch.Tensor, h0: torch.Tensor, *,
    chunk: int | None = None, tolerance: float = 1.0,
) -> tuple[torch.Tensor, Report]:  # fmt: skip
    """h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} (REC-1), and how it was found (REC-PAR-2).

    Args:
        z, gamma: [B, T, D], gamma in [0, 1]. W_g: [D, D]. b_g: [D]. h0: [B, D]. One dtype: float64, float32,
        bfloat16 or float16; any strides.
        chunk: steps of a chunk; by default as many as let all be done soonest.
        tolerance: share of the error granted to one step that a splice may use, from 0 (exact mode) to 1.
    Returns:
        h [B, T, D], differentiable with respect to every array, and the report of the forward solution.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    check_arrays(z=(z, "BTD"), gamma=(gamma, "BTD"), W_g=(W_g, "DD"), b_g=(b_g, "D"), h0=(h0, "BD"))
    check_values(z=(z,), gamma=(gamma, 0.0, 1.0), W_g=(W_g,), b_g=(b_g,), h0=(h0,))
    check_options(chunk, tolerance)
    B, T, D = z.shape
    if T == 0 or z.dtype == torch.float64 or most_rows(D, z.device) < B:
        return walked(z, gamma, W_g, b_g, h0), Report(0.0, min(T, 1), T > 0, T)
    check_rows(chunk, B, T, D, z.device)
    reports: list[Report] = []
    return apply(_GatedRecurrence, (chunk, tolerance, reports), z, gamma, W_g, b_g, h0), reports[0]


def gated_recurrence(
    z: torch.Tensor, gamma: torch.Tensor, W_g: torch.Tensor, b_g: torch.Tensor, h0: torch.Tensor
) -> torch.Tensor:
    """The op of that name by the solver: `gated_recurrence_parallel` with its defaults, without the report."""
    return gated_recurrence_parallel(z, gamma, W_g, b_g, h0)[0]
