"""B-SCAN-6 and B-ADJ-3: running sums of clamped logarithms, and the reversed sums that are their gradients.

Statement   |computed s_t - exact s_t| <= gamma(k_t) * (|initial| + sum |clamped|) + 0
Steps       The clamp to [-50, 0] is exact. A sum of k numbers other than 0 takes k - 1 additions in any order,
            each term meets at most that many roundings, or the declared depth if that is less.
Exact       When all terms are multiples of 2^q and the sum of sizes is at most 2^(q + p): tolerance 0.
Gradient    reversed sums of g, the same statement; exactly 0 where the clamp binds.
"""

import numpy as np

from mmrec.numerics.bounds import Question
from mmrec.numerics.bounds.affine import smallest_step
from mmrec.numerics.bounds.products import LOG_FLOOR, declared_additions
from mmrec.numerics.judgement import Enclosure


def enclose(question: Question) -> dict[str, Enclosure]:
    log_gamma, initial = question.inputs.values()
    terms = np.concatenate([initial[:, None], np.clip(log_gamma, LOG_FLOOR, 0.0)], axis=1)
    sums = enclose_sums(terms, question)
    return {"result": Enclosure(sums.value[:, 1:], sums.tolerance[:, 1:])}


def enclose_gradients(question: Question) -> dict[str, Enclosure]:
    log_gamma, initial = question.inputs.values()
    g = question.cotangent
    backwards = enclose_sums(g[:, ::-1], question)
    value, tolerance = backwards.value[:, ::-1], backwards.tolerance[:, ::-1]
    free = (log_gamma >= LOG_FLOOR) & (log_gamma <= 0)
    whole = Enclosure(value[:, 0], tolerance[:, 0]) if g.shape[1] else Enclosure(0 * initial, 0 * initial)
    return {"log_gamma": Enclosure(np.where(free, value, 0.0), np.where(free, tolerance, 0.0)), "initial": whole}


def enclose_sums(terms: np.ndarray, question: Question) -> Enclosure:
    """Running sums along axis 1 in any order, or within the declared depth."""
    model = question.model
    size = np.cumsum(np.abs(terms), axis=1)
    additions = declared_additions(question, np.maximum(np.cumsum(terms != 0, axis=1) - 1, 0))
    step = smallest_step(terms).min(axis=1, keepdims=True, initial=np.inf)
    exact = size <= np.where(np.isfinite(step), step, 0.0) * 2.0**model.arithmetic.precision
    return Enclosure(np.cumsum(terms, axis=1), np.where(exact, 0.0, model.gamma(additions) * size))
