"""REC-PAR in its plainest form: one row, chunk by chunk, exact splices (spec/recurrence.md)."""

from dataclasses import dataclass

import numpy as np

from mmrec.reference.gated_recurrence import gated_step
from mmrec.reference.linear_recurrence import linear_recurrence
from mmrec.reference.numbers import sigmoid


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
    """Return what the loop returns, by chunks that could run side by side.

    Clauses  REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
    Args     as gated_recurrence, in float64, with one row (B = 1) and T >= 1; chunk, its steps
    Returns  Solution; its defect is 0, since only equal states are spliced
    Source   decided here (X-1)
    """
    frozen = linear_recurrence(gamma, z * sigmoid(b_g), h0)[0]
    cuts = [slice(first, first + chunk) for first in range(0, z.shape[1], chunk)]
    begun = [h0[0]] + [frozen[cut.start - 1] for cut in cuts[1:]]
    states = [np.array(steps_from(z[0, cut], gamma[0, cut], W_g, b_g, h)) for cut, h in zip(cuts, begun, strict=True)]
    mismatches: list[float] = []
    while True:
        due = [h0[0]] + [of_chunk[-1].copy() for of_chunk in states[:-1]]
        wrong = [c for c in range(len(cuts)) if not np.array_equal(due[c], begun[c])]
        if not wrong:
            return Solution(states, len(mismatches) + 1, False)
        mismatches.append(max(np.max(np.abs(due[c] - begun[c])) / np.max(np.abs(due[c])) for c in wrong))
        if not shrinks_in_time(mismatches, len(cuts) - wrong[0]):
            for c in range(wrong[0], len(cuts)):  # REC-PAR-3: one after the other
                before = states[c - 1][-1]
                states[c] = np.array(steps_from(z[0, cuts[c]], gamma[0, cuts[c]], W_g, b_g, before))
            return Solution(states, len(mismatches) + 1, True)
        for c in wrong:
            begun[c] = due[c]
            splice(states[c], z[0, cuts[c]], gamma[0, cuts[c]], W_g, b_g, due[c])


def steps_from(z: np.ndarray, gamma: np.ndarray, W_g: np.ndarray, b_g: np.ndarray, h: np.ndarray) -> list[np.ndarray]:
    """The states after h [D], one for each step [D] of z."""
    states = []
    for z_t, gamma_t in zip(z, gamma, strict=True):
        h = gated_step(z_t[None], gamma_t[None], W_g, b_g, h[None])[0]
        states.append(h)
    return states


def splice(
    stored: np.ndarray, z: np.ndarray, gamma: np.ndarray, W_g: np.ndarray, b_g: np.ndarray, h: np.ndarray
) -> None:
    """Run a chunk from h and overwrite what is stored, until a state is equal to the one stored: the rest is, too."""
    for t in range(len(z)):
        h = gated_step(z[t][None], gamma[t][None], W_g, b_g, h[None])[0]
        if np.array_equal(h, stored[t]):  # REC-PAR-4: defect 0, so REC-PAR-2 is kept
            return
        stored[t] = h


def shrinks_in_time(mismatches: list[float], chunks_left: int) -> bool:
    """Whether the mismatch, at the rate of the last two passes, is gone in as many passes as chunks are left."""
    if len(mismatches) < 3:
        return True
    rate = np.sqrt(mismatches[-1] / mismatches[-3])
    return bool(rate < 1 and mismatches[-1] * rate**chunks_left <= 2.0**-53)  # REC-PAR-3
