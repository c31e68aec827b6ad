"""B-MDI-1 and B-ADJ-4: the linear recurrence and its gradients (derivation in affine.py).

The gradients are the same recurrence read backwards (s, and a_0 s_0 for h0) and its product with the states:
grad a_t = s_t h_{t-1} carries the tolerances of both factors and one more rounding.
"""

import numpy as np

from mmrec.numerics.bounds import Question, previous
from mmrec.numerics.bounds.affine import enclose_adjoint, enclose_affine
from mmrec.numerics.judgement import Enclosure
from mmrec.numerics.running_error import RunningError


def enclose(question: Question) -> dict[str, Enclosure]:
    a, b, h0 = question.inputs.values()
    return {"result": enclose_affine(a, b, h0, question.model)}


def enclose_gradients(question: Question) -> dict[str, Enclosure]:
    a, _, h0 = question.inputs.values()
    states = enclose(question)["result"]
    wanted, grad_h0 = enclose_adjoint(a, question.cotangent, question.model)
    return {"a": times_previous(wanted, states, h0, question), "b": wanted, "h0": grad_h0}


def times_previous(wanted: Enclosure, states: Enclosure, first: np.ndarray, question: Question) -> Enclosure:
    """wanted_t times the state before step t, where both carry their tolerance."""
    before = RunningError(previous(first, states.value), previous(0 * first, states.tolerance), question.model)
    product = RunningError(wanted.value, wanted.tolerance, question.model) * before
    return Enclosure(product.value, product.error)
