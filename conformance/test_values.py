"""Is every value within its derived bound? Every regime, every block edge, every memory layout."""

import pytest

from mmrec.conformance.cases import LAYOUTS, PLAIN_SHAPE, Case
from mmrec.conformance.oracle import certify


@pytest.mark.conformance("values")
def test_every_value_is_within_its_bound(examination):
    examination.demand(*examination.op.clauses)

    def examine(case):
        inputs = case.inputs()
        certify(case, inputs, gradients=False)
        answer = examination.trial.ask(case, inputs)
        yield examination.trial.judge_values(case, inputs, answer)

    examination.explore(examine, examination.effort.values)
    examination.conclude()


@pytest.mark.conformance("values")
def test_memory_layout_does_not_matter(examination):
    examination.demand("CONV-6")

    def examine(case):
        inputs = case.inputs()
        yield examination.trial.judge_values(case, inputs, examination.trial.ask(case, inputs))

    regime = next(iter(examination.op.regimes))
    examination.examine(examine, layouts_of(examination.op, examination.dtype, regime))
    examination.conclude()


def layouts_of(op, dtype, regime):
    """One case in every layout, values and sizes the same."""
    options = op.default_options
    return [Case(op.name, dtype, regime, PLAIN_SHAPE, 1, layout, options) for layout in LAYOUTS]
