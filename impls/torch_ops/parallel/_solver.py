"""Speculate, scan, verify, splice: every chunk of time at once, from guessed states, until no guess is left.

Clauses     REC-PAR-1, REC-PAR-2, REC-PAR-3
Parallel    one step of every chunk that still runs is one call of the cell; chunks are corrected by one scan
Memory      the states of all steps
Precision   that of the cell

A chunk runs from the state that its predecessor is believed to end in. When the predecessor turns out to end elsewhere,
the chunk runs again from there (restart) until its new trajectory meets the one that is stored (splice): from then on
both would be the same. Whether two states are the same is for the cell to say. A recurrence that contracts forgets
where it started, and chunks splice after a few steps.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from .._take_steps import take_steps

Rows = torch.Tensor | slice
NOISE = 16  # differences of so many units of roundoff may be roundings, which a pass need not make smaller


@dataclass(frozen=True)
class Report:
    """How a solution was found. Every number of it can be checked against the result (REC-PAR-2)."""

    defect: float  # largest difference between a state and the exact step to it where chunks were spliced, relative
    passes: int  # how often chunks were run
    fell_back: bool  # whether the rest was walked step by step because it did not contract
    depth: int  # steps taken one after another; the loop takes T


class Cell(Protocol):
    """The recurrence x' = step(x) of every row [rows, D], all its arguments known."""

    def step(self, j: int, rows: Rows, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The states after step j of these rows, and what the other two functions want to know of the step."""

    def slope(self, j: int, rows: Rows, known: torch.Tensor) -> torch.Tensor:
        """The diagonal of the step's derivative."""

    def defect(
        self, j: int, rows: Rows, x: torch.Tensor, known: torch.Tensor, stored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How far `stored` lies from the exact step from x, and how far a rounding of it may lie (REC-PAR-2)."""


def solve(
    cell: Cell, first: torch.Tensor, guesses: torch.Tensor, steps: int, tolerance: float
) -> tuple[torch.Tensor, Report]:
    """Return the states after every step, [steps, rows, D], and how they were found.

    Args  first      [B, D]           the states before the first chunk
          guesses    [rows - B, D]    guessed states before the others; row r follows row r - B
          tolerance  share of a rounding's room that a defect may use; 0 splices equal states only
    """
    B = first.shape[0]
    begun = torch.cat([first, guesses])  # from where each chunk was run last
    chunks = begun.shape[0] // B
    states, memory = _sweep(cell, begun, steps)
    defect, depth = 0.0, steps
    mismatches: list[float] = []
    while True:
        due = torch.cat([first, states[-1, :-B]])  # where each chunk's predecessor ends
        wrong = _differ(due, begun).any(dim=1)
        if not wrong.any():
            return states, Report(defect, len(mismatches) + 1, False, depth)
        mismatches.append(_size_of(due - begun, due)[wrong].max().item())
        reached = int(wrong.nonzero()[0]) // B  # every chunk before this one is right
        if _is_hopeless(mismatches, chunks - reached, torch.finfo(begun.dtype).eps):
            _walk(cell, due[reached * B : reached * B + B], states, reached)
            return states, Report(defect, len(mismatches) + 1, True, depth + (chunks - reached) * steps)
        start = due + _carried(due - begun, memory, due, B)
        restarted = _differ(start, begun).any(dim=1).nonzero()[:, 0]
        begun[restarted] = start[restarted]
        spliced, taken = _restart(cell, restarted, start[restarted], states, tolerance)
        defect, depth = max(defect, spliced), depth + taken


def _sweep(cell: Cell, x: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Run every chunk from x. Return all states, and how a change of each start comes out at the end of its chunk."""
    states, memory = x.new_empty((steps, *x.shape)), torch.ones_like(x)
    everyone = slice(None)
    for j in range(steps):
        x, known = cell.step(j, everyone, x)
        states[j] = x
        memory = memory * cell.slope(j, everyone, known)
    return states, memory.clamp(-1, 1)


def _restart(
    cell: Cell, rows: torch.Tensor, x: torch.Tensor, states: torch.Tensor, tolerance: float
) -> tuple[float, int]:
    """Run these rows from x until each meets what is stored. Return the largest defect left there, and the steps.

    The stored state stays where they meet, so that the steps after it stay exact: the step that leads to it from the
    new trajectory is the one with a defect.
    """
    defect = 0.0
    for j in range(states.shape[0]):
        (new, known), stored = cell.step(j, rows, x), states[j, rows]
        differ, missed = _differ(new, stored), torch.zeros_like(x)
        if tolerance:
            missed, room = cell.defect(j, rows, x, known, stored)
            missed = missed.where(differ, 0.0)
            differ &= ~(missed.abs() <= tolerance * room)
        met = ~differ.any(dim=1)
        if met.any():
            defect = max(defect, _size_of(missed, stored)[met].max().item())
            rows, new = rows[~met], new[~met]
            if not len(rows):
                return defect, j + 1
        states[j, rows] = x = new
    return defect, states.shape[0]


def _walk(cell: Cell, x: torch.Tensor, states: torch.Tensor, chunk: int) -> None:
    """Take the steps one by one from a chunk on, as the loop does (REC-PAR-3)."""
    steps, rows, _ = states.shape
    B = x.shape[0]
    for begin in range(chunk * B, rows, B):
        for j in range(steps):
            x, _ = cell.step(j, slice(begin, begin + B), x)
            states[j, begin : begin + B] = x


def _carried(mismatch: torch.Tensor, memory: torch.Tensor, due: torch.Tensor, B: int) -> torch.Tensor:
    """What corrections of earlier chunks change in the state before each chunk, to first order.

    With d_c the correction of the start of chunk c:  d_c = mismatch_c + memory_{c-1} d_{c-1}, one scan over chunks;
    the second summand is returned. Corrections of the size of roundings are dropped, so that the chunks settle.
    """
    rows, D = mismatch.shape

    def over_chunks(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(rows // B, B, D).transpose(0, 1)

    factor = torch.cat([torch.zeros_like(memory[:B]), memory[:-B]])
    corrections = torch.empty_like(over_chunks(mismatch), memory_format=torch.contiguous_format)
    take_steps(over_chunks(factor), over_chunks(mismatch), torch.zeros_like(corrections[:, 0]), corrections)
    corrections = corrections.transpose(0, 1).reshape(rows, D)
    carried = corrections - mismatch
    negligible = carried.abs() <= NOISE * torch.finfo(due.dtype).eps * due.abs()
    return torch.where(negligible | ~carried.isfinite(), 0.0, carried)


def _is_hopeless(mismatches: list[float], chunks_left: int, smallest: float) -> bool:
    """Whether at the rate seen so many passes are needed as there are chunks left: then the loop is no slower."""
    if len(mismatches) < 3:
        return False
    before, now = mismatches[-3], mismatches[-1]
    rate = math.sqrt(now / before) if math.isfinite(now) else math.inf
    slowest = 0.5 if now <= 4 * NOISE * smallest else 1.0
    return not (rate < slowest and now * rate**chunks_left <= smallest)


def _differ(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Where two states differ; NaN is like NaN."""
    return (x != y) & ~(x.isnan() & y.isnan())


def _size_of(difference: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
    """The largest difference of each row beside the row's largest value."""
    size = difference.abs().amax(dim=1) / beside.abs().amax(dim=1).clamp_min(torch.finfo(beside.dtype).tiny)
    return size.nan_to_num(nan=math.inf, posinf=math.inf)
