"""stabilized_recurrence (REC-J): convex mix, decay, norm and clip inside the loop."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.judge import Trial, compare_arrays
from mmrec.conformance.ops import Arrays, Op, Property, Sizes
from mmrec.conformance.ops._regimes import gate_weights, normal, recurrence_regimes
from mmrec.conformance.properties import NEAR_THE_EXACT_TRAJECTORY, SEQUENTIAL, with_inputs
from mmrec.conformance.verdicts import Finding, Verdict
from mmrec.numerics.bounds import stabilized_recurrence as bound
from mmrec.numerics.error_model import model_for
from mmrec.numerics.judgement import Enclosure
from mmrec.reference.stabilized_recurrence import stabilized_recurrence, stabilized_recurrence_adjoint


def _arrays(
    rng: np.random.Generator, sizes: Sizes, gamma: np.ndarray, weight_scale: float, input_scale: float
) -> Arrays:
    return {
        "z": input_scale * normal(rng, sizes.shape("BTD")),
        "gate_z": normal(rng, sizes.shape("BTD")),
        "gamma": gamma,
        "W_h": gate_weights(rng, sizes, weight_scale),
        "b_h": 0.5 * normal(rng, sizes.shape("D")) * (weight_scale > 0),
        "norm_weight": 1 + 0.3 * normal(rng, sizes.shape("D")),
        "norm_bias": 0.3 * normal(rng, sizes.shape("D")),
        "h0": normal(rng, sizes.shape("BD")),
    }


def the_state_never_leaves_the_clip(trial: Trial, case: Case) -> Iterator[Finding]:
    """|h| <= clip for inputs of any size."""
    inputs = case.inputs()
    inputs["z"] = case.storage.round(inputs["z"] * 1000)
    answer = trial.ask(case, inputs)
    finding = trial.misbehaviour(case, answer)
    if finding is None:
        limit = dict(case.options)["clip"]
        finding = Finding(Verdict.CONFORMS, case=str(case), where="result")
        reached = float(np.max(np.abs(answer.result)))
        if not reached <= limit:
            finding.verdict, finding.budget = Verdict.OUT_OF_BOUND, np.inf
            finding.message = f"the state reaches {reached:.9g}, outside the clip {limit:g}"
    yield finding


def a_shut_or_open_gate_is_exact(trial: Trial, case: Case) -> Iterator[Finding]:
    """Logits of -8192 keep the state, +8192 take the input, bit for bit (gamma = 0, no norm)."""
    plain = Case(
        case.op,
        case.dtype,
        case.regime,
        case.sizes,
        case.seed,
        case.layout,
        (("norm", "none"), ("eps", 1e-6), ("clip", 100.0)),
    )
    for logit in (-8192.0, 8192.0):
        inputs = with_inputs(case.inputs(), gate_z=logit, gamma=0.0)
        kept = inputs["h0"][:, None] if logit < 0 else inputs["z"]
        yield trial.judge_exactly(plain, inputs, kept)


def the_state_is_wider_than_its_storage(trial: Trial, case: Case) -> Iterator[Finding]:
    """A shut gate, no norm, and a growth of a quarter of the storage's unit a step: h_t = h0 (1 + gamma)^(t+1).

    A state that is rounded to a narrow storage format at every step never grows. Two roundings a step are allowed.
    """
    slow = case.storage.unit / 4
    plain = replace(case.with_sizes(T=65), options=(("norm", "none"), ("eps", 1e-6), ("clip", 100.0)))
    inputs = with_inputs(plain.inputs(), z=0.0, gate_z=-8192.0, gamma=slow)
    answer = trial.ask(plain, inputs)
    wrong = trial.misbehaviour(plain, answer)
    if wrong is not None:
        yield wrong
        return
    steps = np.arange(1, plain.sizes.T + 1)[:, None]
    grown = inputs["h0"][:, None] * np.exp(steps * np.log1p(slow))
    of_the_closed_form = 16 * np.finfo(float).eps  # exp, log1p and two products in float64
    tolerance = np.abs(grown) * (model_for(case.storage).gamma(2 * steps) + of_the_closed_form)
    yield compare_arrays(case.storage, "result", answer.result, Enclosure(grown, tolerance))


OP = Op(
    name="stabilized_recurrence",
    clauses=("REC-10", "REC-11", "REC-12", "REC-13", "REC-14", "REC-15", "REC-16"),
    adjoint_clauses=("ADJ-6", "ADJ-8"),
    arguments={
        "z": "BTD",
        "gate_z": "BTD",
        "gamma": "BTD",
        "W_h": "DD",
        "b_h": "D",
        "norm_weight": "D",
        "norm_bias": "D",
        "h0": "BD",
    },
    reference=stabilized_recurrence,
    adjoint=stabilized_recurrence_adjoint,
    bound=bound,
    regimes=recurrence_regimes(_arrays),
    options={"norm": ("rms", "layer", "none"), "eps": (1e-6, 1e-3), "clip": (100.0, 1.5)},
    properties=(
        *SEQUENTIAL,
        Property("REC-15", "the state never leaves the clip", the_state_never_leaves_the_clip),
        Property("CONV-3", "a state is wider than storage", the_state_is_wider_than_its_storage, ("no_gate_weight",)),
        Property("REC-19", "a shut or open gate is exact", a_shut_or_open_gate_is_exact, ("no_gate_weight",)),
        NEAR_THE_EXACT_TRAJECTORY,
    ),
    carry="h0",
    judged_by_defect=True,
    domains={"gamma": (0.0, 1.0)},
)
