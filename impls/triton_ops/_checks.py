"""Is a call within the contract? Types, shapes and options always; values inside ``with checked():`` only."""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from ._launch import INTERPRETED

STORAGE_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_checked = ContextVar("checked", default=False)


@contextlib.contextmanager
def checked() -> Iterator[None]:
    """Inside this context every op also validates the values it is given.

    It costs a pass over each argument and a synchronisation with the device, so it is off by default.

    Raises (from the ops called inside):
        ValueError: an element is outside its domain or is NaN; the message names argument and first position.
    """
    token = _checked.set(True)
    try:
        yield
    finally:
        _checked.reset(token)


def check_arrays(**arrays: tuple[torch.Tensor, str]) -> None:
    """Each argument is given as ``name=(array, dimensions)``, e.g. ``a=(a, "BTD")``; one letter has one
    length."""
    first_name, (first, _) = next(iter(arrays.items()))
    for name, (array, _) in arrays.items():
        if not isinstance(array, torch.Tensor):
            raise TypeError(f"{name}: got {type(array).__name__}, expected a torch.Tensor")
        if array.dtype not in STORAGE_DTYPES:
            accepted = ", ".join(_dtype_name(dtype) for dtype in STORAGE_DTYPES)
            raise TypeError(f"{name}: dtype {_dtype_name(array.dtype)} is not supported: expected one of {accepted}")
        if array.dtype != first.dtype:
            raise TypeError(
                f"{name}: dtype {_dtype_name(array.dtype)} does not match {first_name}: "
                f"expected {_dtype_name(first.dtype)}"
            )
    lengths: dict[str, tuple[int, str]] = {}  # of a letter, and the argument that has bound it
    for name, (array, dimensions) in arrays.items():
        shape = array.shape
        if len(shape) != len(dimensions):
            raise ValueError(
                f"{name}: shape {tuple(shape)} has {len(shape)} dimensions: "
                f"expected {len(dimensions)}, [{', '.join(dimensions)}]"
            )
        for letter, length in zip(dimensions, shape, strict=True):
            known, binder = lengths.setdefault(letter, (length, name))
            if length != known:
                expected = tuple(lengths.get(*given)[0] for given in zip(dimensions, zip(shape), strict=True))
                raise ValueError(f"{name}: shape {tuple(shape)} does not match {binder}: expected {expected}")
        if 0 in shape:
            _check_empty(name, shape, dimensions)
    for name, (array, _) in arrays.items():
        if array.device != first.device:
            raise ValueError(f"{name}: device {array.device} does not match {first_name}: expected {first.device}")
    if first.device.type != "cuda" and not INTERPRETED:
        raise RuntimeError(
            f"{first_name}: device {first.device} needs Triton's interpreter, which is off: "
            "set TRITON_INTERPRET=1 in the environment before triton is imported, "
            "or pass CUDA tensors"
        )


def _check_empty(name: str, shape: torch.Size, dimensions: str) -> None:
    for letter, length in zip(dimensions, shape, strict=True):
        if length == 0 and letter != "T":
            raise ValueError(f"{name}: shape {tuple(shape)} has {letter} = 0: expected {letter} >= 1")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        accepted = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name}: {value!r} is not supported: expected one of {accepted}")


def check_number(name: str, value: object, *, zero_allowed: bool) -> None:
    """A positive number, or zero where that is allowed."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a number")
    if not (value > 0 or (value == 0 and zero_allowed)):
        raise ValueError(f"{name}: {value!r} is not supported: expected a number {'>= 0' if zero_allowed else '> 0'}")


def check_values(**arrays: tuple) -> None:
    """In checked mode only. Each argument is ``name=(array,)`` or ``name=(array, low, high)``; NaN is never
    accepted."""
    if not _checked.get():
        return
    for name, (array, *domain) in arrays.items():
        low, high = domain or (-math.inf, math.inf)
        refused = ~((array >= low) & (array <= high))
        if refused.any():
            position = torch.nonzero(refused)[0].tolist()
            element = f"{name}{position} = {array[tuple(position)].item():g}"
            complaint = f"outside [{low:g}, {high:g}]" if domain else "not a number"
            raise ValueError(f"{element} is {complaint}")


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
