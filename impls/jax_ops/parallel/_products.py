"""How is a wide state multiplied by weights, if these are bfloat16, at the speed of bfloat16 and without a loss?

A float32 number is the sum of three bfloat16 numbers, and the products of two bfloat16 numbers are exact in float32.
So three products of matrix units are as good as one in float32, and several times faster; the weights stay half as large.
"""

import jax
import jax.numpy as jnp

from .._precision import FULL


def leading(x: jax.Array, dropped: int) -> jax.Array:
    """x without its last `dropped` bits: rounded towards zero, so that it never overflows."""
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    return jax.lax.bitcast_convert_type((bits >> dropped) << dropped, x.dtype)


def halves(x: jax.Array, dropped: int) -> tuple[jax.Array, jax.Array]:
    """x without its last bits, and the rest; their sum is x exactly."""
    high = leading(x, dropped)
    return high, jnp.where(jnp.isfinite(x), x - high, 0.0)


def weights(weight: jax.Array, arithmetic: jax.Array) -> jax.Array:
    """The weights as `product` wants them beside states of that dtype: bfloat16 as they are, others widened."""
    return weight if weight.dtype == "bfloat16" else weight.astype(arithmetic.dtype)


def product(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x weight^T of x [..., D] and weight [E, D], with all bits of both, in the dtype of x."""
    if weight.dtype == x.dtype:
        return jax.lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())), precision=FULL)
    high, rest = halves(x, 16)
    middle, low = halves(rest, 16)
    parts = jnp.stack([low, middle, high]).astype(weight.dtype)
    products = jax.lax.dot_general(parts, weight, (((x.ndim,), (1,)), ((), ())), preferred_element_type=x.dtype)
    return products.sum(0)


def product_in_blocks(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The same as a sum of four, which errs by D/4 + 4 roundings of its terms instead of D, whatever order each takes."""
    first, *others = (product(x[..., block], weight[:, block]) for block in _quarters(x.shape[-1]))
    return sum(others, first)


def mean_in_blocks(x: jax.Array) -> jax.Array:
    """The mean over the channels, kept with length 1: a sum of four, as above."""
    first, *others = (x[..., block].sum(-1, keepdims=True) for block in _quarters(x.shape[-1]))
    return sum(others, first) / x.shape[-1]


def _quarters(D: int) -> list[slice]:
    quarter = -(-D // 4)
    return [slice(begin, begin + quarter) for begin in range(0, D, quarter)]
