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


def slabs(states: torch.Tensor) -> list[slice]:
    """Cut the time of [B, T, D]."""
    rows, steps, channels = states.shape
    width = 2**15 if states.device.type == "cpu" else 2**22  # numbers; on a CPU three times that fit a core's cache
    length = CHUNK * max(1, width // (rows * channels))
    return [slice(start, min(start + length, steps)) for start in range(0, steps, length)]


def _each(view: Callable[[torch.Tensor], torch.Tensor], *arrays: Some) -> list[Some]:
    return [None if array is None else view(array) for array in arrays]


def _in_order(array: Some, count: int, reverse: bool) -> Sequence[Some]:
    """The steps of [..., T, D] in the order in which they are taken."""
    steps = (None,) * count if array is None else array.unbind(-2)
    return steps[::-1] if reverse else steps


def _step(factor: Some, inflow: Some, h: torch.Tensor, out: torch.Tensor) -> None:
    if factor is not None and inflow is not None:
        torch.addcmul(inflow, factor, h, out=out)
    elif factor is not None:
        torch.mul(factor, h, out=out)
    elif inflow is not None:
        torch.add(inflow, h, out=out)


def _walk(factor: Some, inflow: Some, h: torch.Tensor, out: torch.Tensor, reverse: bool) -> torch.Tensor:
    """Take the steps of [..., T, D] one after another."""
    for f, c, after in zip(*(_in_order(x, out.shape[-2], reverse) for x in (factor, inflow, out)), strict=True):
        _step(f, c, h, after)
        h = after
    return h


def _compose(factor: Some, inflow: Some, reverse: bool) -> tuple[Some, Some]:
    """What the steps of each chunk of [B, C, CHUNK, D] together do to a state, [B, C, D]."""
    (f, *factors), (c, *inflows) = (_in_order(x, CHUNK, reverse) for x in (factor, inflow))
    f, c = _each(torch.clone, f, c)
    for f_t, c_t in zip(factors, inflows, strict=True):
        if c is not None:
            _step(f_t, c_t, c, c)
        if f is not None:
            _step(f_t, None, f, f)
    return f, c


def take_steps(factor: Some, inflow: Some, h: torch.Tensor, out: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    """Write h_t = f_t h_{t-1} + c_t (reversed: f_t h_{t+1} + c_t) to `out`, and return the last state taken.

    Args  factor, inflow, out  [B, S, D]; h  [B, D]
    """
    chunks, left = divmod(out.shape[1], CHUNK)
    if chunks < FEW:
        return _walk(factor, inflow, h, out, reverse)
    whole, rest = (slice(left, None), slice(left)) if reverse else (slice(chunks * CHUNK), slice(chunks * CHUNK, None))

    def side_by_side(array: torch.Tensor) -> torch.Tensor:
        return array[:, whole].unflatten(1, (chunks, CHUNK))

    f, c = _each(side_by_side, factor, inflow)
    states = side_by_side(out)
    after = torch.empty_like(states[:, :, 0])
    take_steps(*_compose(f, c, reverse), h, after, reverse)
    before = torch.cat([after[:, 1:], h[:, None]] if reverse else [h[:, None], after[:, :-1]], dim=1)
    _walk(f, c, before, states, reverse)
    f, c = _each(lambda array: array[:, rest], factor, inflow)
    return _walk(f, c, states[:, 0, 0] if reverse else states[:, -1, -1], out[:, rest], reverse)
