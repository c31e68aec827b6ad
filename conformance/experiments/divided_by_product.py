"""EXP-11: a scan of the decays serves the recurrence (S1 2.1 L24-27, 4.3 L104).

``Y[t] * (h0 + sum of b[s] / Y[s])``, with Y the running product of the decays, in float32 for a decay of 1/2 and
inputs of 1, whose exact state tends to 2. Beside it a scan over pairs on the same inputs. Both are judged by the bound
of the linear recurrence.
"""

from typing import Any

import numpy as np

from mmrec.conformance.experiments._finding import finding
from mmrec.conformance.experiments.parallel_scan import then
from mmrec.numerics.bounds import Question
from mmrec.numerics.bounds import linear_recurrence as bound
from mmrec.numerics.formats import FLOAT32
from mmrec.numerics.judgement import budget
from mmrec.reference.linear_recurrence import linear_recurrence
from mmrec.reference.scan_trees import work_efficient

DECAY, INFLOW, STEPS = 0.5, 1.0, 256


def run(profile: str) -> dict[str, Any]:
    a, b = np.full((1, STEPS, 1), DECAY), np.full((1, STEPS, 1), INFLOW)
    inputs = {"a": a, "b": b, "h0": np.zeros((1, 1))}
    exact = linear_recurrence(**inputs)[0, :, 0]
    divided, pairs = divided_by_product(a[0, :, 0], b[0, :, 0]), scan_over_pairs(a[0, :, 0], b[0, :, 0])
    enclosure = bound.enclose(Question(inputs, {}, FLOAT32))["result"]
    used, used_by_pairs = (budget(x[None, :, None], enclosure, FLOAT32, FLOAT32)[0, :, 0] for x in (divided, pairs))
    broken = int(np.argmin(np.isfinite(divided))) + 1 if not np.all(np.isfinite(divided)) else 0
    statements = {f"divided by the running product it is right at every one of {STEPS} steps": np.all(used <= 1)}
    where = f"not finite from step {broken} on, where the state is {exact[broken - 1]:.6g}" if broken else "finite"
    found = (
        f"For a decay of {DECAY:g} and inputs of {INFLOW:g} in float32 the form divided by the running product is "
        f"{where}. A scan over pairs uses at most {100 * used_by_pairs.max():.0f} % of the bound over all {STEPS} "
        f"steps."
    )
    numbers = {
        "first step that is not finite": broken, "steps within the bound": int(np.count_nonzero(used <= 1)),
        "steps": STEPS, "budget of a scan over pairs": float(used_by_pairs.max()), "last state": float(exact[-1]),
    }  # fmt: skip
    return finding("EXP-11", "a scan of the decays serves the recurrence", statements, found, numbers)


def divided_by_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Y[t] * (sum of b[s] / Y[s]) in float32, from a state of 0: [steps]."""
    with np.errstate(all="ignore"):
        product = np.cumprod(a, dtype=np.float32)
        return product * np.cumsum(b.astype(np.float32) / product, dtype=np.float32)


def scan_over_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The states by the work-efficient tree over pairs (a, b) in float32: [steps]."""
    pairs = list(zip(a.astype(np.float32), b.astype(np.float32), strict=True))
    with np.errstate(under="ignore"):
        scanned, _ = work_efficient(pairs, then, (np.float32(1), np.float32(0)))
    return np.array([state for _, state in scanned])
