"""EXP-8: decays clipped to [1e-6, 1 - 1e-6] are never fully 0 or 1 (S3 2 L60, L66; S2 L112).

The two limits are rounded to each storage format, as a clip in that format would have them. Then a decay gate is
driven far open and far shut: its decay in float32, and the same decay stored in each narrow format.
"""

from typing import Any

import numpy as np

from mmrec.conformance.experiments._finding import finding
from mmrec.conformance.experiments._single import single
from mmrec.numerics.formats import FORMATS, Format
from mmrec.reference.decay_gate import decay_gate

LOW, HIGH = 1e-6, 1 - 1e-6


def run(profile: str) -> dict[str, Any]:
    limits = {name: rounded_limits(form) for name, form in FORMATS.items()}
    shut, opened = driven_gate(-60.0), driven_gate(60.0)
    statements: dict[str, bool] = {f"clipped in {name}": inside(*pair) for name, pair in limits.items()}
    statements["computed in float32 by a gate driven far shut and far open"] = inside(shut, opened)
    stored = {name: tuple(float(form.round(x)) for x in (shut, opened))
              for name, form in FORMATS.items() if form.precision < 24}  # fmt: skip
    statements |= {f"computed in float32 and stored in {name}": inside(*pair) for name, pair in stored.items()}
    broken = [name for name, pair in limits.items() if not inside(*pair)]
    low = limits["float16"][0]
    found = (
        f"The claim fails when clipped in {', '.join(broken) or 'no format'}: 1 - 1e-6 is {describe(limits)} there. "
        f"Clipped in float32 the decay is {shut:.4g} to 1 - {1 - opened:.3g}; 1e-6 in float16 is {low:.5g}, "
        f"{'a subnormal' if low < FORMATS['float16'].tiny else 'a normal'} number."
    )
    numbers = {
        "limits": {name: list(pair) for name, pair in limits.items()},
        "1 - upper limit": {name: 1 - high for name, (_, high) in limits.items()},
        "decay in float32": [shut, opened],
        "decay in float32, stored": {name: list(pair) for name, pair in stored.items()},
    }  # fmt: skip
    return finding("EXP-8", "decays clipped to [1e-6, 1 - 1e-6] are never fully 0 or 1", statements, found, numbers)


def rounded_limits(form: Format) -> tuple[float, float]:
    """Both limits in that format."""
    return float(form.round(LOW)), float(form.round(HIGH))


def inside(low: float, high: float) -> bool:
    """Whether both lie strictly between 0 and 1."""
    return low > 0 and high < 1


def describe(limits: dict[str, tuple[float, float]]) -> str:
    highest = {f"{high:g}" for low, high in limits.values() if not inside(low, high)}
    return " or ".join(sorted(highest)) or "below 1"


def driven_gate(logit: float) -> float:
    """The decay of a gate whose two last biases are ``logit``, evaluated in float32."""
    nothing, bias = single(np.zeros((1, 1))), single(np.full(1, logit))
    step, zero = single(np.zeros((1, 1, 1))), single(np.zeros(1))
    pathway = (nothing, zero, nothing, bias)
    return float(decay_gate(step, step, *pathway, *pathway)[0, 0, 0])
