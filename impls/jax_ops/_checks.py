"""Are the arguments of a call what its op accepts? Shapes and dtypes always; values in checked mode."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from math import isnan
from numbers import Real

import jax
import jax.numpy as jnp
import numpy as np

STORAGE_DTYPES = ("float64", "float32", "bfloat16", "float16")

_values_are_checked = ContextVar("values_are_checked", default=False)


@contextmanager
def checked() -> Iterator[None]:
    """Within this block every op also validates the values of its arguments.

    It costs one pass over each argument and one wait for the device, so it is off by default. Values exist outside
    jit and vmap only (inside grad they do).

    Raises  ValueError from the op, naming the argument and the first position whose value is
            outside the op's domain, for example "gamma[0, 17, 2] = -0.5 is outside [0, 1]", or saying
            that the argument has no values because it is being traced
    """
    token = _values_are_checked.set(True)
    try:
        yield
    finally:
        _values_are_checked.reset(token)


def check_arrays(
    arguments: Mapping[str, tuple[jax.Array, str]], domains: Mapping[str, tuple[float, float]] | None = None
) -> None:
    """Raise TypeError or ValueError unless the arguments of one call fit together.

    Args    arguments  name -> (array, axes): one letter per axis, such as "BTD"; equal letters are equal lengths,
                       and the first argument that has a letter decides its length
            domains    name -> (lowest, highest) accepted value, looked at in checked mode only
    """
    reference_name, (reference, _) = next(iter(arguments.items()))
    lengths: dict[str, tuple[str, int]] = {}
    for name, (array, axes) in arguments.items():
        if not isinstance(array, jax.Array):
            raise TypeError(f"{name}: expected a jax.Array, got {type(array).__name__}")
        _check_dtype(name, array, reference_name, reference)
        _check_shape(name, array.shape, axes, lengths)
    if _values_are_checked.get():
        for name, (array, _) in arguments.items():
            _check_values(name, jax.lax.stop_gradient(array), (domains or {}).get(name))


def _check_dtype(name: str, array: jax.Array, reference_name: str, reference: jax.Array) -> None:
    if array.dtype.name not in STORAGE_DTYPES:
        raise TypeError(f"{name}: dtype {array.dtype.name} is not one of {', '.join(STORAGE_DTYPES)}")
    if array.dtype != reference.dtype:
        expected = reference.dtype.name
        raise TypeError(f"{name}: dtype {array.dtype.name} does not match {reference_name}: expected {expected}")


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


def _check_values(name: str, array: jax.Array, domain: tuple[float, float] | None) -> None:
    if array.size == 0:
        return
    exists, index, value = _first_refused(array, domain)
    try:
        any_refused = bool(exists)
    except jax.errors.ConcretizationTypeError:
        raise ValueError(
            f"{name}: checked mode needs concrete values, but this call is being traced (by jit or vmap); "
            "call the op outside of it, or leave checked mode"
        ) from None
    if not any_refused:
        return
    position = tuple(int(i) for i in np.unravel_index(int(index), array.shape))
    reason = "is not a number" if domain is None else f"is outside [{domain[0]:g}, {domain[1]:g}]"
    raise ValueError(f"{name}[{', '.join(map(str, position))}] = {float(value):g} {reason}")


@partial(jax.jit, static_argnums=1)
def _first_refused(array: jax.Array, domain: tuple[float, float] | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return whether any value is outside, and the place of the first that is, counted in the flat array, with it."""
    flat = array.ravel()
    # "Not inside" rather than "outside", so that NaN is refused as well.
    refused = jnp.isnan(flat) if domain is None else ~((flat >= domain[0]) & (flat <= domain[1]))
    index = jnp.argmax(refused)
    return refused.any(), index, flat[index]


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
