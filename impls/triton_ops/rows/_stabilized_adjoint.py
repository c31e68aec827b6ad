"""Many rows of the adjoint of the stabilized recurrence by many steps in one launch, last step first.

Parallel    one program per tile of rows and output channels, all resident at once. A step has two barriers of those that share
            rows: after the sums that the norm's adjoint takes off, and after the operands are published, which W multiplies
Memory      operands, in parts, and sums pass through memory, and so do the product and the float32 state of a tile, of which
            slices are taken up by what follows the product
Precision   float32 state and sums; the product as _product.py says
"""

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec
from .._parts import multiply
from .._stabilized_mixing import Mixing
from .._stabilized_walk import walk_stabilized_adjoint
from .._stabilizer import before_clip, before_norm
from ._product import COUNTS, complete, load_product, load_tile, meet, multiply_rows, own_rows, publish, slice_of
from ._rows import are_many
from ._stabilized_cell import Backward
from ._stabilized_rows import FEW, Rows, specs_of
from ._sums import load_averages, store_averages

# ---- device code -------------------------------------------------------------------


@triton.jit
def load_known(pointer, batch, t, d, T, D, known):
    """An array [B, T, D] at the time of each row, [rows, channels]; 0 where there is no such time."""
    row, inside = (batch * T + t) * D, known & ((t >= 0) & (t < T))[:, None]
    return tl.load(pointer + row[:, None] + d[None, :], mask=inside, other=0.0)


@triton.jit(do_not_specialize=COUNTS)
def advance_adjoint_kernel(
    grad_ptr, gamma_ptr, gates_ptr, slopes_ptr, standards_ptr, scales_ptr, weight_ptr, shift_ptr, W_ptr, operand_ptr,
    sums_ptr, carry_ptr, previous_ptr, logits_ptr, live_ptr, out_ptr, product_ptr, counter_ptr, first, start, stop,
    steps, stored_steps, R, B, T, chunk, D,
    grad_stride_b, grad_stride_t, grad_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    W_stride_part, W_stride_i, W_stride_k,
    clip, NORM: tl.constexpr, PARTS: tl.constexpr, W_PARTS: tl.constexpr, EVEN_D: tl.constexpr, STAGE: tl.constexpr,
    PROGRAMS: tl.constexpr, SPLITS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr, SLICE: tl.constexpr,
):  # fmt: skip
    """As advance_stabilized_kernel; step s of a row is one to time T - 1 - s, by what happens between that and the next."""
    own, end = own_rows(BLOCK_R, SPLITS)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    met = 0
    weight = tl.load(weight_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    shift = tl.load(shift_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    if STAGE == "publish" or STAGE == "all":
        for low in tl.range(own, end, SLICE, loop_unroll_factor=1, num_stages=1):
            _, batch, begin, tile, known = slice_of(low, d, R, B, chunk, D, SLICE)
            later = T - (begin + first + start)
            slope = load_known(slopes_ptr, batch, later, d, T, D, known)
            publish(operand_ptr, slope * tl.load(carry_ptr + tile, mask=known, other=0.0), tile, R * D, known, PARTS)
    if STAGE == "all":
        met += 1
        meet(counter_ptr, met, SPLITS)
    for j in range(start, stop):
        if STAGE == "multiply" or STAGE == "all":
            multiply_rows(
                product_ptr, operand_ptr, W_ptr, R, D, W_stride_part, W_stride_i, W_stride_k,
                PARTS, W_PARTS, EVEN_D, SPLITS, BLOCK_R, BLOCK_D, BLOCK_K, STAGES,
            )  # fmt: skip
        if STAGE == "all":
            complete(counter_ptr, j + 1, SPLITS)
        if STAGE == "mix" or STAGE == "all":
            for low in tl.range(own, end, SLICE, loop_unroll_factor=1, num_stages=1):
                row, batch, begin, tile, known = slice_of(low, d, R, B, chunk, D, SLICE)
                t = T - 1 - (begin + first + j)
                gate = load_known(gates_ptr, batch, t + 1, d, T, D, known)
                felt = known & ((t + 1 >= 0) & (t + 1 < T))[:, None]
                gamma = load_tile(gamma_ptr, batch, t + 1, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, felt)
                inside = known & (t >= 0)[:, None]
                grad = load_tile(grad_ptr, batch, t, d, grad_stride_b, grad_stride_t, grad_stride_d, inside)
                standard = load_known(standards_ptr, batch, t, d, T, D, known)
                through_gate = load_product(product_ptr, tile, R * D, known, SPLITS)
                state = tl.load(carry_ptr + tile, mask=known, other=0.0)
                if j == steps - 1:
                    tl.store(previous_ptr + tile, state, mask=known)
                wanted = tl.fma(state, 1.0 - gate + gamma, through_gate) + grad
                pull = before_clip(wanted, standard, weight, shift, NORM, clip)  # ADJ-8
                if NORM != "none":
                    pull *= weight
                store_averages(sums_ptr, pull, standard, row, R, NORM)
                tl.store(carry_ptr + tile, pull, mask=known)
        if STAGE == "all":
            met += 1
            meet(counter_ptr, met, SPLITS)
        if STAGE == "settle" or STAGE == "all":
            for low in tl.range(own, end, SLICE, loop_unroll_factor=1, num_stages=1):
                row, batch, begin, tile, known = slice_of(low, d, R, B, chunk, D, SLICE)
                t = T - 1 - (begin + first + j)
                along, level = load_averages(sums_ptr, row, R, D, NORM, PROGRAMS)
                standard = load_known(standards_ptr, batch, t, d, T, D, known)
                scale = tl.load(scales_ptr + batch * T + t, mask=(row < R) & (t >= 0), other=0.0)[:, None]
                pull = tl.load(carry_ptr + tile, mask=known, other=0.0)
                state = before_norm(pull, standard, scale, along, level, NORM)  # ADJ-6
                tl.store(carry_ptr + tile, state, mask=known)
                if j < stored_steps:
                    live = tl.load(live_ptr + row, mask=row < R, other=0) != 0
                    out_row, stored = (batch * T + t) * D, known & ((t >= 0) & live)[:, None]
                    tl.store(out_ptr + out_row[:, None] + d[None, :], state, mask=stored)
                if j < steps - 1:
                    slope = load_known(slopes_ptr, batch, t, d, T, D, known)
                    publish(operand_ptr, slope * state, tile, R * D, known, PARTS)
        if STAGE == "all":
            met += 1
            meet(counter_ptr, met, SPLITS)


def compile_specs() -> list[CompileSpec]:
    return specs_of(advance_adjoint_kernel, ("gates_ptr", "slopes_ptr", "standards_ptr", "scales_ptr"))


# ---- launch ------------------------------------------------------------------------


class BackwardRows(Rows):
    kernel = advance_adjoint_kernel

    def arguments(self) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...], tuple[float, ...]]:
        cell, form = self.cell, self.cell.stabilizer
        arrays = (cell.grad, cell.gamma, *cell.mixing, form.weight, form.shift)
        return arrays, (*cell.grad.stride(), *cell.gamma.stride()), (form.clip,)


# ---- the choice --------------------------------------------------------------------


def walk_backward(cell: Backward, state: torch.Tensor, out: torch.Tensor, first: int = 0) -> None:
    """As walk_forward; state and out, [B, T, D] in the arithmetic dtype, are what the loss wants of mixes. The steps lead back
    through the first T - first times, of whose last the state is wanted by the loss and by the time after it."""
    form, T = cell.stabilizer, cell.shape[1]
    times = T - first
    if times == 0:
        return
    if are_many(cell, FEW):
        BackwardRows(cell, state, T).advance(out, first, times, times)
        return
    grad, mixing = cell.grad[:, :times], Mixing(*(array[:, :times].contiguous() for array in cell.mixing))
    if first:
        gates, slopes = cell.mixing.gates[:, times], cell.mixing.slopes[:, times]
        wanted = torch.addcmul(multiply(slopes * state, cell.weight.T), 1 - gates + cell.gamma[:, times], state)
        grad = grad.to(state.dtype, copy=True)
        grad[:, -1] += wanted
    rest = out[:, :times]
    found = rest.contiguous()
    walk_stabilized_adjoint(
        grad,
        cell.gamma[:, :times],
        cell.weight,
        form.weight,
        form.shift,
        mixing,
        found,
        {"NORM": form.norm, "CLIP": form.clip},
    )
    if found is not rest:
        rest.copy_(found)
