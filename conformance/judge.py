"""Compare an answer with the reference within the bound: the one place where a verdict is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.ops import Arrays, Op
from mmrec.conformance.oracle import enclosures, gradient_enclosures
from mmrec.conformance.verdicts import Finding, Verdict
from mmrec.conformance.worker import Answer, Request
from mmrec.numerics.bounds import Question
from mmrec.numerics.formats import Format, arithmetic_of
from mmrec.numerics.judgement import Enclosure, budget

Select = Any  # an index into [B,T,D]: the part of a result that is judged


@dataclass
class Trial:
    """One subject's op in one dtype: puts questions and judges the answers."""

    send: Callable[[Request], Answer]
    op: Op
    dtype: str
    declares: Mapping[str, Any]
    twice: bool = True  # every call is made twice, and its bits compared

    # ---- asking -------------------------------------------------------------------------
    def ask(self, case: Case, inputs: Arrays, cotangent: np.ndarray | None = None, **more: Any) -> Answer:
        more.setdefault("twice", self.twice)
        request = Request(case.op, inputs, case.dtype, dict(case.options), case.layout, cotangent, **more)
        return self.send(request)

    # ---- judging ------------------------------------------------------------------------
    def judge_values(self, case: Case, inputs: Arrays, answer: Answer, select: Select = ()) -> Finding:
        """The result against the reference; only ``select`` of it when given (the rest may be NaN by design)."""
        wrong = self.misbehaviour(case, answer)
        if wrong is not None:
            return wrong
        question = Question(inputs, dict(case.options), case.storage, answer.result, declares=self.declares)
        found = enclosures(self.op, question)["result"]
        return self.compare(case, {"result": (question.result, found)}, select)

    def judge_exactly(self, case: Case, inputs: Arrays, expected: np.ndarray, select: Select = ()) -> Finding:
        """Ask, and demand these very values of the result, or of ``select`` of it, where arithmetic leaves no choice."""
        answer = self.ask(case, inputs)
        return self.misbehaviour(case, answer) or identical(case, "result", answer.result[select], expected)

    def judge_gradients(self, case: Case, inputs: Arrays, g: np.ndarray, answer: Answer) -> Finding:
        """The gradient of every argument, element by element."""
        wrong = self.misbehaviour(case, answer)
        if wrong is not None:
            return wrong
        for name, gradient in answer.gradients.items():
            expected = inputs[name].shape
            if gradient.shape != expected:
                message = f"gradient of {name} has shape {gradient.shape}, expected {expected}"
                return Finding(Verdict.WRONG_SHAPE, np.inf, case=str(case), message=message)
            if answer.gradient_dtypes[name] != case.dtype:
                message = f"gradient of {name} is {answer.gradient_dtypes[name]}, expected {case.dtype}"
                return Finding(Verdict.WRONG_DTYPE, np.inf, case=str(case), message=message)
        question = Question(inputs, dict(case.options), case.storage, answer.result, g, answer.gradients, self.declares)
        found = gradient_enclosures(self.op, question)
        pairs = {f"gradient of {name}": (answer.gradients[name], found[name]) for name in found}
        return self.compare(case, pairs)

    def misbehaviour(self, case: Case, answer: Answer) -> Finding | None:
        """What is wrong with the answer before any number is looked at."""
        expected = case.sizes.shape("BTD")
        wrong: tuple[Verdict, str] | None = None
        if answer.failure is not None:
            wrong = answer.failure, answer.message
        elif answer.result.shape != expected:
            wrong = Verdict.WRONG_SHAPE, f"result has shape {answer.result.shape}, expected {expected}"
        elif answer.dtype != case.dtype:
            wrong = Verdict.WRONG_DTYPE, f"result is {answer.dtype}, expected {case.dtype}"
        elif answer.mutated:
            wrong = Verdict.INPUT_MUTATED, f"the call changed its input {', '.join(answer.mutated)}"
        elif answer.aliased:
            names = ", ".join(answer.aliased)
            wrong = (
                Verdict.INPUT_MUTATED,
                f"the result or a gradient is a view of {names}: writing to one changes the other",
            )
        elif not answer.same_twice:
            wrong = (
                Verdict.NOT_REPRODUCIBLE,
                "the same call gave other bits the second time (buffers are poisoned between)",
            )
        if wrong is None:
            return None
        return Finding(wrong[0], np.inf, case=str(case), message=wrong[1])

    def compare(self, case: Case, pairs: Mapping[str, tuple[np.ndarray, Enclosure]], select: Select = ()) -> Finding:
        """The worst element of all outputs."""
        worst = Finding(Verdict.CONFORMS, case=str(case), steps=case.sizes.T)
        for name, (output, enclosure) in pairs.items():
            part = Enclosure(enclosure.value[select], enclosure.tolerance[select])
            finding = compare_arrays(case.storage, name, output[select], part)
            worst.error, worst.allowed = max(worst.error, finding.error), max(worst.allowed, finding.allowed)
            if finding.budget >= worst.budget:
                finding.case, finding.steps = worst.case, worst.steps
                finding.error, finding.allowed = worst.error, worst.allowed
                worst = finding
        return worst


def compare_arrays(storage: Format, name: str, output: np.ndarray, enclosure: Enclosure) -> Finding:
    """One output against its enclosure: the element that uses most of its budget."""
    if output.size == 0:
        return Finding(Verdict.CONFORMS, where=name)
    used = budget(output, enclosure, storage, arithmetic_of(storage))
    index = np.unravel_index(int(np.argmax(used)), used.shape)
    worst = float(used[index])
    finding = Finding(
        verdict=Verdict.CONFORMS, budget=worst, where=f"{name}{[int(i) for i in index]}", got=float(output[index]),
        expected=float(enclosure.value[index]), tolerance=float(enclosure.tolerance[index]),
    )  # fmt: skip
    scale = float(np.max(np.abs(enclosure.value))) or 1.0
    with np.errstate(invalid="ignore"):
        finding.error = float(np.nanmax(np.abs(output - enclosure.value), initial=0.0)) / scale
    finding.allowed = float(np.max(enclosure.tolerance)) / scale
    if worst > 1:
        finite_expected = not np.isfinite(output[index]) and np.isfinite(enclosure.value[index])
        finding.verdict = Verdict.NOT_FINITE if finite_expected else Verdict.OUT_OF_BOUND
        finding.message = (
            f"{finding.where} is {finding.got:.9g}, exact {finding.expected:.9g}: "
            f"{worst:.3g} x the tolerance {finding.tolerance:.3g}"
        )
    return finding


def identical(case: Case, what: str, output: np.ndarray, expected: np.ndarray) -> Finding:
    """Exact equality, where arithmetic leaves no choice: tolerance zero."""
    expected = np.broadcast_to(expected, output.shape)
    different = ~((output == expected) | (np.isnan(output) & np.isnan(expected)))
    finding = Finding(Verdict.CONFORMS, case=str(case), where=what, steps=case.sizes.T)
    if np.any(different):
        index = tuple(int(i) for i in np.argwhere(different)[0])
        finding.verdict, finding.budget = Verdict.OUT_OF_BOUND, np.inf
        finding.got, finding.expected, finding.tolerance = float(output[index]), float(expected[index]), 0.0
        finding.where = f"{what}{list(index)}"
        finding.message = f"{finding.where} is {finding.got:.9g}, exactly {finding.expected:.9g} is required"
    return finding
