"""decay_gate: the decay of every channel from the input and its context."""

from collections.abc import Callable, Iterator

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.judge import Trial, identical
from mmrec.conformance.ops import Arrays, Op, Property, Sizes
from mmrec.conformance.ops._regimes import normal
from mmrec.conformance.properties import rows_never_mix, the_future_is_not_felt, with_inputs
from mmrec.conformance.verdicts import Finding, Verdict
from mmrec.numerics.bounds import decay_gate as bound
from mmrec.reference.decay_gate import decay_gate, decay_gate_adjoint

SHAPES = {
    "z": "BTD", "k": "BTD", "base_w1": "ED", "base_b1": "E", "base_w2": "DE", "base_b2": "D",
    "context_w1": "ED", "context_b1": "E", "context_w2": "DE", "context_b2": "D",
}  # fmt: skip


def _pathways(input_scale: float, weight_scale: float, bias: float) -> Callable[[np.random.Generator, Sizes], Arrays]:
    """Normal inputs and weights of that scale; ``bias`` on the last layers moves the gates."""

    def build(rng: np.random.Generator, sizes: Sizes) -> Arrays:
        arrays = {}
        for name, letters in SHAPES.items():
            fan_in = sizes.shape(letters)[-1] if len(letters) == 2 else 1
            scale = input_scale if letters == "BTD" else weight_scale / np.sqrt(fan_in)
            arrays[name] = scale * normal(rng, sizes.shape(letters))
        arrays["base_b2"] = arrays["base_b2"] + bias
        arrays["context_b2"] = arrays["context_b2"] + bias
        return arrays

    return build


def decays_stay_in_range(trial: Trial, case: Case) -> Iterator[Finding]:
    """1e-6 <= gamma <= 1 - 1e-6, up to the rounding of the limits and of the storage."""
    inputs = case.inputs()
    answer = trial.ask(case, inputs)
    wrong = trial.misbehaviour(case, answer)
    if wrong is not None:
        yield wrong
        return
    low, high = case.storage.round(np.asarray([1e-6 * (1 - 2.0**-22), (1 - 1e-6) + 2.0**-23]))
    outside = ~((answer.result >= low) & (answer.result <= high))
    finding = Finding(Verdict.CONFORMS, case=str(case), where="result")
    if np.any(outside):
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        finding.verdict, finding.budget = Verdict.OUT_OF_BOUND, np.inf
        finding.message = f"result{list(index)} is {answer.result[index]:.9g}, outside [1e-6, 1 - 1e-6]"
    yield finding


def the_two_pathways_are_apart(trial: Trial, case: Case) -> Iterator[Finding]:
    """With one pathway's last weights 0 its input cannot be felt: other values of it change no bit."""
    inputs, rng = case.inputs(), case.generator("pathways")
    for weight, unfelt in (("context_w2", "k"), ("base_w2", "z")):
        shut = with_inputs(inputs, **{weight: 0.0})
        other = {**shut, unfelt: case.storage.round(normal(rng, inputs[unfelt].shape))}
        if case.layout == "expanded":
            other[unfelt] = np.broadcast_to(other[unfelt][:1], other[unfelt].shape)
        first, second = trial.ask(case, shut), trial.ask(case, other)
        wrong = trial.misbehaviour(case, first) or trial.misbehaviour(case, second)
        yield wrong or identical(case, f"result with another {unfelt}", second.result, first.result)


OP = Op(
    name="decay_gate",
    clauses=("GAMMA-1", "GAMMA-2", "GAMMA-3", "GAMMA-4", "GAMMA-5", "GAMMA-6"),
    adjoint_clauses=("ADJ-7", "ADJ-8"),
    arguments=SHAPES,
    reference=decay_gate,
    adjoint=decay_gate_adjoint,
    bound=bound,
    regimes={
        "typical": _pathways(1.0, 1.0, 0.0),
        "wide_logits": _pathways(3.0, 4.0, 0.0),
        "nearly_shut": _pathways(1.0, 1.0, -9.0),
        "nearly_open": _pathways(1.0, 1.0, 17.0),
        "small_inputs": _pathways(1e-3, 1.0, 0.0),
    },
    options={"gelu": ("tanh", "erf")},
    properties=(
        Property("CONV-12", "no step feels what follows it", the_future_is_not_felt),
        Property("CONV-11", "rows of a batch never mix", rows_never_mix),
        Property("GAMMA-7", "decays stay within [1e-6, 1 - 1e-6]", decays_stay_in_range),
        Property("GAMMA-9", "the two pathways are apart", the_two_pathways_are_apart),
    ),
)
