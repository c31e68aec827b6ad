"""decay_product_exact: the decay product without a floor."""

from collections.abc import Iterator

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.judge import Trial
from mmrec.conformance.ops import Op, Property
from mmrec.conformance.ops._regimes import product_regimes
from mmrec.conformance.ops.decay_product import PRODUCT_PROPERTIES
from mmrec.conformance.verdicts import Finding
from mmrec.numerics.bounds import decay_product_exact as bound
from mmrec.reference.decay_product_exact import decay_product_exact, decay_product_exact_adjoint


def a_zero_forgets_for_ever(trial: Trial, case: Case) -> Iterator[Finding]:
    """gamma = 0 at one step: exactly 0 from there on, whatever follows."""
    inputs, cut = case.inputs(), case.sizes.T // 2
    inputs["gamma"] = inputs["gamma"].copy()
    inputs["gamma"][:, cut] = 0.0
    yield trial.judge_exactly(case, inputs, np.zeros(()), np.s_[:, cut:])


OP = Op(
    name="decay_product_exact",
    clauses=("STAB-8",),
    adjoint_clauses=("ADJ-2",),
    arguments={"gamma": "BTD", "initial": "BD"},
    reference=decay_product_exact,
    adjoint=decay_product_exact_adjoint,
    bound=bound,
    regimes=product_regimes("gamma"),
    properties=(*PRODUCT_PROPERTIES, Property("STAB-8", "a decay of 0 forgets for ever", a_zero_forgets_for_ever)),
    carry="initial",
    domains={"gamma": (0.0, 1.0)},
)
