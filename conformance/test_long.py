"""Do the same bounds hold over 32,768 and 65,536 steps, forwards and backwards?"""

import pytest

from mmrec.conformance.cases import Case
from mmrec.conformance.ops import Sizes

LENGTHS = {"quick": (), "gate": (32768,), "full": (32768, 65536)}
STEP_BY_STEP_IN_GATE = (2048,)  # what a plain loop over steps manages within the gate's minutes without a GPU
DTYPES = ("float32", "bfloat16")  # in the gate, and of what is judged step by step; the state is float32 in both
LONG_REGIMES = ("long_memory", "mostly_one", "exact", "typical")  # where something is left after so many steps


@pytest.mark.conformance("long")
def test_long_sequences_stay_within_the_same_bound(examination):
    examination.demand("SCAN-24")
    if examination.profile.interpreted:
        examination.leave_out("32,768 steps are out of an interpreter's reach; judged on a GPU")

    def examine(case):
        inputs = case.inputs()
        yield examination.trial.judge_values(case, inputs, examination.trial.ask(case, inputs, twice=False))

    examination.examine(examine, long_cases(examination))
    examination.conclude()


@pytest.mark.conformance("long")
def test_long_gradients_stay_within_the_same_bound(examination):
    examination.demand("SCAN-24", gradients=True)
    if examination.profile.interpreted:
        examination.leave_out("32,768 steps are out of an interpreter's reach; judged on a GPU")

    def examine(case):
        inputs, g = case.inputs(), case.cotangent()
        yield examination.trial.judge_gradients(case, inputs, g, examination.trial.ask(case, inputs, g, twice=False))

    examination.examine(examine, long_cases(examination))
    examination.conclude()


def long_cases(examination):
    """Every long length in the regimes where memory reaches that far; ends the test when the profile has none."""
    profile = examination.session.config.option.mmrec_profile
    op, lengths = examination.op, LENGTHS[profile]
    if profile == "gate" and op.judged_by_defect:
        lengths = STEP_BY_STEP_IN_GATE
    if not lengths or ((profile == "gate" or op.judged_by_defect) and examination.dtype not in DTYPES):
        examination.leave_out(f"not part of the {profile} profile in {examination.dtype}")
    options = op.default_options
    return [
        Case(op.name, examination.dtype, regime, Sizes(1, steps, 2), steps, "contiguous", options)
        for steps in lengths
        for regime in LONG_REGIMES
        if regime in op.regimes
    ]
