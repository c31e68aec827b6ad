"""gated_recurrence (REC-D): h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1}."""

from collections.abc import Iterator

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.judge import Trial, compare_arrays, identical
from mmrec.conformance.ops import Arrays, Op, Property, Sizes
from mmrec.conformance.ops._regimes import gate_weights, normal, recurrence_regimes, small_integers
from mmrec.conformance.properties import NEAR_THE_EXACT_TRAJECTORY, SEQUENTIAL, with_inputs
from mmrec.conformance.verdicts import Finding, Verdict
from mmrec.numerics.bounds import Question
from mmrec.numerics.bounds import decay_product_exact as product_bound
from mmrec.numerics.bounds import gated_recurrence as bound
from mmrec.numerics.judgement import Enclosure
from mmrec.reference.decay_product_exact import decay_product_exact
from mmrec.reference.gated_recurrence import gated_recurrence, gated_recurrence_adjoint


def _arrays(
    rng: np.random.Generator, sizes: Sizes, gamma: np.ndarray, weight_scale: float, input_scale: float
) -> Arrays:
    return {
        "z": input_scale * normal(rng, sizes.shape("BTD")),
        "gamma": gamma,
        "W_g": gate_weights(rng, sizes, weight_scale),
        "b_g": 0.5 * normal(rng, sizes.shape("D")) * (weight_scale > 0),
        "h0": normal(rng, sizes.shape("BD")),
    }


def without_input_the_state_decays(trial: Trial, case: Case) -> Iterator[Finding]:
    """z = 0: the state is the decay product of its initial value, whatever the gate does."""
    inputs = with_inputs(case.inputs(), z=0.0)
    answer = trial.ask(case, inputs)
    wrong = trial.misbehaviour(case, answer)
    if wrong is not None:
        yield wrong
        return
    decay = {"gamma": inputs["gamma"], "initial": inputs["h0"]}
    tolerance = product_bound.enclose(Question(decay, {}, case.storage))["result"].tolerance
    value = decay_product_exact(**decay)
    yield compare_arrays(case.storage, "result", answer.result, Enclosure(value, tolerance))


def an_unweighted_gate_is_half_open(trial: Trial, case: Case) -> Iterator[Finding]:
    """W_g = 0 and b_g = 0 on exact data: h_t = z_t / 2 + gamma_t h_{t-1}, bit for bit."""
    rng, shape = case.generator("half"), case.sizes.shape("BTD")
    z, gamma = 2 * small_integers(rng, shape), rng.integers(0, 2, shape).astype(float)
    h0 = small_integers(rng, case.sizes.shape("BD"))
    if case.layout == "expanded":
        z, gamma, h0 = (np.broadcast_to(x[:1], x.shape).copy() for x in (z, gamma, h0))
    inputs = {**with_inputs(case.inputs(), W_g=0.0, b_g=0.0), "z": z, "gamma": gamma, "h0": h0}
    answer = trial.ask(case, inputs)
    wrong = trial.misbehaviour(case, answer)
    expected, h = np.empty(shape), h0
    for t in range(case.sizes.T):
        h = z[:, t] / 2 + gamma[:, t] * h
        expected[:, t] = h
    if wrong is not None or np.max(np.abs(expected), initial=0.0) <= 2.0**case.storage.precision:
        yield wrong or identical(case, "result", answer.result, expected)


def the_state_stays_bounded(trial: Trial, case: Case) -> Iterator[Finding]:
    """|h| <= max(max |z| / (1 - max gamma), |h0|), for every weight; roundings enlarge it by (1 + u)^4 a step."""
    inputs = case.inputs()
    inputs["gamma"] = np.minimum(inputs["gamma"], 1 - 2.0**-6)
    answer = trial.ask(case, inputs)
    wrong = trial.misbehaviour(case, answer)
    if wrong is not None:
        yield wrong
        return
    most_kept = float(np.max(inputs["gamma"]))
    limit = max(float(np.max(np.abs(inputs["z"]))) / (1 - most_kept), float(np.max(np.abs(inputs["h0"]))))
    slack = 8 * max(case.storage.unit, 2.0**-24) / (1 - most_kept)
    reached = float(np.max(np.abs(answer.result)))
    finding = Finding(Verdict.CONFORMS, reached / (limit * (1 + slack)) if limit else reached, case=str(case),
                      where="result", got=reached, expected=limit, tolerance=limit * slack)  # fmt: skip
    if not finding.budget <= 1:
        finding.verdict = Verdict.OUT_OF_BOUND
        finding.message = f"the state reaches {reached:.9g}, but max |z| / (1 - max gamma) = {limit:.9g} bounds it"
    finding.budget = finding.budget if finding.budget > 1 else 0.0  # a relation, not a share of rounding
    yield finding


OP = Op(
    name="gated_recurrence",
    clauses=("REC-1", "REC-3", "REC-5"),
    adjoint_clauses=("ADJ-5",),
    arguments={"z": "BTD", "gamma": "BTD", "W_g": "DD", "b_g": "D", "h0": "BD"},
    reference=gated_recurrence,
    adjoint=gated_recurrence_adjoint,
    bound=bound,
    regimes=recurrence_regimes(_arrays),
    properties=(
        *SEQUENTIAL,
        Property("REC-6", "without input the state only decays", without_input_the_state_decays),
        Property(
            "REC-7", "an unweighted gate is exactly half open", an_unweighted_gate_is_half_open, ("no_gate_weight",)
        ),
        Property("REC-22", "the state stays bounded", the_state_stays_bounded),
        NEAR_THE_EXACT_TRAJECTORY,
    ),
    carry="h0",
    judged_by_defect=True,
    domains={"gamma": (0.0, 1.0)},
)
