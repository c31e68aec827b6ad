"""How are all steps of h_t = a_t h_{t-1} + b_t computed at once, and differentiated?

Clauses     MDI-1, SCAN-2, SCAN-11, SCAN-15, GRAD-1
Parallel    `jax.lax.associative_scan` over time: about 2 log2 T rounds, 2 T combines
Memory      a few copies of [B, T, D]; the adjoint keeps a, h and h0
Precision   that of the arguments
"""

import jax
import jax.numpy as jnp

Map = tuple[jax.Array, jax.Array]


def _then(first: Map, second: Map) -> Map:
    """Compose two maps h -> a h + b: apply `first`, then `second`."""
    a_first, b_first = first
    a_second, b_second = second
    return a_second * a_first, a_second * b_first + b_second


def affine_scan(a: jax.Array, b: jax.Array, reverse: bool = False) -> jax.Array:
    """Return x_t = a_t x_{t-1} + b_t with x_{-1} = 0, or x_t = a_t x_{t+1} + b_t with x_T = 0 if reversed.

    Args     a, b  [B, T, D]
    Returns  [B, T, D]
    """
    if a.shape[1] == 0:
        return b
    return jax.lax.associative_scan(_then, (a, b), axis=1, reverse=reverse)[1]


def _adjoint(residuals: tuple[jax.Array, ...], grad_h: jax.Array) -> tuple[jax.Array, ...]:
    """s_t = g_t + a_{t+1} s_{t+1};  da_t = s_t h_{t-1},  db_t = s_t,  dh0 = a_0 s_0."""
    a, h0, h = residuals
    if a.shape[1] == 0:
        return jnp.zeros_like(a), jnp.zeros_like(a), jnp.zeros_like(h0)
    following = jnp.concatenate([a[:, 1:], jnp.zeros_like(a[:, :1])], axis=1)  # a_{t+1}; nothing follows the last step
    s = affine_scan(following, grad_h, reverse=True)
    previous = jnp.concatenate([h0[:, None], h[:, :-1]], axis=1)
    return s * previous, s, a[:, 0] * s[:, 0]


@jax.custom_vjp
def _recurrence(a: jax.Array, b: jax.Array, h0: jax.Array) -> jax.Array:
    inflow = jnp.concatenate([a[:, :1] * h0[:, None] + b[:, :1], b[:, 1:]], axis=1)
    return affine_scan(a, inflow)


def _recurrence_forward(a: jax.Array, b: jax.Array, h0: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    h = _recurrence(a, b, h0)
    return h, (a, h0, h)


_recurrence.defvjp(_recurrence_forward, _adjoint)


@jax.jit
def recurrence(a: jax.Array, b: jax.Array, h0: jax.Array) -> jax.Array:
    """Return h_t = a_t h_{t-1} + b_t for a, b [B, T, D] and h_{-1} = h0 [B, D], all of one dtype."""
    return _recurrence(a, b, h0)


@jax.custom_vjp
def _running_product(factors: jax.Array, initial: jax.Array) -> jax.Array:
    if factors.shape[1] == 0:
        return factors
    first = factors[:, :1] * initial[:, None]
    y = jax.lax.associative_scan(jnp.multiply, jnp.concatenate([first, factors[:, 1:]], axis=1), axis=1)
    # associative_scan joins its halves by adding 0.0, which turns -0.0 into 0.0. No factor is negative.
    return jnp.copysign(y, initial[:, None])


def _running_product_forward(factors: jax.Array, initial: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    y = _running_product(factors, initial)
    return y, (factors, initial, y)


def _running_product_adjoint(residuals: tuple[jax.Array, ...], grad_y: jax.Array) -> tuple[jax.Array, ...]:
    """The recurrence's without inflow: an exclusion product, valid at factors of zero because it never divides."""
    grad_factors, _, grad_initial = _adjoint(residuals, grad_y)
    return grad_factors, grad_initial


_running_product.defvjp(_running_product_forward, _running_product_adjoint)


@jax.jit
def running_product(factors: jax.Array, initial: jax.Array) -> jax.Array:
    """Return y_t = initial * factor_0 * ... * factor_t for factors [B, T, D] >= 0 (or NaN) and initial [B, D]."""
    return _running_product(factors, initial)
