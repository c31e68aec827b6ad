"""Speculate, scan, verify, splice on the GPU: all chunks run together, none is left out while one still runs.

Clauses     REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
The plain version, chunk by chunk, is torch_ops/parallel/_solver.py. Here every row takes the same number of steps in one
launch; then the rows are asked where their new states meet the stored ones. The speculation is made better beforehand by
rough steps, with operands of one part.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .._launch import cdiv
from ..rows._rows import Cell, Rows
from ..rows._tiles import most_rows
from ._chunks import UNIT, Borders, Mismatch, chain
from ._verdict import Splices

FEWEST_STEPS = 16
FEWEST_BEFORE_VERDICT = 1  # steps of a restart, beside those over which a splice is spread
OVERHEAD = 80  # rows that a step could take in the time that is not their product's (measured)
WALK = 47  # what a step of a single row takes beside these, as matrix times vector (measured)
ROUGH = 2.0**-8  # how near the rough steps come: their operands are that rough
AMPLIFIED = 2.0**-6  # or not even so near, if what they round lasts; what is chaotic stays much farther apart
MOST_ROUGH_PASSES, IF_NOT_PROMISING = 6, 2
STALLED = 1 / 8  # of the rows; fewer that meet in a pass are too few
MET = 2.0**-14  # so much nearer come rows beyond their chunks, first with rough steps and then until they meet


@dataclass(frozen=True)
class Report:
    """How a solution was found (REC-PAR-2)."""

    defect: float  # largest difference between a state and the step to it where chunks were spliced, beside the state
    passes: int  # how often chunks were run
    fell_back: bool  # whether the rest was walked step by step because it did not contract
    depth: int  # steps taken one after another, the rough ones too; the loop takes T


@dataclass(frozen=True)
class Method:
    """By which means a kind of cell is solved."""

    rows: Callable[..., Rows]
    splices: type[Splices]
    freeze: Callable[
        [Any, int, int], tuple[torch.Tensor, torch.Tensor]
    ]  # maps of the first steps of chunks, and of all
    walk: Callable[[Any, torch.Tensor, torch.Tensor, int], None]  # all batch rows, step by step


def solve(
    method: Method, cell: Cell, initial: torch.Tensor, chunk: int | None, tolerance: float
) -> tuple[torch.Tensor, Report]:
    """All states [B, T, D] in float32 from initial [B, D] in float32 on, and how they were found."""
    B, T, D = cell.shape
    rate = cell.rate()
    if chunk is None:
        chunk = default_chunk(B, T, most_rows(D, cell.device), steps_to_shrink(rate, 1 / MET, T))
    chunk = min(chunk, T)
    solver = Solver(method, cell, initial, chunk, rate, tolerance)
    return solver.out, solver.run(solver.guess())


def default_chunk(B: int, T: int, most: int, memory: int) -> int:
    """As many steps a chunk as let all be done soonest, but no fewer than FEWEST_STEPS: many rows make short chunks, and few
    make short steps, of which each chunk takes as many more as its beginning is remembered."""
    # If it may not contract, neither much time nor much hope is spent.
    shares = (1, 2, 4, 8) if memory < T else (4,)
    choices = {max(FEWEST_STEPS, cdiv(T, max(1, most // share // B))) for share in shares}
    return min(choices, key=lambda chunk: (chunk + memory) * (cdiv(T, chunk) * B + OVERHEAD))


class Solver:
    """One solution; chunks are [chunks, B, D] where they are linked, [rows, D] where they are run."""

    def __init__(self, method: Method, cell: Cell, initial: torch.Tensor, chunk: int, rate: float, tolerance: float):
        self.method, self.cell, self.initial, self.chunk, self.rate = method, cell, initial, chunk, rate
        self.B, self.T, self.D = cell.shape
        self.count = cdiv(self.T, chunk)
        # Steps of a chunk that may be wrong and its end still nearly right.
        self.skipped = chunk - steps_to_shrink(rate, 1 / ROUGH, chunk)
        (self.first, self.factor), (self.first_value, self.value) = method.freeze(cell, chunk, self.skipped)
        memory = steps_to_shrink(rate, 1 / UNIT, self.T)
        self.promising = memory < self.T
        self.splices = method.splices(cell, self.count * self.B, tolerance)
        self.spread = self.splices.spread(memory, chunk, self.count * self.B)
        self.out = torch.empty(cell.shape, dtype=torch.float32, device=cell.device)
        self.depth = 0
        self.found: list[Mismatch] = []  # after one pass and the next, while they do not fit

    def guess(self) -> torch.Tensor:
        """Speculate on the state before every chunk: linear, then corrected by rough steps of the memory before it."""
        begun = chain(self.factor, self.value, self.initial)
        if self.cell.parts == 1 or self.count == 1:  # nothing rougher to be had, or nothing to guess
            return begun
        if self.skipped:
            rows = self._rows(torch.addcmul(self.first_value, self.first, begun), kept=0, parts=1)
            self._advance(rows, self.skipped, self.chunk - self.skipped, 0)
            return torch.cat([self.initial[None], rows.carry.view(begun.shape)[:-1]])
        rows = self._rows(begun.clone(), kept=0, parts=1)
        borders, before = Borders(self.initial, begun, self.factor), math.inf
        most = MOST_ROUGH_PASSES if self.promising else IF_NOT_PROMISING
        while True:
            self._advance(rows, 0, self.chunk, 0)
            mismatch = borders.compare(rows.carry, rows.live)
            borders.correct(rows.carry, rows.live, ends_move=True)
            if mismatch.size <= ROUGH:
                self.found = []  # what is left may be the operands' roughness
                return borders.begun
            self.found.append(mismatch)
            comes_nearer = mismatch.size < before / 2
            if not comes_nearer and mismatch.size <= AMPLIFIED:
                self.found = []
            if not comes_nearer or len(self.found) == most:
                return borders.begun
            before = mismatch.size
            rows.live.fill_(1)

    def run(self, begun: torch.Tensor) -> Report:
        if self._is_hopeless(0):  # as rough steps have shown
            self._walk(self.initial.clone(), 0)
            return self._report(1, True)
        rows, borders = self._rows(begun.clone(), self.spread), Borders(self.initial, begun, self.factor)
        self._advance(rows, 0, self.chunk, self.chunk)
        for passes in itertools.count(1):
            mismatch = borders.compare(rows.carry, rows.live)
            if mismatch.rows == 0:
                break
            self.found.append(mismatch)
            done = mismatch.first // self.B  # every chunk before this one is right
            if self._is_hopeless(done):
                self._walk(borders.due[done], done)
                return self._report(passes, True)
            expected = steps_to_shrink(self._rate_seen(), mismatch.size / self.splices.near, self.chunk)
            ends_move = expected + self.spread >= self.chunk
            borders.correct(rows.carry, rows.live, ends_move)
            if self._restart(rows, expected) and not ends_move:  # all begin where they are due, and no end has moved
                return self._report(passes + 1, False)
        return self._report(passes, False)

    def _rate_seen(self) -> float:
        """The rate, or what the last pass has shown if rows came nearer than it says."""
        if len(self.found) < 2 or not 0 < self.found[-1].size < self.found[-2].size < math.inf:
            return self.rate
        seen = math.log(self.found[-1].size / self.found[-2].size) / self.chunk
        return seen if math.isnan(self.rate) else min(seen, self.rate)

    def _is_hopeless(self, done: int) -> bool:
        return is_hopeless(self.found, self.passes_worth(done), self.splices.near, self.promising)

    def passes_worth(self, done: int) -> float:
        """How many passes take as long as the loop over the chunks that are not done."""
        step = WALK if self.B == 1 else self.B + OVERHEAD
        return (self.count - done) * step / (self.count * self.B + OVERHEAD)

    def _restart(self, rows: Rows, expected: int) -> bool:
        """Run the live rows until they meet what is stored, after so many steps as expected, or to the ends of their
        chunks: those that came so far live on. Return whether all have met it."""
        first, steps = 0, max(FEWEST_BEFORE_VERDICT, expected) + self.spread
        while first + steps < self.chunk:
            self._advance(rows, first, steps, steps - rows.kept)
            first += steps
            self.splices.judge(rows, self.out, first - rows.kept)
            if not rows.live.any().item():
                return True
            steps = max(FEWEST_BEFORE_VERDICT + self.spread, first // 8)
        self._advance(rows, first, self.chunk - first, self.chunk - first)
        self.splices.forget(rows.live)
        return False

    def _rows(self, states: torch.Tensor, kept: int, parts: int | None = None) -> Rows:
        return self.method.rows(self.cell, states.view(-1, self.D), self.chunk, kept, parts)

    def _advance(self, rows: Rows, first: int, steps: int, stored: int) -> None:
        rows.advance(self.out, first, steps, stored)
        self.depth += steps

    def _walk(self, state: torch.Tensor, chunk: int) -> None:
        self.method.walk(self.cell, state.contiguous(), self.out, chunk * self.chunk)
        self.depth += self.T - chunk * self.chunk

    def _report(self, passes: int, fell_back: bool) -> Report:
        return Report(self.splices.defect.max().item(), passes, fell_back, self.depth)


def steps_to_shrink(rate: float, factor: float, most: int) -> int:
    """After how many steps at this rate a difference has shrunk by the factor; `most` if never."""
    if factor <= 1:
        return 0
    if not (rate < 0 and math.isfinite(factor)):
        return most
    return min(most, math.ceil(math.log(factor) / -rate))


def is_hopeless(found: list[Mismatch], passes_worth: float, near: float, promising: bool) -> bool:
    """Whether at the rate seen more passes are needed than are worth their time.

    Of rows that differ by roundings some find a place to be spliced in every pass: then their number counts. What is not
    expected to be forgotten at all has to show soon that it is."""
    if passes_worth < 1:
        return False
    if is_stalled(found):
        return True
    if not promising and len(found) >= 2 and not found[-1].size < found[-2].size / 4:
        return found[-1].rows > found[-2].rows / 2
    if len(found) < 3 or found[-1].rows <= found[-3].rows / 2:
        return False
    before, now = found[-3].size, found[-1].size
    rate = math.sqrt(now / before) if math.isfinite(now) else math.inf
    slowest = 0.5 if now <= near else 1.0
    return not (rate < slowest and now * rate**passes_worth <= UNIT)


def is_stalled(found: list[Mismatch]) -> bool:
    """Whether rows that came near come no nearer, and do not meet: then it is what the sums' order rounds that keeps them
    apart."""
    if len(found) < 2 or found[-1].rows <= found[-2].rows * (1 - STALLED):
        return False
    return found[-1].size < ROUGH / 8 and found[-1].size > found[-2].size / 2
