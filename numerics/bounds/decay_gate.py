"""B-GAMMA-6 and B-ADJ-7: the decay gate, by running the reference on running-error numbers.

Nothing is carried from step to step, so the running error of the formula is the tolerance: every matrix product
in any order, every elementary function within the error model, the clip's limits as rounded constants. Where
the errors do not decide whether the clip binds, both derivatives are inside the tolerance.
"""

from mmrec.numerics.bounds import Question
from mmrec.numerics.judgement import Enclosure
from mmrec.numerics.running_error import RunningError
from mmrec.reference.decay_gate import decay_gate, decay_gate_adjoint


def enclose(question: Question) -> dict[str, Enclosure]:
    gamma = decay_gate(*question.exact(), **question.options)
    return {"result": Enclosure(gamma.value, gamma.error)}


def enclose_gradients(question: Question) -> dict[str, Enclosure]:
    arguments = [*question.exact(), RunningError(question.cotangent, 0.0, question.model)]
    gradients = decay_gate_adjoint(*arguments, **question.options)
    return {name: Enclosure(grad.value, grad.error) for name, grad in zip(question.inputs, gradients, strict=True)}
