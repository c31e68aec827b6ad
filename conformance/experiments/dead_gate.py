"""EXP-7: 26 of 32 parameters receive gradients, W_g and its bias do not, and the core formula is correct (S2 L223-237).

The gradients of the gated recurrence for W_g and b_g, for one step from h0 = 0 and for several; then the same
recurrence with its gate bypassed, whose dependence on W_g and b_g is measured by differences. This is shown on the
op; the count of 32 parameters, W_q and W_v belong to the block, which is not in these chapters.
"""

from typing import Any

import numpy as np

from mmrec.conformance.experiments._finding import finding
from mmrec.reference.gated_recurrence import gated_recurrence, gated_recurrence_adjoint
from mmrec.reference.linear_recurrence import linear_recurrence

CHANNELS, STEP = 4, 2.0**-10  # STEP: how far a weight is moved to see whether the result depends on it


def run(profile: str) -> dict[str, Any]:
    lengths = (2, 5, 64, 1024) if profile == "full" else (2, 5, 64)
    smallest = {steps: smallest_gradients(steps) for steps in lengths}
    one_step = largest_gradients(1)
    bypassed, gated = dependence(bypass), dependence(gated_recurrence)
    statements = {
        "with two steps or more W_g can be without gradient": any(weight == 0 for weight, _ in smallest.values()),
        "with two steps or more b_g can be without gradient": any(bias == 0 for _, bias in smallest.values()),
        "with one step from h0 = 0 both are without gradient": one_step == (0.0, 0.0),
        "a result that does not depend on W_g can be the gated recurrence's": bypassed == gated,
    }
    least = min(min(pair) for pair in smallest.values())
    found = (
        f"With {', '.join(map(str, lengths))} steps the smallest gradient of an element of W_g or b_g is {least:.2g}; "
        f"with one step and h0 = 0 the largest is {one_step[0]:.2g} for W_g and {one_step[1]:.2g} for b_g. Moving "
        f"W_g and b_g by {STEP:.2g} changes the result by {gated:.2g}, and by {bypassed:.2g} where the gate is "
        f"bypassed."
    )
    numbers = {
        **{f"smallest gradient, {t} steps": {"W_g": pair[0], "b_g": pair[1]} for t, pair in smallest.items()},
        "largest gradient, 1 step from 0": {"W_g": one_step[0], "b_g": one_step[1]},
        "change of the result, gated": gated, "change of the result, gate bypassed": bypassed,
    }  # fmt: skip
    claim = "W_g and its bias receive no gradient while the core formula is correct"
    return finding("EXP-7", claim, statements, found, numbers)


def inputs(steps: int, from_zero: bool = False) -> list[np.ndarray]:
    """z, gamma, W_g, b_g, h0 of general position."""
    rng = np.random.default_rng(steps)
    per_step = (1, steps, CHANNELS)
    h0 = rng.standard_normal((1, CHANNELS)) * (not from_zero)
    return [rng.standard_normal(per_step), rng.uniform(0.5, 1, per_step),
            rng.standard_normal((CHANNELS, CHANNELS)) / 2, rng.standard_normal(CHANNELS), h0]  # fmt: skip


def gate_gradients(steps: int, from_zero: bool) -> tuple[np.ndarray, np.ndarray]:
    """The magnitudes of the gradients for W_g and b_g of a general loss."""
    g = np.random.default_rng(1000 + steps).standard_normal((1, steps, CHANNELS))
    z, gamma, W_g, b_g, h0 = inputs(steps, from_zero)
    gradients = gated_recurrence_adjoint(z, gamma, W_g, b_g, h0, g)
    return np.abs(gradients[2]), np.abs(gradients[3])


def smallest_gradients(steps: int) -> tuple[float, float]:
    weight, bias = gate_gradients(steps, from_zero=True)
    return float(weight.min()), float(bias.min())


def largest_gradients(steps: int) -> tuple[float, float]:
    weight, bias = gate_gradients(steps, from_zero=True)
    return float(weight.max()), float(bias.max())


def bypass(z: np.ndarray, gamma: np.ndarray, W_g: np.ndarray, b_g: np.ndarray, h0: np.ndarray) -> np.ndarray:
    """The gated recurrence with its gate left out: the input enters whole."""
    return linear_recurrence(gamma, z, h0)


def dependence(recurrence: Any) -> float:
    """The largest change of the result when every element of W_g and b_g is moved by STEP."""
    z, gamma, W_g, b_g, h0 = inputs(5)
    moved = recurrence(z, gamma, W_g + STEP, b_g + STEP, h0)
    return float(np.max(np.abs(moved - recurrence(z, gamma, W_g, b_g, h0))))
