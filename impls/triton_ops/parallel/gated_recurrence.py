"""Gated recurrence in parallel over time in Triton.

Clauses     REC-1, REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
Parallel    all chunks of time at once forwards (_solver.py); backwards one step after another (../gated_recurrence.py)
Memory      reads z and gamma once to speculate, once to sweep, and once more for the few steps of each restart
Precision   the state is float32, and so is what products read, unless the caller asks for the storage dtype, which
            tensor cores multiply: then W_g h_{t-1} is that of a rounded state, outside REC-1 in narrow storage.
            float64, and what has more channels or batch rows than the device can advance at once, is walked.
"""

import torch
import triton
from torch.autograd.function import once_differentiable

from .._checks import check_arrays, check_choice, check_values
from .._launch import apply
from .._matmul import linear
from ..gated_recurrence import gated_recurrence as walked
from ..gated_recurrence import gradients_from_gates
from ._advance import most_rows
from ._solver import Report, Solver, default_chunk


class _GatedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, chunk, tolerance, products, reports, keep, z, gamma, W_g, b_g, h0):
        dtype = z.dtype if products == "stored" else torch.float32
        W, bias = W_g.to(dtype).contiguous(), b_g.to(dtype).contiguous()
        solver = Solver(z.to(dtype), gamma.to(dtype), W, bias, h0.float().contiguous(), chunk, tolerance)
        reports.append(solver.run())
        if keep:
            ctx.save_for_backward(z, gamma, W_g, b_g, h0, solver.out)
        return solver.out.to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, gamma, W_g, b_g, h0, h = ctx.saved_tensors
        D = z.shape[2]
        previous = torch.cat([h0[:, None].to(h.dtype), h[:, :-1]], dim=1).float()
        gates = torch.sigmoid(linear(previous.view(-1, D), W_g.float(), b_g.float())).view(previous.shape)
        return None, None, None, None, None, *gradients_from_gates(grad, z, gamma, W_g, previous, gates)


def gated_recurrence_parallel(
    z: torch.Tensor, gamma: torch.Tensor, W_g: torch.Tensor, b_g: torch.Tensor, h0: torch.Tensor, *,
    chunk: int | None = None, tolerance: float = 1.0, products: str = "float32",
) -> tuple[torch.Tensor, Report]:  # fmt: skip
    """h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} (REC-1), and how it was found (REC-PAR-2).

    Args:
        z, gamma: [B, T, D], gamma in [0, 1]. W_g: [D, D]. b_g: [D]. h0: [B, D]. One dtype: float64, float32,
        bfloat16 or float16; any strides.
        chunk: steps of a chunk; by default as many as give 512 rows.
        tolerance: share of the error granted to one step that a splice may use, from 0 (exact mode) to 1.
        products: in which dtype W_g h_{t-1} reads the state, "float32" or "stored".
    Returns:
        h [B, T, D], differentiable with respect to every array, and the report of the forward solution.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    check_arrays(z=(z, "BTD"), gamma=(gamma, "BTD"), W_g=(W_g, "DD"), b_g=(b_g, "D"), h0=(h0, "BD"))
    check_values(z=(z,), gamma=(gamma, 0.0, 1.0), W_g=(W_g,), b_g=(b_g,), h0=(h0,))
    check_choice("products", products, ("float32", "stored"))
    if not 0 <= tolerance <= 1:
        raise ValueError(f"tolerance: {tolerance} is outside [0, 1]")
    if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk: {chunk!r} is not a whole number of at least 1 step")
    B, T, D = z.shape
    rows = most_rows(D, z.device)
    if T == 0 or z.dtype == torch.float64 or rows < B:
        return walked(z, gamma, W_g, b_g, h0), Report(0.0, 0, T > 0, T)
    chunk = min(chunk or default_chunk(B, T, rows), T)
    if triton.cdiv(T, chunk) * B > rows:
        least = triton.cdiv(T, rows // B)
        raise ValueError(
            f"chunk: {chunk} steps make more than the {rows} rows that fit this device: give at least {least}"
        )
    reports: list[Report] = []
    return apply(_GatedRecurrence, (chunk, tolerance, products, reports), z, gamma, W_g, b_g, h0), reports[0]


def gated_recurrence(
    z: torch.Tensor, gamma: torch.Tensor, W_g: torch.Tensor, b_g: torch.Tensor, h0: torch.Tensor
) -> torch.Tensor:
    """The op of that name by the solver: `gated_recurrence_parallel` with its defaults, without the report."""
    return gated_recurrence_parallel(z, gamma, W_g, b_g, h0)[0]
