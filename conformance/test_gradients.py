"""Is the gradient of every argument within its derived bound, element by element?"""

import pytest

from mmrec.conformance.oracle import certify


@pytest.mark.conformance("gradients")
def test_every_gradient_is_within_its_bound(examination):
    examination.demand(*examination.op.adjoint_clauses, gradients=True)

    def examine(case):
        inputs, g = case.inputs(), case.cotangent()
        certify(case, inputs, gradients=True)
        answer = examination.trial.ask(case, inputs, g)
        yield examination.trial.judge_gradients(case, inputs, g, answer)

    examination.explore(examine, examination.effort.gradients)
    examination.conclude()
