"""Gated recurrence h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} in Triton.

Clauses     REC-1, ADJ-5
Parallel    time is a serial loop inside one launch. Up to 128 channels one program per batch row, which holds W_g
            (_row.py, _gated_kernels.py); above, all programs walk together: a row after another, as matrix times vector
            (_walk.py, _gated_walk.py), or all rows of a larger batch at once, on tensor cores (rows/_advance.py)
Memory      reads z, gamma once; writes h once, and for the gradient in float32. One product with W_g gives all gates again
            (up to 128 channels forward writes them, too), and from the gradient of their logits another gives that of W_g.
Precision   loads any float; state, gate, matrix products and saved arrays in float32 (float64 for float64);
            rounds once, at each store of a result. On tensor cores the products are those of bfloat16 parts (_parts.py)
"""

import torch
from torch.autograd.function import once_differentiable

from ._checks import check_arrays, check_values
from ._gated_gradients import gradients, slopes_and_gates
from ._gated_kernels import backward_kernel, forward_kernel
from ._launch import apply, arithmetic_dtype, launch
from ._matmul import product
from ._row import WIDEST_ROW, row_options
from ._walk import states_before
from .rows._advance import walk
from .rows._cell import Cell


class _Row(torch.autograd.Function):
    """One program per batch row."""

    @staticmethod
    def forward(ctx, keep, z, gamma, W_g, b_g, h0):
        B, T, D = z.shape
        initial = h0.to(arithmetic_dtype(z.dtype)).contiguous()
        out = torch.empty_like(z, memory_format=torch.contiguous_format)
        W_transposed = W_g.T.contiguous()
        previous, gates = (initial.new_empty((B, T, D)) for _ in range(2)) if keep else (initial, initial)
        launch(
            forward_kernel, (B,), z.device, z, gamma, W_transposed, b_g, initial, out, previous, gates, T, D,
            *z.stride(), *gamma.stride(), *W_transposed.stride(), *b_g.stride(), KEEP=keep, **row_options(D),
        )  # fmt: skip
        if keep:
            ctx.save_for_backward(z, gamma, W_g, previous, gates)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        z, gamma, W_g, previous, gates = ctx.saved_tensors
        B, T, D = z.shape
        dz, dgamma = (torch.empty_like(z, memory_format=torch.contiguous_format) for _ in range(2))
        dlogits, dinitial = torch.empty_like(previous), previous.new_empty((B, D))
        launch(
            backward_kernel, (B,), z.device,
            grad, z, gamma, W_g, previous, gates, dz, dgamma, dlogits, dinitial, T, D,
            *grad.stride(), *z.stride(), *gamma.stride(), *W_g.stride(), **row_options(D),
        )  # fmt: skip
        dW = product(dlogits.reshape(-1, D).T, previous.reshape(-1, D))
        found = (dz, dgamma, dW, dlogits.sum((0, 1)), dinitial)
        return None, *(gradient.to(z.dtype) for gradient in found)


class _Walk(torch.autograd.Function):
    """All programs together, for all batch rows."""

    @staticmethod
    def forward(ctx, keep, z, gamma, W_g, b_g, h0):
        arithmetic = arithmetic_dtype(z.dtype)
        h = torch.empty(z.shape, dtype=arithmetic if keep else z.dtype, device=z.device)
        state = h0.to(arithmetic, memory_format=torch.contiguous_format, copy=True)
        walk(Cell(z, gamma, None, W_g.contiguous(), b_g.contiguous()), state, h)
        if keep:
            ctx.save_for_backward(z, gamma, W_g, b_g, h0, h)
        return h.to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """The adjoint, last step first; then every gradient is a product with it (ADJ-5)."""
        z, gamma, W_g, b_g, h0, h = ctx.saved_tensors
        before = states_before(h0, h)
        slopes, gates = slopes_and_gates(z, W_g, b_g.contiguous(), before)
        wanted, state, no_bias = torch.empty_like(h), h.new_zeros(h0.shape), h.new_zeros(b_g.shape)
        walk(Cell(grad.flip(1), gamma.flip(1), slopes, W_g.T.contiguous(), no_bias), state, wanted)
        found = (*gradients(grad, wanted, gates, slopes, before), state)
        return None, *(gradient.to(z.dtype) for gradient in found)


def gated_recurrence(
    z: torch.Tensor, gamma: torch.Tensor, W_g: torch.Tensor, b_g: torch.Tensor, h0: torch.Tensor
) -> torch.Tensor:
    """h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} (REC-1).

    Args:
        z, gamma: [B, T, D], gamma in [0, 1]. W_g: [D, D]. b_g: [D]. h0: [B, D]. One dtype: float64, float32,
        bfloat16 or float16; any strides.
    Returns:
        h [B, T, D]. Differentiable with respect to every array.
    Raises:
        TypeError, ValueError: an argument outside the contract, named in the message.
    """
    check_arrays(z=(z, "BTD"), gamma=(gamma, "BTD"), W_g=(W_g, "DD"), b_g=(b_g, "D"), h0=(h0, "BD"))
    check_values(z=(z,), gamma=(gamma, 0.0, 1.0), W_g=(W_g,), b_g=(b_g,), h0=(h0,))
    return apply(_Row if z.shape[2] <= WIDEST_ROW else _Walk, (), z, gamma, W_g, b_g, h0)
