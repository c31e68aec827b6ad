"""linear_recurrence: h_t = a_t h_{t-1} + b_t."""

from collections.abc import Callable, Iterator

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.judge import Trial, compare_arrays, identical
from mmrec.conformance.ops import Arrays, Op, Property, Sizes
from mmrec.conformance.ops._regimes import DECAYS, Draw, normal, scaled, small_integers
from mmrec.conformance.properties import SEQUENTIAL, with_inputs
from mmrec.conformance.verdicts import Finding
from mmrec.numerics.bounds import Question
from mmrec.numerics.bounds import linear_recurrence as bound
from mmrec.numerics.judgement import Enclosure
from mmrec.reference.linear_recurrence import linear_recurrence, linear_recurrence_adjoint


def _with_inflow(draw: Draw) -> Callable[[np.random.Generator, Sizes], Arrays]:
    def build(rng: np.random.Generator, sizes: Sizes) -> Arrays:
        return {
            "a": draw(rng, sizes.shape("BTD")),
            "b": scaled(rng, sizes.shape("BTD")),
            "h0": normal(rng, sizes.shape("BD")),
        }

    return build


def _signed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Decays of both signs: terms cancel, and only a bound on all terms holds."""
    return DECAYS["long_memory"](rng, shape) * rng.choice([-1.0, 1.0], shape)


def _exact(rng: np.random.Generator, sizes: Sizes) -> Arrays:
    """a in {-1, 0, 1} and integers: every order is exact, the tolerance is 0."""
    a = rng.choice([1.0, 0.0, -1.0], sizes.shape("BTD"), p=[0.9, 0.04, 0.06])
    return {"a": a, "b": small_integers(rng, sizes.shape("BTD")), "h0": small_integers(rng, sizes.shape("BD"))}


def states_superpose(trial: Trial, case: Case) -> Iterator[Finding]:
    """On exact data the answer to the sum of two inflows is the sum of the two answers, bit for bit."""
    one, other = case.inputs(), case.inputs()
    rng = case.generator("superposition")
    other["b"], other["h0"] = small_integers(rng, one["b"].shape), small_integers(rng, one["h0"].shape)
    if case.layout == "expanded":
        other.update({name: np.broadcast_to(other[name][:1], other[name].shape) for name in ("b", "h0")})
    both = {"a": one["a"], "b": one["b"] + other["b"], "h0": one["h0"] + other["h0"]}
    answers = [trial.ask(case, inputs) for inputs in (one, other, both)]
    for answer in answers:
        wrong = trial.misbehaviour(case, answer)
        if wrong is not None:
            yield wrong
            return
    first, second, together = (answer.result for answer in answers)
    if np.max(np.abs(first) + np.abs(second), initial=0.0) <= 2.0**case.storage.precision:  # else storage rounds
        yield identical(case, "result", together, first + second)


def a_constant_decay_is_a_geometric_sum(trial: Trial, case: Case) -> Iterator[Finding]:
    """a constant, b = 1, h0 = 0: h_t = (1 - a^{t+1}) / (1 - a)."""
    a = float(case.storage.round(case.generator().uniform(0.1, 0.9)))
    inputs = with_inputs(case.inputs(), a=a, b=1.0, h0=0.0)
    answer = trial.ask(case, inputs)
    wrong = trial.misbehaviour(case, answer)
    if wrong is not None:
        yield wrong
        return
    steps = np.arange(1, case.sizes.T + 1)
    closed = np.broadcast_to(((1 - a**steps) / (1 - a))[None, :, None], answer.result.shape)
    tolerance = bound.enclose(Question(inputs, {}, case.storage))["result"].tolerance
    own_rounding = 8 * np.finfo(float).eps * np.abs(closed)  # of the closed form itself, in float64
    yield compare_arrays(case.storage, "result", answer.result, Enclosure(closed, tolerance + own_rounding))


def nothing_decays_nothing_flows(trial: Trial, case: Case) -> Iterator[Finding]:
    """a = 1 and b = 0: the initial state, bit for bit, at every step."""
    inputs = with_inputs(case.inputs(), a=1.0, b=0.0)
    yield trial.judge_exactly(case, inputs, inputs["h0"][:, None])


OP = Op(
    name="linear_recurrence",
    clauses=("MDI-1",),
    adjoint_clauses=("ADJ-4",),
    arguments={"a": "BTD", "b": "BTD", "h0": "BD"},
    reference=linear_recurrence,
    adjoint=linear_recurrence_adjoint,
    bound=bound,
    regimes={
        **{name: _with_inflow(draw) for name, draw in DECAYS.items()},
        "signed": _with_inflow(_signed),
        "exact": _exact,
    },
    properties=(
        *SEQUENTIAL,
        Property("MDI-13", "states superpose", states_superpose, ("exact",)),
        Property("MDI-14", "a constant decay is a geometric sum", a_constant_decay_is_a_geometric_sum, ("uniform",)),
        Property("STAB-9", "without decay and inflow no bit changes", nothing_decays_nothing_flows, ("uniform",)),
    ),
    carry="h0",
    domains={"a": (-1.0, 1.0)},
)
