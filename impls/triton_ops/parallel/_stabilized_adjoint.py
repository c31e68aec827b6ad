"""Many rows of the adjoint of the stabilized recurrence by many steps in one launch, last step first.

Parallel    one program per tile of rows and output channels, all resident at once. A step has two barriers of the whole grid:
            after the operands are published, which W multiplies, and after the sums that the norm's adjoint takes off
Memory      a program keeps its tile of the float32 state in registers for all steps; operands, in parts, and sums pass through
            memory
Precision   float32 state and sums; the product as _product.py says
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec
from .._parts import multiply
from .._stabilized_mixing import Mixing
from .._stabilized_walk import walk_stabilized_adjoint
from .._stabilizer import before_clip, before_norm
from ._product import grid_barrier, load_tile, weighted
from ._stabilized_cell import Backward
from ._stabilized_rows import Rows, nought_of, place, publish_parts, specs_of
from ._sums import load_averages, store_averages

# ---- device code -------------------------------------------------------------------


@triton.jit
def load_known(pointer, batch, t, d, T, D, inside):
    """An array [B, T, D] at the time of each row, [rows, channels]."""
    row = (batch * T + t) * D
    return tl.load(pointer + row[:, None] + d[None, :], mask=inside, other=0.0)


@triton.jit(do_not_specialize=["first", "start", "stop", "steps", "stored_steps"])
def advance_adjoint_kernel(
    grad_ptr, gamma_ptr, gates_ptr, slopes_ptr, standards_ptr, scales_ptr, weight_ptr, shift_ptr, W_ptr, operand_ptr,
    sums_ptr, carry_ptr, previous_ptr, logits_ptr, live_ptr, out_ptr, counter_ptr, first, start, stop, steps,
    stored_steps, R, B, T, chunk, D,
    grad_stride_b, grad_stride_t, grad_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    W_stride_part, W_stride_i, W_stride_k,
    NORM: tl.constexpr, CLIP: tl.constexpr, PARTS: tl.constexpr, W_PARTS: tl.constexpr, EVEN_D: tl.constexpr,
    STAGE: tl.constexpr, PROGRAMS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """As advance_stabilized_kernel; step s of a row is one to time T - 1 - s, `later` the time after that."""
    _, _, tile, known = place(R, D, 0, BLOCK_R, BLOCK_D)
    state = tl.load(carry_ptr + tile, mask=known, other=0.0)
    programs, arrived = tl.num_programs(0) * tl.num_programs(1), 0
    for j in range(start, stop):
        r, d, tile, known = place(R, D, nought_of(j), BLOCK_R, BLOCK_D)
        batch, begin = (r % B).to(tl.int64), (r // B) * chunk + first
        t = T - 1 - (begin + j)
        later = t + 1
        inside = known & (t >= 0)[:, None]
        felt = known & ((later >= 0) & (later < T))[:, None]
        if STAGE == "publish" or STAGE == "all":
            slope = load_known(slopes_ptr, batch, later, d, T, D, felt)
            publish_parts(operand_ptr, slope * state, tile, R * D, known, PARTS)
        if STAGE == "all":
            arrived += programs
            grid_barrier(counter_ptr, arrived)
        if STAGE == "mix" or STAGE == "all":
            through_gate = weighted(
                operand_ptr, W_ptr, r, d, R, D, W_stride_part, W_stride_i, W_stride_k,
                PARTS, W_PARTS, EVEN_D, BLOCK_R, BLOCK_D, BLOCK_K, STAGES,
            )  # fmt: skip
            if j == steps - 1:
                tl.store(previous_ptr + tile, state, mask=known)
                tl.store(logits_ptr + tile, through_gate, mask=known)
            gate = load_known(gates_ptr, batch, later, d, T, D, felt)
            gamma = load_tile(gamma_ptr, batch, later, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, felt)
            wanted = tl.fma(state, 1.0 - gate + gamma, through_gate)
            wanted += load_tile(grad_ptr, batch, t, d, grad_stride_b, grad_stride_t, grad_stride_d, inside)
            standard = load_known(standards_ptr, batch, t, d, T, D, inside)
            weight = tl.load(weight_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
            shift = tl.load(shift_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
            state = before_clip(wanted, standard, weight, shift, NORM, CLIP)  # ADJ-8
            if NORM != "none":
                state *= weight
            store_averages(sums_ptr, state, standard, r, R, NORM)
        if STAGE == "all":
            arrived += programs
            grid_barrier(counter_ptr, arrived)
        if STAGE == "settle" or STAGE == "all":
            along, level = load_averages(sums_ptr, r, R, D, NORM, PROGRAMS)
            standard = load_known(standards_ptr, batch, t, d, T, D, inside)
            scale = tl.load(scales_ptr + batch * T + t, mask=(r < R) & (t >= 0), other=0.0)[:, None]
            state = before_norm(state, standard, scale, along, level, NORM)  # ADJ-6
            if j < stored_steps:
                live = tl.load(live_ptr + r, mask=r < R, other=0) != 0
                out_row = (batch * T + t) * D
                tl.store(out_ptr + out_row[:, None] + d[None, :], state, mask=inside & live[:, None])
    _, _, tile, known = place(R, D, 0, BLOCK_R, BLOCK_D)
    tl.store(carry_ptr + tile, state, mask=known)


def compile_specs() -> list[CompileSpec]:
    return specs_of(advance_adjoint_kernel, ("gates_ptr", "slopes_ptr", "standards_ptr", "scales_ptr"))


# ---- launch ------------------------------------------------------------------------


class BackwardRows(Rows):
    kernel = advance_adjoint_kernel

    def arguments(self) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...], dict[str, Any]]:
        cell, form = self.cell, self.cell.stabilizer
        arrays = (cell.grad, cell.gamma, *cell.mixing, form.weight, form.shift)
        return arrays, (*cell.grad.stride(), *cell.gamma.stride()), {"NORM": form.norm, "CLIP": form.clip}


def walk_backward(cell: Backward, state: torch.Tensor, out: torch.Tensor, first: int) -> None:
    """Take all steps from `first` on one by one: state [B, D], out [B, T, D]. They step back through the first T - first
    times, of whose last the state is wanted by the loss and by the time after it."""
    form, T = cell.stabilizer, cell.shape[1]
    rest = T - first
    if rest == 0:
        return
    grad, mixing = cell.grad[:, :rest], Mixing(*(array[:, :rest].contiguous() for array in cell.mixing))
    if first:
        gates, slopes = cell.mixing.gates[:, rest], cell.mixing.slopes[:, rest]
        wanted = torch.addcmul(multiply(slopes * state, cell.weight.T), 1 - gates + cell.gamma[:, rest], state)
        grad = grad.to(torch.float32, copy=True)
        grad[:, -1] += wanted
    found, *_ = walk_stabilized_adjoint(
        grad, cell.gamma[:, :rest], cell.weight, form.weight, form.shift, mixing, {"NORM": form.norm, "CLIP": form.clip}
    )
    out[:, :rest] = found
