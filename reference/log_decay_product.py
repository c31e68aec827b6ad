"""Decay product kept as its logarithm, for products below the range of floats (spec/decay_scan.md)."""

from mmrec.reference.domain import require_range, require_shapes
from mmrec.reference.numbers import Numbers, between, clip, stack, where, zeros_like


def log_decay_product(log_gamma: Numbers, initial: Numbers) -> Numbers:
    """Return the running sum of the clamped log decays, step by step.

    Clauses  SCAN-6, STAB-3
    Args     log_gamma [B,T,D]  natural log of the decay, -inf <= log_gamma <= 0
             initial   [B,D]    log of the value before step 0
    Returns  [B,T,D]; empty when T = 0
    Raises   ValueError when shapes do not match or log_gamma leaves its domain
    Source   S1 2.2 L31, 4.5 L113-115
    """
    require_shapes(log_gamma=(log_gamma, "BTD"), initial=(initial, "BD"))
    require_range("log_gamma", log_gamma, float("-inf"), 0)
    clamped = clip(log_gamma, -50, 0)  # STAB-3: per element
    log_product, log_products = initial, []
    for t in range(log_gamma.shape[1]):
        log_product = log_product + clamped[:, t]  # SCAN-6
        log_products.append(log_product)
    return stack(log_products, like=log_gamma)


def log_decay_product_adjoint(log_gamma: Numbers, initial: Numbers, g: Numbers) -> tuple[Numbers, Numbers]:
    """Return the gradients of sum(g * log_decay_product(log_gamma, initial)) for both arguments.

    Clauses  ADJ-3, ADJ-8
    Args     as log_decay_product; g [B,T,D] cotangent of the result
    Returns  [B,T,D], [B,D]
    Source   derivative of SCAN-6
    """
    wanted, grad_clamped = zeros_like(initial), []
    for t in reversed(range(log_gamma.shape[1])):
        wanted = g[:, t] + wanted  # ADJ-3: every later step contains this log decay
        grad_clamped.append(wanted)
    grad_clamped = stack(grad_clamped[::-1], like=log_gamma)
    inside = between(log_gamma, -50, 0)
    return where(inside, grad_clamped, zeros_like(grad_clamped)), wanted  # ADJ-8
