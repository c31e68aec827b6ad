"""NumPy subjects: values only, no gradients."""

from collections.abc import Callable
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

DIFFERENTIABLE = False
STRIDED = True
DTYPES = {"bfloat16": ml_dtypes.bfloat16}


def devices() -> list[str]:
    return ["cpu"]


@cache
def prepare() -> None:
    """Fill every uninitialised floating-point buffer with NaN, so that reading one shows."""

    def poisoned(allocate: Callable) -> Callable:
        def allocate_poisoned(*args: Any, **kwargs: Any) -> np.ndarray:
            array = allocate(*args, **kwargs)
            if array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16:
                array.fill(np.nan)
            return array

        return allocate_poisoned

    # The stubs declare np.empty final; at runtime it is an ordinary attribute, and replacing it is the point.
    np.empty, np.empty_like = poisoned(np.empty), poisoned(np.empty_like)  # type: ignore[misc]


def make(values: np.ndarray, dtype: str, layout: str, batched: bool, device: str | None) -> np.ndarray:
    array = np.asarray(values).astype(DTYPES.get(dtype, dtype))
    if layout == "transposed":
        return np.array(array.T, order="C").T
    if layout == "strided":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
        wide[..., 1::2] = array
        return wide[..., 1::2]
    if layout == "expanded" and batched:
        return np.broadcast_to(array[:1].copy(), array.shape)
    return array


def refill(array: np.ndarray, values: np.ndarray) -> np.ndarray:
    array[...] = values.astype(array.dtype)
    return array


def call(function: Callable, arrays: dict[str, np.ndarray], options: dict[str, Any]) -> Any:
    return function(*arrays.values(), **options)


def read(array: Any) -> tuple[np.ndarray, str]:
    if type(array) is not np.ndarray:
        raise TypeError(f"returned {type(array).__name__}, expected numpy.ndarray")
    return array.astype(np.float64), array.dtype.name


def shares_memory(one: np.ndarray, other: np.ndarray) -> bool:
    return np.shares_memory(one, other)
