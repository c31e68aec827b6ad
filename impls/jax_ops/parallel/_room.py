"""How far does a stored state lie from the exact step that leads to it, and how far may it?

Clauses     REC-PAR-2, NUM-5
Precision   that of the arguments, with the decay's product and the sum without an error: there is no finer format
            to measure in. A TPU has no float64, nor has JAX unless asked for it

Room        What NUM-5 grants any implementation for one step, less what this measurement itself errs by, u being the unit
            roundoff. The decay's product and the sum: one rounding each, where they round. The sum of D products: D u of
            the sizes of its terms, of which one in blocks (_products.py) takes D/4 + 6 with what is added to it; D/2 - 5 are
            given to the splice, and a quarter is left for what is no longer linear in them. A sigmoid: 8 u, of which 2 u
            are given to a splice and 6 u left to the one at hand (2.5 u measured on x86, 3 u for positive logits on an
            H200); what the sum of its logits errs by reaches it times 1 - gate. Numbers near underflow have no room.
"""

import jax
import jax.numpy as jnp

from ._products import halves

# The room but for the roundings of what is left of a distance, 2^-11 of the decay's rounding at most.
KEPT = 1 - 2.0**-8
LOWEST = 2.0**12  # in units of the smallest normal number: below, what underflows may exceed what is kept
OF_SIGMOID = 2  # units of roundoff of the sigmoid that a splice may take


def unit(x: jax.Array) -> float:
    """Half the gap after 1."""
    return float(jnp.finfo(x.dtype).eps) / 2


def room_of_product(terms: jax.Array, D: int) -> jax.Array:
    """What a splice may take of a sum of D products, given the sum of their sizes."""
    return unit(terms) * max(0.0, D / 2 - 5) * terms


def room_of_gate(closed: jax.Array, terms: jax.Array, D: int) -> jax.Array:
    """What a splice may take of a gate beside its size, given 1 - gate and the sum of the sizes of its logits' terms."""
    return OF_SIGMOID * unit(terms) + closed * room_of_product(terms, D)


def within(missed: jax.Array, room: jax.Array, tolerance: float) -> jax.Array:
    """Whether a distance is inside that share of its room; not if either is no number, overflows or is too small."""
    lowest = LOWEST * float(jnp.finfo(room.dtype).tiny)
    return (jnp.abs(missed) <= tolerance * KEPT * room) & (room >= lowest) & (room < jnp.inf)


def distance_and_room(
    stored: jax.Array, summand: jax.Array, gamma: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How far `stored` lies from summand + gamma x, and how far the roundings of product and sum may bring it."""
    high, low = _exact_product(gamma, x)
    difference, rest = _exact_sum(stored, -high)
    missed = ((difference - summand) - low) + rest
    product_rounds = ~_is_power_of_two(gamma) & ~_is_power_of_two(x)
    sum_rounds = (summand != 0) & (high != 0)
    room = jnp.where(product_rounds, jnp.abs(high), 0.0) + jnp.where(sum_rounds, jnp.abs(stored), 0.0)
    return missed, unit(room) * room


def _exact_product(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """a b as a number and a smaller one. The products of halves are exact, so that a compiler may fuse them with sums."""
    dropped = (int(jnp.finfo(a.dtype).nmant) + 2) // 2
    a_high, a_low = halves(a, dropped)
    b_high, b_low = halves(b, dropped)
    return a_high * b_high, (a_high * b_low + a_low * b_high) + a_low * b_low


def _exact_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """a + b as its rounding and the rest (Knuth)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _is_power_of_two(x: jax.Array) -> jax.Array:
    """Whether a product with x does not round: x is also 0 then."""
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    return (bits & ((1 << int(jnp.finfo(x.dtype).nmant)) - 1)) == 0
