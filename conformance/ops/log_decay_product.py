"""log_decay_product: running sums of clamped log decays."""

from collections.abc import Callable, Iterator

import numpy as np

from mmrec.conformance.cases import Case
from mmrec.conformance.judge import Trial
from mmrec.conformance.ops import Arrays, Op, Property, Sizes
from mmrec.conformance.ops._regimes import DECAYS, Draw, scaled, small_integers
from mmrec.conformance.properties import SEQUENTIAL, with_inputs
from mmrec.conformance.verdicts import Finding
from mmrec.numerics.bounds import log_decay_product as bound
from mmrec.reference.log_decay_product import log_decay_product, log_decay_product_adjoint


def _logarithm_of(draw: Draw) -> Callable[[np.random.Generator, Sizes], Arrays]:
    def build(rng: np.random.Generator, sizes: Sizes) -> Arrays:
        with np.errstate(divide="ignore"):
            log_gamma = np.log(np.minimum(draw(rng, sizes.shape("BTD")), 1.0))
        return {"log_gamma": log_gamma, "initial": scaled(rng, sizes.shape("BD"))}

    return build


def _exact(rng: np.random.Generator, sizes: Sizes) -> Arrays:
    """Integers and -inf: sums are exact, the clamp is exact, the tolerance is 0."""
    log_gamma = -np.abs(small_integers(rng, sizes.shape("BTD")))
    log_gamma = np.where(rng.random(log_gamma.shape) < 0.05, -np.inf, log_gamma)
    return {"log_gamma": log_gamma, "initial": small_integers(rng, sizes.shape("BD"))}


def a_log_decay_of_zero_changes_no_bit(trial: Trial, case: Case) -> Iterator[Finding]:
    """log gamma = 0 everywhere: the initial value, bit for bit, at every step."""
    inputs = with_inputs(case.inputs(), log_gamma=0.0)
    yield trial.judge_exactly(case, inputs, inputs["initial"][:, None])


OP = Op(
    name="log_decay_product",
    clauses=("SCAN-6", "STAB-3"),
    adjoint_clauses=("ADJ-3", "ADJ-8"),
    arguments={"log_gamma": "BTD", "initial": "BD"},
    reference=log_decay_product,
    adjoint=log_decay_product_adjoint,
    bound=bound,
    regimes={**{name: _logarithm_of(draw) for name, draw in DECAYS.items()}, "exact": _exact},
    properties=(
        *SEQUENTIAL,
        Property(
            "STAB-9",
            "a log decay of 0 changes no bit over any length",
            a_log_decay_of_zero_changes_no_bit,
            ("uniform",),
        ),
    ),
    carry="initial",
    domains={"log_gamma": (-np.inf, 0.0)},
)
