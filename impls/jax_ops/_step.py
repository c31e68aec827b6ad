"""What is one step of a scan? h -> f h + c, with f and c made from the inputs of the step."""

from collections.abc import Callable, Sequence

import jax

EDGE = 8  # the state before every EDGE-th step is kept for the gradient

# The inputs of a step -> (f, c). None for f: the step multiplies by nothing; None for c: it adds nothing.
Coefficients = Callable[..., tuple[jax.Array | None, jax.Array | None]]


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
