"""What is one step of a scan? h -> f h + c, with f and c made from the inputs of the step."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# Steps of a chunk, by the size of a number: a GPU's program holds them in registers. Longer chunks hand over less often
# and take longer to compile, most of all backwards, where a program holds one array more.
CHUNK = {2: 64, 4: 64, 8: 16}
CHUNK_WITH_GRADIENT = {2: 32, 4: 32, 8: 16}
SHORT, SHORT_CHUNK = 512, 8  # so few steps are not worth it

# The inputs of a step -> (f, c). None for f: the step multiplies by nothing; None for c: it adds nothing.
Coefficients = Callable[..., tuple[jax.Array | None, jax.Array | None]]


def chunk_of(dtype: Any, steps: int, keep: bool) -> int:
    """Steps of a chunk of so many in this dtype; with `keep` the state after every chunk is for the gradient."""
    chunks = CHUNK_WITH_GRADIENT if keep else CHUNK
    return SHORT_CHUNK if steps <= SHORT else chunks[jnp.dtype(dtype).itemsize]


def advance(factor: jax.Array | None, inflow: jax.Array | None, h: jax.Array) -> jax.Array:
    """The state after a step."""
    h = h if factor is None else factor * h
    return h if inflow is None else h + inflow


def gradients_of_inputs(
    coefficients: Coefficients, inputs: Sequence[jax.Array], s: jax.Array, previous: jax.Array
) -> tuple[jax.Array, ...]:
    """The gradients of a step's inputs, where s is that of the state after it: of f it is s h_{t-1}, of c it is s."""
    (factor, inflow), pull_back = jax.vjp(coefficients, *inputs)
    return pull_back((None if factor is None else s * previous, None if inflow is None else s))
