"""Gated recurrence REC-D: the state opens its own gate (spec/recurrence.md)."""

from mmrec.reference.domain import require_range, require_shapes
from mmrec.reference.numbers import (
    Numbers,
    affine,
    matvec,
    outer_total,
    shifted,
    sigmoid,
    stack,
    total,
    zeros_like,
)


def gated_recurrence(z: Numbers, gamma: Numbers, W_g: Numbers, b_g: Numbers, h0: Numbers) -> Numbers:
    """Return the state after each step.

    Clauses  REC-1, REC-3
    Args     z     [B,T,D]  gated input, unit of h
             gamma [B,T,D]  decay per step, no unit, 0 <= gamma <= 1
             W_g   [D,D]    gate weight, acts on column vectors, unit 1 / h
             b_g   [D]      gate bias, no unit
             h0    [B,D]    state before step 0, unit of h
    Returns  [B,T,D] unit of h; empty when T = 0
    Raises   ValueError when shapes do not match or gamma leaves its domain
    Source   S1 4.1 L80-92; S2 L41-44; bias X-8
    """
    require_shapes(z=(z, "BTD"), gamma=(gamma, "BTD"), W_g=(W_g, "DD"), b_g=(b_g, "D"), h0=(h0, "BD"))
    require_range("gamma", gamma, 0, 1)
    h, states = h0, []
    for t in range(z.shape[1]):
        h = gated_step(z[:, t], gamma[:, t], W_g, b_g, h)
        states.append(h)
    return stack(states, like=z)


def gated_step(z: Numbers, gamma: Numbers, W_g: Numbers, b_g: Numbers, h: Numbers) -> Numbers:
    """The next state [B,D] from the state h [B,D] before it."""
    return z * gate(W_g, b_g, h) + gamma * h  # REC-1


def gate(W_g: Numbers, b_g: Numbers, h: Numbers) -> Numbers:
    """How far each channel's input gate is open, in (0, 1)."""
    return sigmoid(affine(W_g, h, b_g))  # REC-5


def gated_recurrence_adjoint(
    z: Numbers, gamma: Numbers, W_g: Numbers, b_g: Numbers, h0: Numbers, g: Numbers
) -> tuple[Numbers, ...]:
    """Return the gradients of sum(g * gated_recurrence(...)) in argument order.

    Clauses  ADJ-5
    Args     as gated_recurrence; g [B,T,D] cotangent of the result
    Returns  [B,T,D], [B,T,D], [D,D], [D], [B,D]
    Source   chain rule through REC-1, last step first
    """
    previous = shifted(h0, gated_recurrence(z, gamma, W_g, b_g, h0))
    wanted_later, grad_z, grad_gamma, grad_gate = zeros_like(h0), [], [], []
    for t in reversed(range(z.shape[1])):
        wanted = g[:, t] + wanted_later
        dz, dgamma, dgate, wanted_later = gated_step_adjoint(z[:, t], gamma[:, t], W_g, b_g, previous[:, t], wanted)
        grad_z.append(dz)
        grad_gamma.append(dgamma)
        grad_gate.append(dgate)
    grad_gate = stack(grad_gate[::-1], like=z)
    grad_W, grad_b = gate_parameters_adjoint(grad_gate, previous)
    return stack(grad_z[::-1], like=z), stack(grad_gamma[::-1], like=z), grad_W, grad_b, wanted_later


def gated_step_adjoint(
    z: Numbers, gamma: Numbers, W_g: Numbers, b_g: Numbers, h: Numbers, wanted: Numbers
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Gradients of one step for z, gamma, the gate's argument, and the state before it."""
    opening = gate(W_g, b_g, h)
    dgate = wanted * z * (opening * (1 - opening))  # ADJ-5
    return wanted * opening, wanted * h, dgate, matvec(W_g.T, dgate) + gamma * wanted  # ADJ-5


def gate_parameters_adjoint(grad_gate: Numbers, previous: Numbers) -> tuple[Numbers, Numbers]:
    """Gradients of the gate's weight and bias, summed over rows and steps."""
    return outer_total(grad_gate, previous), total(grad_gate)  # ADJ-5
