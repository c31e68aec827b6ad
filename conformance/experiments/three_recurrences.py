"""EXP-10: there is one core formula, with one implementation of it (S1 4.1 L83, 4.3 L101; S3 1 L17-28).

The three recurrences of the sources on common inputs (a = gamma, b = z, gate logits from the state alone), the
stabilized one also with norm "none" and no clip, and the recurrence whose gate is read from the input, which a scan
can compute. Two of them are the same function if they differ by no more than both bounds together. They are compared
at the first step, where a bound on one step is a bound on the result; the largest later difference is recorded.
"""

from itertools import combinations
from typing import Any

import numpy as np

from mmrec.conformance.experiments._finding import finding
from mmrec.numerics.bounds import Question
from mmrec.numerics.bounds import gated_recurrence as gated_bound
from mmrec.numerics.bounds import linear_recurrence as linear_bound
from mmrec.numerics.bounds import stabilized_recurrence as stabilized_bound
from mmrec.numerics.formats import FLOAT32
from mmrec.reference.gated_recurrence import gated_recurrence
from mmrec.reference.linear_recurrence import linear_recurrence
from mmrec.reference.numbers import sigmoid
from mmrec.reference.stabilized_recurrence import stabilized_recurrence

ROWS, STEPS, CHANNELS = 4, 32, 8
NO_CLIP = 1e30


def run(profile: str) -> dict[str, Any]:
    results = recurrences(steps=2048 if profile == "full" else STEPS)
    apart, used = {}, {}
    for (one, (first, first_bound)), (other, (second, second_bound)) in combinations(results.items(), 2):
        pair, difference = f"{one} and {other}", np.abs(first - second)
        apart[pair] = float(difference.max())
        used[pair] = float(np.max(difference[:, 0] / (first_bound + second_bound)[:, 0]))
    statements = {f"{pair} are one function": share <= 1 for pair, share in used.items()}
    closest = min(used, key=lambda pair: used[pair])
    found = (
        f"{sum(statements.values())} of {len(used)} pairs agree within their bounds. The closest pair, {closest}, "
        f"differs by {used[closest]:.2g} times both bounds at the first step, and by up to {apart[closest]:.2g} later."
    )
    numbers = {"difference over bound at the first step": used, "largest difference": apart}
    return finding("EXP-10", "there is one core formula, with one implementation of it", statements, found, numbers)


def recurrences(steps: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (result, bound) of every recurrence on the same inputs."""
    rng = np.random.default_rng(0)
    z, gamma = rng.standard_normal((ROWS, steps, CHANNELS)), rng.uniform(0, 0.95, (ROWS, steps, CHANNELS))
    W, b = rng.standard_normal((CHANNELS, CHANNELS)) / 2, rng.standard_normal(CHANNELS)
    h0 = rng.standard_normal((ROWS, CHANNELS))
    z, gamma, W, b, h0 = (FLOAT32.round(x) for x in (z, gamma, W, b, h0))
    norm = {"norm_weight": np.ones(CHANNELS), "norm_bias": np.zeros(CHANNELS)}
    linear = {"a": gamma, "b": z, "h0": h0}
    gated = {"z": z, "gamma": gamma, "W_g": W, "b_g": b, "h0": h0}
    stabilized = {"z": z, "gate_z": 0 * z, "gamma": gamma, "W_h": W, "b_h": b, **norm, "h0": h0}
    from_input = {"a": gamma, "b": z * sigmoid(z @ W.T + b), "h0": h0}
    plain = {"norm": "none", "clip": NO_CLIP}
    return {
        "linear": with_bound(linear_recurrence, linear_bound, linear),
        "gated": with_bound(gated_recurrence, gated_bound, gated),
        "stabilized": with_bound(stabilized_recurrence, stabilized_bound, stabilized),
        "stabilized without norm and clip": with_bound(stabilized_recurrence, stabilized_bound, stabilized, **plain),
        "gated by the input": with_bound(linear_recurrence, linear_bound, from_input),
    }


def with_bound(
    function: Any, bound: Any, inputs: dict[str, np.ndarray], **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The op's result in float64 and the bound of an evaluation in float32."""
    result = function(**inputs, **options)
    return result, bound.enclose(Question(inputs, options, FLOAT32, result))["result"].tolerance
