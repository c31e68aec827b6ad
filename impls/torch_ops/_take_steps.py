"""How are many narrow steps of h_t = f_t h_{t-1} + c_t taken by few wide operations?

A step of all rows and channels is one operation. Where it is narrow, chunks of CHUNK steps are taken side by side,
twice: first what each chunk does to a state, then, from the state before each, its steps. Slabs of time are that
long that their operations are as wide as the device likes and the second time finds everything in the cache.
A step only ever meets earlier ones of its row and channel, so that a NaN reaches nothing else.
"""

from collections.abc import Callable, Sequence

import torch

CHUNK = 16  # steps
FEW = 8  # so few chunks side by side are not worth taking steps twice

Some = torch.Tensor | None  # None for a factor: nothing is multiplied; None for an inflow: nothing is added


def _width(array: torch.Tensor) -> int:
    """How many numbers an operation on the device likes: on a CPU Python's part is small then, and a slab of four arrays
    still fits a last cache of 32 MB."""
    return 2**17 if array.device.type == "cpu" else 2**22


def slabs(states: torch.Tensor) -> list[slice]:
    """Cut the time of [B, T, D]."""
    rows, steps, channels = states.shape
    length = CHUNK * max(1, _width(states) // (rows * channels))
    return [slice(start, min(start + length, steps)) for start in range(0, steps, length)]


def _in_order(array: torch.Tensor, reverse: bool) -> Sequence[torch.Tensor]:
    """The steps of [..., T, D] in the order in which they are taken."""
    steps = array.unbind(-2)
    return steps[::-1] if reverse else steps


def _walk(factor: Some, inflow: Some, h: torch.Tensor, out: torch.Tensor, reverse: bool) -> torch.Tensor:
    """Take the steps of [..., T, D] one after another."""
    step: Callable[..., torch.Tensor] = torch.addcmul  # (c, f, h) -> c + f h
    if factor is None:
        step = torch.add
    elif inflow is None:
        step = torch.mul
    arrays = [array for array in (inflow, factor) if array is not None]
    for *coefficients, after in zip(*(_in_order(array, reverse) for array in (*arrays, out)), strict=True):
        step(*coefficients, h, out=after)
        h = after
    return h


def _compose(factor: Some, inflow: Some, reverse: bool) -> tuple[Some, Some]:
    """What the steps of each chunk of [B, C, S, D] together do to a state, [B, C, D]."""
    if factor is None or inflow is None:
        return None if factor is None else factor.prod(2), None if inflow is None else inflow.sum(2)
    (_, *factors), (first, *inflows) = _in_order(factor, reverse), _in_order(inflow, reverse)
    c = first.clone()
    for f_t, c_t in zip(factors, inflows, strict=True):
        torch.addcmul(c_t, f_t, c, out=c)
    return factor.prod(2), c


def take_steps(factor: Some, inflow: Some, h: torch.Tensor, out: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    """Write h_t = f_t h_{t-1} + c_t (reversed: f_t h_{t+1} + c_t) to `out`, and return the last state taken.

    Args  factor, inflow  [B, S, D], one of them may be None, the inflow also `out` itself;  h  [B, D];  out  [B, S, D]
    """
    rows, steps, channels = out.shape
    length = min(CHUNK, 1 << steps.bit_length() // 2)  # about the root: chunks are as many as steps in each
    chunks, left = divmod(steps, length)
    if chunks < FEW or FEW * rows * channels > _width(out):
        return _walk(factor, inflow, h, out, reverse)
    if left:
        parts = [slice(left, None), slice(left)] if reverse else [slice(steps - left), slice(steps - left, None)]
        for part in parts:
            f, c = (None if array is None else array[:, part] for array in (factor, inflow))
            h = take_steps(f, c, h, out[:, part], reverse)
        return h

    side_by_side = (rows, chunks, length, channels)
    f, c = (None if array is None else array.view(side_by_side) for array in (factor, inflow))
    around = h.new_empty(rows, chunks + 1, channels)  # the states between the chunks
    around[:, -1 if reverse else 0] = h
    before, after = (around[:, 1:], around[:, :-1]) if reverse else (around[:, :-1], around[:, 1:])
    take_steps(*_compose(f, c, reverse), h, after, reverse)
    _walk(f, c, before, out.view(side_by_side), reverse)
    return out[:, 0 if reverse else -1]
