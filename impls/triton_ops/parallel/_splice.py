"""Where a chunk that was run again meets what is stored: which of the stored states may stand (REC-PAR-2).

Parallel    one program per row
Memory      touches a few steps of each chunk, those over which a splice may be spread
Precision   float32; the step before is one fused multiply-add, see below

Of each row this judges steps that follow each other, t, t + 1, ..., of which the new states x are known. If the row is
spliced, the states before t are the new ones, those after the last of these steps the stored ones, s, and in between each
channel goes over from new to stored at one of them. Then some steps were not taken as they stand, and what NUM-5 grants to
the rounding of a step must cover what is amiss (u is the unit roundoff of float32, D terms in a sum):

going over at t    |s_t - x_t|. The step to x_t is a fused multiply-add, so that the rounding of gamma x_{t-1} was not used,
                   u |gamma x_{t-1}| (none where that product is exact, or nothing is added to it); and of what any order of
                   the sum of the logits may do, D u (1 - gate) |z gate| |W||x|, a fifth.
the step after     in every channel, while some have gone over and some have not, by what W makes of the differences
                   between both: no more than a fifth of the same, if the length of s_t - x_t times that of a row of W is at
                   most a fifth of D u |W||x| there.

A quarter is left to the parts of the operand, and a third to the sum's own order (_parts.py): so no step may be one of two
splices. All this is linear in the logits: more than 2^-6 of them is never granted. A channel whose inflow is tiny has no
room at one step, but hardly one has none at all; none goes over before the differences are small enough for the step after.
|W||x| is computed in bfloat16. For the adjoint the logits' sum is W x itself, without the factor (1 - gate) |z gate|, and
slope times inflow + state takes the place of the state.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, compile_spec
from .._device import same_bits, sigmoid
from .._launch import launch, next_power_of_2
from ..rows._cell import Cell
from ..rows._rows import Rows
from . import _verdict
from ._chunks import UNIT
from ._verdict import ROUNDED, load_stream

# ---- device code -------------------------------------------------------------------


@triton.jit
def felt(inflow, logits, amount, ADJOINT: tl.constexpr):
    """What a change of the logits by an amount makes of the step."""
    if ADJOINT:
        return amount
    else:
        gate = sigmoid(logits)
        return amount * tl.abs(inflow * gate * (1.0 - gate))


@triton.jit
def length(x):
    """Of a vector, without underflow."""
    most = tl.max(tl.abs(x), axis=0)
    scaled = x / tl.where(most > 0, most, 1.0)
    return most * tl.sqrt(tl.sum(scaled * scaled, axis=0))


@triton.jit
def state_after(previous_ptr, carry_ptr, i, kept, r, R, D):
    """The place of the new state after step number i of those that are kept."""
    return tl.where(i + 1 < kept, previous_ptr + ((i + 1) * R + r) * D, carry_ptr + r * D)


@triton.jit(do_not_specialize=["step", "kept", "R", "B", "T", "chunk"])
def splice_kernel(
    inflow_ptr, gamma_ptr, slope_ptr, norm_ptr, terms_ptr, previous_ptr, logits_ptr, carry_ptr, out_ptr, live_ptr, taken_ptr,
    defect_ptr, step, kept, R, B, T, chunk, D, inflow_stride_b, inflow_stride_t, inflow_stride_d, gamma_stride_b, gamma_stride_t,
    gamma_stride_d, slope_stride_b, slope_stride_t, slope_stride_d, share, limit, unit,
    ADJOINT: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Row r has taken the steps `step`, ... of its chunk, `kept` of them, from the states `previous`. If it may be spliced in
    these it is, and lives no longer; if not, its new states are stored. taken [2, R] are the first step and the one after the
    last between which the stored states have been spliced. defect[r] becomes the most that is amiss in a step, beside the
    largest state."""
    r = tl.program_id(0).to(tl.int64)
    b, t = r % B, (r // B) * chunk + step
    lives = tl.load(live_ptr + r) != 0
    if t >= T:  # nothing is left to run
        tl.store(live_ptr + r, 0)
    elif lives:
        d = tl.arange(0, BLOCK_D)
        norm = tl.load(norm_ptr + d, mask=d < D, other=0.0)
        over = tl.zeros((BLOCK_D,), tl.int32)  # whether a channel has gone over
        mixed = tl.full((), 0, tl.int32)  # whether some have and some have not
        distance, missed, size = tl.full((), 0, tl.float32), tl.full((), 0, tl.float32), tl.full((), 0, tl.float32)
        sound = tl.full((), 1, tl.int32)
        for i in range(kept):
            inside = d < tl.where(t + i < T, D, 0)  # no channel has a step after the last
            at, stored_at = (i * R + r) * D + d, (b * T + t + i) * D + d
            inflow = load_stream(inflow_ptr, b, t + i, d, inflow_stride_b, inflow_stride_t, inflow_stride_d, inside)
            gamma = load_stream(gamma_ptr, b, t + i, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, inside)
            before = tl.load(previous_ptr + at, mask=inside, other=0.0)
            logits = tl.load(logits_ptr + at, mask=inside, other=0.0)
            allowed = share * tl.load(terms_ptr + at, mask=inside, other=0.0)
            if ADJOINT:
                before += inflow
            else:
                allowed = tl.where(allowed < limit, allowed, limit)
            new = tl.load(state_after(previous_ptr, carry_ptr, i, kept, r, R, D) + d, mask=inside, other=0.0)
            stored = tl.load(out_ptr + stored_at, mask=inside, other=0.0)
            same = same_bits(new, stored)
            difference = tl.where(same, 0.0, tl.abs(new - stored))

            spread = distance * norm
            held = ((spread <= allowed) & (spread < float("inf"))) | ~inside
            sound = tl.where(mixed != 0, tl.minimum(sound, tl.min(held.to(tl.int32), axis=0)), sound)
            product = gamma * before
            rounds = tl.fma(gamma, before, -product) != 0
            if not ADJOINT:
                rounds &= inflow != 0
            room = felt(inflow, logits, allowed, ADJOINT) + tl.where(rounds, unit * tl.abs(product), 0.0)
            may = same | ((difference <= room) & (room > 0) & (difference < float("inf"))) | ~inside

            operand = difference
            if ADJOINT:
                then = d < tl.where(t + i + 1 < T, D, 0)
                operand *= load_stream(slope_ptr, b, t + i + 1, d, slope_stride_b, slope_stride_t, slope_stride_d, then)
            after = length(operand)
            all_may = tl.min((may | (over != 0)).to(tl.int32), axis=0)
            bearable = tl.min(((after * norm <= allowed) | ~inside).to(tl.int32), axis=0)
            goes = may & (over == 0) & ((all_may | bearable) != 0)
            amiss = felt(inflow, logits, tl.where(mixed != 0, spread, 0.0), ADJOINT) + tl.where(goes, difference, 0.0)
            missed = tl.maximum(missed, tl.max(tl.where(inside, amiss, 0.0), axis=0))
            size = tl.maximum(size, tl.max(tl.abs(stored), axis=0))
            over = tl.where(goes, 1, over)
            distance = after
            mixed = tl.max(tl.where(d < D, over, 0), axis=0) - tl.min(tl.where(d < D, over, 1), axis=0)
            # Which of the two would stand; read below only if the row is spliced.
            tl.store(terms_ptr + at, tl.where(over != 0, stored, new), mask=inside)
        begin, end = tl.load(taken_ptr + r), tl.load(taken_ptr + R + r)
        stop = tl.where(step < end, end, step + kept)  # of those splices that stay
        spliced = (
            (sound != 0) & (tl.min(tl.where(d < D, over, 1), axis=0) != 0) & ((step + kept <= begin) | (step >= end))
        )
        if spliced:
            tl.store(live_ptr + r, 0)
            tl.store(taken_ptr + r, step)
            tl.store(taken_ptr + R + r, stop)
            tl.store(defect_ptr + r, tl.maximum(tl.load(defect_ptr + r), missed / tl.maximum(size, 1e-30)))
        elif step + kept >= end:  # none stays
            tl.store(taken_ptr + R + r, 0)
        tl.debug_barrier()
        for i in range(kept):
            inside = d < tl.where(t + i < T, D, 0)
            mixed_at, new_at = terms_ptr + (i * R + r) * D, state_after(previous_ptr, carry_ptr, i, kept, r, R, D)
            stands = tl.load(tl.where(spliced, mixed_at, new_at) + d, mask=inside, other=0.0)
            tl.store(out_ptr + (b * T + t + i) * D + d, stands, mask=inside)


def compile_specs() -> list[CompileSpec]:
    arithmetic = ("norm_ptr", "terms_ptr", "previous_ptr", "logits_ptr", "carry_ptr", "out_ptr", "defect_ptr")
    specs = []
    for storage, slope, adjoint in (("bf16", "bf16", False), ("bf16", "fp32", True), ("fp32", "fp32", True)):
        types = {
            "live_ptr": "*i32",
            "taken_ptr": "*i32",
            "share": "fp32",
            "limit": "fp32",
            "unit": "fp32",
            "slope_ptr": f"*{slope}",
        }
        options: dict[str, Any] = {"ADJOINT": adjoint, "BLOCK_D": 4096, "num_warps": 16}
        specs.append(compile_spec(splice_kernel, storage, arithmetic, types=types, **options))
    return specs


# ---- launch ------------------------------------------------------------------------

# A gate that is shut or open grants nothing to its channel, and stays so for as long as states last.
FEWEST_STEPS = 3
MOST_KEPT = 8192  # rows of all these steps, or they would take more memory than what is asked for
LIMIT = 2.0**-6  # of logits
ENLARGED = 1 + 2.0**-9  # more than the roundings of a norm may have taken off


class Splices(_verdict.Splices):
    def __init__(self, cell: Cell, rows: int, tolerance: float):
        super().__init__(cell, rows, tolerance)
        self.taken = torch.zeros((2, rows), dtype=torch.int32, device=cell.device)
        self.near = cell.shape[2] / 8 * UNIT  # measured at D = 4096
        self.cell, self.norms = cell, cell.norms * ENLARGED

    def spread(self, memory: int, chunk: int, rows: int) -> int:
        if not self.tolerance:  # equal states are equal at once
            return 1
        return max(FEWEST_STEPS, min(memory // 24, chunk // 4, MOST_KEPT // rows))

    def forget(self, live: torch.Tensor) -> None:
        self.taken.masked_fill_(live != 0, 0)

    def judge(self, rows: Rows, out: torch.Tensor, step: int) -> None:
        cell, (B, T, D) = self.cell, self.cell.shape
        slope = cell.inflow if cell.slope is None else cell.slope
        block = next_power_of_2(D)
        launch(
            splice_kernel, (rows.carry.shape[0],), rows.carry.device,
            cell.inflow, cell.gamma, slope, self.norms, self.terms(rows), rows.previous, rows.logits, rows.carry, out, rows.live,
            self.taken, self.defect, step, rows.kept, rows.carry.shape[0], B, T, rows.chunk, D,
            *cell.inflow.stride(), *cell.gamma.stride(), *slope.stride(), D / 5 * UNIT * ROUNDED**3 * self.tolerance,
            LIMIT * self.tolerance, UNIT * self.tolerance, ADJOINT=cell.adjoint, BLOCK_D=block,
            num_warps=max(4, min(16, block // 256)),
        )  # fmt: skip
