"""B-REC-1 and B-ADJ-5: the gated recurrence is judged by its defect, forwards and backwards.

Forward     Errors of a nonlinear recurrence grow or shrink with its Jacobians; in a chaotic regime no bound on
            the state itself exists. So every h_t is compared with ONE reference step from the subject's own
            h_{t-1}, evaluated in running-error numbers: no propagation, and nothing to excuse a wrong step.
            By induction a trajectory with no defect is an exact run of REC-1 with roundings at each step.
Backward    The subject shows grad z_t = wanted_t * gate_t and grad gamma_t = wanted_t * h_{t-1}, and gate and state
            are known from its own trajectory. So wanted_t is recovered as the quotient that determines it better,
            and one reference step backwards must give grad z_{t-1}, grad gamma_{t-1} and the rest. The last step
            is anchored: wanted_{T-1} = g_{T-1}. Where the gate has underflowed and the state is 0 neither quotient
            says anything; there wanted_t is what one step backwards predicts.
            The subject knew gate and state with their own rounding: running-error division.
Splices     A time-parallel evaluation (REC-PAR-1, REC-PAR-2) keeps a state s that it did not reach by a step from the
            state x before it. The bound above is of one step from x and does not ask how s was found: so s may stand
            if abs(s - F(x)) is within the part of it that is known to the evaluation, element by element: u |gamma x|
            and u |s| for the two roundings of the sum (none where gamma x is exact, or a summand is 0), 5 u |z gate|
            for the inflow, and D u (1 - gate) |z gate| (|W| |x| + |b|) for any order of the logits' sum. These are
            smaller than what enclose() grants, so that a splice never costs a verdict.
            It may be spread over several steps, each element going over at one of them: while some have and some have not,
            every element is disturbed by what W makes of their differences, which D u of its terms must cover, too.
Storage     In a narrow format the carried state is the float32 one, of which we see the rounding: half a gap
            of uncertainty enters each step (Question.stored).
Trajectory  How far the states may be from the exact ones, while that is determined at all: propagation.py.
"""

from collections.abc import Callable

import numpy as np

from mmrec.numerics.bounds import Question, previous
from mmrec.numerics.bounds.propagation import Propagated, propagate
from mmrec.numerics.judgement import Enclosure
from mmrec.numerics.running_error import UNKNOWN, RunningError
from mmrec.reference.gated_recurrence import (
    gate,
    gate_parameters_adjoint,
    gated_recurrence,
    gated_step,
    gated_step_adjoint,
)
from mmrec.reference.numbers import Numbers


def enclose(question: Question) -> dict[str, Enclosure]:
    """NUM-5: every state by one reference step from the subject's own state before it, with the bound of one step."""
    z, gamma, W_g, b_g, _h0 = question.exact()
    h = states_before(question)
    step = gated_step(rows(z), rows(gamma), W_g, b_g, rows(h))
    return {"result": Enclosure(step.value.reshape(z.shape), step.error.reshape(z.shape))}


def enclose_trajectory(question: Question) -> Propagated:
    """NUM-6: every state by the exact trajectory, with the propagated bound."""
    z, gamma, W_g, b_g, h0 = question.inputs.values()
    exact = gated_recurrence(z, gamma, W_g, b_g, h0)

    def step(t: int, h: RunningError) -> RunningError:
        return gated_step(z[:, t], gamma[:, t], W_g, b_g, h)

    def step_back(t: int, h: RunningError, wanted: RunningError) -> RunningError:
        *_, wanted_before = gated_step_adjoint(z[:, t], gamma[:, t], W_g, b_g, h, wanted)
        return wanted_before

    return propagate(question, exact, step, step_back)


def enclose_gradients(question: Question) -> dict[str, Enclosure]:
    z, gamma, W_g, b_g, h0 = question.exact()
    h = states_before(question)

    def one_step_back(wanted: RunningError) -> RunningError:
        z_later, gamma_later, h_later, wanted_later = (rows(x[:, 1:]) for x in (z, gamma, h, wanted))
        *_, wanted_earlier = gated_step_adjoint(z_later, gamma_later, W_g, b_g, h_later, wanted_later)
        return with_cotangent(question, wanted_earlier)

    opening = gate(W_g, b_g, rows(h)).reshape(*h.shape)
    wanted = one_step_back(recover(question, opening, h, one_step_back))
    dz, dgamma, dgate, dh = gated_step_adjoint(rows(z), rows(gamma), W_g, b_g, rows(h), rows(wanted))
    grad_W, grad_b = gate_parameters_adjoint(dgate.reshape(*z.shape), h)
    first = dh.reshape(*z.shape)[:, 0] if z.shape[1] else h0 * 0.0
    gradients = {
        "z": dz.reshape(*z.shape),
        "gamma": dgamma.reshape(*z.shape),
        "W_g": grad_W,
        "b_g": grad_b,
        "h0": first,
    }
    return {name: Enclosure(number.value, number.error) for name, number in gradients.items()}


def states_before(question: Question) -> RunningError:
    """NUM-5: the subject's own state before each step [B,T,D]; h0 exactly, then its results as it held them."""
    h0 = question.inputs["h0"]
    held = question.stored(question.result)
    return RunningError(previous(h0, held.value), previous(0 * h0, held.error), question.model)


def recover(
    question: Question, opening: RunningError, h: RunningError, one_step_back: Callable[[RunningError], RunningError]
) -> RunningError:
    """The gradient of the gated sum at every step [B,T,D] as the subject held it, from its grad z and grad gamma."""
    through_z = product_shown(question, "z") / opening
    through_gamma = product_shown(question, "gamma") / h
    held = chosen(through_z.error <= through_gamma.error, through_z, through_gamma)
    for _ in range(h.shape[1]):
        unknown = held.error >= UNKNOWN
        if not np.any(unknown):
            break
        held = chosen(unknown, one_step_back(held), held)
    return held


def product_shown(question: Question, argument: str) -> RunningError:
    """A gradient the subject showed; as a product it may have underflowed."""
    shown = question.stored(question.gradients[argument])
    return RunningError(shown.value, shown.error + question.model.eta, question.model)


def chosen(condition: np.ndarray, one: RunningError, other: RunningError) -> RunningError:
    """One where the condition holds, the other elsewhere."""
    return RunningError(
        np.where(condition, one.value, other.value), np.where(condition, one.error, other.error), one.model
    )


def with_cotangent(question: Question, wanted_earlier: RunningError) -> RunningError:
    """g_t plus what step t + 1 wants of h_t [B,T,D]; ``wanted_earlier`` are the rows for steps 1 .. T - 1.

    Three things are added: g, the decayed gradient of the next step, and what its gate wants. Autodiff adds them as
    they arrive, so no order is meant: two roundings of at most the size of the two that are added first.
    """
    g, shape = RunningError(question.cotangent, 0.0, question.model), question.cotangent.shape
    if shape[1] < 2:
        return g
    later = wanted_earlier.reshape(shape[0], shape[1] - 1, shape[2])
    summed = g[:, :-1] + later
    any_order = question.model.gamma(2) * (np.abs(g.value[:, :-1]) + np.abs(later.value))
    summed = RunningError(summed.value, summed.error + any_order, question.model)
    return RunningError(np.concatenate([summed.value, g.value[:, -1:]], axis=1),
                        np.concatenate([summed.error, g.error[:, -1:]], axis=1), question.model)  # fmt: skip


def rows(x: Numbers) -> Numbers:
    """[B,T,D] -> [B*T, D]: with the state before each step known, steps do not depend on each other."""
    return x.reshape(-1, x.shape[-1])
