"""Where a chunk of the stabilized recurrence that was run again meets what is stored: whether that may stand (REC-PAR-2).

Parallel    one program per row
Memory      touches one step of each chunk
Precision   float32; the mix is a fused multiply-add, see below

A norm ties the channels of a row together, so a row is spliced at one step, t, or not at all. The stored state s takes the place
of the new one, x_t, if each |s - x_t| is within what NUM-5 grants to the rounding of the step and the step did not use (u is
the unit roundoff of float32, D terms in a sum):

to the mix  of what any order of the sum of the logits may do to it, D u (1 - gate) gate |W||h| (|h| + |z|), a quarter; a
            quarter is left to the parts of the operand, the rest to the sum's own order. And the mix is a fused multiply-add,
            so that the rounding of gamma h was not used, u |gamma h| (none where that product is exact). Together E.
through the norm   with n the standardized mix, r one over its deviation and w the weight, what its derivative makes of E with
            any signs: |w| r (E + |n| mean(|n| E)), for "layer" with mean(E) added to E.
beyond the clip    nothing.

Of the adjoint E is a quarter of D u |W||slope e| and the rounding of kept e, e being the state before, times |w| where the clip
does not act; then the same, without another w. |W||h| is computed in bfloat16 and made smaller by what that may have rounded.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, compile_spec
from .._device import same_bits, sigmoid
from .._launch import launch, next_power_of_2
from .._stabilizer import before_clip, moments, standardized
from ..rows._rows import Rows
from . import _verdict
from ._chunks import UNIT
from ._verdict import ROUNDED, load_stream

# ---- device code -------------------------------------------------------------------


@triton.jit
def room_of_product(factor, x, unit):
    """The rounding of a product that was not rounded."""
    product = factor * x
    return tl.where(tl.fma(factor, x, -product) != 0, unit * tl.abs(product), 0.0)


@triton.jit
def through_norm(room, standard, scale, inside, D, NORM: tl.constexpr):
    """What the derivative of the norm makes of it at most: each channel's own, and all through their size (and mean)."""
    if NORM == "layer":
        room = tl.where(inside, room + tl.sum(room, axis=0) / D, 0.0)
    if NORM != "none":
        size = tl.abs(standard)
        room = scale * (room + size * (tl.sum(size * room, axis=0) / D))
    return room


@triton.jit
def verdict(new, stored, room, inside, stored_at, live_at, defect_at):
    """The row is spliced and lives no longer, if the stored state may stand; if not, the new one is stored."""
    difference = tl.abs(new - stored)
    same = same_bits(new, stored)
    within = (difference <= room) & (room > 0) & (difference < float("inf"))
    sound = tl.min((same | within | ~inside).to(tl.int32), axis=0)
    if sound != 0:
        missed, size = tl.max(tl.where(same, 0.0, difference), axis=0), tl.max(tl.abs(stored), axis=0)
        tl.store(live_at, 0)
        tl.store(defect_at, tl.maximum(tl.load(defect_at), missed / tl.maximum(size, 1e-30)))
    else:
        tl.store(stored_at, new, mask=inside)


@triton.jit(do_not_specialize=["step", "B", "T", "chunk"])
def splice_stabilized_kernel(
    z_ptr, gate_z_ptr, gamma_ptr, weight_ptr, shift_ptr, terms_ptr, previous_ptr, logits_ptr, carry_ptr, out_ptr, live_ptr,
    defect_ptr, step, B, T, chunk, D, z_stride_b, z_stride_t, z_stride_d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d, share, unit, tolerance, eps, clip,
    NORM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Row r has taken `step` of its chunk from the state `previous`; the result is in carry."""
    r = tl.program_id(0).to(tl.int64)
    b, t = r % B, (r // B) * chunk + step
    lives = tl.load(live_ptr + r) != 0
    if t >= T:  # nothing is left to run
        tl.store(live_ptr + r, 0)
    elif lives:
        d = tl.arange(0, BLOCK_D)
        inside, at, stored_at = d < D, r * D + d, out_ptr + (b * T + t) * D + d
        z = load_stream(z_ptr, b, t, d, z_stride_b, z_stride_t, z_stride_d, inside)
        gate_z = load_stream(gate_z_ptr, b, t, d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d, inside)
        gamma = load_stream(gamma_ptr, b, t, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, inside)
        h = tl.load(previous_ptr + at, mask=inside, other=0.0)
        gate = sigmoid(gate_z + tl.load(logits_ptr + at, mask=inside, other=0.0))
        terms = tl.load(terms_ptr + at, mask=inside, other=0.0)
        room = tolerance / 4 * tl.minimum(gate * (1.0 - gate) * (share * terms), 1.0) * (tl.abs(h) + tl.abs(z))
        room += room_of_product(gamma, h, unit)
        u = tl.fma(gamma, h, tl.fma(gate, z, (1.0 - gate) * h))
        mean, scale = moments(u, inside, D, NORM, eps)
        room = through_norm(room, standardized(u, mean, scale, NORM), scale, inside, D, NORM)
        if NORM != "none":
            room *= tl.abs(tl.load(weight_ptr + d, mask=inside, other=0.0).to(tl.float32))
        new = tl.load(carry_ptr + at, mask=inside, other=0.0)
        stored = tl.load(stored_at, mask=inside, other=0.0)
        room = tl.where(tl.abs(new) < clip, room, 0.0)
        verdict(new, stored, room, inside, stored_at, live_ptr + r, defect_ptr + r)


@triton.jit(do_not_specialize=["step", "B", "T", "chunk"])
def splice_adjoint_kernel(
    gamma_ptr, gates_ptr, standards_ptr, scales_ptr, weight_ptr, shift_ptr, terms_ptr, previous_ptr, carry_ptr, out_ptr,
    live_ptr, defect_ptr, step, B, T, chunk, D, gamma_stride_b, gamma_stride_t, gamma_stride_d, share, unit, tolerance, clip,
    NORM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """As splice_stabilized_kernel; step s of a row is one to time T - 1 - s."""
    r = tl.program_id(0).to(tl.int64)
    b, t = r % B, T - 1 - ((r // B) * chunk + step)
    lives = tl.load(live_ptr + r) != 0
    if t < 0:  # nothing is left to run
        tl.store(live_ptr + r, 0)
    elif lives:
        d = tl.arange(0, BLOCK_D)
        inside, at, stored_at = d < D, r * D + d, out_ptr + (b * T + t) * D + d
        felt = d < tl.where(t + 1 < T, D, 0)
        gamma = load_stream(gamma_ptr, b, t + 1, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, felt)
        gate = tl.load(gates_ptr + (b * T + t + 1) * D + d, mask=felt, other=0.0)
        standard = tl.load(standards_ptr + (b * T + t) * D + d, mask=inside, other=0.0)
        weight = tl.load(weight_ptr + d, mask=inside, other=0.0).to(tl.float32)
        shift = tl.load(shift_ptr + d, mask=inside, other=0.0).to(tl.float32)
        later = tl.load(previous_ptr + at, mask=inside, other=0.0)
        room = tolerance / 4 * (share * tl.load(terms_ptr + at, mask=inside, other=0.0))
        room += room_of_product(1.0 - gate + gamma, later, unit)
        room = before_clip(room, standard, weight, shift, NORM, clip)
        if NORM != "none":
            room *= tl.abs(weight)
        room = through_norm(room, standard, tl.load(scales_ptr + b * T + t), inside, D, NORM)
        new = tl.load(carry_ptr + at, mask=inside, other=0.0)
        stored = tl.load(stored_at, mask=inside, other=0.0)
        verdict(new, stored, room, inside, stored_at, live_ptr + r, defect_ptr + r)


def compile_specs() -> list[CompileSpec]:
    kept = ("terms_ptr", "previous_ptr", "logits_ptr", "carry_ptr", "out_ptr", "defect_ptr", "gates_ptr", "standards_ptr",
            "scales_ptr")  # fmt: skip
    numbers = dict.fromkeys(("share", "unit", "tolerance", "eps", "clip"), "fp32")
    options: dict[str, Any] = {"types": {"live_ptr": "*i32"} | numbers, "BLOCK_D": 4096, "num_warps": 8}
    specs = []
    for storage, norm in (("bf16", "rms"), ("fp32", "layer"), ("fp32", "none")):
        specs.append(compile_spec(splice_stabilized_kernel, storage, kept, NORM=norm, **options))
        specs.append(compile_spec(splice_adjoint_kernel, storage, kept, NORM=norm, **options))
    return specs


# ---- launch ------------------------------------------------------------------------


class Splices(_verdict.Splices):
    """Of the recurrence."""

    def __init__(self, cell: Any, rows: int, tolerance: float):
        super().__init__(cell, rows, tolerance)
        self.near = 32 * UNIT
        self.cell, self.form = cell, cell.stabilizer

    def spread(self, memory: int, chunk: int, rows: int) -> int:
        return 1  # the norm ties the channels of a row together

    def forget(self, live: torch.Tensor) -> None:
        return  # a splice at one step, over another at that step, leaves nothing of it

    def judge(self, rows: Rows, out: torch.Tensor, step: int) -> None:
        cell, form = self.cell, self.form
        self._launch(
            splice_stabilized_kernel, rows, step,
            (cell.z, cell.gate_z, cell.gamma, form.weight, form.shift, self.terms(rows), rows.previous, rows.logits,
             rows.carry, out),
            (*cell.z.stride(), *cell.gate_z.stride(), *cell.gamma.stride()), (form.eps, form.clip),
        )  # fmt: skip

    def _launch(
        self,
        kernel: Any,
        rows: Rows,
        step: int,
        arrays: tuple[torch.Tensor, ...],
        strides: tuple[int, ...],
        numbers: tuple[float, ...],
    ) -> None:
        B, T, D = self.cell.shape
        block = next_power_of_2(D)
        launch(
            kernel, (len(rows.carry),), rows.carry.device,
            *arrays, rows.live, self.defect, step, B, T, rows.chunk, D, *strides, D * UNIT * ROUNDED, UNIT * self.tolerance,
            self.tolerance, *numbers, NORM=self.form.norm, BLOCK_D=block, num_warps=max(4, min(16, block // 512)),
        )  # fmt: skip


class AdjointSplices(Splices):
    def judge(self, rows: Rows, out: torch.Tensor, step: int) -> None:
        cell, form, mixing = self.cell, self.form, self.cell.mixing
        self._launch(
            splice_adjoint_kernel, rows, step,
            (cell.gamma, mixing.gates, mixing.standards, mixing.scales, form.weight, form.shift, self.terms(rows), rows.previous,
             rows.carry, out),
            cell.gamma.stride(), (form.clip,),
        )  # fmt: skip
