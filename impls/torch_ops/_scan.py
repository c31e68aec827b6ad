"""How are all steps of h_t = a_t h_{t-1} + b_t computed at once, and differentiated?

Clauses     MDI-1, SCAN-2, SCAN-11, GRAD-1
Parallel    every step of every row and channel at once, ceil(log2 T) rounds (Hillis and Steele's doubling)
Memory      two copies of [B, T, D] that are updated in place, one more of temporaries; the backward keeps a, h, h0
Precision   that of the arguments
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable


def affine_scan(a: torch.Tensor, b: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    """Return x_t = a_t x_{t-1} + b_t with x_{-1} = 0, or x_t = a_t x_{t+1} + b_t with x_T = 0 if reversed.

    After each round, step t holds the map of the last `reach` steps up to t; the next round composes it with the
    map that ends where its own begins. A step is only ever combined with earlier ones of its row and channel, so
    that a NaN reaches nothing else.

    Args     a, b  [B, T, D]
    Returns  [B, T, D], new memory
    """
    if reverse:
        return affine_scan(a.flip(1), b.flip(1)).flip(1)
    factor, value = a.clone(), b.clone()
    reach = 1
    while reach < value.shape[1]:
        # The right-hand sides are complete before anything is written: earlier and later steps overlap.
        value[:, reach:] = factor[:, reach:] * value[:, :-reach] + value[:, reach:]
        factor[:, reach:] = factor[:, reach:] * factor[:, :-reach]
        reach *= 2
    return value


class LinearRecurrence(torch.autograd.Function):
    """h_t = a_t h_{t-1} + b_t for a, b [B, T, D] and h_{-1} = h0 [B, D], all of one dtype."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
        inflow = torch.cat([a[:, :1] * h0[:, None] + b[:, :1], b[:, 1:]], dim=1)
        h = affine_scan(a, inflow)
        ctx.save_for_backward(a, h0, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """s_t = g_t + a_{t+1} s_{t+1};  da_t = s_t h_{t-1},  db_t = s_t,  dh0 = a_0 s_0."""
        a, h0, h = ctx.saved_tensors
        if a.shape[1] == 0:
            return torch.zeros_like(a), torch.zeros_like(a), torch.zeros_like(h0)
        following = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)  # a_{t+1}; nothing follows the last step
        s = affine_scan(following, grad_h, reverse=True)
        needs_a, needs_b, needs_h0 = ctx.needs_input_grad
        return (
            s * torch.cat([h0[:, None], h[:, :-1]], dim=1) if needs_a else None,
            s if needs_b else None,
            a[:, 0] * s[:, 0] if needs_h0 else None,
        )


def running_product(factors: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """Return y_t = initial * factor_0 * ... * factor_t: the recurrence without inflow.

    The inflow is -0.0 because that is the number whose addition changes nothing: 0.0 would turn -0.0 into 0.0.
    The recurrence's adjoint is then the exclusion product, valid at factors of zero because it never divides.

    Args  factors [B, T, D], initial [B, D]
    """
    return LinearRecurrence.apply(factors, torch.full_like(factors, -0.0), initial)
