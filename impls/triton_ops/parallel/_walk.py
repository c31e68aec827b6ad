"""The recurrence or its adjoint one step after another, all steps in one launch: for few rows not to be split over time.

Parallel    every program owns some output channels; all are resident at once
Memory      a program keeps its first rows of W in registers and reads the others through its L1 cache, which holds
            them from step to step: after the first step W moves over no bus. The operand of the next step passes through
            memory as words that hold a number and the step it belongs to; who waits for it reads until all words are
            of that step. That needs no barrier and no fence, which would empty the cache.
Precision   state and operand in float32, W in its storage dtype, sums in float32
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, aligned, compile_spec
from .._device import sigmoid
from .._launch import INTERPRETED, launch
from ._advance import processors_of
from ._cell import Cell

# ---- device code -------------------------------------------------------------------


@triton.jit
def as_word(x, tag):
    """A float32 number below its tag, the step."""
    bits = x.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF
    return ((tl.zeros_like(bits) + tag) << 32) | bits


@triton.jit
def await_operand(words, inside, tag):
    """The operand [BLOCK_K], once every word of it has the tag."""
    word = tl.load(words, mask=inside, other=0, volatile=True)
    while tl.max((((word >> 32) != tag) & inside).to(tl.int32), axis=0) != 0:
        word = tl.load(words, mask=inside, other=0, volatile=True)
    return word.to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def load_rows(W_ptr, group, i, k, D, W_stride_i, W_stride_k, CACHED: tl.constexpr):
    """Rows i [ROWS] of W, all columns."""
    tile = W_ptr + i.to(tl.int64)[:, None] * W_stride_i + k[None, :] * W_stride_k
    inside = (i < D)[:, None] & (k < D)[None, :]
    if group < CACHED:
        return tl.load(tile, mask=inside, other=0.0, cache_modifier=".ca")
    else:
        return tl.load(tile, mask=inside, other=0.0, cache_modifier=".cg")


@triton.jit
def load_step(pointer, own, stride_d, inside):
    return tl.load(pointer + own * stride_d, mask=inside, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["first", "steps"])
def walk_kernel(
    inflow_ptr, gamma_ptr, slope_ptr, W_ptr, bias_ptr, words_ptr, state_ptr, out_ptr, first, steps, B, T, D,
    inflow_stride_b, inflow_stride_t, inflow_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    slope_stride_b, slope_stride_t, slope_stride_d, W_stride_i, W_stride_k, ADJOINT: tl.constexpr,
    HELD: tl.constexpr, CACHED: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Of a program's GROUPS of ROWS rows of W the first HELD (at most 2) stay in registers, those up to CACHED in L1."""
    k = tl.arange(0, BLOCK_K)
    mine, row, place = tl.program_id(0) * GROUPS * ROWS, tl.arange(0, ROWS), tl.arange(0, GROUPS)[:, None]
    own = mine + place * ROWS + row[None, :]  # [GROUPS, ROWS]
    inside = own < D
    bias = tl.load(bias_ptr + own, mask=inside, other=0.0).to(tl.float32)
    if HELD > 0:
        W_first = load_rows(W_ptr, 0, mine + row, k, D, W_stride_i, W_stride_k, GROUPS)
    if HELD > 1:
        W_second = load_rows(W_ptr, 1, mine + ROWS + row, k, D, W_stride_i, W_stride_k, GROUPS)
    for j in range(steps):
        for b in range(B):
            time = tl.full((), first, tl.int64) + j
            inflow_step = inflow_ptr + b * inflow_stride_b + time * inflow_stride_t
            # Before the wait, so that they arrive meanwhile.
            inflow = load_step(inflow_step, own, inflow_stride_d, inside)
            gamma = load_step(gamma_ptr + b * gamma_stride_b + time * gamma_stride_t, own, gamma_stride_d, inside)
            state = tl.load(state_ptr + b * D + own, mask=inside, other=0.0)
            if ADJOINT:
                then = own < tl.where(time + 1 < T, D, 0)
                slope_step = slope_ptr + b * slope_stride_b + (time + 1) * slope_stride_t
                inflow_then = load_step(inflow_step + inflow_stride_t, own, inflow_stride_d, then)
                slope_then = load_step(slope_step, own, slope_stride_d, then)
            x = await_operand(words_ptr + ((j % 2) * B + b) * D + k, k < D, j + 1)
            Wx = tl.zeros((GROUPS, ROWS), tl.float32)
            for group in tl.static_range(GROUPS):
                if group == 0 and HELD > 0:
                    W = W_first
                elif group == 1 and HELD > 1:
                    W = W_second
                else:
                    # j >> 30 is 0, but no constant: or the compiler would load all of W before the loop, and spill it.
                    i = mine + group * ROWS + row + (j >> 30)
                    W = load_rows(W_ptr, group, i, k, D, W_stride_i, W_stride_k, CACHED)
                Wx = tl.where(place == group, tl.sum(W.to(tl.float32) * x[None, :], axis=1)[None, :], Wx)
            if ADJOINT:
                state = tl.fma(gamma, inflow + state, Wx)  # ADJ-5
                operand = slope_then * (inflow_then + state)
            else:
                state = tl.fma(gamma, state, inflow * sigmoid(Wx + bias))  # REC-1
                operand = state
            next_words = words_ptr + (((j + 1) % 2) * B + b) * D
            tl.store(next_words + own, as_word(operand, j + 2), mask=inside)
            tl.store(state_ptr + b * D + own, state, mask=inside)
            tl.store(out_ptr + (tl.full((), b, tl.int64) * T + time) * D + own, state, mask=inside)
            tl.debug_barrier()  # another thread may read this state at the next step


def compile_specs() -> list[CompileSpec]:
    def spec(storage: str, itemsize: int, adjoint: bool) -> CompileSpec:
        split = division(1, 4096, itemsize, 132)
        warps = split.pop("num_warps")
        arithmetic = ("state_ptr", "out_ptr")
        known = compile_spec(
            walk_kernel, storage, arithmetic, types={"words_ptr": "*i64"}, num_warps=warps,
            W_stride_k=1, B=1, BLOCK_K=4096, ADJOINT=adjoint, **split,
        )  # fmt: skip
        return aligned(known, "D", "W_stride_i")

    return [spec(storage, size, adjoint) for storage, size in (("fp32", 4), ("bf16", 2)) for adjoint in (False, True)]


# ---- launch ------------------------------------------------------------------------


def division(B: int, D: int, itemsize: int, processors: int) -> dict[str, Any]:
    """How a program's rows of W are divided: into registers (64 KiB), into L1 (192 KiB), the rest from L2.

    The loop over several batch rows takes registers that W does not get."""
    rows = 8 if itemsize == 2 else 4  # that are multiplied at once
    group = rows * D * itemsize
    groups = triton.next_power_of_2(triton.cdiv(D, rows * processors))
    held = min(1, groups, 65536 // group)
    warps = max(4, min(8, triton.next_power_of_2(D) // 256))
    return {"ROWS": rows, "HELD": held, "GROUPS": groups, "CACHED": held + 196608 // group, "num_warps": warps}


def walk(cell: Cell, state: torch.Tensor, out: torch.Tensor, first: int, steps: int) -> None:
    """Take `steps` steps from `first` on: state [B, D] float32 in place, out [B, T, D] float32."""
    B, T, D = cell.shape
    operand = cell.first_operand(state, T, first)
    words = torch.zeros((2, B, D), dtype=torch.int64, device=state.device)
    words[0] = operand.view(torch.int32).to(torch.int64) & 0xFFFFFFFF | (1 << 32)
    split = division(B, D, cell.weight.element_size(), 132 if INTERPRETED else processors_of(state.device))
    if INTERPRETED:  # programs run one after another: only one alone does not wait for others
        split |= {"HELD": 0, "GROUPS": triton.next_power_of_2(triton.cdiv(D, split["ROWS"])), "CACHED": 0}
    slope = cell.inflow if cell.slope is None else cell.slope
    launch(
        walk_kernel, (triton.cdiv(D, split["GROUPS"] * split["ROWS"]),), state.device,
        cell.inflow, cell.gamma, slope, cell.weight, cell.bias, words, state, out, first, steps, B, T, D,
        *cell.inflow.stride(), *cell.gamma.stride(), *slope.stride(), *cell.weight.stride(),
        ADJOINT=cell.adjoint, BLOCK_K=triton.next_power_of_2(D), **split,
        **({} if INTERPRETED else {"launch_cooperative_grid": True}),
    )  # fmt: skip
