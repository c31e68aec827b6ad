"""Where a chunk that was run again meets what is stored: which of the stored states may stand (REC-PAR-2).

Parallel    one program per row
Memory      touches two steps of each chunk
Precision   float32; the step before is one fused multiply-add, see below

Of each row this judges two steps that follow each other, t and t + 1, of which the new states x_t, x_{t+1} are known. If
the row is spliced, the states before t are the new ones, those after t the stored ones, and state t is put together:
channel by channel the stored one, s, or the new one. Two steps then were not taken as they stand, and what NUM-5 grants to
the rounding of a step must cover what is amiss (u is the unit roundoff of float32, D terms in a sum):

step t      where s stands, by |s - x_t|. The step to x_t is a fused multiply-add, so that the rounding of gamma x_{t-1}
            was not used, u |gamma x_{t-1}| (none where that product is exact); and of what any order of the sum of the
            logits may do, D u (1 - gate) |z gate| |W||x|, a quarter.
step t + 1  where x_t stands, by |gamma (s - x_t)|: a quarter of the same at t + 1.
            Everywhere, by what W makes of the differences that stand: less than a quarter of the same, if each
            |s - x_t| is at most a quarter of D u |x_t|.

A quarter is left to the parts of the operand, and one to the sum's own order. A channel whose inflow is tiny has no room at
one step, but hardly one has none at two. |W||x| is computed in bfloat16 and then made smaller by what that may have
rounded. For the adjoint the logits' sum is W x itself, without the factor (1 - gate) |z gate|, and inflow + state takes the
place of the state.
"""

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, compile_spec
from .._device import sigmoid
from .._launch import launch
from ..rows._cell import Cell
from ..rows._rows import Rows
from . import _verdict
from ._chunks import UNIT
from ._verdict import ROUNDED, load_stream

# ---- device code -------------------------------------------------------------------


@triton.jit
def room_of_sum(inflow, logits, terms, share, ADJOINT: tl.constexpr):
    """A quarter of what the order of the sum may do to the step."""
    if ADJOINT:
        return share * terms
    else:
        gate = sigmoid(logits)
        return share * terms * tl.abs(inflow * gate * (1.0 - gate))


@triton.jit(do_not_specialize=["step", "R", "B", "T", "chunk"])
def splice_kernel(
    inflow_ptr, gamma_ptr, terms_ptr, previous_ptr, logits_ptr, carry_ptr, out_ptr, live_ptr, defect_ptr,
    step, R, B, T, chunk, D, inflow_stride_b, inflow_stride_t, inflow_stride_d, gamma_stride_b, gamma_stride_t,
    gamma_stride_d, share, unit,
    ADJOINT: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Row r is at `step` + 1 of its chunk. If it may be spliced at `step` it is, and lives no longer; if not, its two new
    states are stored. defect[r] becomes the largest difference spliced, beside the largest state."""
    r = tl.program_id(0).to(tl.int64)
    b, t = r % B, (r // B) * chunk + step
    lives = tl.load(live_ptr + r) != 0
    if t >= T:  # nothing is left to run
        tl.store(live_ptr + r, 0)
    elif lives:
        sound, missed, size = 1, 0.0, 0.0
        D_after = tl.where(t + 1 < T, D, 0)  # no channel has a step after the last
        for start in range(0, D, BLOCK_D):
            d = start + tl.arange(0, BLOCK_D)
            inside = d < D
            at = r * D + d
            inflow = load_stream(inflow_ptr, b, t, d, inflow_stride_b, inflow_stride_t, inflow_stride_d, inside)
            gamma = load_stream(gamma_ptr, b, t, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, inside)
            before = tl.load(previous_ptr + at, mask=inside, other=0.0)
            if ADJOINT:
                before += inflow
            logits = tl.load(logits_ptr + at, mask=inside, other=0.0)
            terms = tl.load(terms_ptr + at, mask=inside, other=0.0)
            new = tl.load(previous_ptr + R * D + at, mask=inside, other=0.0)
            stored = tl.load(out_ptr + (b * T + t) * D + d, mask=inside, other=0.0)
            difference = tl.abs(new - stored)
            product = gamma * before
            inexact = tl.fma(gamma, before, -product) != 0
            room = room_of_sum(inflow, logits, terms, share, ADJOINT) + tl.where(inexact, unit * tl.abs(product), 0.0)
            same = (new == stored) | ((new != new) & (stored != stored))
            stands = same | (difference <= room)

            after = d < D_after
            inflow = load_stream(inflow_ptr, b, t + 1, d, inflow_stride_b, inflow_stride_t, inflow_stride_d, after)
            gamma = load_stream(gamma_ptr, b, t + 1, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, after)
            logits = tl.load(logits_ptr + R * D + at, mask=inside, other=0.0)
            terms = tl.load(terms_ptr + R * D + at, mask=inside, other=0.0)
            multiplied = new + inflow if ADJOINT else new
            room = room_of_sum(inflow, logits, terms, share, ADJOINT)
            follows = (gamma * difference <= room) & (difference <= share * tl.abs(multiplied))
            sound = tl.minimum(sound, tl.min((stands | follows | ~inside).to(tl.int32), axis=0))
            missed = tl.maximum(missed, tl.max(tl.where(same, 0.0, difference), axis=0))
            size = tl.maximum(size, tl.max(tl.abs(stored), axis=0))
            # Which of the two would stand; read below only if the row is spliced.
            tl.store(terms_ptr + at, tl.where(stands, stored, new), mask=inside)
        if sound != 0:
            tl.store(live_ptr + r, 0)
            tl.store(defect_ptr + r, tl.maximum(tl.load(defect_ptr + r), missed / tl.maximum(size, 1e-30)))
        tl.debug_barrier()
        for start in range(0, D, BLOCK_D):
            d = start + tl.arange(0, BLOCK_D)
            inside = d < D
            at = r * D + d
            spliced = tl.load(terms_ptr + at, mask=inside, other=0.0)
            new = tl.load(previous_ptr + R * D + at, mask=inside, other=0.0)
            tl.store(out_ptr + (b * T + t) * D + d, tl.where(sound != 0, spliced, new), mask=inside)
            if sound == 0:
                after = tl.load(carry_ptr + at, mask=inside, other=0.0)
                tl.store(out_ptr + (b * T + t + 1) * D + d, after, mask=d < D_after)


def compile_specs() -> list[CompileSpec]:
    arithmetic = ("terms_ptr", "previous_ptr", "logits_ptr", "carry_ptr", "out_ptr", "defect_ptr")
    types = {"live_ptr": "*i32", "share": "fp32", "unit": "fp32"}
    return [
        compile_spec(splice_kernel, storage, arithmetic, types=types, ADJOINT=adjoint, BLOCK_D=1024)
        for storage in ("fp32", "bf16")
        for adjoint in (False, True)
    ]


# ---- launch ------------------------------------------------------------------------


class Splices(_verdict.Splices):
    NEAR = 16 * UNIT

    def __init__(self, cell: Cell, rows: int, tolerance: float):
        super().__init__(cell, rows, tolerance)
        self.cell = cell

    def judge(self, rows: Rows, out: torch.Tensor, step: int) -> None:
        cell, (B, T, D) = self.cell, self.cell.shape
        launch(
            splice_kernel, (rows.carry.shape[0],), rows.carry.device,
            cell.inflow, cell.gamma, self.terms(rows), rows.previous, rows.logits, rows.carry, out, rows.live, self.defect,
            step, rows.carry.shape[0], B, T, rows.chunk, D, *cell.inflow.stride(), *cell.gamma.stride(),
            D / 4 * UNIT * ROUNDED * self.tolerance, UNIT * self.tolerance,
            ADJOINT=cell.adjoint, BLOCK_D=min(1024, triton.next_power_of_2(D)),
        )  # fmt: skip
