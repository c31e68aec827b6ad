"""Decay gate: how fast to forget, from the input and from its context.

Clauses     GAMMA-1, GAMMA-2, GAMMA-3, GAMMA-4, GAMMA-5, GAMMA-6, GAMMA-7
Parallel    every step at once
Memory      JAX keeps the output of every layer for the gradient
Precision   float32 for the narrow dtypes and float32, float64 for float64; no TF32
"""

from functools import partial

import jax

from ._checks import check_arrays, check_choice
from ._precision import clamp, linear, widen

LOWEST, HIGHEST = 1e-6, 1.0 - 1e-6
GELUS = ("tanh", "erf")


def _pathway(x: jax.Array, w1: jax.Array, b1: jax.Array, w2: jax.Array, b2: jax.Array, *, gelu: str) -> jax.Array:
    hidden = jax.nn.gelu(linear(x, w1, b1), approximate=gelu == "tanh")
    return jax.nn.sigmoid(linear(hidden, w2, b2))


@partial(jax.jit, static_argnames="gelu")
def _gate(*arguments: jax.Array, gelu: str) -> jax.Array:
    z, k, *weights = widen(*arguments)
    base = _pathway(z, *weights[:4], gelu=gelu)  # GAMMA-1, GAMMA-2
    context = _pathway(k, *weights[4:], gelu=gelu)  # GAMMA-3, GAMMA-4
    return clamp(base * context, LOWEST, HIGHEST).astype(arguments[0].dtype)  # GAMMA-5, GAMMA-6


def decay_gate(
    z: jax.Array,
    k: jax.Array,
    base_w1: jax.Array,
    base_b1: jax.Array,
    base_w2: jax.Array,
    base_b2: jax.Array,
    context_w1: jax.Array,
    context_b1: jax.Array,
    context_w2: jax.Array,
    context_b2: jax.Array,
    *,
    gelu: str = "tanh",
) -> jax.Array:
    """Return gamma = clip(pathway(z; base) * pathway(k; context), 1e-6, 1 - 1e-6).

    A pathway is sigmoid(w2 gelu(w1 x + b1) + b2). The clip is taken before the conversion to the dtype of the
    arguments (in bfloat16 and float16, 1 - 1e-6 then becomes 1); the gradient is zero where it binds.

    Clauses  GAMMA-1 to GAMMA-7
    Args     z, k                    [B, T, D]  input and context per step
             base_w1, context_w1     [E, D]     weights act on column vectors
             base_b1, context_b1     [E]
             base_w2, context_w2     [D, E]
             base_b2, context_b2     [D]
             gelu                    "tanh" or "erf"
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape, or the option an unknown value;
             in checked mode also for NaN
    """
    arguments = {
        "z": (z, "BTD"),
        "k": (k, "BTD"),
        "base_w1": (base_w1, "ED"),
        "base_b1": (base_b1, "E"),
        "base_w2": (base_w2, "DE"),
        "base_b2": (base_b2, "D"),
        "context_w1": (context_w1, "ED"),
        "context_b1": (context_b1, "E"),
        "context_w2": (context_w2, "DE"),
        "context_b2": (context_b2, "D"),
    }
    check_arrays(arguments)
    check_choice("gelu", gelu, GELUS)
    return _gate(*(array for array, _ in arguments.values()), gelu=gelu)
