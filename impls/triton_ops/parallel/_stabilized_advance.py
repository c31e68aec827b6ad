"""Many rows of the stabilized recurrence by many steps in one launch.

Parallel    one program per tile of rows and output channels, all resident at once. A step has two barriers of the whole grid:
            after the states are published, which W multiplies, and after the sums that the norm needs
Memory      a program keeps its tile of the float32 state in registers for all steps; the states, in parts, and the sums pass
            through memory
Precision   float32 state and norm (_sums.py); the product as _product.py says
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec
from .._device import sigmoid
from .._stabilized_walk import walk_stabilized
from .._stabilizer import stabilized
from ._product import grid_barrier, load_tile, weighted
from ._stabilized_cell import Forward
from ._stabilized_rows import Rows, nought_of, place, publish_parts, specs_of
from ._sums import load_moments, store_moments

# ---- device code -------------------------------------------------------------------


@triton.jit(do_not_specialize=["first", "start", "stop", "steps", "stored_steps"])
def advance_stabilized_kernel(
    z_ptr, gate_z_ptr, gamma_ptr, bias_ptr, weight_ptr, shift_ptr, W_ptr, operand_ptr, sums_ptr, carry_ptr, previous_ptr,
    logits_ptr, live_ptr, out_ptr, counter_ptr, first, start, stop, steps, stored_steps, R, B, T, chunk, D,
    z_stride_b, z_stride_t, z_stride_d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d, W_stride_part, W_stride_i, W_stride_k,
    NORM: tl.constexpr, EPS: tl.constexpr, CLIP: tl.constexpr, PARTS: tl.constexpr, W_PARTS: tl.constexpr,
    EVEN_D: tl.constexpr, STAGE: tl.constexpr, PROGRAMS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Row c * B + b takes the steps from c * chunk + first on of batch row b: of all `steps` those in [start, stop), or of each
    of those only one STAGE: "publish", "mix" or "settle".

    Live rows store the first `stored_steps` states. previous [R, D] gets the states before the last step and logits [R, D]
    what W and the bias make of them."""
    _, _, tile, known = place(R, D, 0, BLOCK_R, BLOCK_D)
    state = tl.load(carry_ptr + tile, mask=known, other=0.0)
    programs, arrived = tl.num_programs(0) * tl.num_programs(1), 0
    for j in range(start, stop):
        r, d, tile, known = place(R, D, nought_of(j), BLOCK_R, BLOCK_D)
        batch, begin = (r % B).to(tl.int64), (r // B) * chunk + first
        time = begin + j
        inside = known & (time < T)[:, None]
        if STAGE == "publish" or STAGE == "all":
            publish_parts(operand_ptr, state, tile, R * D, known, PARTS)
        if STAGE == "all":
            arrived += programs
            grid_barrier(counter_ptr, arrived)
        if STAGE == "mix" or STAGE == "all":
            bias = tl.load(bias_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
            logits = bias + weighted(
                operand_ptr, W_ptr, r, d, R, D, W_stride_part, W_stride_i, W_stride_k,
                PARTS, W_PARTS, EVEN_D, BLOCK_R, BLOCK_D, BLOCK_K, STAGES,
            )  # fmt: skip
            if j == steps - 1:
                tl.store(previous_ptr + tile, state, mask=known)
                tl.store(logits_ptr + tile, logits, mask=known)
            gate_z = load_tile(gate_z_ptr, batch, time, d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d, inside)
            gate = sigmoid(gate_z + logits)  # REC-11
            z = load_tile(z_ptr, batch, time, d, z_stride_b, z_stride_t, z_stride_d, inside)
            gamma = load_tile(gamma_ptr, batch, time, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, inside)
            state = tl.fma(gamma, state, tl.fma(gate, z, (1.0 - gate) * state))  # REC-12, REC-13
            store_moments(sums_ptr, state, known, r, R, D, NORM)
        if STAGE == "all":
            arrived += programs
            grid_barrier(counter_ptr, arrived)
        if STAGE == "settle" or STAGE == "all":
            mean, scale = load_moments(sums_ptr, r, R, D, NORM, EPS, BLOCK_D, PROGRAMS)
            weight = tl.load(weight_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
            shift = tl.load(shift_ptr + d, mask=d < D, other=0.0).to(tl.float32)[None, :]
            state = stabilized(state, mean, scale, weight, shift, NORM, CLIP)  # REC-14, REC-15
            if j < stored_steps:
                live = tl.load(live_ptr + r, mask=r < R, other=0) != 0
                out_row = (batch * T + time) * D
                tl.store(out_ptr + out_row[:, None] + d[None, :], state, mask=inside & live[:, None])
    _, _, tile, known = place(R, D, 0, BLOCK_R, BLOCK_D)
    tl.store(carry_ptr + tile, state, mask=known)


def compile_specs() -> list[CompileSpec]:
    return specs_of(advance_stabilized_kernel, ("previous_ptr", "logits_ptr"), EPS=1e-6)


# ---- launch ------------------------------------------------------------------------


class ForwardRows(Rows):
    kernel = advance_stabilized_kernel

    def arguments(self) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...], dict[str, Any]]:
        cell, form = self.cell, self.cell.stabilizer
        strides = (*cell.z.stride(), *cell.gate_z.stride(), *cell.gamma.stride())
        options = {"NORM": form.norm, "EPS": form.eps, "CLIP": form.clip}
        return (cell.z, cell.gate_z, cell.gamma, cell.bias, form.weight, form.shift), strides, options


def walk_forward(cell: Forward, state: torch.Tensor, out: torch.Tensor, first: int) -> None:
    """Take all steps from `first` on one by one: state [B, D], which is used up, out [B, T, D]."""
    form, T = cell.stabilizer, cell.shape[1]
    if first < T:
        found = torch.empty_like(out[:, first:], memory_format=torch.contiguous_format)
        walk_stabilized(
            cell.z[:, first:], cell.gate_z[:, first:], cell.gamma[:, first:], cell.weight, cell.bias, form.weight,
            form.shift, state, found, {"NORM": form.norm, "EPS": form.eps, "CLIP": form.clip},
        )  # fmt: skip
        out[:, first:] = found
