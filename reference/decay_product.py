"""Decay product with a floor: what is left of a memory after t decays (spec/decay_scan.md)."""

from mmrec.reference.domain import require_range, require_shapes
from mmrec.reference.numbers import Numbers, constant, exp, maximum, stack, where, zeros_like


def decay_product(gamma: Numbers, initial: Numbers) -> Numbers:
    """Return the running product of the floored decays, step by step.

    Clauses  SCAN-2, STAB-3
    Args     gamma   [B,T,D]  decay per step, no unit, 0 <= gamma <= 1
             initial [B,D]    value before step 0, any unit
    Returns  [B,T,D] unit of initial; empty when T = 0
    Raises   ValueError when shapes do not match or gamma leaves its domain
    Source   S1 2.1 L25; S2 L47; floor S1 4.5 L115
    """
    require_shapes(gamma=(gamma, "BTD"), initial=(initial, "BD"))
    require_range("gamma", gamma, 0, 1)
    return running_product(maximum(gamma, decay_floor(gamma)), initial)  # STAB-3


def decay_product_adjoint(gamma: Numbers, initial: Numbers, g: Numbers) -> tuple[Numbers, Numbers]:
    """Return the gradients of sum(g * decay_product(gamma, initial)) for gamma and initial.

    Clauses  ADJ-1, ADJ-8
    Args     as decay_product; g [B,T,D] cotangent of the result
    Returns  [B,T,D], [B,D]
    Source   exclusion product, X-30: no division, so zeros need no special case
    """
    floor = decay_floor(gamma)
    grad_decay, grad_initial = running_product_adjoint(maximum(gamma, floor), initial, g)
    return where(gamma > floor, grad_decay, zeros_like(grad_decay)), grad_initial  # ADJ-8


def decay_floor(like: Numbers) -> Numbers:
    """e^-50, the smallest decay of one step."""
    return exp(constant("-50", like))  # STAB-3


def running_product(decay: Numbers, initial: Numbers) -> Numbers:
    """initial * decay_0 * ... * decay_t for every t."""
    product, products = initial, []
    for t in range(decay.shape[1]):
        product = product * decay[:, t]  # SCAN-2
        products.append(product)
    return stack(products, like=decay)


def running_product_adjoint(decay: Numbers, initial: Numbers, g: Numbers) -> tuple[Numbers, Numbers]:
    """Gradients of running_product: what later steps want of step t arrives from the right."""
    products = running_product(decay, initial)
    wanted_later, grad_decay = zeros_like(initial), []
    for t in reversed(range(decay.shape[1])):
        wanted = g[:, t] + wanted_later  # ADJ-1: r_t = g_t + decay_{t+1} r_{t+1}
        grad_decay.append(wanted * (products[:, t - 1] if t else initial))  # ADJ-1: r_t * y_{t-1}
        wanted_later = decay[:, t] * wanted
    return stack(grad_decay[::-1], like=decay), wanted_later
