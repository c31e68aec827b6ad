"""REC-PAR in its plainest form: one row, chunk by chunk, exact splices (spec/recurrence.md)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmrec.reference.gated_recurrence import gated_step
from mmrec.reference.linear_recurrence import linear_recurrence
from mmrec.reference.numbers import sigmoid
from mmrec.reference.stabilized_recurrence import stabilized_step

Step = Callable[[int, np.ndarray], np.ndarray]  # the state [D] after step t from the state [D] before it


@dataclass
class Solution:
    """Every state of every chunk, and what it took."""

    states: list[np.ndarray]  # [steps of the chunk, D] each
    passes: int
    fell_back: bool

    @property
    def h(self) -> np.ndarray:
        """All states [1,T,D]."""
        return np.concatenate(self.states)[None]


def gated_recurrence_in_parallel(
    z: np.ndarray, gamma: np.ndarray, W_g: np.ndarray, b_g: np.ndarray, h0: np.ndarray, chunk: int
) -> Solution:
    """Return what the loop returns, by chunks that could run side by side; guessed with the gate frozen.

    Clauses  REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
    Args     as gated_recurrence, in float64, with one row (B = 1) and T >= 1; chunk, its steps
    Returns  Solution; its defect is 0, since only equal states are spliced
    Source   decided here (X-1)
    """
    frozen = linear_recurrence(gamma, z * sigmoid(b_g), h0)[0]

    def step(t: int, h: np.ndarray) -> np.ndarray:
        return gated_step(z[:, t], gamma[:, t], W_g, b_g, h[None])[0]

    return in_parallel(step, lambda t: frozen[t], h0[0], z.shape[1], chunk)


def stabilized_recurrence_in_parallel(
    z: np.ndarray,
    gate_z: np.ndarray,
    gamma: np.ndarray,
    W_h: np.ndarray,
    b_h: np.ndarray,
    norm_weight: np.ndarray,
    norm_bias: np.ndarray,
    h0: np.ndarray,
    chunk: int,
    *,
    norm: str = "rms",
    eps: float = 1e-6,
    clip: float = 100.0,
) -> Solution:
    """Return what the loop returns, by chunks that could run side by side; guessed by one step from the state 0.

    Clauses  REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
    Args     as stabilized_recurrence, in float64, with one row (B = 1) and T >= 1; chunk, its steps
    Returns  Solution; its defect is 0, since only equal states are spliced
    Source   decided here (X-1)
    """

    def step(t: int, h: np.ndarray) -> np.ndarray:
        of_step = z[:, t], gate_z[:, t], gamma[:, t]
        return stabilized_step(*of_step, W_h, b_h, norm_weight, norm_bias, h[None], norm, eps, clip)[0]

    return in_parallel(step, lambda t: step(t, np.zeros_like(h0[0])), h0[0], z.shape[1], chunk)


def in_parallel(step: Step, guess: Callable[[int], np.ndarray], h0: np.ndarray, steps: int, chunk: int) -> Solution:
    """The states [D] after each of so many steps from h0 [D]; ``guess(t)`` is what is guessed of the state after step t."""
    cuts = [range(first, min(first + chunk, steps)) for first in range(0, steps, chunk)]
    begun = [h0] + [guess(cut.start - 1) for cut in cuts[1:]]
    states = [np.array(steps_from(step, cut, h)) for cut, h in zip(cuts, begun, strict=True)]
    mismatches: list[float] = []
    while True:
        due = [h0] + [of_chunk[-1].copy() for of_chunk in states[:-1]]
        wrong = [c for c in range(len(cuts)) if not np.array_equal(due[c], begun[c])]
        if not wrong:
            return Solution(states, len(mismatches) + 1, False)
        mismatches.append(max(np.max(np.abs(due[c] - begun[c])) / np.max(np.abs(due[c])) for c in wrong))
        if not shrinks_in_time(mismatches, len(cuts) - wrong[0]):
            for c in range(wrong[0], len(cuts)):  # REC-PAR-3: one after the other
                states[c] = np.array(steps_from(step, cuts[c], states[c - 1][-1]))
            return Solution(states, len(mismatches) + 1, True)
        for c in wrong:
            begun[c] = due[c]
            splice(states[c], step, cuts[c], due[c])


def steps_from(step: Step, cut: range, h: np.ndarray) -> list[np.ndarray]:
    """The states after h [D], one for each step of the chunk."""
    states = []
    for t in cut:
        h = step(t, h)
        states.append(h)
    return states


def splice(stored: np.ndarray, step: Step, cut: range, h: np.ndarray) -> None:
    """Run a chunk from h and overwrite what is stored, until a state is equal to the one stored: the rest is, too."""
    for place, t in enumerate(cut):
        h = step(t, h)
        if np.array_equal(h, stored[place]):  # REC-PAR-4: defect 0, so REC-PAR-2 is kept
            return
        stored[place] = h


def shrinks_in_time(mismatches: list[float], chunks_left: int) -> bool:
    """Whether the mismatch, at the rate of the last two passes, is gone in as many passes as chunks are left."""
    if len(mismatches) < 3:
        return True
    rate = np.sqrt(mismatches[-1] / mismatches[-3])
    return bool(rate < 1 and mismatches[-1] * rate**chunks_left <= 2.0**-53)  # REC-PAR-3
