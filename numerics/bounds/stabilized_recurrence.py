"""B-REC-13 and B-ADJ-6: the stabilized recurrence is judged by its defect, like the gated one (see there).

Backward    grad z_t = dmixed_t * gate_t and grad gamma_t = dmixed_t * h_{t-1}, so dmixed_t (what is wanted before norm
            and clip) is recovered from them; one reference step backwards through mix, norm and clip gives dmixed_{t-1}.
Layer norm  (x - mean) * r and x * r - mean * r are both admissible. The second rounds |x| r and |mean| r, so the
            family floor 4 u (|x| + |mean|) r |weight| is added; backwards 4 u (|x| + |mean|) r^2 |mean(pull * dir)|.
Clip        1-Lipschitz; where the errors do not decide whether it binds, its derivative is a set: both values
            are inside the tolerance (RunningError.between).
Splices     A time-parallel evaluation may keep a state within the part of this bound that is known to it (gated_recurrence.py):
            the gate's errors e as there, times |h| + |z| here, where 1 - g and g err apart, and the roundings of the
            decay: E. Norms spread E over the row as the running error does, all of it at once: with n the normalised
            direction and r one over the size, |weight| r (E + |n| mean(|n| E)), for "layer" with mean(E) + (D - 1) u mean|u|
            added to E; and |weight n| u (4 + (D - 1)/2) for the size. Each is at most what enclose() adds at that place.
            Backwards the product's D u, the decay and two additions, through the same norm. A clip that is sure to bind
            leaves nothing, since its result is exact.
Trajectory  How far the states may be from the exact ones, while that is determined at all: propagation.py.
"""

import numpy as np

from mmrec.numerics.bounds import Question
from mmrec.numerics.bounds.gated_recurrence import recover, rows, states_before, with_cotangent
from mmrec.numerics.bounds.propagation import Propagated, propagate
from mmrec.numerics.judgement import Enclosure
from mmrec.numerics.running_error import RunningError
from mmrec.reference.gated_recurrence import gate_parameters_adjoint
from mmrec.reference.normalization import inverse_deviation
from mmrec.reference.numbers import mean, total
from mmrec.reference.stabilized_recurrence import (
    gate,
    mix,
    mix_adjoint,
    stabilized_recurrence,
    stabilized_step,
    stabilized_step_adjoint,
    stabilizer_adjoint,
)


def enclose(question: Question) -> dict[str, Enclosure]:
    """NUM-5: every state by one reference step from the subject's own state before it, with the bound of one step."""
    z, gate_z, gamma, W_h, b_h, weight, bias, _h0 = question.inputs.values()
    h = rows(states_before(question))
    step = one_step(question, rows(z), rows(gate_z), rows(gamma), W_h, b_h, weight, bias, h)
    return {"result": Enclosure(step.value.reshape(z.shape), step.error.reshape(z.shape))}


def enclose_trajectory(question: Question) -> Propagated:
    """NUM-6: every state by the exact trajectory, with the propagated bound."""
    z, gate_z, gamma, W_h, b_h, weight, bias, _h0 = question.inputs.values()
    norm, eps, limit = stabilizer(question)
    exact = stabilized_recurrence(*question.inputs.values(), norm=norm, eps=eps, clip=limit)

    def step(t: int, h: RunningError) -> RunningError:
        return one_step(question, z[:, t], gate_z[:, t], gamma[:, t], W_h, b_h, weight, bias, h)

    def step_back(t: int, h: RunningError, wanted: RunningError) -> RunningError:
        *_, wanted_before = stabilized_step_adjoint(
            z[:, t], gate_z[:, t], gamma[:, t], W_h, b_h, weight, bias, h, wanted, norm, eps, limit
        )
        return wanted_before

    return propagate(question, exact, step, step_back)


def one_step(
    question: Question, z: np.ndarray, gate_z: np.ndarray, gamma: np.ndarray, W_h: np.ndarray, b_h: np.ndarray,
    weight: np.ndarray, bias: np.ndarray, h: RunningError,
) -> RunningError:  # fmt: skip
    """The states after one step from ``h`` [N,D], the family floor of the layer norm included."""
    norm, eps, limit = stabilizer(question)
    step = stabilized_step(z, gate_z, gamma, W_h, b_h, weight, bias, h, norm, eps, limit)
    if norm != "layer":
        return step
    floor, scale = layer_floor(mix(z, gamma, gate(gate_z, W_h, b_h, h), h), eps)
    return RunningError(step.value, step.error + floor * scale * np.abs(weight), step.model)


def enclose_gradients(question: Question) -> dict[str, Enclosure]:
    z, gate_z, gamma, W_h, b_h, weight, bias, h0 = question.exact()
    norm, eps, limit = stabilizer(question)
    h = states_before(question)

    mixed = mix(rows(z), rows(gamma), gate(rows(gate_z), W_h, b_h, rows(h)), rows(h))

    def before_norm(wanted: RunningError) -> tuple[RunningError, RunningError, RunningError]:
        dmixed, dweight, dbias = stabilizer_adjoint(mixed, weight, bias, wanted, norm, eps, limit)
        if norm == "layer":
            floor, scale = layer_floor(mixed, eps)
            pull = np.abs((dweight * weight).value).mean(axis=-1, keepdims=True)
            dmixed = RunningError(dmixed.value, dmixed.error + floor * scale**2 * pull, question.model)
            dweight = RunningError(dweight.value, dweight.error + floor * scale * np.abs(wanted.value), question.model)
        return dmixed, dweight, dbias

    def wanted_before(dmixed: RunningError) -> RunningError:
        z_later, gate_later, gamma_later, h_later, dmixed_later = (
            rows(x[:, 1:]) for x in (z, gate_z, gamma, h, dmixed)
        )
        *_, wanted_earlier = mix_adjoint(z_later, gate_later, gamma_later, W_h, b_h, h_later, dmixed_later)
        return rows(with_cotangent(question, wanted_earlier))

    def one_step_back(dmixed: RunningError) -> RunningError:
        return before_norm(wanted_before(dmixed))[0].reshape(*z.shape)

    opening = gate(rows(gate_z), W_h, b_h, rows(h)).reshape(*z.shape)
    dmixed, dweight, dbias = before_norm(wanted_before(recover(question, opening, h, one_step_back)))
    dz, dgate, dgamma, dh = mix_adjoint(rows(z), rows(gate_z), rows(gamma), W_h, b_h, rows(h), dmixed)
    grad_W, grad_b = gate_parameters_adjoint(dgate.reshape(*z.shape), h)
    first = dh.reshape(*z.shape)[:, 0] if z.shape[1] else h0 * 0.0
    gradients = {
        "z": dz.reshape(*z.shape),
        "gate_z": dgate.reshape(*z.shape),
        "gamma": dgamma.reshape(*z.shape),
        "W_h": grad_W,
        "b_h": grad_b,
        "norm_weight": total(dweight),
        "norm_bias": total(dbias),
        "h0": first,
    }
    return {name: Enclosure(number.value, number.error) for name, number in gradients.items()}


def stabilizer(question: Question) -> tuple[str, float, float]:
    """Norm, eps and clip as the call gave them, or their defaults."""
    options = question.options
    return options.get("norm", "rms"), options.get("eps", 1e-6), options.get("clip", 100.0)


def layer_floor(mixed: RunningError, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(4 u (|x| + |mean|), 1 / deviation) of the state before the layer norm, the largest it may be."""
    middle = mean(mixed)
    scale = inverse_deviation(mixed - middle, eps)
    size = np.abs(mixed.value) + mixed.error + np.abs(middle.value) + middle.error
    return 4 * mixed.model.u * size, scale.value + scale.error
