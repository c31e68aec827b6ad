"""Many rows of the gated recurrence, or of its adjoint, by many steps in one launch.

Parallel    one program per tile of rows and output channels, all resident at once; a barrier of those that share rows ends
            a step
Memory      the operand of the next step, in parts, passes through two buffers in memory that take turns. The product leaves
            the registers, which are full of it, and is taken up again in slices with the state and the streams: all of
            it stays in L2
Precision   float32 state; the product as _product.py says
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, aligned, compile_spec
from .._device import sigmoid
from .._gated_walk import walk_gated
from .._launch import INTERPRETED, launch
from . import _rows
from ._cell import Cell
from ._operand import store_operands
from ._product import COUNTS, complete, load_product, load_tile, meet, multiply_rows, own_rows, publish, slice_of
from ._rows import are_many
from ._tiles import tiles

# ---- device code -------------------------------------------------------------------


@triton.jit(do_not_specialize=COUNTS)
def advance_kernel(
    inflow_ptr, gamma_ptr, slope_ptr, W_ptr, bias_ptr, operand_ptr, carry_ptr, previous_ptr, logits_ptr, live_ptr,
    out_ptr, product_ptr, counter_ptr, first, start, stop, steps, stored_steps, last, R, B, T, chunk, D,
    inflow_stride_b, inflow_stride_t, inflow_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    slope_stride_b, slope_stride_t, slope_stride_d, W_stride_part, W_stride_i, W_stride_k,
    ADJOINT: tl.constexpr, PARTS: tl.constexpr, W_PARTS: tl.constexpr, EVEN_D: tl.constexpr, STAGE: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
    SLICE: tl.constexpr,
):  # fmt: skip
    """Row c * B + b takes the steps from c * chunk + first on of batch row b: of all `steps` those in [start, stop), or of each
    of those only one STAGE: "multiply" or "follow".

    Live rows store the first `stored_steps` states. previous [last, R, D] gets the states before so many last steps and
    logits [last, R, D] the gate's logits in them."""
    own, end = own_rows(BLOCK_R, SPLITS)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    bias = tl.load(bias_ptr + d, mask=d < D, other=0.0).to(tl.float32)
    for j in range(start, stop):
        if STAGE == "multiply" or STAGE == "all":
            multiply_rows(
                product_ptr, operand_ptr + ((j + steps) % 2) * PARTS * R * D, W_ptr, R, D,
                W_stride_part, W_stride_i, W_stride_k, PARTS, W_PARTS, EVEN_D, SPLITS, BLOCK_R, BLOCK_D, BLOCK_K, STAGES,
            )  # fmt: skip
        if STAGE == "all":
            complete(counter_ptr, j + 1, SPLITS)
        if STAGE == "follow" or STAGE == "all":
            kept = j - (steps - last)  # number of the step among the last
            for low in tl.range(own, end, SLICE, loop_unroll_factor=1, num_stages=1):
                row, batch, begin, tile, known = slice_of(low, d, R, B, chunk, D, SLICE)
                time = begin + first + j
                inside = known & (time < T)[:, None]
                inflow = load_tile(
                    inflow_ptr, batch, time, d, inflow_stride_b, inflow_stride_t, inflow_stride_d, inside
                )
                gamma = load_tile(gamma_ptr, batch, time, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, inside)
                product = load_product(product_ptr, tile, R * D, known, SPLITS)
                state = tl.load(carry_ptr + tile, mask=known, other=0.0)
                live = tl.load(live_ptr + row, mask=row < R, other=0) != 0
                if kept >= 0:
                    tl.store(previous_ptr + kept * R * D + tile, state, mask=known)
                if ADJOINT:
                    state = tl.fma(gamma, inflow + state, product)  # ADJ-5
                else:
                    logits = product + bias[None, :]
                    if kept >= 0:
                        tl.store(logits_ptr + kept * R * D + tile, logits, mask=known)
                    state = tl.fma(gamma, state, inflow * sigmoid(logits))  # REC-1
                tl.store(carry_ptr + tile, state, mask=known)
                if j < stored_steps:
                    out_row = (batch * T + time) * D
                    tl.store(out_ptr + out_row[:, None] + d[None, :], state, mask=inside & live[:, None])
                if j < steps - 1:
                    operand = state
                    if ADJOINT:
                        then = known & (time + 1 < T)[:, None]
                        inflow = load_tile(
                            inflow_ptr, batch, time + 1, d, inflow_stride_b, inflow_stride_t, inflow_stride_d, then
                        )
                        slope = load_tile(
                            slope_ptr, batch, time + 1, d, slope_stride_b, slope_stride_t, slope_stride_d, then
                        )
                        operand = slope * (inflow + state)
                    publish(operand_ptr + ((j + 1 + steps) % 2) * PARTS * R * D, operand, tile, R * D, known, PARTS)
        if STAGE == "all":  # noqa: SIM102 (a constant, and a number that is not known yet)
            if j < steps - 1:  # only those who share its rows read what it has written
                meet(counter_ptr, j + 1, SPLITS)


def compile_specs() -> list[CompileSpec]:
    """Storage, of the states stored too, parts of the operand, parts of the weight, rows, and whether the adjoint is stepped: not
    every combination, since each takes seconds."""
    float32 = ("carry_ptr", "previous_ptr", "logits_ptr", "product_ptr")
    types = {"live_ptr": "*i32", "counter_ptr": "*i32", "operand_ptr": "*bf16", "W_ptr": "*bf16"}
    specs = []
    variants = (
        ("bf16", "fp32", 2, 1, 512, False),
        ("bf16", "fp32", 2, 1, 128, True),
        ("fp32", "fp32", 2, 2, 512, True),
        ("fp32", "fp32", 3, 3, 128, False),
        ("bf16", "bf16", 2, 1, 16, False),
    )
    for storage, stored, parts, weight_parts, rows, adjoint in variants:
        options = tiles(rows, 4096, parts, weight_parts, 132)
        spec = compile_spec(
            advance_kernel, storage, float32, types=types | {"out_ptr": f"*{stored}"}, num_warps=options.pop("num_warps"),
            W_stride_k=1, ADJOINT=adjoint, PARTS=parts, W_PARTS=weight_parts, EVEN_D=True, STAGE="all", **options,
        )  # fmt: skip
        specs.append(aligned(spec, "R", "D", "W_stride_part", "W_stride_i"))
    return specs


# ---- launch ------------------------------------------------------------------------


class Rows(_rows.Rows):
    """Beside what all rows have: operands [2, parts, R, D], what W multiplies in a step and in the next."""

    def __init__(self, cell: Cell, carry: torch.Tensor, chunk: int, kept: int = 0, parts: int | None = None):
        super().__init__(cell, carry, chunk, kept, parts)
        self.cell, self.reached = cell, 0
        self.operands = carry.new_empty((2, self.parts, *carry.shape), dtype=self.weight.dtype)

    def operand(self) -> torch.Tensor:
        found = self.carry.new_empty((self.kept, 1, *self.carry.shape), dtype=self.weight.dtype)
        store_operands(self.cell, self.previous, self.chunk, self.reached - self.kept, found)
        return found[:, 0]

    def advance(self, out: torch.Tensor, first: int, steps: int, stored: int) -> None:
        cell, (B, T, D) = self.cell, self.cell.shape
        R = self.carry.shape[0]
        counters = self.counters()
        now = steps % 2
        store_operands(cell, self.carry[None], self.chunk, first, self.operands[now : now + 1])
        self.reached = first + steps
        slope = cell.inflow if cell.slope is None else cell.slope

        def run(stage: str, start: int, stop: int, **how: Any) -> None:
            launch(
                advance_kernel, self.grid, self.carry.device,
                cell.inflow, cell.gamma, slope, self.weight, cell.bias, self.operands, self.carry, self.previous,
                self.logits, self.live, out, self.product, counters, first, start, stop, steps, stored, self.kept,
                R, B, T, self.chunk, D,
                *cell.inflow.stride(), *cell.gamma.stride(), *slope.stride(), *self.weight.stride(), ADJOINT=cell.adjoint,
                PARTS=self.parts, W_PARTS=len(self.weight), EVEN_D=self.even, STAGE=stage, **self.options, **how,
            )  # fmt: skip

        if INTERPRETED:  # programs run one after another: a barrier would wait for ever
            for j in range(steps):
                run("multiply", j, j + 1)
                run("follow", j, j + 1)
        else:
            run("all", 0, steps, launch_cooperative_grid=True)


# ---- the choice --------------------------------------------------------------------

FEW = 10 * 1024  # numbers, of all rows; of so few, matrix times vector row by row takes less time (measured)


def walk(cell: Cell, state: torch.Tensor, out: torch.Tensor, first: int = 0) -> None:
    """Take all steps from `first` on one after another: all batch rows together if they are many, with the product as matrix
    times vector if they are few, more than the device holds at once, or in float64.

    Args:
        state: [B, D], contiguous, before step `first`, in the arithmetic dtype; becomes the state after the last step.
        out: [B, T, D], contiguous, gets the states from `first` on, rounded to its dtype.
    """
    T = cell.shape[1]
    if first == T:
        return
    if are_many(cell, FEW):
        Rows(cell, state, T).advance(out, first, T - first, T - first)
    else:
        walk_gated(cell.inflow, cell.gamma, cell.slope, cell.weight, cell.bias, state, out, first)
