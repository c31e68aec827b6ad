"""Bound of the linear recurrence h_t = a_t h_{t-1} + b_t under any bracketing, shared by all scan adjoints.

Statement   |computed h_t - exact h_t| <= u / (1 - n u) * max(2 K_t + H_t, K_t + L H_t) + underflow
Let         H_t = |a_t| H_{t-1} + |b_t|, H_{-1} = |h0|        (the size of all terms)
            K_t = |a_t| (K_{t-1} + H_{t-1}), K_{-1} = 0       (the same, each term times its multiplications)
            L = 2 ceil(log2 T) + 2, the additions on any path of a tree; n = 2 T + L
Steps       h_t = sum_j P_tj b_j, and in every order term j meets t - j multiplications: the K. One step at a
            time (or in blocks) it also meets t - j + 1 additions, hence 2 K + H; in a tree at most L, hence
            K + L H. The larger one admits every order. Fused multiply-add only removes roundings.
Exact       When every a is 0, 1 or -1 and all b and h0 are multiples of 2^q with H <= 2^(q + p), every
            partial sum is representable: tolerance 0.
Underflow   each of at most L (or t) operations leaves eta, carried on by |a| and, where decays are multiplied before
            they meet a state, by its size: L eta sum_j |P_tj| max(1, |h0|, max |b|). A subnormal decay
            may be read as 0, which loses the whole |a_t| H_{t-1}: F_t = |a_t| F_{t-1} + that.
Loose by    correct kernels use .09 of it (median), .28 at most; an adversary reaches .61 at T = 32,768.
"""

import numpy as np

from mmrec.numerics.error_model import ErrorModel
from mmrec.numerics.judgement import Enclosure


def enclose_affine(a: np.ndarray, b: np.ndarray, h0: np.ndarray, model: ErrorModel) -> Enclosure:
    """States of the recurrence and their tolerance: a, b [B,T,D], h0 [B,D]."""
    steps = a.shape[1]
    value, size, work, reach, flushed = (np.zeros(b.shape) for _ in range(5))
    h, H, K, R, F = h0, np.abs(h0), np.zeros(h0.shape), np.zeros(h0.shape), np.zeros(h0.shape)
    with np.errstate(under="ignore"):
        for t in range(steps):
            decay = np.abs(a[:, t])
            K = decay * (K + H)
            F = decay * F + np.where(decay < model.arithmetic.tiny, decay * H, 0.0)
            H = decay * H + np.abs(b[:, t])
            R = decay * R + 1
            h = a[:, t] * h + b[:, t]
            value[:, t], size[:, t], work[:, t], reach[:, t], flushed[:, t] = h, H, K, R, F
    levels = 2 * np.ceil(np.log2(max(steps, 2))) + 2
    roundings = np.maximum(2 * work + size, work + levels * size)
    tolerance = roundings * model.u / (1 - (2 * steps + levels) * model.u)
    met = np.maximum(np.maximum(1.0, np.abs(h0)), np.abs(b).max(axis=1, initial=0.0))[:, None]
    tolerance += np.where(size > 0, levels * model.eta * reach * met, 0.0) + (flushed if model.flush_to_zero else 0.0)
    return Enclosure(value, np.where(_exact(a, b, h0, size, model), 0.0, tolerance))


def _exact(a: np.ndarray, b: np.ndarray, h0: np.ndarray, size: np.ndarray, model: ErrorModel) -> np.ndarray:
    """NUM-7, sums: where every order of evaluation is free of rounding, [B,T,D]."""
    plain = np.all(np.isin(a, (-1.0, 0.0, 1.0)), axis=1)
    step = np.minimum(smallest_step(b).min(axis=1, initial=np.inf), smallest_step(h0))
    step = np.where(np.isfinite(step) & (step >= model.arithmetic.tiny), step, 0.0)  # subnormals may be flushed
    return plain[:, None] & (size <= (step * 2.0**model.arithmetic.precision)[:, None])


def smallest_step(x: np.ndarray) -> np.ndarray:
    """The largest power of two of which x is a multiple; infinity for 0."""
    mantissa, exponent = np.frexp(np.abs(x))
    digits = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = (digits & -digits).astype(np.float64)
    return np.where(x == 0, np.inf, np.ldexp(lowest, exponent - 53))


def reversed_in_time(a: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The adjoint s_t = g_t + a_{t+1} s_{t+1} as a forward recurrence, with one last step that yields a_0 s_0."""
    batch, _steps, channels = a.shape
    nothing = np.zeros((batch, 1, channels))
    coefficients = np.concatenate([nothing, a[:, ::-1]], axis=1)
    inflow = np.concatenate([g[:, ::-1], nothing], axis=1)
    return coefficients, inflow


def enclose_adjoint(a: np.ndarray, g: np.ndarray, model: ErrorModel) -> tuple[Enclosure, Enclosure]:
    """(s [B,T,D], a_0 s_0 [B,D]) of the adjoint recurrence."""
    coefficients, inflow = reversed_in_time(a, g)
    wanted = enclose_affine(coefficients, inflow, np.zeros_like(a[:, 0] if a.shape[1] else inflow[:, 0]), model)
    value, tolerance = wanted.value[:, ::-1], wanted.tolerance[:, ::-1]
    return Enclosure(value[:, 1:], tolerance[:, 1:]), Enclosure(value[:, 0], tolerance[:, 0])
