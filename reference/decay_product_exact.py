"""Decay product without a floor: gamma = 0 forgets completely (spec/decay_scan.md)."""

from mmrec.reference.decay_product import running_product, running_product_adjoint
from mmrec.reference.domain import require_range, require_shapes
from mmrec.reference.numbers import Numbers


def decay_product_exact(gamma: Numbers, initial: Numbers) -> Numbers:
    """Return the running product of the decays; exactly 0 from the first gamma = 0 on.

    Clauses  STAB-8
    Args     gamma   [B,T,D]  decay per step, no unit, 0 <= gamma <= 1
             initial [B,D]    value before step 0, any unit
    Returns  [B,T,D] unit of initial; empty when T = 0
    Raises   ValueError when shapes do not match or gamma leaves its domain
    Source   S1 4.5 L120, decided in X-23
    """
    require_shapes(gamma=(gamma, "BTD"), initial=(initial, "BD"))
    require_range("gamma", gamma, 0, 1)
    return running_product(gamma, initial)  # STAB-8


def decay_product_exact_adjoint(gamma: Numbers, initial: Numbers, g: Numbers) -> tuple[Numbers, Numbers]:
    """Return the gradients of sum(g * decay_product_exact(gamma, initial)) for gamma and initial.

    Clauses  ADJ-2
    Args     as decay_product_exact; g [B,T,D] cotangent of the result
    Returns  [B,T,D], [B,D]; at gamma = 0 the exclusion product, which need not be 0
    Source   X-30
    """
    return running_product_adjoint(gamma, initial, g)  # ADJ-2
