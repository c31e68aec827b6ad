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
    """What the steps of one op do: h -> f h + c. All arrays are [B, S, D] in the arithmetic dtype."""

    factor: Callable[..., torch.Tensor] | None  # inputs -> f, the first input itself if that is it; None: no factor
    inflow: Callable[..., torch.Tensor] | None  # (*inputs, room for it) -> c; None: nothing is added
    write_gradients: Callable[[list[torch.Tensor], torch.Tensor], None]  # (gradients, states before); the last holds s
    zero_outside: Callable[..., None] | None = None  # (gradient of the first input, that input), where f is not that


class Scan(torch.autograd.Function):
    """h_t = f_t h_{t-1} + c_t with h_{-1} = initial.

    Args     step     the op's
             initial  [B, D] in the arithmetic dtype
             inputs   [B, T, D] each, of one dtype
    Returns  [B, T, D] in the dtype of the inputs
    """

    @staticmethod
    def forward(ctx: Any, step: Step, initial: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        h, result = initial, torch.empty(inputs[0].shape, dtype=inputs[0].dtype, device=initial.device)
        states = _room_for(result, initial.dtype) if any(ctx.needs_input_grad) else result
        ctx.first_is_factor = True
        for slab in slabs(result):
            x = [_part(array, slab, h.dtype) for array in inputs]
            out = _room_for(states[:, slab], initial.dtype)
            f, c = _of(step.factor, *x), _of(step.inflow, *x, out)
            ctx.first_is_factor = ctx.first_is_factor and f is x[0]
            h = take_steps(f, c, h, out)
            if out.dtype != result.dtype:
                result[:, slab] = out
        ctx.step = step
        ctx.save_for_backward(initial, states, *inputs)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """s_t = g_t + f_{t+1} s_{t+1};  df_t = s_t h_{t-1},  dc_t = s_t,  dh_{-1} = f_0 s_0."""
        step, (initial, states, *inputs) = ctx.step, ctx.saved_tensors
        grads = tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs)
        s_next = grad_initial = torch.zeros_like(initial)
        for slab in reversed(slabs(states)):
            extended = slice(slab.start, slab.stop + 1)
            x = [_part(array, extended, initial.dtype) for array in inputs]
            f = x[0] if ctx.first_is_factor else _of(step.factor, *x)
            outputs = [_room_for(whole[:, slab], initial.dtype) for whole in grads]
            g, s = _part(grad, slab, initial.dtype), outputs[-1]
            followed = x[0].shape[1] - 1  # steps of the slab; nothing follows the last of all
            if followed < s.shape[1]:
                s_next = s[:, -1].copy_(g[:, -1])
            take_steps(None if f is None else f[:, 1:], g[:, :followed], s_next, s[:, :followed], reverse=True)
            s_next = s[:, 0].clone()
            grad_initial = s_next if f is None else f[:, 0] * s_next
            step.write_gradients(outputs, _before(slab, states, initial))
            if step.zero_outside and not ctx.first_is_factor:
                step.zero_outside(outputs[0], x[0][:, : s.shape[1]])
            for whole, output in zip(grads, outputs, strict=True):
                if output.dtype != whole.dtype:
                    whole[:, slab] = output
        return None, grad_initial, *grads


def _of(coefficient: Callable[..., torch.Tensor] | None, *arrays: torch.Tensor) -> Some:
    return None if coefficient is None else coefficient(*arrays)


def _part(array: torch.Tensor, time: slice, dtype: torch.dtype) -> torch.Tensor:
    """[B, S, D] of [B, T, D], steps and channels in row-major order: sums over others might be taken in another order."""
    part = array[:, time].to(dtype)
    return part if part.stride()[1:] == (part.shape[2], 1) else part.contiguous()


def _room_for(array: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Where to write the array's numbers in that dtype: into it, or else into a new one."""
    return array if array.dtype == dtype else torch.empty_like(array, dtype=dtype)


def _before(slab: slice, states: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """The state before every step of a slab."""
    if slab.start == 0:
        return torch.cat([initial[:, None], states[:, : slab.stop - 1]], dim=1)
    return states[:, slab.start - 1 : slab.stop - 1]
