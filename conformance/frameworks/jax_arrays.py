"""JAX subjects: immutable arrays without strides, gradients by jax.vjp.

JAX offers no way to poison uninitialised buffers or to lay memory out; those checks are void here, and the result
file says so through the framework's name.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DIFFERENTIABLE = True
STRIDED = False
PLATFORMS = ("cpu", "gpu", "cuda", "rocm", "tpu")


def devices() -> list[str]:
    found = []
    for platform in PLATFORMS:
        with suppress(RuntimeError):  # JAX's answer where there is none
            found += [platform, *(f"{platform}:{i}" for i in range(len(jax.devices(platform))))]
    return found


def device_named(name: str | None) -> jax.Device:
    """One of ``devices()``, and JAX's own choice for None."""
    platform, _, place = (name or "").partition(":")
    return jax.devices(platform or None)[int(place or 0)]


def prepare() -> None:
    jax.config.update("jax_enable_x64", True)  # float64 arrays exist only in this mode


def make(values: np.ndarray, dtype: str, layout: str, batched: bool, device: str | None) -> jax.Array:
    # NumPy converts, and nothing but the array is sent: JAX would compile a conversion or a copy for every shape.
    return jax.device_put(np.asarray(values).astype(jnp.dtype(dtype)), device and device_named(device))


def refill(array: jax.Array, values: np.ndarray) -> jax.Array:
    return jax.device_put(np.asarray(values).astype(array.dtype), array.sharding if array.committed else None)


def call(function: Callable, arrays: dict[str, jax.Array], options: dict[str, Any]) -> Any:
    return jax.block_until_ready(function(*arrays.values(), **options))


def gradients(
    function: Callable, arrays: dict[str, jax.Array], options: dict[str, Any], g: jax.Array
) -> tuple[Any, dict[str, Any]]:
    result, pull_back = jax.vjp(lambda *args: function(*args, **options), *arrays.values())
    return jax.block_until_ready(result), dict(zip(arrays, pull_back(g), strict=True))


def read(array: Any) -> tuple[np.ndarray, str]:
    if not isinstance(array, jax.Array):
        raise TypeError(f"returned {type(array).__name__}, expected jax.Array")
    return np.asarray(array).astype(np.float64), array.dtype.name


def shares_memory(one: jax.Array, other: jax.Array) -> bool:
    return False  # arrays cannot be written to, so sharing cannot be seen
