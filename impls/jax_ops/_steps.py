"""What do the adjoints of the recurrences that take one step after another share? Time is the first axis."""

import jax
import jax.numpy as jnp

from ._precision import FULL


def previous_states(h0: jax.Array, states: jax.Array) -> jax.Array:
    """Return h_{t-1} of every step: [B, D] and [T, B, D] -> [T, B, D]."""
    return jnp.concatenate([h0[None], states])[: states.shape[0]]


def parameter_gradients(grad_logits: jax.Array, previous: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the gradients of W [D, D] and b [D] in logits = W h_{t-1} + b, summed over all steps and rows."""
    return jnp.einsum("tbd,tbe->de", grad_logits, previous, precision=FULL), grad_logits.sum((0, 1))
