"""Mistakes that any kernel can make, whatever it computes: in steps and rows, in buffers, in memory of past calls."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmrec.conformance.mutants._contract import Kernel

# ---- steps and rows -----------------------------------------------------------------------------


def delayed(x: Tensor) -> Tensor:
    """Step t - 1 in the place of step t; the first one repeated."""
    return torch.cat([x[:, :1], x[:, :-1]], dim=1)


def without_last_step(core: Kernel) -> Kernel:
    """The loop ends one step early: the last state is the one before it."""
    return lambda *arrays, **options: delayed_at_end(core(*arrays, **options))


def delayed_at_end(y: Tensor) -> Tensor:
    return torch.cat([y[:, :-1], y[:, -2:-1]], dim=1) if y.shape[1] > 1 else y


def with_stale_row(core: Kernel) -> Kernel:
    """The second half of the last row still holds what was computed for the first row."""

    def stale(*arrays: Tensor, **options: Any) -> Tensor:
        y, half = core(*arrays, **options), arrays[0].shape[1] // 2
        return torch.cat([y[:-1], torch.cat([y[-1:, :half], y[:1, half:]], dim=1)])

    return stale


def with_rows_summed(core: Kernel) -> Kernel:
    """A mask by multiplication adds 0 times every other row: nothing, unless one of them is NaN."""

    def leaking(*arrays: Tensor, **options: Any) -> Tensor:
        y = core(*arrays, **options)
        return y + 0 * y.sum(0, keepdim=True)

    return leaking


def with_future_summed(core: Kernel) -> Kernel:
    """A mask by multiplication adds 0 times every later step: nothing, unless one of them is NaN."""

    def leaking(*arrays: Tensor, **options: Any) -> Tensor:
        y = core(*arrays, **options)
        return y + 0 * y.sum(1, keepdim=True)

    return leaking


# ---- buffers ------------------------------------------------------------------------------------


def read_as_contiguous(x: Tensor) -> Tensor:
    """The numbers that lie in memory where those of a contiguous array would."""
    available = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
    if x.numel() > available:
        return x.contiguous()
    return x.as_strided(x.shape, [math.prod(x.shape[axis + 1 :]) for axis in range(x.ndim)])


def with_unwritten_tail(core: Kernel, block: int = 16) -> Kernel:
    """A last block that is not full stays as it was allocated when it holds a single step."""

    def unwritten(*arrays: Tensor, **options: Any) -> Tensor:
        y = core(*arrays, **options)
        if y.shape[1] % block != 1 or y.shape[1] == 1:
            return y
        return torch.cat([y[:, :-1], torch.empty_like(y[:, -1:])], dim=1)

    return unwritten


def spoiling(kernel: Kernel, which: int = 0) -> Kernel:
    """One argument is used as scratch space."""

    def spoils(*given: Tensor, **options: Any) -> Tensor:
        result = kernel(*given, **options)
        given[which].data[..., -1:] = 0
        return result

    return spoils


# ---- memory of past calls -------------------------------------------------------------------------


def remembering(kernel: Kernel, by: Callable[[Tensor], object]) -> Kernel:
    """An answer given before is given again when ``by`` says that the arguments are the same."""
    answers: dict[object, Tensor] = {}

    def remembers(*given: Tensor, **options: Any) -> Tensor:
        if any(array.requires_grad for array in given):
            return kernel(*given, **options)
        key = (*map(by, given), *options.items())
        if key not in answers:
            answers[key] = kernel(*given, **options)
        return answers[key].clone()

    return remembers


def address(x: Tensor) -> object:
    return x.data_ptr(), x.shape, x.dtype


def shape(x: Tensor) -> object:
    return x.shape, x.dtype


def alternating(*kernels: Kernel) -> Kernel:
    """Correct, but not twice the same: calls take turns, as the order of atomic additions does."""
    turns = itertools.cycle(kernels)
    return lambda *given, **options: next(turns)(*given, **options)
