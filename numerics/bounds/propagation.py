"""How far a trajectory may be from the exact one: local errors carried through signed products of Jacobians.

Statement   |computed h_t - exact h_t| <= E_t = sum_s |J_t J_{t-1} ... J_{s+1}| (l_s + n_s)
Let         l_s  the running error of one step at the exact state
            J_s  the derivative of step s with respect to its state, from dual numbers
            n_s  the step's second-order remainder, (M / 2) |z_s| (|W| E_{s-1})^2 with |sigmoid''| <= M = 1 / (6 sqrt 3)
Steps       e_t = J_t e_{t-1} + (what the step itself errs, at most l_t) + (Taylor remainder, at most n_t); unrolled, each
            local error is multiplied by a product of Jacobians *with signs*, and only then taken absolutely. Taking
            |J| at each step instead is vacuous wherever a state rotates.
Horizon     The first step at which max E_t exceeds ``LARGEST_USEFUL``: up to there a trajectory is determined, beyond it two
            correct implementations may differ, and only the defect speaks.
Not said    for the stabilized recurrence: no second-order remainder of its norm is derived here.
Cost        T^2 D^3: for short sequences and few channels.
"""

from dataclasses import dataclass

import numpy as np

from mmrec.numerics.bounds import Question, previous
from mmrec.numerics.dual import Dual
from mmrec.numerics.judgement import Enclosure
from mmrec.numerics.running_error import RunningError
from mmrec.reference.gated_recurrence import gated_recurrence, gated_step

LARGEST_USEFUL = 1e-2
HALF_LARGEST_CURVATURE = 1 / (12 * np.sqrt(3))


@dataclass(frozen=True)
class Propagated:
    """The exact trajectory with its bound, and for every row how many steps the bound is useful."""

    enclosure: Enclosure
    horizon: np.ndarray  # [B]


def propagate_gated(question: Question) -> Propagated:
    """Bound of every state of the gated recurrence (NUM-6); infinite beyond the horizon."""
    z, gamma, W, b, h0 = question.inputs.values()
    exact = gated_recurrence(z, gamma, W, b, h0)
    before = previous(h0, exact)
    local = local_errors(question, before)
    jacobians = jacobians_of_gated(z, gamma, W, b, before)
    batch, steps, channels = z.shape
    error, tolerance = np.zeros((batch, channels)), np.full(z.shape, np.inf)
    horizon, useful = np.zeros(batch, int), np.ones(batch, bool)
    products = np.zeros((batch, 0, channels, channels))  # J_t ... J_{s+1} for every earlier s
    sources = np.zeros((batch, 0, channels))
    for t in range(steps):
        remainder = HALF_LARGEST_CURVATURE * np.abs(z[:, t]) * (error @ np.abs(W).T) ** 2
        identity = np.broadcast_to(np.eye(channels), (batch, 1, channels, channels))
        products = np.concatenate([jacobians[:, t, None] @ products, identity], axis=1)
        sources = np.concatenate([sources, (local[:, t] + remainder)[:, None]], axis=1)
        error = np.einsum("bsij,bsj->bi", np.abs(products), sources)
        useful &= error.max(axis=1) <= LARGEST_USEFUL
        horizon += useful
        tolerance[useful, t] = error[useful]
        error = np.where(useful[:, None], error, 0.0)  # rows beyond their horizon are not followed further
    return Propagated(Enclosure(exact, tolerance), horizon)


def local_errors(question: Question, before: np.ndarray) -> np.ndarray:
    """l_t [B,T,D]: the running error of one step from the exact state."""
    z, gamma, W, b, _ = question.exact()
    flat = RunningError(before.reshape(-1, before.shape[-1]), 0.0, question.model)
    step = gated_step(z.reshape(-1, z.shape[-1]), gamma.reshape(-1, z.shape[-1]), W, b, flat)
    return step.error.reshape(before.shape)


def jacobians_of_gated(
    z: np.ndarray, gamma: np.ndarray, W: np.ndarray, b: np.ndarray, before: np.ndarray
) -> np.ndarray:
    """dh_t / dh_{t-1} [B,T,D,D], a column at a time from dual numbers."""
    channels, flat = z.shape[-1], before.reshape(-1, z.shape[-1])
    columns = []
    for channel in range(channels):
        direction = np.zeros(flat.shape)
        direction[:, channel] = 1.0
        h = Dual(flat, direction)
        step = gated_step(Dual(z.reshape(flat.shape)), Dual(gamma.reshape(flat.shape)), Dual(W), Dual(b), h)
        columns.append(step.derivative.reshape(z.shape))
    return np.stack(columns, axis=-1)
