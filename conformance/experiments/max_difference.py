"""EXP-1: the forward test of the scan passes with a largest difference of 5.96e-08 (S2 L74).

Rows of 4096 float32 decays from three distributions; their products through sequential float32 sums of float32
logarithms, and by direct float32 multiplication. Both are compared with the exact product rounded to float32, since
a difference of exactly 2^-24 is one between float32 numbers. Relative differences are taken where the product is a
normal float32 number. The source gives no random seed, so several runs are made: the claim stands for a distribution
when one of its runs gives the number.
"""

from typing import Any

import numpy as np

from mmrec.conformance.experiments._finding import finding
from mmrec.numerics.formats import FLOAT32
from mmrec.reference.decay_product import running_product

ROWS, STEPS = 64, 4096
CLAIMED = "5.96e-08"
LOWEST = (0.0, 0.9, 0.99)  # decays are uniform between this and 1


def run(profile: str) -> dict[str, Any]:
    seeds = range(64 if profile == "full" else 8)
    measured = {f"({low:g}, 1)": [differences(low, seed) for seed in seeds] for low in LOWEST}
    hits = {
        name: sum(f"{run['absolute, logarithms']:.2e}" == CLAIMED for run in runs) for name, runs in measured.items()
    }
    largest = {name: {kind: max(run[kind] for run in runs) for kind in runs[0]} for name, runs in measured.items()}
    ratios = [worst["relative, logarithms"] / worst["relative, direct"] for worst in largest.values()]
    statements = {f"{CLAIMED} comes out for decays uniform on {name}": count > 0 for name, count in hits.items()}
    each = ", ".join(f"{count} on {name}" for name, count in hits.items())
    reached = ", ".join(f"{worst['absolute, logarithms']:.3g}" for worst in largest.values())
    found = (
        f"Through logarithms {CLAIMED} is the largest absolute difference in {each}, of {len(seeds)} runs each; up to "
        f"{reached} are reached. The relative differences are {min(ratios):.0f} to {max(ratios):.0f} times those of "
        f"direct multiplication."
    )
    numbers: dict[str, Any] = {
        f"uniform on {name}": {"runs that give it": hits[name], **worst} for name, worst in largest.items()
    }
    numbers |= {"claimed": float(CLAIMED), "runs": len(seeds), "rows": ROWS, "steps": STEPS}
    claim = f"the forward test of the scan has a largest difference of {CLAIMED}"
    return finding("EXP-1", claim, statements, found, numbers)


def differences(low: float, seed: int) -> dict[str, float]:
    """The largest absolute and relative difference of both ways in one run, over all rows and steps."""
    decays = np.random.default_rng(seed).uniform(low, 1.0, (ROWS, STEPS))
    decays = np.maximum(decays, 2.0**-24).astype(np.float32)
    exact = running_product(decays.astype(np.float64)[..., None], np.ones((ROWS, 1)))[..., 0]
    normal = exact >= FLOAT32.tiny
    largest = {}
    for name, computed in (("logarithms", through_logarithms(decays)), ("direct", directly(decays))):
        largest[f"absolute, {name}"] = float(np.max(np.abs(computed - FLOAT32.round(exact))))
        largest[f"relative, {name}"] = float(np.max(np.abs(computed / np.where(normal, exact, 1.0) - 1)[normal]))
    return largest


def through_logarithms(decays: np.ndarray) -> np.ndarray:
    """exp of the running float32 sum of logarithms, one step after the other: [rows, steps]."""
    with np.errstate(under="ignore"):
        return np.exp(np.cumsum(np.log(decays), axis=1, dtype=np.float32))


def directly(decays: np.ndarray) -> np.ndarray:
    """Running float32 products, one step after the other: [rows, steps]."""
    with np.errstate(under="ignore"):
        return np.cumprod(decays, axis=1, dtype=np.float32)
