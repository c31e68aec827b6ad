"""How is time cut into chunks that advance together?

Step j of chunk c is time c * steps + j. With steps first, one step of all chunks is one array [chunks, B, D]; B and D
stay axes of their own, so that arrays sharded over them stay sharded. A last chunk that is not full is filled with
zeros, which nothing that is returned depends on.
"""

import jax
import jax.numpy as jnp

FEWEST_STEPS = 16  # below, what a step of the solver costs beside its product outweighs what is gained
MOST_ROWS = 512  # a product with so many rows keeps a GPU busy: more would take longer, not shorter
BURST = 8  # steps of a restart between two looks at whether chunks have met what is stored


def default_steps(B: int, T: int) -> int:
    """As many steps a chunk as give at most `MOST_ROWS` rows, but no fewer than `FEWEST_STEPS`; whole bursts."""
    return max(FEWEST_STEPS, -(-B * T // (MOST_ROWS * BURST)) * BURST)


def burst_of(steps: int) -> int:
    """The longest burst of which a chunk is a whole number."""
    return next(burst for burst in range(BURST, 0, -1) if steps % burst == 0)


def cut(array: jax.Array, steps: int) -> jax.Array:
    """[B, T, D] -> [steps, chunks, B, D]."""
    B, T, D = array.shape
    chunks = -(-T // steps)
    filled = jnp.pad(array, ((0, 0), (0, chunks * steps - T), (0, 0)))
    return filled.reshape(B, chunks, steps, D).transpose(2, 1, 0, 3)


def join(states: jax.Array, T: int) -> jax.Array:
    """[steps, chunks, B, D] -> [B, T, D]."""
    steps, chunks, B, D = states.shape
    return states.transpose(2, 1, 0, 3).reshape(B, chunks * steps, D)[:, :T]


def backwards(array: jax.Array) -> jax.Array:
    """[steps, chunks, ...] with time reversed: what filled the last chunk now begins the first."""
    return jnp.flip(array, (0, 1))


def before_chunks(first: jax.Array, states: jax.Array) -> jax.Array:
    """The state that each chunk ought to begin with, [chunks, B, D]: the end of the one before it."""
    return jnp.concatenate([first[None], states[-1, :-1]])


def before_steps(first: jax.Array, states: jax.Array) -> jax.Array:
    """The state before every step, [steps, chunks, B, D]."""
    return jnp.concatenate([before_chunks(first, states)[None], states[:-1]])


def after_steps(array: jax.Array) -> jax.Array:
    """At every step what stands at the next one, and 0 at the last, [steps, chunks, ...]."""
    after_chunks = jnp.concatenate([array[0, 1:], jnp.zeros_like(array[0, :1])])
    return jnp.concatenate([array[1:], after_chunks[None]])
