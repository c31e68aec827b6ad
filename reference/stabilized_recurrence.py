"""Stabilized recurrence REC-J: convex mix, decay, norm and clip inside the loop (spec/recurrence.md)."""

from mmrec.reference.domain import require_range, require_shapes
from mmrec.reference.gated_recurrence import gate_parameters_adjoint
from mmrec.reference.normalization import NORMS, normalize, normalize_adjoint
from mmrec.reference.numbers import (
    Numbers,
    affine,
    between,
    clip,
    matvec,
    shifted,
    sigmoid,
    stack,
    total,
    where,
    zeros_like,
)


def stabilized_recurrence(
    z: Numbers,
    gate_z: Numbers,
    gamma: Numbers,
    W_h: Numbers,
    b_h: Numbers,
    norm_weight: Numbers,
    norm_bias: Numbers,
    h0: Numbers,
    *,
    norm: str = "rms",
    eps: float = 1e-6,
    clip: float = 100.0,
) -> Numbers:
    """Return the state after each step; the carried state is the normalized and clipped one.

    Clauses  REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, REC-16
    Args     z           [B,T,D]  input, unit of h
             gate_z      [B,T,D]  the input's share of the gate logits, no unit
             gamma       [B,T,D]  extra retention per step, no unit, 0 <= gamma <= 1
             W_h, b_h    [D,D], [D]  the state's share of the gate logits
             norm_weight, norm_bias  [D]  of the norm; the bias is used by "layer" only, none by "none"
             h0          [B,D]    state before step 0
             norm, eps, clip  "rms", "layer" or "none"; eps > 0; clip > 0
    Returns  [B,T,D]; empty when T = 0
    Raises   ValueError when shapes do not match, gamma leaves its domain, or norm is unknown
    Source   S3 1 L12-30; norm and eps X-10
    """
    require_shapes(
        z=(z, "BTD"),
        gate_z=(gate_z, "BTD"),
        gamma=(gamma, "BTD"),
        W_h=(W_h, "DD"),
        b_h=(b_h, "D"),
        norm_weight=(norm_weight, "D"),
        norm_bias=(norm_bias, "D"),
        h0=(h0, "BD"),
    )
    require_range("gamma", gamma, 0, 1)
    if norm not in NORMS:
        raise ValueError(f"norm: {norm!r} is not one of {', '.join(NORMS)}")
    h, states = h0, []
    for t in range(z.shape[1]):
        h = stabilized_step(z[:, t], gate_z[:, t], gamma[:, t], W_h, b_h, norm_weight, norm_bias, h, norm, eps, clip)
        states.append(h)  # REC-16
    return stack(states, like=z)


def stabilized_step(
    z: Numbers,
    gate_z: Numbers,
    gamma: Numbers,
    W_h: Numbers,
    b_h: Numbers,
    norm_weight: Numbers,
    norm_bias: Numbers,
    h: Numbers,
    norm: str,
    eps: float,
    limit: float,
) -> Numbers:
    """The next state [B,D] from the state h [B,D] before it."""
    mixed = mix(z, gamma, gate(gate_z, W_h, b_h, h), h)
    return clip(normalize(norm, mixed, norm_weight, norm_bias, eps), -limit, limit)  # REC-14, REC-15


def gate(gate_z: Numbers, W_h: Numbers, b_h: Numbers, h: Numbers) -> Numbers:
    """How much of the input replaces the state, in (0, 1)."""
    return sigmoid(affine(W_h, h, gate_z, b_h))  # REC-10, REC-11


def mix(z: Numbers, gamma: Numbers, opening: Numbers, h: Numbers) -> Numbers:
    """Convex mix of state and input, plus the decayed state."""
    blended = (1 - opening) * h + opening * z  # REC-12
    return blended + gamma * h  # REC-13


def stabilized_recurrence_adjoint(
    z: Numbers,
    gate_z: Numbers,
    gamma: Numbers,
    W_h: Numbers,
    b_h: Numbers,
    norm_weight: Numbers,
    norm_bias: Numbers,
    h0: Numbers,
    g: Numbers,
    *,
    norm: str = "rms",
    eps: float = 1e-6,
    clip: float = 100.0,
) -> tuple[Numbers, ...]:
    """Return the gradients of sum(g * stabilized_recurrence(...)) in argument order.

    Clauses  ADJ-6, ADJ-8
    Args     as stabilized_recurrence; g [B,T,D] cotangent of the result
    Returns  eight arrays of the arguments' shapes
    Source   chain rule through REC-10 .. REC-16, last step first
    """
    states = stabilized_recurrence(
        z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, norm=norm, eps=eps, clip=clip
    )
    previous = shifted(h0, states)
    wanted_later, columns = zeros_like(h0), []
    for t in reversed(range(z.shape[1])):
        *column, wanted_later = stabilized_step_adjoint(
            z[:, t],
            gate_z[:, t],
            gamma[:, t],
            W_h,
            b_h,
            norm_weight,
            norm_bias,
            previous[:, t],
            g[:, t] + wanted_later,
            norm,
            eps,
            clip,
        )
        columns.append(column)
    grad_z, grad_gate, grad_gamma, grad_weight, grad_bias = (
        stack([column[i] for column in reversed(columns)], like=z) for i in range(5)
    )
    grad_W, grad_b = gate_parameters_adjoint(grad_gate, previous)
    return grad_z, grad_gate, grad_gamma, grad_W, grad_b, total(grad_weight), total(grad_bias), wanted_later


def stabilized_step_adjoint(
    z: Numbers,
    gate_z: Numbers,
    gamma: Numbers,
    W_h: Numbers,
    b_h: Numbers,
    norm_weight: Numbers,
    norm_bias: Numbers,
    h: Numbers,
    wanted: Numbers,
    norm: str,
    eps: float,
    limit: float,
) -> tuple[Numbers, ...]:
    """Gradients of one step for z, gate logits, gamma, norm weight, norm bias, and the state before it."""
    mixed = mix(z, gamma, gate(gate_z, W_h, b_h, h), h)
    dmixed, dweight, dbias = stabilizer_adjoint(mixed, norm_weight, norm_bias, wanted, norm, eps, limit)
    dz, dgate, dgamma, dh = mix_adjoint(z, gate_z, gamma, W_h, b_h, h, dmixed)
    return dz, dgate, dgamma, dweight, dbias, dh


def stabilizer_adjoint(
    mixed: Numbers, norm_weight: Numbers, norm_bias: Numbers, wanted: Numbers, norm: str, eps: float, limit: float
) -> tuple[Numbers, Numbers, Numbers]:
    """Gradients through clip and norm: for the mixed state and, per row, norm weight and bias."""
    normalized = normalize(norm, mixed, norm_weight, norm_bias, eps)
    unclipped = where(between(normalized, -limit, limit), wanted, zeros_like(wanted))  # ADJ-8
    return normalize_adjoint(norm, mixed, norm_weight, norm_bias, eps, unclipped)


def mix_adjoint(
    z: Numbers, gate_z: Numbers, gamma: Numbers, W_h: Numbers, b_h: Numbers, h: Numbers, dmixed: Numbers
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Gradients of the mixed state for z, the gate logits, gamma, and the state before the step."""
    opening = gate(gate_z, W_h, b_h, h)
    dgate = (dmixed * z - dmixed * h) * (opening * (1 - opening))  # ADJ-6
    dh = dmixed * (1 - opening + gamma) + matvec(W_h.T, dgate)  # ADJ-6
    return dmixed * opening, dgate, dmixed * h, dh  # ADJ-6
