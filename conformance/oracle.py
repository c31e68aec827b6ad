"""What the reference says: values, enclosures, and the check of the oracles by each other.

The float64 reference gives the value; Arb balls certify it on every case small enough (``CERTIFIED_ELEMENTS``);
the bound gives the tolerance. An op that is judged by its defect has value and tolerance from one reference step
from the subject's own previous state.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.ops import Arrays, Op
from mmrec.numerics.bounds import Question
from mmrec.numerics.exact import evaluate_balls
from mmrec.numerics.formats import FLOAT64
from mmrec.numerics.judgement import Enclosure

CERTIFIED_ELEMENTS = 48


class OracleError(AssertionError):
    """The oracles disagree: the suite itself is wrong, and no subject may be judged by it."""


def enclosures(op: Op, question: Question) -> dict[str, Enclosure]:
    """Value and tolerance of the result."""
    found = _with_the_reference_s_error(op.bound.enclose, question)
    if not op.judged_by_defect:
        value = op.reference(*question.inputs.values(), **question.options)
        found = {"result": replace(found["result"], value=value)}
    return found


def gradient_enclosures(op: Op, question: Question) -> dict[str, Enclosure]:
    """Value and tolerance of the gradient of every argument."""
    found = _with_the_reference_s_error(op.bound.enclose_gradients, question)
    if not op.judged_by_defect:
        values = op.adjoint(*question.inputs.values(), question.cotangent, **question.options)
        found = {name: replace(found[name], value=value) for name, value in zip(op.arguments, values, strict=True)}
    return found


def _quietly(bound: Any, question: Question) -> dict[str, Enclosure]:
    """A wrong subject's states may overflow the bound; its budget is then infinite, which is the right answer."""
    with np.errstate(all="ignore"):
        return bound(question)


def _with_the_reference_s_error(bound: Any, question: Question) -> dict[str, Enclosure]:
    """For float64 the reference errs as much as the subject may, and in its own order, whatever the subject declares."""
    found = _quietly(bound, question)
    if question.storage is not FLOAT64:
        return found
    own = _quietly(bound, replace(question, declares={})) if question.declares else found
    return {name: Enclosure(e.value, e.tolerance + own[name].tolerance) for name, e in found.items()}


def certify(case: Case, inputs: Arrays, gradients: bool) -> None:
    """Raise OracleError unless float64 reference (and adjoint) lie where Arb balls prove the exact value to be.

    Float64 may be off by its own bound, no more. Cases with more than ``CERTIFIED_ELEMENTS`` elements are not
    evaluated in balls; the smaller ones of the same regime stand for them (NUM-10).
    """
    op, options = case.row, dict(case.options)
    if int(np.prod(case.sizes.shape("BTD"))) > CERTIFIED_ELEMENTS or case.sizes.T == 0:
        return
    arrays = list(inputs.values())
    exact, radius = evaluate_balls(op.reference, arrays, **options)
    value = op.reference(*arrays, **options)
    question = Question(inputs, options, FLOAT64, result=value)
    _require_inside(case, "result", value, exact, radius, _quietly(op.bound.enclose, question)["result"], op)
    if not gradients:
        return
    g = case.cotangent()
    proofs = evaluate_balls(op.adjoint, [*arrays, g], **options)
    values = dict(zip(op.arguments, op.adjoint(*arrays, g, **options), strict=True))
    question = replace(question, cotangent=g, gradients=values)
    bounds = _quietly(op.bound.enclose_gradients, question)
    for (name, value), (exact, radius) in zip(values.items(), proofs, strict=True):
        _require_inside(case, f"gradient of {name}", value, exact, radius, bounds[name], op)


def _require_inside(
    case: Case, what: str, value: np.ndarray, exact: np.ndarray, radius: np.ndarray, bound: Enclosure, op: Op
) -> None:
    if not np.all(np.isfinite(value)):
        raise OracleError(f"{case}: the reference's {what} is not finite")
    allowed = radius + 2 * bound.tolerance
    if (
        op.judged_by_defect
    ):  # a defect bound says nothing of the distance to the exact trajectory: use its float64 share
        allowed = radius + DEFECT_GROWTH * (bound.tolerance.max(initial=0.0) + np.finfo(float).eps * np.abs(exact))
    outside = np.abs(value - exact) > allowed
    if np.any(outside):
        index = tuple(np.argwhere(outside)[0])
        raise OracleError(f"{case}: {what}{list(map(int, index))} is {value[index]!r} in float64, {exact[index]!r} +- "
                          f"{radius[index]:.3g} in balls")  # fmt: skip


DEFECT_GROWTH = 2.0**20  # certified cases are short: their Jacobians' product stays far below this
