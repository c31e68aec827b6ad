"""Many rows of the recurrence, or of its adjoint, by many steps in one launch.

Parallel    one program per tile of rows and output channels, all resident at once; a barrier of those that share rows ends
            a step
Memory      the operand of the next step, in parts, passes through two buffers in memory that take turns; W and those are
            read from L2. The product leaves the registers, which are full of it, and is taken up again in slices with
            the state and the streams: all of it stays in L2
Precision   float32 state. The operand is made of two or three bfloat16 parts, and so is a float32 weight; tensor cores
            multiply them and sum in float32 (_parts.py)
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, aligned, compile_spec
from .._device import sigmoid
from .._launch import INTERPRETED, launch, processors_of, shared_memory
from .._parts import parts_of, split
from ._cell import Cell

# ---- device code -------------------------------------------------------------------


@triton.jit
def barrier(counter_ptr, target):
    """Wait until programs have arrived so often that the counter, which only grows, stands at `target`."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="release")
    while tl.atomic_add(counter_ptr, 0, sem="acquire") < target:
        pass
    tl.debug_barrier()


@triton.jit
def load_tile(pointer, batch, time, d, stride_b, stride_t, stride_d, inside):
    """A stream at the time of each row, [rows, channels]."""
    row = batch * stride_b + time.to(tl.int64) * stride_t
    return tl.load(pointer + row[:, None] + d[None, :] * stride_d, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def load_part(tile, part, rows, columns, EVEN_D: tl.constexpr, CACHE: tl.constexpr):
    """Some rows and columns of one part of a matrix."""
    if EVEN_D:
        return tl.load(tile + part, mask=rows, other=0.0, cache_modifier=CACHE)
    else:
        return tl.load(tile + part, mask=rows & columns, other=0.0, cache_modifier=CACHE)


@triton.jit
def weighted(operand_ptr, W_ptr, r, d, R, D, W_stride_part, W_stride_i, W_stride_k,
             PARTS: tl.constexpr, W_PARTS: tl.constexpr, EVEN_D: tl.constexpr,
             BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """W times the operand, [rows, channels]: of the products of their parts, which lie one after another, the largest."""
    k = tl.arange(0, BLOCK_K)
    part, known = R * D, (r < R)[:, None]
    found = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for start in tl.range(0, D, BLOCK_K, num_stages=STAGES):
        within = start + k < D
        x_tile = operand_ptr + (r * D)[:, None] + (start + k)[None, :]
        W_tile = W_ptr + (d * W_stride_i)[None, :] + ((start + k) * W_stride_k)[:, None]
        W = load_part(W_tile, 0, (d < D)[None, :], within[:, None], EVEN_D, "")
        x = load_part(x_tile, 0, known, within[None, :], EVEN_D, ".cg")
        found = tl.dot(x, W, found, input_precision="ieee")
        if PARTS > 1:
            x_second = load_part(x_tile, part, known, within[None, :], EVEN_D, ".cg")
            found = tl.dot(x_second, W, found, input_precision="ieee")
        if PARTS > 2:
            x_third = load_part(x_tile, 2 * part, known, within[None, :], EVEN_D, ".cg")
            found = tl.dot(x_third, W, found, input_precision="ieee")
        if W_PARTS > 1:
            W_second = load_part(W_tile, W_stride_part, (d < D)[None, :], within[:, None], EVEN_D, "")
            found = tl.dot(x, W_second, found, input_precision="ieee")
            if W_PARTS > 2:
                found = tl.dot(x_second, W_second, found, input_precision="ieee")
        if W_PARTS > 2:
            W_third = load_part(W_tile, 2 * W_stride_part, (d < D)[None, :], within[:, None], EVEN_D, "")
            found = tl.dot(x, W_third, found, input_precision="ieee")
    return found


@triton.jit(do_not_specialize=["first", "start", "stop", "steps", "stored_steps"])
def advance_kernel(
    inflow_ptr, gamma_ptr, slope_ptr, W_ptr, bias_ptr, operand_ptr, carry_ptr, previous_ptr, logits_ptr, live_ptr,
    out_ptr, product_ptr, counter_ptr, first, start, stop, steps, stored_steps, R, B, T, chunk, D,
    inflow_stride_b, inflow_stride_t, inflow_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    slope_stride_b, slope_stride_t, slope_stride_d, W_stride_part, W_stride_i, W_stride_k,
    ADJOINT: tl.constexpr, PARTS: tl.constexpr, W_PARTS: tl.constexpr, EVEN_D: tl.constexpr, BARRIER: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr, SLICE: tl.constexpr,
):  # fmt: skip
    """Row c * B + b takes the steps from c * chunk + first on of batch row b: of all `steps` those in [start, stop).

    Live rows store the first `stored_steps` states. previous [2, R, D] gets the states before the last two steps and
    logits [2, R, D] the gate's logits in them."""
    storage: tl.constexpr = operand_ptr.dtype.element_ty
    block = tl.program_id(1) * BLOCK_R
    r = block + tl.arange(0, BLOCK_R)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    bias = tl.load(bias_ptr + d, mask=d < D, other=0.0).to(tl.float32)
    for j in range(start, stop):
        Wx = weighted(
            operand_ptr + (j % 2) * PARTS * R * D, W_ptr, r, d, R, D, W_stride_part, W_stride_i, W_stride_k,
            PARTS, W_PARTS, EVEN_D, BLOCK_R, BLOCK_D, BLOCK_K, STAGES,
        )  # fmt: skip
        tl.store(product_ptr + (r * D)[:, None] + d[None, :], Wx, mask=(r < R)[:, None] & (d < D)[None, :])
        tl.debug_barrier()
        kept = j - (steps - 2)  # 0 and 1 in the last two steps
        for begin in tl.range(block, block + BLOCK_R, SLICE, loop_unroll_factor=1, num_stages=1):
            row = begin + tl.arange(0, SLICE)
            batch, time = (row % B).to(tl.int64), (row // B) * chunk + first + j
            known = (row < R)[:, None] & (d < D)[None, :]
            inside = known & (time < T)[:, None]
            tile = (row * D)[:, None] + d[None, :]
            inflow = load_tile(inflow_ptr, batch, time, d, inflow_stride_b, inflow_stride_t, inflow_stride_d, inside)
            gamma = load_tile(gamma_ptr, batch, time, d, gamma_stride_b, gamma_stride_t, gamma_stride_d, inside)
            product = tl.load(product_ptr + tile, mask=known, other=0.0)
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
                next_ptr = operand_ptr + ((j + 1) % 2) * PARTS * R * D + tile
                parts = split(operand, PARTS, storage)
                for part in tl.static_range(PARTS):
                    tl.store(next_ptr + part * R * D, parts[part], mask=known)
        if BARRIER:  # noqa: SIM102 (a constant, and a number that is not known yet)
            if j < steps - 1:  # only those who share its rows read what it has written
                barrier(counter_ptr + tl.program_id(1), (j + 1) * tl.num_programs(0))


def compile_specs() -> list[CompileSpec]:
    """Storage, parts of the operand, parts of the weight, rows, and whether the adjoint is stepped: not every combination,
    since each takes seconds."""
    float32 = ("carry_ptr", "previous_ptr", "logits_ptr", "out_ptr", "product_ptr")
    types = {"live_ptr": "*i32", "counter_ptr": "*i32", "operand_ptr": "*bf16", "W_ptr": "*bf16"}
    specs = []
    variants = (
        ("bf16", 2, 1, 512, False),
        ("bf16", 2, 1, 128, True),
        ("fp32", 2, 2, 512, True),
        ("fp32", 3, 3, 128, False),
    )
    for storage, parts, weight_parts, rows, adjoint in variants:
        options = tiles(rows, 4096, parts, weight_parts, 132)
        spec = compile_spec(
            advance_kernel, storage, float32, types=types, num_warps=options.pop("num_warps"), W_stride_k=1,
            ADJOINT=adjoint, PARTS=parts, W_PARTS=weight_parts, EVEN_D=True, BARRIER=True, **options,
        )  # fmt: skip
        specs.append(aligned(spec, "R", "D", "W_stride_part", "W_stride_i"))
    return specs


# ---- launch ------------------------------------------------------------------------

MOST_ROWS = 32 if INTERPRETED else 512  # more rows mean fewer steps, but none of the first of each chunk is saved
SHARED = 196608  # bytes of shared memory that the stages of a tile may take, where a multiprocessor has so much


def choices() -> list[dict[str, Any]]:
    """Tiles from the smallest on."""
    if INTERPRETED:
        return [{"BLOCK_R": 16, "BLOCK_D": 16, "BLOCK_K": 16, "SLICE": 8, "num_warps": 8}]
    return [
        {"BLOCK_R": 16, "BLOCK_D": 32, "BLOCK_K": 256, "SLICE": 16, "num_warps": 4},
        {"BLOCK_R": 64, "BLOCK_D": 64, "BLOCK_K": 128, "SLICE": 16, "num_warps": 4},
        {"BLOCK_R": 64, "BLOCK_D": 128, "BLOCK_K": 64, "SLICE": 16, "num_warps": 4},
        {"BLOCK_R": 128, "BLOCK_D": 128, "BLOCK_K": 64, "SLICE": 32, "num_warps": 8},
    ]


def tiles(rows: int, D: int, parts: int, weight_parts: int, processors: int, shared: int = SHARED) -> dict[str, Any]:
    """The smallest tiles of which every program has a multiprocessor, or the barrier would wait for ever; as many stages
    as there is room for."""
    for options in choices():
        if triton.cdiv(rows, options["BLOCK_R"]) * triton.cdiv(D, options["BLOCK_D"]) <= processors:
            break
    stage = 2 * options["BLOCK_K"] * (options["BLOCK_R"] * parts + options["BLOCK_D"] * weight_parts)
    return {**options, "STAGES": 1 if INTERPRETED else max(2, min(6, shared // stage))}


def most_rows(D: int, device: torch.device) -> int:
    """Rows that can be advanced at once, with the largest tiles."""
    if INTERPRETED:
        return MOST_ROWS
    largest = choices()[-1]
    return min(MOST_ROWS, processors_of(device) // triton.cdiv(D, largest["BLOCK_D"]) * largest["BLOCK_R"])


def shared_of(device: torch.device) -> int:
    """What the stages of a tile may take of this device's shared memory."""
    return min(SHARED, shared_memory(device))


class Rows:
    """The rows of a solution, all chunks of all batch rows, and the buffers of their steps.

    carry [R, D] holds their states, float32, row c * B + b for chunk c; after `advance` previous and logits [2, R, D]
    hold what the last two steps began with, and operand [2, parts, R, D] what W multiplied there.
    """

    def __init__(self, cell: Cell, carry: torch.Tensor, chunk: int, parts: int | None = None):
        self.cell, self.carry, self.chunk = cell, carry, chunk
        self.parts = cell.parts if parts is None else parts
        R, D = carry.shape
        self.previous = carry.new_empty((2, R, D))
        self.logits = self.previous if cell.adjoint else carry.new_empty((2, R, D))
        self.weight = cell.weight_parts if self.parts > 1 else cell.weight_parts[:1]
        self.operand = carry.new_empty((2, self.parts, R, D), dtype=self.weight.dtype)
        self.product = torch.empty_like(carry)
        self.live = torch.ones(R, dtype=torch.int32, device=carry.device)
        device = carry.device
        self.options = tiles(R, D, self.parts, len(self.weight), processors_of(device), shared_of(device))

    def advance(self, out: torch.Tensor, first: int, steps: int, stored: int) -> None:
        """Take every row `steps` steps from its step `first` on; live rows store the first `stored` in out [B, T, D]."""
        cell, (B, T, D) = self.cell, self.cell.shape
        R = self.carry.shape[0]
        options = self.options
        grid = (triton.cdiv(D, options["BLOCK_D"]), triton.cdiv(R, options["BLOCK_R"]))
        even = D % options["BLOCK_K"] == 0 and D % options["BLOCK_D"] == 0
        counter = torch.zeros(grid[1], dtype=torch.int32, device=self.carry.device)
        operand = cell.first_operand(self.carry, self.chunk, first)
        self.operand[0].copy_(parts_of(operand, self.parts, self.operand.dtype))
        slope = cell.inflow if cell.slope is None else cell.slope

        def run(start: int, stop: int, barrier: bool) -> None:
            launch(
                advance_kernel, grid, self.carry.device,
                cell.inflow, cell.gamma, slope, self.weight, cell.bias, self.operand, self.carry, self.previous,
                self.logits, self.live, out, self.product, counter, first, start, stop, steps, stored, R, B, T, self.chunk, D,
                *cell.inflow.stride(), *cell.gamma.stride(), *slope.stride(), *self.weight.stride(),
                ADJOINT=cell.adjoint, PARTS=self.parts, W_PARTS=len(self.weight), EVEN_D=even, BARRIER=barrier,
                **({} if INTERPRETED else {"launch_cooperative_grid": barrier}), **options,
            )  # fmt: skip

        if INTERPRETED:  # programs run one after another: a barrier would wait for ever
            for j in range(steps):
                run(j, j + 1, False)
        else:
            run(0, steps, steps > 1)
