"""Linear recurrence: a memory that decays and takes in (spec/recurrence.md)."""

from mmrec.reference.domain import require_range, require_shapes
from mmrec.reference.numbers import Numbers, stack, zeros_like


def linear_recurrence(a: Numbers, b: Numbers, h0: Numbers) -> Numbers:
    """Return the state after each step.

    Clauses  MDI-1
    Args     a  [B,T,D]  decay per step, no unit, -1 <= a <= 1
             b  [B,T,D]  inflow per step, unit of h
             h0 [B,D]    state before step 0, unit of h
    Returns  [B,T,D] unit of h; empty when T = 0
    Raises   ValueError when shapes do not match or a leaves its domain
    Source   S1 4.3 L101
    """
    require_shapes(a=(a, "BTD"), b=(b, "BTD"), h0=(h0, "BD"))
    require_range("a", a, -1, 1)
    h, states = h0, []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]  # MDI-1
        states.append(h)
    return stack(states, like=b)


def linear_recurrence_adjoint(a: Numbers, b: Numbers, h0: Numbers, g: Numbers) -> tuple[Numbers, ...]:
    """Return the gradients of sum(g * linear_recurrence(a, b, h0)) for a, b and h0.

    Clauses  ADJ-4
    Args     as linear_recurrence; g [B,T,D] cotangent of the result
    Returns  [B,T,D], [B,T,D], [B,D]
    Source   the same recurrence, read backwards
    """
    states = linear_recurrence(a, b, h0)
    wanted_later, grad_a, grad_b = zeros_like(h0), [], []
    for t in reversed(range(a.shape[1])):
        wanted = g[:, t] + wanted_later  # ADJ-4: s_t = g_t + a_{t+1} s_{t+1}
        grad_a.append(wanted * (states[:, t - 1] if t else h0))  # ADJ-4: s_t * h_{t-1}
        grad_b.append(wanted)
        wanted_later = a[:, t] * wanted
    return stack(grad_a[::-1], like=a), stack(grad_b[::-1], like=b), wanted_later
