"""B-SCAN-2 and B-ADJ-1: the floored decay product and its gradients (derivations in products.py, affine.py).

Gradients   r_t = g_t + decay_{t+1} r_{t+1} is the linear recurrence backwards, grad gamma_t = r_t y_{t-1} and
            grad initial = decay_0 r_0. Where the floor binds (gamma < e^-50) the gradient is exactly 0.
            For the stored numbers next to e^-50 either side is allowed (ADJ-1).
            The floor itself is a rounded constant, so its steps weigh one more rounding: covered by adding
            u |decay_{t+1} r_{t+1}|, which the bound's own 2 K + H exceeds only when nothing else is rounded.
"""

import numpy as np

from mmrec.numerics.bounds import Question
from mmrec.numerics.bounds.affine import enclose_adjoint
from mmrec.numerics.bounds.linear_recurrence import times_previous
from mmrec.numerics.bounds.products import FLOOR, enclose_product
from mmrec.numerics.judgement import Enclosure


def enclose(question: Question) -> dict[str, Enclosure]:
    return {"result": enclose_product(question, floored=True)}


def enclose_gradients(question: Question) -> dict[str, Enclosure]:
    gamma, initial = question.inputs["gamma"], question.inputs["initial"]
    decay = np.maximum(gamma, FLOOR)
    wanted, grad_initial = enclose_adjoint(decay, question.cotangent, question.model)
    # the floor is a rounded constant: relative error u of a term that is itself e^-50 of what it multiplies
    floor_error = question.model.u * FLOOR * np.abs(wanted.value).max(axis=1, initial=0.0)
    wanted = Enclosure(wanted.value, wanted.tolerance + floor_error[:, None])
    grad_initial = Enclosure(grad_initial.value, grad_initial.tolerance + floor_error)
    grad_gamma = times_previous(wanted, enclose(question)["result"], initial, question)
    free = gamma > FLOOR
    undecided = np.abs(gamma - FLOOR) <= 2 * question.model.u * FLOOR  # the stored numbers next to the floor
    tolerance = np.where(free, grad_gamma.tolerance, 0.0)
    tolerance = np.where(undecided, np.abs(grad_gamma.value) + grad_gamma.tolerance, tolerance)
    return {"gamma": Enclosure(np.where(free, grad_gamma.value, 0.0), tolerance), "initial": grad_initial}
