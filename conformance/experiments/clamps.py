"""EXP-2: clamping logarithms to [-50, 0] works (S1 4.5 L115; S2 L64, L685-686).

One source clamps each logarithm, the other may be read as clamping their sum. Both readings are evaluated in float64
for a constant decay and compared with the exact product; then the gradients that both hand to the steps.
"""

from typing import Any

import numpy as np

from mmrec.conformance.experiments._finding import finding
from mmrec.reference.log_decay_product import log_decay_product, log_decay_product_adjoint

STEPS, DECAY, SMALL_DECAY = 8192, 0.99, 1e-6
NOTHING = np.zeros((1, 1))  # the logarithm of an initial value of 1


def run(profile: str) -> dict[str, Any]:
    logs = constant_logs(DECAY)
    each, clamped_sum = clamp_each(logs), clamp_sum(logs)
    exact = STEPS * np.log(DECAY)
    last, exact_last = [float(np.exp(sums[-1])) for sums in (each, clamped_sum)], float(np.exp(exact))
    binds = first_step(clamped_sum != each)
    binds_small = first_step(clamp_sum(constant_logs(SMALL_DECAY)) != clamp_each(constant_logs(SMALL_DECAY)))
    gradients = [np.abs(gradient(logs, sums, sums is clamped_sum)) for sums in (each, clamped_sum)]
    alive = [int(np.count_nonzero(g)) for g in gradients]
    statements = {
        "the clamp on each logarithm leaves the product as it is": is_close(last[0], exact_last),
        "the clamp on each logarithm leaves every step a gradient": alive[0] == STEPS,
        "the clamp on the sum leaves the product as it is": is_close(last[1], exact_last),
        "the clamp on the sum leaves every step a gradient": alive[1] == STEPS,
    }
    found = (
        f"For a decay of {DECAY:g} and {STEPS} steps the product is {last[0]:.4g} with the clamp on each logarithm and "
        f"{last[1]:.4g} with the clamp on the sum (exact: {exact_last:.4g}); the clamp on the sum {from_step(binds)} "
        f"(for a decay of {SMALL_DECAY:g} it {from_step(binds_small)}). The last result gives {alive[0]} steps a "
        f"gradient with the first reading and {alive[1]} with the second."
    )
    numbers = {
        "product, each clamped": last[0], "product, sum clamped": last[1], "product, exact": exact_last,
        f"first step at which the clamped sum differs, decay {DECAY:g}": binds,
        f"first step at which the clamped sum differs, decay {SMALL_DECAY:g}": binds_small,
        "steps with a gradient, each clamped": alive[0], "steps with a gradient, sum clamped": alive[1],
    }  # fmt: skip
    return finding("EXP-2", "the clamp of logarithms to [-50, 0] works", statements, found, numbers)


def constant_logs(decay: float) -> np.ndarray:
    return np.full((1, STEPS, 1), np.log(decay))


def clamp_each(logs: np.ndarray) -> np.ndarray:
    """The running sum of clamped logarithms: [steps]."""
    return log_decay_product(logs, NOTHING)[0, :, 0]


def clamp_sum(logs: np.ndarray) -> np.ndarray:
    """The running sum of logarithms, clamped: [steps]."""
    return np.clip(np.cumsum(logs[0, :, 0]), -50.0, 0.0)


def gradient(logs: np.ndarray, sums: np.ndarray, of_clamped_sum: bool) -> np.ndarray:
    """The gradient of the last product for every logarithm, by the reference's adjoint: [steps]."""
    wanted = np.zeros(logs.shape)
    binds = of_clamped_sum and not -50.0 < sums[-1] < 0.0
    wanted[:, -1] = 0.0 if binds else np.exp(sums[-1])
    return log_decay_product_adjoint(logs, NOTHING, wanted)[0][0, :, 0]


def is_close(value: float, exact: float) -> bool:
    return abs(value - exact) <= 1e-9 * abs(exact)


def first_step(condition: np.ndarray) -> int:
    """The first step, counted from 1, at which the condition holds; 0 when it never does."""
    return int(np.argmax(condition)) + 1 if np.any(condition) else 0


def from_step(step: int) -> str:
    return f"binds from step {step} on" if step else "never binds"
