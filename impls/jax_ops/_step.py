"""What is one step of a scan? h -> f h + c, with f and c made from the inputs of the step. How many does a program take?"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

SEGMENTS = 4  # warps of a GPU's program, one after another in time
# Steps of a segment, by the size of a number: a warp holds them in registers. Longer segments hand over less often, take
# longer to compile, and leave room for fewer warps. Backward holds one array more; a multiple of its length is forward's,
# which leaves behind the states that enter backward's segments.
ROWS_FORWARD = {2: 32, 4: 64, 8: 16}
ROWS_BACKWARD = {2: 32, 4: 32, 8: 16}
SHORT, SHORT_ROWS = 512, 8  # so few steps are not worth it

# The inputs of a step -> (f, c). None for f: the step multiplies by nothing; None for c: it adds nothing.
Coefficients = Callable[..., tuple[jax.Array | None, jax.Array | None]]


def rows_forward(dtype: Any, steps: int) -> int:
    """Steps of a segment of so many in this dtype."""
    return SHORT_ROWS if steps <= SHORT else ROWS_FORWARD[jnp.dtype(dtype).itemsize]


def rows_backward(dtype: Any, steps: int) -> int:
    return SHORT_ROWS if steps <= SHORT else ROWS_BACKWARD[jnp.dtype(dtype).itemsize]


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
