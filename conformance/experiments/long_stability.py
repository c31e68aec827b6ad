"""EXP-3: 64, 128 and 8192 steps work, "verified for 32K+ sequences (8192 tested)" (S2 L17, L226-229, L466-473).

Every op is evaluated in float32 by the reference's own text, forwards and backwards, at these lengths and (profile
"full") at 32,768 and 65,536; results and gradients must be finite and within their bounds. Then a constant decay of
0.99 over 32,768 steps: through the exponential of a sum of logarithms, by multiplication, and as the sum itself. What
is claimed of losses and of a whole model's gradients is not part of these chapters.
"""

from typing import Any

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.experiments._finding import finding
from mmrec.conformance.experiments._single import single
from mmrec.conformance.ops import Op, Sizes, all_ops
from mmrec.numerics.bounds import Question
from mmrec.numerics.formats import FLOAT32
from mmrec.numerics.judgement import budget
from mmrec.reference.decay_product import running_product
from mmrec.reference.log_decay_product import log_decay_product

LENGTHS = {"full": (64, 128, 8192, 32768, 65536)}
SHORT_LENGTHS = (64, 128, 8192)
REGIMES = ("long_memory", "typical")  # where something is left after so many steps
DECAY, STEPS = 0.99, 32768


def run(profile: str) -> dict[str, Any]:
    lengths = LENGTHS.get(profile, SHORT_LENGTHS)
    used = {steps: {name: worst_budget(op, steps) for name, op in all_ops().items()} for steps in lengths}
    vanished, multiplied, kept = slow_product()
    statements: dict[str, Any] = {
        f"at {steps} steps results and gradients of every op are finite and within their bounds":
            all(share <= 1 for share in shares.values()) for steps, shares in used.items()
    }  # fmt: skip
    statements["the float32 product of decays of 0.99 is still there after 32,768 steps"] = not vanished
    largest = max(share for shares in used.values() for share in shares.values())
    beyond = [f"{op} at {steps}" for steps, shares in used.items() for op, share in shares.items() if not share <= 1]
    within = f"all ops are within their bounds ({100 * largest:.0f} % used)" if not beyond else ""
    fate = f"is 0 from step {vanished} on" if vanished else "stays above 0"
    found = (
        f"At {', '.join(map(str, lengths))} steps {within or 'these are out of bound: ' + ', '.join(beyond)}. "
        f"For a decay of {DECAY:g} the float32 exponential of the sum {fate}, while after {STEPS} steps the sum of "
        f"logs is {kept:.6g} and direct multiplication is {multiplied:.3g}."
    )
    numbers = {
        **{f"budget, {steps} steps": shares for steps, shares in used.items()},
        "first step at which the exponential is 0": vanished,
        "direct product, last step": multiplied, "sum of logs, last step": kept,
    }  # fmt: skip
    claim = '64, 128 and 8192 steps work, "verified for 32K+ sequences (8192 tested)"'
    return finding("EXP-3", claim, statements, found, numbers)


def worst_budget(op: Op, steps: int) -> float:
    """The largest share of its bound that a result or gradient of the op uses, evaluated in float32."""
    regime = next(name for name in REGIMES if name in op.regimes)
    options = op.default_options
    case = Case(op.name, "float32", regime, Sizes(1, steps, 2), steps, options=options)
    inputs, g = case.inputs(), case.cotangent()
    arrays = [single(array) for array in inputs.values()]
    with np.errstate(under="ignore"):
        result = np.asarray(op.reference(*arrays, **dict(options)), np.float64)
        adjoint = op.adjoint(*arrays, single(g), **dict(options))
        gradients = {name: np.asarray(gradient, np.float64) for name, gradient in zip(inputs, adjoint, strict=True)}
        question = Question(inputs, dict(options), FLOAT32, result, g, gradients)
        enclosures = op.bound.enclose(question) | op.bound.enclose_gradients(question)
    outputs = {"result": result} | gradients
    shares = [budget(outputs[name], enclosure, FLOAT32, FLOAT32) for name, enclosure in enclosures.items()]
    return max(float(share.max(initial=0.0)) for share in shares)


def slow_product() -> tuple[int, float, float]:
    """Of a constant decay: the first step at which exp of the sum is 0 (or 0), the last product, the last sum."""
    decays = single(np.full((1, STEPS, 1), DECAY))
    sums = log_decay_product(np.log(decays), single(np.zeros((1, 1))))[0, :, 0]
    with np.errstate(under="ignore"):
        products = np.exp(sums)
        direct = running_product(decays, single(np.ones((1, 1))))[0, -1, 0]
    vanished = int(np.argmax(products == 0)) + 1 if np.any(products == 0) else 0
    return vanished, float(direct), float(sums[-1])
