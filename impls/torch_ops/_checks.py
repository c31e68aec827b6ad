"""Are the arguments of a call what its op accepts? Shapes, dtypes and devices always; values in checked mode."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import isnan
from numbers import Real

import torch

STORAGE_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_values_are_checked = ContextVar("values_are_checked", default=False)


@contextmanager
def checked() -> Iterator[None]:
    """Within this block every op also validates the values of its arguments.

    It costs one pass over each argument and one wait for the device, so it is off by default.

    Raises  ValueError from the op, naming the argument and the first position whose value is
            outside the op's domain, for example "gamma[0, 17, 2] = -0.5 is outside [0, 1]"
    """
    token = _values_are_checked.set(True)
    try:
        yield
    finally:
        _values_are_checked.reset(token)


def check_arrays(
    arguments: Mapping[str, tuple[torch.Tensor, str]], domains: Mapping[str, tuple[float, float]] | None = None
) -> None:
    """Raise TypeError or ValueError unless the arguments of one call fit together.

    Args    arguments  name -> (tensor, axes): one letter per axis, such as "BTD"; equal letters are equal lengths,
                       and the first argument that has a letter decides its length
            domains    name -> (lowest, highest) accepted value, looked at in checked mode only
    """
    reference_name, (reference, _) = next(iter(arguments.items()))
    lengths: dict[str, tuple[str, int]] = {}
    for name, (array, axes) in arguments.items():
        if not isinstance(array, torch.Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(array).__name__}")
        _check_dtype(name, array, reference_name, reference)
        if array.device != reference.device:
            raise ValueError(f"{name}: is on {array.device}, expected {reference.device}, where {reference_name} is")
        _check_shape(name, tuple(array.shape), axes, lengths)
    if _values_are_checked.get():
        for name, (array, _) in arguments.items():
            _check_values(name, array.detach(), (domains or {}).get(name))


def _check_dtype(name: str, array: torch.Tensor, reference_name: str, reference: torch.Tensor) -> None:
    if array.dtype not in STORAGE_DTYPES:
        accepted = ", ".join(_dtype_name(dtype) for dtype in STORAGE_DTYPES)
        raise TypeError(f"{name}: dtype {_dtype_name(array.dtype)} is not one of {accepted}")
    if array.dtype != reference.dtype:
        expected = _dtype_name(reference.dtype)
        raise TypeError(
            f"{name}: dtype {_dtype_name(array.dtype)} does not match {reference_name}: expected {expected}"
        )


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_shape(name: str, shape: tuple[int, ...], axes: str, lengths: dict[str, tuple[str, int]]) -> None:
    """Compare one shape with the lengths known so far, then note the lengths it adds."""
    if len(shape) != len(axes):
        raise ValueError(f"{name}: shape {shape} has {len(shape)} axes, expected {len(axes)}: [{', '.join(axes)}]")
    for axis, length in zip(axes, shape, strict=True):
        owner, expected_length = lengths.setdefault(axis, (name, length))
        if length != expected_length:
            expected = tuple(lengths[a][1] if a in lengths else n for a, n in zip(axes, shape, strict=True))
            raise ValueError(f"{name}: shape {shape} does not match {owner}: expected {expected}")
        if length == 0 and axis != "T":
            raise ValueError(f"{name}: shape {shape} has no {axis}, expected [{', '.join(axes)}] with {axis} >= 1")


def _check_values(name: str, array: torch.Tensor, domain: tuple[float, float] | None) -> None:
    # "Not inside" rather than "outside", so that NaN is refused as well.
    refused = torch.isnan(array) if domain is None else ~((array >= domain[0]) & (array <= domain[1]))
    if not refused.any():
        return
    position = tuple(refused.nonzero()[0].tolist())
    reason = "is not a number" if domain is None else f"is outside [{domain[0]:g}, {domain[1]:g}]"
    raise ValueError(f"{name}[{', '.join(map(str, position))}] = {array[position].item():g} {reason}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless the option has one of the named values."""
    if value not in choices:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(map(repr, choices))}")


def check_number(name: str, value: object, *, zero_allowed: bool) -> None:
    """Raise TypeError or ValueError unless the option is a positive number (or zero, where that is allowed)."""
    if not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if isnan(value) or value < 0 or (value == 0 and not zero_allowed):
        raise ValueError(f"{name}: {value} is not {'at least' if zero_allowed else 'greater than'} 0")
