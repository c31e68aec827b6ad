"""What is one step of a scan? h -> f h + c, with f and c made from the inputs of the step. How many does a program take?"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

SEGMENTS = 8  # warps of a GPU's program, one after another in time
# Steps of a segment, by the size of a number: a warp holds them in registers. Longer segments hand over less often, take
# longer to compile, and leave room for fewer warps. A multiple of backward's steps is forward's, which leaves behind the
# states that enter backward's segments.
ROWS_FORWARD = {2: 32, 4: 32, 8: 8}
ROWS_BACKWARD = {2: 32, 4: 32, 8: 8}  # of at most two arrays; half of it of three
BLOCK = 4  # steps of which backward holds the states at once
SHORT, SHORT_ROWS = 512, 8  # so few steps are not worth it

Map = tuple[jax.Array | None, jax.Array | None]  # h -> f h + c; None where it multiplies by nothing or adds nothing
Coefficients = Callable[..., Map]


def rows_forward(dtype: Any, steps: int) -> int:
    """Steps of a segment of so many in this dtype."""
    return SHORT_ROWS if steps <= SHORT else ROWS_FORWARD[jnp.dtype(dtype).itemsize]


def rows_backward(dtype: Any, steps: int, arrays: int) -> int:
    """The same where a segment holds so many arrays: the inputs and the gradient of the result."""
    rows = ROWS_BACKWARD[jnp.dtype(dtype).itemsize]
    return SHORT_ROWS if steps <= SHORT else max(SHORT_ROWS, rows if arrays <= 2 else rows // 2)


def advance(factor: jax.Array | None, inflow: jax.Array | None, h: jax.Array) -> jax.Array:
    """The state after a step."""
    h = h if factor is None else factor * h
    return h if inflow is None else h + inflow


def differentiable(
    coefficients: Coefficients, inputs: Sequence[jax.Array]
) -> tuple[Map, Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]]]:
    """(f, c) of a step, and (s, h_{t-1}) -> the gradients of its inputs, where s is that of the state after the step: of f
    it is s h_{t-1}, of c it is s."""
    (factor, inflow), pull_back = jax.vjp(coefficients, *inputs)

    def gradients(s: jax.Array, previous: jax.Array) -> tuple[jax.Array, ...]:
        return pull_back((None if factor is None else s * previous, None if inflow is None else s))

    return (factor, inflow), gradients
