"""Bounds shared by the decay products: a running product, evaluated directly or through logarithms.

Direct      y_t is a product of ``initial`` and t + 1 decays. Any bracketing multiplies k numbers with k - 1
            roundings, and multiplying by 0, 1 or a power of two rounds nothing. With k_t the count of the
            others, |error| <= gamma(k_t - 1) |y_t|. A floored decay is the constant e^-50 rounded once more.
            Hence decays of 1 and of powers of two demand the exact value, with no special case.
Underflow   Sub-products are at least the whole product in size, so an underflow (at most eta) happens only
            where the product without ``initial``, or with it, is below twice the smallest normal number;
            each of at most ceil(log2 T) + 1 roundings on the way (or one a step) leaves eta, which later
            decays shrink: U_t = decay_t U_{t-1} + (ceil(log2 T) + 1) eta, scaled by max(1, |initial|).
            A subnormal initial value may be read as 0.
Log         y_t = initial exp(S_t), S_t the sum of l_i = max(log gamma_i, -50). log errs by eps_log |l_i| (the
            clamped ones are exact), the sum by gamma(h) sum |l| with h the declared depth, exp by eps_exp:
            |error| <= |y_t| (e^{E_t} - 1 + eps_exp(S_t) e^{E_t}) + u |y_t|, E_t = eps_log sum|l| + gamma(h) sum|l|.
Loose by    the direct bound: correct kernels use .36 of it (median) and .84 at most; the log bound .39 and .99.
"""

import numpy as np

from mmrec.numerics.bounds import Question
from mmrec.numerics.error_model import ErrorModel, rounds_nothing
from mmrec.numerics.judgement import Enclosure

LOG_FLOOR = -50.0
FLOOR = np.exp(LOG_FLOOR)


def enclose_product(question: Question, floored: bool) -> Enclosure:
    """NUM-8: the running product of the decays, by the class of algorithm the subject declares."""
    gamma, initial = question.inputs["gamma"], question.inputs["initial"]
    if question.declares.get("class", "direct") == "log":
        return _through_logarithms(gamma, initial, question, floored)
    return _direct(gamma, initial, question.model, floored)


def _direct(gamma: np.ndarray, initial: np.ndarray, model: ErrorModel, floored: bool) -> Enclosure:
    at_floor = (gamma < FLOOR) if floored else np.zeros(gamma.shape, bool)
    decay = np.where(at_floor, FLOOR, gamma)
    with np.errstate(under="ignore"):
        product = np.cumprod(decay, axis=1)
        value = initial[:, None] * product
    inexact = np.cumsum(~rounds_nothing(decay), axis=1) + ~rounds_nothing(initial)[:, None]
    roundings = np.maximum(inexact - 1, 0) + np.cumsum(at_floor, axis=1)
    underflow = _underflow(decay, product, value, initial, model)
    return Enclosure(value, model.gamma(roundings) * np.abs(value) + underflow)


def _underflow(
    decay: np.ndarray, product: np.ndarray, value: np.ndarray, initial: np.ndarray, model: ErrorModel
) -> np.ndarray:
    steps = decay.shape[1]
    small = np.minimum(product, np.abs(value)) < 2 * model.arithmetic.tiny
    if not np.any(small):
        return np.zeros(value.shape)
    on_the_way = np.where((decay == 0) | (decay == 1), 0.0, (np.ceil(np.log2(max(steps, 2))) + 1) * model.eta)
    left, underflow = np.where(np.abs(initial) < model.arithmetic.tiny, model.eta, 0.0), np.zeros(value.shape)
    for t in range(steps):
        left = decay[:, t] * left + on_the_way[:, t]
        underflow[:, t] = left
    forgotten = np.cumsum(decay == 0, axis=1) > 0  # a factor of 0 leaves nothing that could underflow
    return np.where(small & ~forgotten, underflow * np.maximum(1.0, np.abs(initial))[:, None], 0.0)


def _through_logarithms(gamma: np.ndarray, initial: np.ndarray, question: Question, floored: bool) -> Enclosure:
    """SCAN-3: the bound of initial * exp(sum of max(log gamma, -50)), with the declared depth of its sums."""
    model = question.model
    with np.errstate(divide="ignore"):
        logs = np.log(gamma)
    at_floor = logs < LOG_FLOOR if floored else np.zeros(gamma.shape, bool)
    logs = np.where(at_floor, LOG_FLOOR, logs)
    size = np.cumsum(np.abs(logs), axis=1)
    log_errors = np.cumsum(np.where(at_floor, 0.0, model.log * model.u * np.abs(logs)), axis=1)
    additions = declared_additions(question, np.maximum(np.cumsum(gamma != 1, axis=1) - 1, 0))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        total_error = log_errors + model.gamma(additions) * (size + log_errors)
        value = initial[:, None] * np.exp(-size)
        exp_error = (model.exp + model.exp_slope * size) * model.u
        relative = np.expm1(total_error) + exp_error * np.exp(total_error) + 2 * model.u
        small = np.minimum(np.exp(-size), np.abs(value)) < 2 * model.arithmetic.tiny
        underflow = np.where(small, model.eta * np.maximum(1.0, np.abs(initial))[:, None], 0.0)
        tolerance = np.abs(value) * relative + underflow
    known = np.where(np.isfinite(size), tolerance, 0.0)  # a zero without floor: exactly 0 from there on
    return Enclosure(np.where(np.isfinite(size), value, 0.0), np.where(size == 0, 0.0, known))


def declared_additions(question: Question, at_most: np.ndarray) -> np.ndarray:
    """NUM-8: the longest chain of additions under the declared depth, "sequential", "tree", "chunk:C" or "any"."""
    steps = at_most.shape[1]
    depth = str(question.declares.get("depth", "any"))
    if depth == "tree":
        longest = 2 * np.ceil(np.log2(max(steps, 2))) + 2
    elif depth.startswith("chunk:") and depth.removeprefix("chunk:").isdigit() and int(depth.removeprefix("chunk:")):
        chunk = int(depth.removeprefix("chunk:"))
        longest = chunk + np.ceil(steps / chunk) + 1
    elif depth in ("sequential", "any"):
        longest = np.inf
    else:
        raise ValueError(f'depth: {depth!r} is not one of "sequential", "tree", "chunk:<steps>", "any"')
    return np.minimum(at_most, longest)
