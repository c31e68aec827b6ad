"""How are the steps of h_t = f_t h_{t-1} + c_t taken where no kernel is written for the device?

Clauses     MDI-1, SCAN-2, SCAN-6, GRAD-1
Parallel    one step after another; all rows and channels of a step at once
Memory      every number is read and written once; the backward computes the states again
Precision   that of `initial`

The loop writes each step's rows into the one array that it carries, which XLA does in place. That moves the data
once, where `lax.associative_scan` moves it about 2 log2 T times and `lax.scan` stacks copies.
"""

import jax
import jax.numpy as jnp

from ._step import Coefficients, advance, differentiable

Arrays = tuple[jax.Array, ...]


def _at(array: jax.Array, t: jax.Array | int) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(array, t, axis=1, keepdims=False)


def _put(array: jax.Array, t: jax.Array | int, value: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(array, value.astype(array.dtype), t, axis=1)


def forward(coefficients: Coefficients, inputs: Arrays, initial: jax.Array) -> jax.Array:
    """Return all states [B, T, D] in the dtype of `initial`, for inputs [B, T, D] with T >= 1 and initial [B, D]."""

    def next_state(t: jax.Array | int, h: jax.Array) -> jax.Array:
        return advance(*coefficients(*(_at(x, t).astype(initial.dtype) for x in inputs)), h)

    states = _put(jnp.empty_like(inputs[0], initial.dtype), 0, next_state(0, initial))
    return jax.lax.fori_loop(
        1, inputs[0].shape[1], lambda t, states: _put(states, t, next_state(t, _at(states, t - 1))), states
    )


def backward(
    coefficients: Coefficients, inputs: Arrays, initial: jax.Array, grad: jax.Array
) -> tuple[Arrays, jax.Array]:
    """Return the gradients of the inputs, in their dtype, and of `initial`."""
    steps = inputs[0].shape[1]
    states = forward(coefficients, inputs, initial)

    def step_back(t: jax.Array | int, previous: jax.Array, p: jax.Array, grads: Arrays) -> tuple[jax.Array, Arrays]:
        """s_t = g_t + p_{t+1}, p_t = f_t s_t: what h_{t-1} gets."""
        x = [_at(array, t).astype(initial.dtype) for array in inputs]
        s = _at(grad, t).astype(initial.dtype) + p
        (factor, _), gradients = differentiable(coefficients, x)
        p = s if factor is None else factor * s
        return p, tuple(_put(array, t, value) for array, value in zip(grads, gradients(s, previous), strict=True))

    def body(i: jax.Array, carry: tuple[jax.Array, Arrays]) -> tuple[jax.Array, Arrays]:
        t = steps - 1 - i
        return step_back(t, _at(states, t - 1), *carry)

    nothing = (jnp.zeros_like(initial), tuple(jnp.empty_like(x) for x in inputs))
    p, grads = step_back(0, initial, *jax.lax.fori_loop(0, steps - 1, body, nothing))
    return grads, p
