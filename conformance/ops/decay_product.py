"""decay_product: y_t = initial * product of floored decays."""

from collections.abc import Iterator

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.judge import Trial
from mmrec.conformance.ops import Op, Property
from mmrec.conformance.ops._regimes import product_regimes
from mmrec.conformance.properties import SEQUENTIAL, with_inputs
from mmrec.conformance.verdicts import Finding, Verdict
from mmrec.numerics.bounds import Question
from mmrec.numerics.bounds import decay_product as bound
from mmrec.reference.decay_product import decay_product, decay_product_adjoint


def a_decay_of_one_changes_no_bit(trial: Trial, case: Case) -> Iterator[Finding]:
    """gamma = 1 everywhere: the initial value, bit for bit, at every step."""
    inputs = with_inputs(case.inputs(), gamma=1.0)
    yield trial.judge_exactly(case, inputs, inputs["initial"][:, None])


def products_never_grow(trial: Trial, case: Case) -> Iterator[Finding]:
    """|y_t| <= |y_{t-1}| up to the two tolerances and the rounding to storage."""
    inputs = case.inputs()
    answer = trial.ask(case, inputs)
    wrong = trial.misbehaviour(case, answer)
    if wrong is not None:
        yield wrong
        return
    question = Question(inputs, {}, case.storage, answer.result, declares=trial.declares)
    tolerance = trial.op.bound.enclose(question)["result"].tolerance
    size = np.abs(answer.result)
    stored = case.storage.unit * size + case.storage.smallest
    growth = size[:, 1:] - size[:, :-1]
    allowed = (tolerance + stored)[:, 1:] + (tolerance + stored)[:, :-1]
    finding = Finding(Verdict.CONFORMS, case=str(case), where="result", steps=case.sizes.T)
    if growth.size:
        finding.budget = float(np.max(np.where(np.isnan(growth), np.inf, np.maximum(growth, 0)) / allowed))
    if finding.budget > 1:
        index = [int(i) for i in np.unravel_index(int(np.argmax(growth / allowed)), growth.shape)]
        finding.verdict = Verdict.OUT_OF_BOUND
        finding.message = (
            f"the product grows from step {index[1]} to {index[1] + 1} (row {index[0]}, channel {index[2]})"
        )
    yield finding


PRODUCT_PROPERTIES = (
    *SEQUENTIAL,
    Property("STAB-9", "a decay of 1 changes no bit over any length", a_decay_of_one_changes_no_bit, ("uniform",)),
    Property("SCAN-28", "products of decays never grow", products_never_grow),
)

OP = Op(
    name="decay_product",
    clauses=("SCAN-2", "STAB-3"),
    adjoint_clauses=("ADJ-1", "ADJ-8"),
    arguments={"gamma": "BTD", "initial": "BD"},
    reference=decay_product,
    adjoint=decay_product_adjoint,
    bound=bound,
    regimes=product_regimes("gamma"),
    properties=PRODUCT_PROPERTIES,
    carry="initial",
    domains={"gamma": (0.0, 1.0)},
)
