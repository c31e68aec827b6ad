"""Gated recurrence: the state decides how much of the input it takes in.

Clauses     REC-1, REC-2, REC-9
Parallel    one step after another (each needs the last state); rows and channels at once
Memory      the adjoint keeps z, gamma, the state and the gate of every step; parameter gradients are one product
Precision   float32 for the narrow dtypes and float32, float64 for float64; no TF32
"""

import jax
import jax.numpy as jnp

from ._checks import check_arrays
from ._precision import FULL, linear, widen
from ._steps import parameter_gradients, previous_states

Arrays = tuple[jax.Array, ...]

# Inside this section time is the first axis: z, gamma and the states are [T, B, D].


def _run(z: jax.Array, gamma: jax.Array, W_g: jax.Array, b_g: jax.Array, h0: jax.Array) -> Arrays:
    """Return the state and the gate of every step."""

    def step(h: jax.Array, inputs: Arrays) -> tuple[jax.Array, Arrays]:
        z_t, gamma_t = inputs
        gate = jax.nn.sigmoid(linear(h, W_g, b_g))
        h = z_t * gate + gamma_t * h  # REC-1
        return h, (h, gate)

    return jax.lax.scan(step, h0, (z, gamma))[1]


@jax.custom_vjp
def _recurrence(z: jax.Array, gamma: jax.Array, W_g: jax.Array, b_g: jax.Array, h0: jax.Array) -> jax.Array:
    return _run(z, gamma, W_g, b_g, h0)[0]


def _forward(z: jax.Array, gamma: jax.Array, W_g: jax.Array, b_g: jax.Array, h0: jax.Array) -> tuple[jax.Array, Arrays]:
    states, gates = _run(z, gamma, W_g, b_g, h0)
    return states, (z, gamma, W_g, h0, states, gates)


def _adjoint(residuals: Arrays, grad_states: jax.Array) -> Arrays:
    z, gamma, W_g, h0, states, gates = residuals
    previous = previous_states(h0, states)
    slopes = z * gates * (1 - gates)  # of h_t with respect to W_g h_{t-1} + b_g

    def step(from_later: jax.Array, inputs: Arrays) -> tuple[jax.Array, jax.Array]:
        grad_t, slope_t, gamma_t = inputs
        s_t = grad_t + from_later
        return gamma_t * s_t + jnp.matmul(slope_t * s_t, W_g, precision=FULL), s_t

    grad_h0, s = jax.lax.scan(step, jnp.zeros_like(h0), (grad_states, slopes, gamma), reverse=True)
    grad_logits = slopes * s
    return s * gates, s * previous, *parameter_gradients(grad_logits, previous), grad_h0


_recurrence.defvjp(_forward, _adjoint)


@jax.jit
def _compiled(z: jax.Array, gamma: jax.Array, W_g: jax.Array, b_g: jax.Array, h0: jax.Array) -> jax.Array:
    """Return the op of checked arguments: what is around the recurrence is compiled with it."""
    steps = [jnp.swapaxes(array, 0, 1) for array in widen(z, gamma)]
    states = _recurrence(*steps, *widen(W_g, b_g, h0))
    return jnp.swapaxes(states, 0, 1).astype(z.dtype)


def gated_recurrence(z: jax.Array, gamma: jax.Array, W_g: jax.Array, b_g: jax.Array, h0: jax.Array) -> jax.Array:
    """Return h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} with h_{-1} = h0.

    Clauses  REC-1, REC-2, REC-9
    Args     z      [B, T, D]  input per step
             gamma  [B, T, D]  decay per step, in [0, 1]
             W_g    [D, D]     gate weight, acting on column vectors
             b_g    [D]        gate bias
             h0     [B, D]     state before step 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape; in checked mode, value
    """
    check_arrays(
        {"z": (z, "BTD"), "gamma": (gamma, "BTD"), "W_g": (W_g, "DD"), "b_g": (b_g, "D"), "h0": (h0, "BD")},
        domains={"gamma": (0.0, 1.0)},
    )
    return _compiled(z, gamma, W_g, b_g, h0)
