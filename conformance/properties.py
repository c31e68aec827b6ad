"""Properties that every op of a kind owes, beside its values: time, rows, splits.

Each is a generator ``(trial, case)`` of findings. It puts questions of its own to the subject, with some inputs
replaced by NaN or cut in two, and judges the part of the answer that must not feel it.
"""

from collections.abc import Iterator

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.judge import Trial, compare_arrays
from mmrec.conformance.ops import Arrays, Property
from mmrec.conformance.verdicts import Finding
from mmrec.numerics.bounds import Question
from mmrec.numerics.formats import FLOAT64, arithmetic_of
from mmrec.numerics.judgement import Enclosure


def the_future_is_not_felt(trial: Trial, case: Case) -> Iterator[Finding]:
    """NaN in every input from step s on; the steps before s must conform as if nothing had happened."""
    case = case.with_sizes(T=max(case.sizes.T, 2))
    inputs, cut = case.inputs(), case.sizes.T // 2
    spoiled = {name: x.copy() for name, x in inputs.items()}
    for name in trial.op.per_step:
        spoiled[name][:, cut:] = np.nan
    answer = trial.ask(case, spoiled)
    yield trial.judge_values(case, inputs, answer, np.s_[:, :cut])


def rows_never_mix(trial: Trial, case: Case) -> Iterator[Finding]:
    """NaN in one row of the batch, the other rows reversed in order: each must conform to its own reference."""
    case = case.with_sizes(B=3)
    inputs = case.inputs()
    batched = [name for name, letters in trial.op.arguments.items() if letters.startswith("B")]
    reordered = {name: x[::-1].copy() if name in batched else x for name, x in inputs.items()}
    spoiled = {name: x.copy() for name, x in reordered.items()}
    for name in batched:
        spoiled[name][1] = np.nan
    answer = trial.ask(case, spoiled)
    for row in (0, 2):
        yield trial.judge_values(case, reordered, answer, np.s_[row])


def a_split_stream_equals_one_call(trial: Trial, case: Case) -> Iterator[Finding]:
    """Two calls, the second carrying the first one's last state: each conforms, and together they are one call.

    A narrow format rounds the state that is carried over; there the second call is judged from the rounded state.
    """
    case = case.with_sizes(T=max(case.sizes.T, 2))
    inputs, steps = case.inputs(), case.sizes.T
    for cut in sorted({1, steps // 2, steps - 1}):
        head, tail = ({name: x[:, part] if name in trial.op.per_step else x for name, x in inputs.items()}
                      for part in (slice(None, cut), slice(cut, None)))  # fmt: skip
        first = trial.ask(case, head)
        finding = trial.judge_values(case.with_sizes(T=cut), head, first)
        yield finding
        if not finding.conforms:
            return
        tail[trial.op.carry] = first.result[:, -1]
        second = trial.ask(case, tail)
        finding = trial.judge_values(case.with_sizes(T=steps - cut), tail, second)
        yield finding
        if finding.conforms and case.storage is arithmetic_of(case.storage):
            second.result = np.concatenate([first.result, second.result], axis=1)
            yield trial.judge_values(case, inputs, second)


def states_stay_near_the_exact_trajectory(trial: Trial, case: Case) -> Iterator[Finding]:
    """Up to its horizon every state lies within the propagated bound of the exact trajectory; beyond, only the defect speaks.

    The defect forgives a narrow format half a gap of its state at every step, since no more of it is seen; this bound,
    which starts from h0, forgives the one rounding of what is shown.
    """
    enough = 17 if case.sizes.T < 33 else 33  # steps for an error to travel, few enough for products of Jacobians
    case = case.with_sizes(T=enough, D=min(max(case.sizes.D, 2), 4))
    inputs = case.inputs()
    answer = trial.ask(case, inputs)
    wrong = trial.misbehaviour(case, answer)
    if wrong is not None:
        yield wrong
        return
    exact = trial.op.bound.enclose_trajectory(Question(inputs, dict(case.options), case.storage)).enclosure
    within = np.isfinite(exact.tolerance)  # the horizon of each row
    tolerance = exact.tolerance * (2 if case.storage is FLOAT64 else 1)  # the reference's own trajectory errs as much
    output = np.where(within, answer.result, exact.value)
    yield compare_arrays(case.storage, "result", output, Enclosure(exact.value, tolerance))


SEQUENTIAL = (
    Property("CONV-12", "no step feels what follows it", the_future_is_not_felt),
    Property("CONV-11", "rows of a batch never mix", rows_never_mix),
    Property("CONV-13", "a stream may be split anywhere, down to single steps", a_split_stream_equals_one_call),
)
NEAR_THE_EXACT_TRAJECTORY = Property(
    "NUM-6", "states stay near the exact trajectory", states_stay_near_the_exact_trajectory
)


def with_inputs(inputs: Arrays, **replaced: np.ndarray | float) -> Arrays:
    """The inputs with some arrays replaced, numbers spread over the array's shape."""
    return {
        name: np.broadcast_to(replaced[name], x.shape).copy() if name in replaced else x for name, x in inputs.items()
    }
