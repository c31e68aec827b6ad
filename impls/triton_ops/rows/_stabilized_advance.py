"""Many rows of the stabilized recurrence by many steps in one launch.

Parallel    one program per tile of rows and output channels, all resident at once. A step has two barriers of those that share
            rows: after the sums that the norm needs, and after the states are published, which W multiplies
Memory      states, in parts, and sums pass through memory, and so do the product and the float32 state of a tile, of which
            slices are taken up by what follows the product: all of it stays in L2
Precision   float32 state and norm (_sums.py); the product as _product.py says
"""

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec
from .._device import sigmoid
from .._stabilized_walk import walk_stabilized
from .._stabilizer import stabilized
from ._product import COUNTS, complete, load_product, load_tile, meet, multiply_rows, own_rows, publish, slice_of
from ._rows import are_many
from ._stabilized_cell import Forward
from ._stabilized_rows import FEW, Rows, specs_of
from ._sums import load_moments, store_moments

# ---- device code -------------------------------------------------------------------


@triton.jit(do_not_specialize=COUNTS)
def advance_stabilized_kernel(
    z_ptr, gate_z_ptr, gamma_ptr, bias_ptr, weight_ptr, shift_ptr, W_ptr, operand_ptr, sums_ptr, carry_ptr, previous_ptr,
    logits_ptr, live_ptr, out_ptr, product_ptr, counter_ptr, first, start, stop, steps, stored_steps, R, B, T, chunk, D,
    z_stride_b, z_stride_t, z_stride_d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d, W_stride_part, W_stride_i, W_stride_k,
    eps, clip, NORM: tl.constexpr, PARTS: tl.constexpr, W_PARTS: tl.constexpr, EVEN_D: tl.constexpr, STAGE: tl.constexpr,
    PROGRAMS: tl.constexpr, SPLITS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr, SLICE: tl.constexpr,
):  # fmt: skip
    """Row c * B + b takes the steps from c * chunk + first on of batch row b: of all `steps` those in [start, stop), or of each
    of those only one STAGE: "publish", "multiply", "mix" or "settle".

    Live rows store the first `stored_steps` states. previous [R, D] gets the states before the last step and logits [R, D]
    what W and the bias make of them."""
    own, end = own_rows(BLOCK_R, SPLITS)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    met = 0
    bias = tl.load(bias_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    weight = tl.load(weight_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    shift = tl.load(shift_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
    if STAGE == "publish" or STAGE == "all":
        for low in tl.range(own, end, SLICE, loop_unroll_factor=1, num_stages=1):
            _, _, _, tile, known = slice_of(low, d, R, B, chunk, D, SLICE)
            publish(operand_ptr, tl.load(carry_ptr + tile, mask=known, other=0.0), tile, R * D, known, PARTS)
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
                time = begin + first + j
                inside = known & (time < T)[:, None]
                gate_z = load_tile(
                    gate_z_ptr, batch, time, d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d, inside
                )
                z = load_tile(z_ptr, batch, time, d, z_stride_b, z_stride_t, z_stride_d, inside)
                gamma = load_tile(gamma_ptr, batch, time, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, inside)
                logits = load_product(product_ptr, tile, R * D, known, SPLITS) + bias
                state = tl.load(carry_ptr + tile, mask=known, other=0.0)
                if j == steps - 1:
                    tl.store(previous_ptr + tile, state, mask=known)
                    tl.store(logits_ptr + tile, logits, mask=known)
                gate = sigmoid(gate_z + logits)  # REC-11
                state = tl.fma(gamma, state, tl.fma(gate, z, (1.0 - gate) * state))  # REC-12, REC-13
                store_moments(sums_ptr, state, known, row, R, D, NORM)
                tl.store(carry_ptr + tile, state, mask=known)
        if STAGE == "all":
            met += 1
            meet(counter_ptr, met, SPLITS)
        if STAGE == "settle" or STAGE == "all":
            for low in tl.range(own, end, SLICE, loop_unroll_factor=1, num_stages=1):
                row, batch, begin, tile, known = slice_of(low, d, R, B, chunk, D, SLICE)
                mean, scale = load_moments(sums_ptr, row, R, D, NORM, eps, BLOCK_D, PROGRAMS)
                mixed = tl.load(carry_ptr + tile, mask=known, other=0.0)
                state = stabilized(mixed, mean, scale, weight, shift, NORM, clip)  # REC-14, REC-15
                tl.store(carry_ptr + tile, state, mask=known)
                if j < stored_steps:
                    time, live = begin + first + j, tl.load(live_ptr + row, mask=row < R, other=0) != 0
                    out_row, stored = (batch * T + time) * D, known & ((time < T) & live)[:, None]
                    tl.store(out_ptr + out_row[:, None] + d[None, :], state, mask=stored)
                if j < steps - 1:
                    publish(operand_ptr, state, tile, R * D, known, PARTS)
        if STAGE == "all":
            met += 1
            meet(counter_ptr, met, SPLITS)


def compile_specs() -> list[CompileSpec]:
    return specs_of(advance_stabilized_kernel, ("previous_ptr", "logits_ptr"))


# ---- launch ------------------------------------------------------------------------


class ForwardRows(Rows):
    kernel = advance_stabilized_kernel

    def arguments(self) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...], tuple[float, ...]]:
        cell, form = self.cell, self.cell.stabilizer
        strides = (*cell.z.stride(), *cell.gate_z.stride(), *cell.gamma.stride())
        return (cell.z, cell.gate_z, cell.gamma, cell.bias, form.weight, form.shift), strides, (form.eps, form.clip)


# ---- the choice --------------------------------------------------------------------


def walk_forward(cell: Forward, state: torch.Tensor, out: torch.Tensor, first: int = 0) -> None:
    """Take all steps from `first` on one after another: all batch rows together if they are many, with the product as matrix
    times vector if they are few, more than the device holds at once, or in float64.

    Args:
        state: [B, D], contiguous, before step `first`, in the arithmetic dtype; used up.
        out: [B, T, D], contiguous, gets the states from `first` on, rounded to its dtype.
    """
    form, T = cell.stabilizer, cell.shape[1]
    if first == T:
        return
    if are_many(cell, FEW):
        ForwardRows(cell, state, T).advance(out, first, T - first, T - first)
        return
    rest = out[:, first:]
    found = rest.contiguous()
    walk_stabilized(
        cell.z[:, first:], cell.gate_z[:, first:], cell.gamma[:, first:], cell.weight, cell.bias, form.weight, form.shift,
        state, found, {"NORM": form.norm, "EPS": form.eps, "CLIP": form.clip},
    )  # fmt: skip
    if found is not rest:
        rest.copy_(found)
