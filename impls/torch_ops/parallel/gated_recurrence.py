"""Gated recurrence in parallel over time: chunks advance together from speculated states, until every splice is sound.

Clauses     REC-1, REC-PAR-1, REC-PAR-2, REC-PAR-3, ADJ-5
Parallel    all chunks of time at once, step by step within them; the speculation and its correction are scans
Memory      states, inputs and, for the gradient, gates of all steps; forwards and backwards
Precision   float32 for the narrow dtypes and float32, float64 for float64; the product with W_g in float64
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .._checks import check_arrays
from .._precision import arithmetic_dtype, contiguous_double, linear
from .._steps import zero_of
from .._take_steps import take_steps
from ._gated_cells import Backward, Forward
from ._gradients import of_gate_parameters
from ._layout import Chunks, default_steps
from ._options import check_options
from ._solver import Report, solve


def gated_recurrence_parallel(
    z: torch.Tensor,
    gamma: torch.Tensor,
    W_g: torch.Tensor,
    b_g: torch.Tensor,
    h0: torch.Tensor,
    *,
    chunk: int | None = None,
    tolerance: float = 1.0,
) -> tuple[torch.Tensor, Report]:
    """Return h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} with h_{-1} = h0, and how it was found.

    Clauses  REC-1, REC-PAR-1, REC-PAR-2, REC-PAR-3
    Args     z          [B, T, D]  input per step
             gamma      [B, T, D]  decay per step, in [0, 1]
             W_g        [D, D]     gate weight, acting on column vectors
             b_g        [D]        gate bias
             h0         [B, D]     state before step 0
             chunk      steps of a chunk; by default what gives at most 512 rows
             tolerance  share of the error granted to one step that a splice may use; 0 is the exact mode, and what
                        float64 always has
    Returns  h [B, T, D] in the dtype of the arguments, differentiable; the report of the forward solution
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape, or an option is out of its range;
             in checked mode, value
    """
    check_arrays(
        {"z": (z, "BTD"), "gamma": (gamma, "BTD"), "W_g": (W_g, "DD"), "b_g": (b_g, "D"), "h0": (h0, "BD")},
        domains={"gamma": (0.0, 1.0)},
    )
    check_options(chunk, tolerance)
    B, T, _ = z.shape
    if T == 0:
        return z + zero_of(gamma, W_g, b_g, h0), Report(0.0, 0, False, 0)
    chunks = Chunks(B, T, min(chunk or default_steps(B, T), T))
    arithmetic = arithmetic_dtype(z.dtype)
    reports: list[Report] = []
    arrays = (array.to(arithmetic) for array in (z, gamma, W_g, b_g, h0))
    share = 0.0 if arithmetic == torch.float64 else float(tolerance)
    h = _GatedRecurrence.apply(chunks, share, reports, *arrays)
    return h.to(z.dtype), reports[0]


def gated_recurrence(
    z: torch.Tensor, gamma: torch.Tensor, W_g: torch.Tensor, b_g: torch.Tensor, h0: torch.Tensor
) -> torch.Tensor:
    """The op of that name by the solver: `gated_recurrence_parallel` with its defaults, without the report."""
    return gated_recurrence_parallel(z, gamma, W_g, b_g, h0)[0]


class _GatedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        chunks: Chunks,
        tolerance: float,
        reports: list[Report],
        z: torch.Tensor,
        gamma: torch.Tensor,
        W_g: torch.Tensor,
        b_g: torch.Tensor,
        h0: torch.Tensor,
    ) -> torch.Tensor:
        cell = Forward(chunks.cut(z), chunks.cut(gamma), contiguous_double(W_g), contiguous_double(b_g))
        frozen = linear_states(gamma, z * torch.sigmoid(b_g), h0)
        states, report = solve(cell, h0.contiguous(), chunks.before_each(frozen), chunks.steps, tolerance)
        h = chunks.join(states)
        reports.append(report)
        ctx.chunks, ctx.tolerance = chunks, tolerance
        ctx.save_for_backward(z, gamma, W_g, b_g, h0, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The adjoint by the same solver, last step first; then every gradient is a product with it (ADJ-5)."""
        z, gamma, W_g, b_g, h0, h = ctx.saved_tensors
        weight = contiguous_double(W_g)
        before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
        gate = torch.sigmoid(linear(before, weight, contiguous_double(b_g)))
        slope_of_gate = z * (gate * (1 - gate))
        g_back, slope_back, gamma_back = (x.flip(1) for x in (g, slope_of_gate, gamma))
        cut, nothing = ctx.chunks.cut, torch.zeros_like(h0)
        cell = Backward(cut(g_back), cut(slope_back), cut(gamma_back), weight)
        frozen = linear_states(gamma_back, gamma_back * g_back, nothing)
        states, _ = solve(cell, nothing, ctx.chunks.before_each(frozen), ctx.chunks.steps, ctx.tolerance)
        wanted = ctx.chunks.join(states)  # of the state before each step, last step first
        adjoint = g + torch.cat([nothing[:, None], wanted[:, :-1]], dim=1).flip(1)
        of_parameters = of_gate_parameters(adjoint * slope_of_gate, before)
        return None, None, None, adjoint * gate, adjoint * before, *of_parameters, wanted[:, -1]


def linear_states(a: torch.Tensor, b: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
    """x_t = a_t x_{t-1} + b_t with x_{-1} = h0: the recurrence with its gate frozen."""
    states = torch.empty_like(b, memory_format=torch.contiguous_format)
    take_steps(a, b, h0, states)
    return states
