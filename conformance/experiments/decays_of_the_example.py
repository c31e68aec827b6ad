"""EXP-6: the example with decays uniform on (0,1) and 32,768 steps shows the stable scan at work (S2 Ex.1 L598-613).

The steps are counted at which the product of such decays is still there: not below the floor e^-50 of one step, not
below float32's normal numbers, not 0 in float32. The same count for decays whose distance from 1 is of order 1 / T.
"""

from typing import Any

import numpy as np

from mmrec.conformance.experiments._finding import finding
from mmrec.numerics.formats import FLOAT32
from mmrec.reference.log_decay_product import log_decay_product

STEPS = 32768


def run(profile: str) -> dict[str, Any]:
    rows = 64 if profile == "full" else 8
    rng = np.random.default_rng(0)
    uniform = log_products(example_decays(rng, rows))
    slow = log_products(1 - rng.random((rows, STEPS)) / STEPS)
    gone, gone_slow = gone_share(uniform, -50.0), gone_share(slow, -50.0)
    last = float(np.mean(np.argmax(uniform < -50.0, axis=1) + 1)) if gone else float(STEPS)
    statements = {"at half of the steps or more the product is at least e^-50": gone <= 0.5}
    found = (
        f"At {100 * gone:.2f} % of the steps the product is below e^-50, on average from step {last:.0f} on; for "
        f"decays with 1 - gamma of order 1 / T it is so at {100 * gone_slow:.2f} %."
    )
    numbers = {
        "share below e^-50": gone, "share in underflow of float32": gone_share(uniform, np.log(FLOAT32.tiny)),
        "share 0 in float32": gone_share(uniform, np.log(FLOAT32.smallest / 2)), "mean first step below e^-50": last,
        "share below e^-50, slow decays": gone_slow, "steps": STEPS, "rows": rows,
    }  # fmt: skip
    return finding("EXP-6", "the example with decays uniform on (0,1) and 32,768 steps shows the stable scan at work",
                   statements, found, numbers)  # fmt: skip


def example_decays(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.random((rows, STEPS))


def log_products(decays: np.ndarray) -> np.ndarray:
    """The logarithm of the product after every step: [rows, steps]."""
    logs = np.log(np.maximum(decays, 2.0**-53))
    return log_decay_product(logs[..., None], np.zeros((len(decays), 1)))[..., 0]


def gone_share(logs: np.ndarray, limit: float) -> float:
    """The share of steps whose product is below e^limit."""
    return float(np.mean(logs < limit))
