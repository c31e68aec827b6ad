"""EXP-9: the Log-Sum-Exp trick, subtracting the maximum and adding it back, prevents under- and overflow (S1, S2).

Running float32 sums s of log decays, all at most 0, and m the largest of them. Compared with the exact exponential:
exp(s) plainly, exp(s - m) * exp(m), and exp(s - m) + m, which is the sentence as it stands.
"""

from typing import Any

import numpy as np

from mmrec.conformance.experiments._finding import finding
from mmrec.numerics.error_model import model_for
from mmrec.numerics.formats import FLOAT32

STEPS = 4096


def run(profile: str) -> dict[str, Any]:
    rows = 64 if profile == "full" else 8
    sums = running_sums(rows)
    largest = sums.max(axis=1, keepdims=True)
    with np.errstate(under="ignore"):
        exact = np.exp(sums.astype(np.float64))
        plain = exponential(sums)
        multiplied = exponential(sums - largest) * exponential(largest)
        added = exponential(sums - largest) + largest
    too_small = exact < FLOAT32.tiny * (1 - 2.0**-10)  # a little below, so that rounding does not decide
    both_normal = (exact >= FLOAT32.tiny) & (np.exp((sums - largest).astype(np.float64)) >= FLOAT32.tiny)
    rescued = int(np.count_nonzero(multiplied[too_small] >= FLOAT32.tiny))
    overflows = int(np.count_nonzero(~np.isfinite(plain)))
    apart = float(np.max(np.abs(multiplied / exact - 1)[both_normal]))
    allowed = float(np.max(allowed_difference(sums, largest)[both_normal]))
    off = float(np.max(np.abs(added - exact)[both_normal]))
    statements = {
        "it saves a product from underflow": rescued > 0,
        "without it something overflows, so that there is something to prevent": overflows > 0,
        "adding the maximum back after the exponential gives the product": off <= allowed,
    }
    found = (
        f"Of {int(np.count_nonzero(too_small))} products below the normal float32 numbers exp(s - m) * exp(m) saves "
        f"{rescued}, and without a maximum {overflows} of {sums.size} overflow. Where all is normal it differs from "
        f"exp(s) by {apart:.2g} relative ({'within' if apart <= allowed else 'beyond'} rounding), while exp(s - m) + m "
        f"is off by up to {off:.3g}."
    )
    numbers = {
        "products": int(sums.size), "below the normal numbers": int(np.count_nonzero(too_small)), "saved": rescued,
        "overflowing without a maximum": overflows, "largest relative difference, multiplied back": apart,
        "rounding allows": allowed, "largest difference, added back": off, "maximum": float(largest.min()),
    }  # fmt: skip
    claim = "subtracting the maximum before the exponential and adding it back after prevents under- and overflow"
    return finding("EXP-9", claim, statements, found, numbers)


def running_sums(rows: int) -> np.ndarray:
    """Running float32 sums of log decays: [rows, steps], at most 0; the first decay of a row is its smallest."""
    rng = np.random.default_rng(0)
    decays = rng.uniform(0.9, 1.0, (rows, STEPS))
    decays[:, 0] = rng.uniform(0.01, 0.1, rows)
    return np.cumsum(np.log(decays).astype(np.float32), axis=1, dtype=np.float32)


def exponential(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.exp(x)


def allowed_difference(sums: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """What the error model allows exp(s - m) * exp(m): the difference, two exponentials and the product round."""
    model = model_for(FLOAT32)
    size = np.abs(sums) + np.abs(largest)
    return model.u * (np.abs(sums - largest) + 2 * model.exp + model.exp_slope * size + model.multiply) * (1 + 2.0**-10)
