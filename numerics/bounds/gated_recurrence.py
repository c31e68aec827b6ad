"""B-REC-1 and B-ADJ-5: the gated recurrence is judged by its defect, forwards and backwards.

Forward     Errors of a nonlinear recurrence grow or shrink with its Jacobians; in a chaotic regime no bound on
            the state itself exists. So every h_t is compared with ONE reference step from the subject's own
            h_{t-1}, evaluated in running-error numbers: no propagation, and nothing to excuse a wrong step.
            By induction a trajectory with no defect is an exact run of REC-1 with roundings at each step.
Backward    The subject shows grad z_t = wanted_t * gate_t, and the gate is known from its own h_{t-1}, never 0.
            So wanted_t is recovered from grad z_t, and one reference step backwards must give grad z_{t-1}.
            The last step is anchored: wanted_{T-1} = g_{T-1}. The other gradients follow from wanted.
            Recovery divides by a gate that the subject knew with its own rounding: running-error division.
Storage     In a narrow format the carried state is the float32 one, of which we see the rounding: half a gap
            of uncertainty enters each step (Question.stored).
"""

import numpy as np

from mmrec.numerics.bounds import Question
from mmrec.numerics.judgement import Enclosure
from mmrec.numerics.running_error import RunningError
from mmrec.reference.gated_recurrence import (
    gate,
    gate_parameters_adjoint,
    gated_step,
    gated_step_adjoint,
)


def enclose(question: Question) -> dict[str, Enclosure]:
    z, gamma, W_g, b_g, h0 = question.exact()
    h = states_before(question)
    step = gated_step(rows(z), rows(gamma), W_g, b_g, rows(h))
    return {"result": Enclosure(step.value.reshape(z.shape), step.error.reshape(z.shape))}


def enclose_gradients(question: Question) -> dict[str, Enclosure]:
    z, gamma, W_g, b_g, h0 = question.exact()
    h = states_before(question)

    def recover(dz: RunningError, z, gamma, h) -> RunningError:
        wanted = dz / gate(W_g, b_g, h)
        *_, wanted_earlier = gated_step_adjoint(z, gamma, W_g, b_g, h, wanted)
        return wanted_earlier

    wanted = wanted_by_later_steps(question, recover, z, gamma, h)
    dz, dgamma, dgate, dh = gated_step_adjoint(rows(z), rows(gamma), W_g, b_g, rows(h), rows(wanted))
    grad_W, grad_b = gate_parameters_adjoint(dgate.reshape(*z.shape), h)
    first = dh.reshape(*z.shape)[:, 0] if z.shape[1] else h0 * 0.0
    gradients = {"z": dz.reshape(*z.shape), "gamma": dgamma.reshape(*z.shape), "W_g": grad_W, "b_g": grad_b, "h0": first}
    return {name: Enclosure(number.value, number.error) for name, number in gradients.items()}


def states_before(question: Question) -> RunningError:
    """The subject's own state before each step [B,T,D]: h0 exactly, then its results as it held them."""
    h0 = question.inputs["h0"]
    earlier = question.stored(question.result[:, :-1])
    before = np.concatenate([h0[:, None], earlier.value], axis=1)[:, : question.result.shape[1]]
    error = np.concatenate([np.zeros_like(h0)[:, None], earlier.error], axis=1)[:, : before.shape[1]]
    return RunningError(before, error, question.model)


def wanted_by_later_steps(question: Question, recover, *per_step: RunningError) -> RunningError:
    """What the loss and later steps want of h_t [B,T,D]: g_t, plus one step back from the subject's grad z_{t+1}.

    ``recover(grad_z, *arrays)`` turns rows of grad z and of the per-step arrays into what step t + 1 wants of h_t.
    """
    g, shape = RunningError(question.cotangent, 0.0, question.model), question.cotangent.shape
    if shape[1] < 2:
        return g
    later = recover(rows(question.stored(question.gradients["z"][:, 1:])), *(rows(x[:, 1:]) for x in per_step))
    later = later.reshape(shape[0], shape[1] - 1, shape[2])
    summed = g[:, :-1] + later
    return RunningError(np.concatenate([summed.value, g.value[:, -1:]], axis=1),
                        np.concatenate([summed.error, g.error[:, -1:]], axis=1), question.model)


def rows(x: RunningError) -> RunningError:
    """[B,T,D] -> [B*T, D]: with the state before each step known, steps do not depend on each other."""
    return x.reshape(-1, x.shape[-1])
