"""Speculate, scan, verify, splice on the GPU: all chunks run together, none is left out while one still runs.

Clauses     REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
The plain version, chunk by chunk, is torch_ops/parallel/_solver.py. Here a restart runs every chunk for a few steps in
one launch, then asks whether all stored states are sound where they meet the new ones; if not, for more steps.
"""

import math
from dataclasses import dataclass

import torch
import triton

from .._matmul import product
from ._advance import advance
from ._chunks import chain, freeze, verdict
from ._walk import walk

FEWEST_STEPS = 16
FIRST_STEPS = 8  # of a restart before its first verdict
SMALLEST = torch.finfo(torch.float32).tiny
FEW_ROWS = 4  # so many rows are walked with the product as matrix times vector


@dataclass(frozen=True)
class Report:
    """How a solution was found (REC-PAR-2)."""

    defect: float  # largest difference between a state and the step to it where chunks were spliced, beside the state
    passes: int  # how often chunks were run
    fell_back: bool  # whether the rest was walked step by step because it did not contract
    depth: int  # steps taken one after another; the loop takes T


def default_chunk(B: int, T: int, rows: int) -> int:
    """As few steps a chunk as `rows` rows allow, but no fewer than FEWEST_STEPS."""
    return max(FEWEST_STEPS, triton.cdiv(T, rows // B))


class Solver:
    """One forward solution: z, gamma [B, T, D], W_g, b_g in the storage dtype, h0 [B, D] in float32, contiguous W_g."""

    def __init__(self, z, gamma, W_g, b_g, h0, chunk: int, tolerance: float):
        self.z, self.gamma, self.W_g, self.b_g, self.h0 = z, gamma, W_g, b_g, h0
        self.B, self.T, self.D = z.shape
        self.chunk, self.count = chunk, triton.cdiv(self.T, chunk)
        self.tolerance = tolerance
        self.out = torch.empty((self.B, self.T, self.D), dtype=z.dtype, device=z.device)
        self.unit = torch.finfo(z.dtype).eps / 2
        self.depth, self.defect = 0, 0.0
        self._magnitudes: torch.Tensor | None = None

    def run(self) -> Report:
        factor, value = freeze(self.z, self.gamma, self.b_g, self.chunk, self.count)
        begun = chain(factor, value, self.h0)
        carry, previous = begun.clone(), torch.empty_like(begun)
        self._advance(carry, previous, 0, self.chunk, self.chunk)
        ends = carry
        mismatches: list[float] = []
        while True:
            due = torch.cat([self.h0[None], ends[:-1]])
            same = (due == begun) | (due.isnan() & begun.isnan())
            mismatch = torch.where(same, 0.0, due - begun)
            sizes = mismatch.abs().amax(-1) / due.abs().amax(-1).clamp_min(SMALLEST)
            sizes = sizes.nan_to_num(nan=math.inf).clamp_min(
                SMALLEST
            )  # a NaN is no small mismatch, nor is a tiny one none
            largest = torch.where(same.all(-1), 0.0, sizes).max().item()
            if largest == 0:
                return self._report(len(mismatches), False)
            mismatches.append(largest)
            done = len(mismatches)  # so many chunks are right: each pass mends one at least
            if is_hopeless(mismatches, self.count - done, self.unit):
                self._walk(due[done], done)
                return self._report(done, True)
            carried = chain(factor, factor * mismatch, torch.zeros_like(self.h0))
            matters = carried.abs().amax(-1) > self.unit * due.abs().amax(-1)
            begun = due + torch.where(matters[..., None], carried, 0.0)
            carry = begun.clone()
            if not self._restart(carry, previous):
                ends = carry

    def _restart(self, carry: torch.Tensor, previous: torch.Tensor) -> bool:
        """Run all chunks until the stored states are sound after the new ones, or to their ends. Did they meet?"""
        first, steps = 0, FIRST_STEPS
        while first + steps < self.chunk:
            self._advance(carry, previous, first, steps, steps - 1, store_before=first > 0)
            first += steps
            used, defect = self._verdict(carry, previous, first - 1)
            if used <= self.tolerance:
                self.defect = max(self.defect, defect)
                return True
            steps = first  # twice as many in all
        self._advance(carry, previous, first, self.chunk - first, self.chunk - first, store_before=first > 0)
        return False

    def _advance(self, carry, previous, first, steps, stored, store_before=False) -> None:
        carry, previous = (x.view(-1, self.D) for x in (carry, previous))
        advance(
            self.z,
            self.gamma,
            self.W_g,
            self.b_g,
            carry,
            previous,
            self.out,
            self.chunk,
            first,
            steps,
            stored,
            store_before,
        )
        self.depth += steps

    def _verdict(self, carry, previous, step) -> tuple[float, float]:
        """NUM-5 grants the product any order of its sum, D u of its terms, of which half is left to a splice; in a narrow
        format the state is known to half a gap only, more than u / 2 of it: each term of the product errs by that."""
        if self.tolerance == 0:
            same = self._equal(carry, step)
            return (0.0 if same else math.inf), 0.0
        if self._magnitudes is None:
            self._magnitudes = self.W_g.abs().T.contiguous()
        terms = product(previous.abs().view(-1, self.D).to(self.z.dtype), self._magnitudes)
        narrow = self.z.dtype != torch.float32
        of_product, of_storage = (self.unit / 2, self.unit / 2) if narrow else (self.D / 2 * self.unit, 0.0)
        carry, previous = (x.view(-1, self.D) for x in (carry, previous))
        return verdict(self.z, self.gamma, terms, previous, carry, self.out, self.chunk, step, of_product, of_storage)

    def _equal(self, carry: torch.Tensor, step: int) -> bool:
        """Whether the stored states at this step of all chunks are the new ones, bit for bit."""
        stored = self.out[:, step :: self.chunk].transpose(0, 1)
        return torch.equal(stored, carry[: stored.shape[0]].to(stored.dtype))

    def _walk(self, state: torch.Tensor, chunk: int) -> None:
        first = chunk * self.chunk
        walk_rows(self.z, self.gamma, self.W_g, self.b_g, state.contiguous(), self.out, first)
        self.depth += self.T - first

    def _report(self, restarts: int, fell_back: bool) -> Report:
        return Report(self.defect, restarts + 1 - fell_back, fell_back, self.depth)


def walk_rows(z, gamma, W_g, b_g, state: torch.Tensor, out: torch.Tensor, first: int) -> None:
    """Take all steps from `first` on one by one: state [B, D] in place, out [B, T, D]."""
    steps = z.shape[1] - first
    if state.shape[0] <= FEW_ROWS:
        walk(z, gamma, W_g, b_g, state, out, first, steps)
    else:  # one chunk that begins at `first` and is as long as all of time
        advance(z, gamma, W_g, b_g, state, torch.empty_like(state), out, z.shape[1], first, steps, steps)


def is_hopeless(mismatches: list[float], chunks_left: int, smallest: float) -> bool:
    """Whether at the rate seen so many passes are needed as there are chunks left: then the loop is no slower."""
    if chunks_left < 1 or len(mismatches) < 3:
        return False
    before, now = mismatches[-3], mismatches[-1]
    rate = math.sqrt(now / before) if math.isfinite(now) else math.inf
    slowest = 0.5 if now <= 16 * smallest else 1.0
    return not (rate < slowest and now * rate**chunks_left <= smallest)
