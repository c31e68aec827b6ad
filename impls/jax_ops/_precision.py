"""In which dtype, and how exactly, does an op compute? Never in a narrower one than float32."""

import jax
import jax.numpy as jnp

# JAX's default lets a GPU multiply float32 matrices in TF32, and a TPU in bfloat16.
FULL = jax.lax.Precision.HIGHEST


def widen(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Return the arrays in the arithmetic dtype: float64 for float64, float32 for all narrower ones."""
    arithmetic = jnp.float64 if arrays[0].dtype == "float64" else jnp.float32
    return tuple(array.astype(arithmetic) for array in arrays)


def along_channels(vector: jax.Array, like: jax.Array) -> jax.Array:
    """Return [D] with as many axes as `like` [..., D], the channels last."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape)


def linear(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """Return weight x + bias for x [..., D], weight [E, D] and bias [E]."""
    product = jax.lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())), precision=FULL)
    return product + along_channels(bias, product)


def at_least(x: jax.Array, lowest: float | jax.Array) -> jax.Array:
    """Return x, or lowest where x is below it; its gradient is 1 from lowest on, 0 below; NaN stays NaN.

    `jnp.maximum` has the gradient 1/2 where both are equal, and in a GPU's kernel it forgets NaN.
    """
    return jnp.where(x < lowest, lowest, x)


def clamp(x: jax.Array, lowest: float | jax.Array, highest: float | jax.Array) -> jax.Array:
    """Return x kept inside [lowest, highest]; its gradient is 1 inside and at the ends, 0 outside; NaN stays NaN."""
    return at_least(jnp.where(x > highest, highest, x), lowest)
