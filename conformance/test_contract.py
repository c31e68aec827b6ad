"""Does an op behave as the contract says beside its numbers: empty input, fresh answers, clear refusals?"""

from dataclasses import replace

import numpy as np
import pytest

from mmrec.conformance.cases import LAYOUTS, PLAIN_SHAPE, Case
from mmrec.conformance.judge import identical
from mmrec.conformance.verdicts import Finding, Verdict


def plain_case(examination, **sizes):
    """The op's first regime, default options, a few steps."""
    op = examination.op
    options = op.default_options
    return Case(op.name, examination.dtype, next(iter(op.regimes)), replace(PLAIN_SHAPE, **sizes), 3, options=options)


def cotangent_of(examination, case):
    """What to ask gradients with. None where the op answers no such question: that fails the clause of its gradient, and
    the others are judged without."""
    if not examination.profile.differentiable:
        return None
    some = plain_case(examination)  # with steps: a result that loses its gradient with them is not excused
    answer = examination.trial.ask(some, some.inputs(), some.cotangent(), twice=False)
    return None if answer.failure is Verdict.RAISED else case.cotangent()


@pytest.mark.conformance("contract")
def test_a_call_returns_its_own_array_and_leaves_its_inputs_alone(examination):
    """Shape, format, inputs untouched, no view, the same bits twice: looked at in every call, shown here in all layouts.

    Interpreted programs run one after another, so that only what a call leaves behind could change the next: such
    a subject is called twice here alone, and in one layout.
    """
    examination.demand("CONV-1", "CONV-2", "CONV-7", "CONV-8")

    def examine(case):
        inputs = case.inputs()
        g = cotangent_of(examination, case)
        twice = examination.trial.twice or case.layout == LAYOUTS[0]
        answer = examination.trial.ask(case, inputs, g, twice=twice)
        yield examination.trial.misbehaviour(case, answer) or Finding(Verdict.CONFORMS, case=str(case))

    layouts = LAYOUTS if examination.profile.strided else LAYOUTS[:1]
    examination.examine(examine, [replace(plain_case(examination), layout=layout) for layout in layouts])
    examination.conclude()


@pytest.mark.conformance("contract")
def test_no_steps_give_an_empty_result_and_no_gradient(examination):
    examination.demand("CONV-5")

    def examine(case):
        inputs, g = case.inputs(), cotangent_of(examination, case)
        if g is None:
            yield examination.trial.judge_values(case, inputs, examination.trial.ask(case, inputs))
            return
        answer = examination.trial.ask(case, inputs, g)
        wrong = examination.trial.misbehaviour(case, answer)
        if wrong is not None:
            yield wrong
            return
        for name, gradient in answer.gradients.items():
            yield identical(case, f"gradient of {name}", gradient, np.zeros(()))

    examination.examine(examine, [plain_case(examination, T=0)])
    examination.conclude()


@pytest.mark.conformance("contract")
def test_new_values_in_the_same_buffers_give_new_results(examination):
    """An answer remembered by address, shape or call count is caught here."""
    examination.demand("CONV-16")

    def examine(case):
        inputs, others = case.inputs(), replace(case, seed=case.seed + 1).inputs()
        answer = examination.trial.ask(case, inputs, refill=others)
        yield examination.trial.judge_values(case, inputs, answer)
        answer.result = answer.refilled
        yield examination.trial.judge_values(replace(case, seed=case.seed + 1), others, answer)

    examination.examine(examine, [plain_case(examination)])
    examination.conclude()


@pytest.mark.conformance("contract")
def test_bad_input_is_refused_by_the_name_of_the_argument(examination):
    examination.demand("CONV-9")

    def examine(case):
        inputs = case.inputs()
        for name, letters in examination.op.arguments.items():
            wrong_rank = {**inputs, name: inputs[name][..., None]}
            yield refused(examination, case, wrong_rank, name, "one axis too many")
            yield refused(examination, case, inputs, name, "integers", dtypes={name: "int32"})
            other_dtype = "float64" if case.dtype != "float64" else "float32"
            yield refused(examination, case, inputs, name, "another dtype", dtypes={name: other_dtype})
            for axis, letter in enumerate(letters):
                if sum(letter in other for other in examination.op.arguments.values()) > 1 or letters.count(letter) > 1:
                    longer = np.concatenate([inputs[name], inputs[name].take([0], axis)], axis)
                    yield refused(
                        examination, case, {**inputs, name: longer}, None, f"{name} one longer along {letter}"
                    )

        for option in examination.op.options:
            nonsense = replace(case, options=(*case.options, (option, "no such choice")))
            yield refused(examination, nonsense, inputs, option, "an unknown choice")

    examination.examine(examine, [plain_case(examination)])
    examination.conclude()


def refused(examination, case, inputs, name, fault, **more):
    """A finding that conforms when the call raised ValueError or TypeError naming the argument."""
    answer = examination.trial.ask(case, inputs, **more)
    accepted = answer.failure is Verdict.RAISED and answer.exception in ("ValueError", "TypeError")
    names = [name] if name else list(examination.op.arguments)
    if accepted and any(argument in answer.message for argument in names):
        return Finding(Verdict.CONFORMS, case=str(case))
    if answer.failure in (Verdict.CRASHED, Verdict.TIMED_OUT):
        return Finding(answer.failure, np.inf, case=str(case), message=answer.message)
    what = f"{name or 'an argument'} with {fault}: expected ValueError or TypeError naming it, but the call {done_by(answer)}"
    return Finding(Verdict.RAISED if answer.failure else Verdict.OUT_OF_BOUND, np.inf, case=str(case), message=what)


def done_by(answer):
    return f"raised {answer.message}" if answer.failure else "returned a result"


@pytest.mark.conformance("contract")
def test_values_outside_their_domain_are_refused_in_checked_mode(examination):
    examination.demand("CONV-10")
    if not examination.profile.checked:
        examination.leave_out("the subject has no checked mode")
    if not examination.op.domains:
        examination.leave_out("every finite value is in the op's domain")

    def examine(case):
        inputs = case.inputs()
        for name, (low, high) in examination.op.domains.items():
            for outside in (np.nan, low - 1 if np.isfinite(low) else high + 1):
                spoiled = inputs[name].copy()
                spoiled[1, 2, 1] = outside
                answer = examination.trial.ask(case, {**inputs, name: spoiled}, checked=True)
                told = answer.failure is Verdict.RAISED and answer.exception == "ValueError"
                if told and name in answer.message and "1, 2, 1" in answer.message:
                    yield Finding(Verdict.CONFORMS, case=str(case))
                else:
                    wanted = "ValueError naming argument and position"
                    what = f"{name}[1, 2, 1] = {outside}: expected {wanted}, but the call {done_by(answer)}"
                    yield Finding(answer.failure or Verdict.OUT_OF_BOUND, np.inf, case=str(case), message=what)

    examination.examine(examine, [plain_case(examination)])
    examination.conclude()


@pytest.mark.conformance("contract")
def test_products_of_values_outside_their_domain_are_nan_from_there_on(examination):
    examination.demand("CONV-10")
    if "initial" not in examination.op.arguments:
        examination.leave_out("said of the decay products only")

    def examine(case):
        inputs, step = case.inputs(), 2
        name, (low, _high) = next(iter(examination.op.domains.items()))
        for outside in (np.nan, low - 1) if np.isfinite(low) else (np.nan,):
            spoiled = inputs[name].copy()
            spoiled[1, step, 1] = outside
            answer = examination.trial.ask(case, {**inputs, name: spoiled})
            wrong = examination.trial.misbehaviour(case, answer)
            if wrong is not None:
                yield wrong
                return
            feels = np.zeros(answer.result.shape, bool)
            feels[1, step:, 1] = True
            yield identical(case, f"isnan(result) for {name} = {outside}", np.isnan(answer.result), feels)

    examination.examine(examine, [plain_case(examination)])
    examination.conclude()
