"""Decay gate: how much to keep, from the input and from its context (spec/decay_gate.md)."""

from mmrec.reference.domain import require_shapes
from mmrec.reference.numbers import (
    Numbers,
    affine,
    between,
    clip,
    constant,
    erf,
    exp,
    outer_total,
    pi,
    sigmoid,
    sqrt,
    tanh,
    total,
    where,
    zeros_like,
)

GELUS = ("tanh", "erf")


def decay_gate(
    z: Numbers,
    k: Numbers,
    base_w1: Numbers,
    base_b1: Numbers,
    base_w2: Numbers,
    base_b2: Numbers,
    context_w1: Numbers,
    context_b1: Numbers,
    context_w2: Numbers,
    context_b2: Numbers,
    *,
    gelu: str = "tanh",
) -> Numbers:
    """Return the decay of every channel and step, in [1e-6, 1 - 1e-6].

    Clauses  GAMMA-1, GAMMA-2, GAMMA-3, GAMMA-4, GAMMA-5, GAMMA-6
    Args     z, k  [B,T,D]  input and context
             base_w1 [E,D], base_b1 [E], base_w2 [D,E], base_b2 [D]  the pathway of z
             context_w1, context_b1, context_w2, context_b2  the same shapes, the pathway of k
             gelu  "tanh" or "erf"
    Returns  [B,T,D] no unit; empty when T = 0
    Raises   ValueError when shapes do not match or gelu is unknown
    Source   S3 2 L51-60
    """
    require_shapes(
        z=(z, "BTD"),
        k=(k, "BTD"),
        base_w1=(base_w1, "ED"),
        base_b1=(base_b1, "E"),
        base_w2=(base_w2, "DE"),
        base_b2=(base_b2, "D"),
        context_w1=(context_w1, "ED"),
        context_b1=(context_b1, "E"),
        context_w2=(context_w2, "DE"),
        context_b2=(context_b2, "D"),
    )
    base = sigmoid(linear(gelu_of(gelu, linear(z, base_w1, base_b1)), base_w2, base_b2))  # GAMMA-1, GAMMA-2
    context = sigmoid(
        linear(gelu_of(gelu, linear(k, context_w1, context_b1)), context_w2, context_b2)
    )  # GAMMA-3, GAMMA-4
    return clip(base * context, *decay_limits(z))  # GAMMA-5, GAMMA-6


def decay_gate_adjoint(
    z: Numbers,
    k: Numbers,
    base_w1: Numbers,
    base_b1: Numbers,
    base_w2: Numbers,
    base_b2: Numbers,
    context_w1: Numbers,
    context_b1: Numbers,
    context_w2: Numbers,
    context_b2: Numbers,
    g: Numbers,
    *,
    gelu: str = "tanh",
) -> tuple[Numbers, ...]:
    """Return the gradients of sum(g * decay_gate(...)) in argument order.

    Clauses  ADJ-7, ADJ-8
    Args     as decay_gate; g [B,T,D] cotangent of the result
    Returns  ten arrays of the arguments' shapes
    Source   chain rule through GAMMA-1 .. GAMMA-6
    """
    base_before = linear(z, base_w1, base_b1)
    base = sigmoid(linear(gelu_of(gelu, base_before), base_w2, base_b2))
    context_before = linear(k, context_w1, context_b1)
    context = sigmoid(linear(gelu_of(gelu, context_before), context_w2, context_b2))
    wanted = where(between(base * context, *decay_limits(z)), g, zeros_like(g))  # ADJ-8
    dbase = wanted * context * (base * (1 - base))  # ADJ-7
    dcontext = wanted * base * (context * (1 - context))  # ADJ-7
    dz, *base_gradients = pathway_adjoint(gelu, z, base_before, base_w1, base_w2, dbase)
    dk, *context_gradients = pathway_adjoint(gelu, k, context_before, context_w1, context_w2, dcontext)
    return dz, dk, *base_gradients, *context_gradients


def pathway_adjoint(
    gelu: str, x: Numbers, before: Numbers, w1: Numbers, w2: Numbers, wanted: Numbers
) -> tuple[Numbers, ...]:
    """Gradients of one two-layer pathway for its input and w1, b1, w2, b2, from those of its logits."""
    hidden = gelu_of(gelu, before)
    dbefore = (wanted @ w2) * gelu_slope(gelu, before)  # ADJ-7
    return dbefore @ w1, outer_total(dbefore, x), total(dbefore), outer_total(wanted, hidden), total(wanted)


def linear(x: Numbers, weight: Numbers, bias: Numbers) -> Numbers:
    """W x + b for every row and step: x [B,T,D_in] -> [B,T,D_out]."""
    return affine(weight, x, bias)


def decay_limits(like: Numbers) -> tuple[Numbers, Numbers]:
    """The smallest and the largest decay, 1e-6 and 1 - 1e-6."""
    return constant("0.000001", like), constant("0.999999", like)  # GAMMA-6


def gelu_of(form: str, x: Numbers) -> Numbers:
    """x * Phi(x), exactly ("erf") or by its tanh approximation ("tanh")."""
    if form == "erf":
        return x * (1 + erf(x / sqrt(constant("2", x)))) / 2  # GAMMA-1
    if form == "tanh":
        return x * (1 + tanh(bent(x))) / 2  # GAMMA-1
    raise ValueError(f"gelu: {form!r} is not one of {', '.join(GELUS)}")


def gelu_slope(form: str, x: Numbers) -> Numbers:
    """The derivative of gelu_of."""
    if form == "erf":
        density = exp(-(x * x) / 2) / sqrt(2 * pi(x))
        return (1 + erf(x / sqrt(constant("2", x)))) / 2 + x * density  # ADJ-7
    bend = tanh(bent(x))
    return (1 + bend) / 2 + x * (1 - bend * bend) * bent_slope(x) / 2  # ADJ-7


def bent(x: Numbers) -> Numbers:
    """sqrt(2 / pi) * (x + 0.044715 x^3), the argument of the tanh form."""
    return sqrt(2 / pi(x)) * (x + constant("0.044715", x) * x * x * x)


def bent_slope(x: Numbers) -> Numbers:
    """The derivative of bent."""
    return sqrt(2 / pi(x)) * (1 + 3 * constant("0.044715", x) * x * x)
