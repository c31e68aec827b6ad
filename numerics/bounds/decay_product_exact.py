"""B-STAB-8 and B-ADJ-2: the decay product without floor and its gradients (derivations in products.py, affine.py).

The direct bound makes every product exactly 0 (tolerance 0) from the first gamma = 0 on. The gradient at that
zero is the exclusion product r_t y_{t-1}, in general not 0.
"""

from mmrec.numerics.bounds import Question
from mmrec.numerics.bounds.affine import enclose_adjoint
from mmrec.numerics.bounds.linear_recurrence import times_previous
from mmrec.numerics.bounds.products import enclose_product
from mmrec.numerics.judgement import Enclosure


def enclose(question: Question) -> dict[str, Enclosure]:
    return {"result": enclose_product(question, floored=False)}


def enclose_gradients(question: Question) -> dict[str, Enclosure]:
    gamma, initial = question.inputs["gamma"], question.inputs["initial"]
    wanted, grad_initial = enclose_adjoint(gamma, question.cotangent, question.model)
    return {"gamma": times_previous(wanted, enclose(question)["result"], initial, question), "initial": grad_initial}
