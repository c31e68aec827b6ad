"""How are all steps of h_t = f_t h_{t-1} + c_t computed, and differentiated?

Clauses     MDI-1, SCAN-2, SCAN-6, GRAD-1
Parallel    over rows and channels, and over time where that is not enough: _take_steps.py
Memory      every number is read and written once, a slab of time that fits into the cache after another. For the
            gradient the inputs and the states are kept
Precision   that of `initial`; results are rounded once, to the dtype of the inputs
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from ._take_steps import Some, slabs, take_steps


class Step(NamedTuple):
    """What the steps of one op do: h -> f h + c. All arguments are [B, S, D] in the arithmetic dtype."""

    coefficients: Callable[..., tuple[Some, Some]]  # inputs -> (f, c); None: nothing is multiplied, or added
    write_gradients: Callable[..., None]  # (list of where to, s, states before, *inputs); may overwrite s


class Scan(torch.autograd.Function):
    """h_t = f_t h_{t-1} + c_t with h_{-1} = initial.

    Args     step     the op's
             initial  [B, D] in the arithmetic dtype
             inputs   [B, T, D] each, of one dtype
    Returns  [B, T, D] in the dtype of the inputs
    """

    @staticmethod
    def forward(ctx: Any, step: Step, initial: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        h, states = initial, torch.empty(inputs[0].shape, dtype=initial.dtype, device=initial.device)
        for slab in slabs(states):
            h = take_steps(*step.coefficients(*(x[:, slab].to(h.dtype) for x in inputs)), h, states[:, slab])
        ctx.step = step
        ctx.save_for_backward(initial, states, *inputs)
        return states.to(inputs[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """s_t = g_t + f_{t+1} s_{t+1};  df_t = s_t h_{t-1},  dc_t = s_t,  dh_{-1} = f_0 s_0."""
        initial, states, *inputs = ctx.saved_tensors
        grads = tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs)
        s_next = grad_initial = torch.zeros_like(initial)
        for slab in reversed(slabs(states)):
            x = [array[:, slab.start : slab.stop + 1].to(initial.dtype) for array in inputs]
            f, _ = ctx.step.coefficients(*x)
            if f is not None and slab.stop == states.shape[1]:
                f = torch.cat([f, torch.zeros_like(initial)[:, None]], dim=1)  # nothing follows the last step
            s = torch.empty_like(states[:, slab])
            take_steps(None if f is None else f[:, 1:], grad[:, slab].to(s.dtype), s_next, s, reverse=True)
            inside = [array[:, : s.shape[1]] for array in x]
            s_next = s[:, 0].clone()
            grad_initial = s_next if f is None else f[:, 0] * s_next
            outputs = [whole[:, slab] for whole in grads]
            ctx.step.write_gradients(outputs, s, _before(slab, states, initial), *inside)
        return None, grad_initial, *grads


def _before(slab: slice, states: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """The state before every step of a slab."""
    if slab.start == 0:
        return torch.cat([initial[:, None], states[:, : slab.stop - 1]], dim=1)
    return states[:, slab.start - 1 : slab.stop - 1]
