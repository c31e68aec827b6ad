"""The gated recurrence or its adjoint one step after another, all steps in one launch (_walk.py).

    state' = inflow sigmoid(W state + bias) + gamma state                    the recurrence, inflow = z      (REC-1)
    state' = W (slope (inflow + state)) + gamma (inflow + state)             its adjoint, inflow = g         (ADJ-5)

The adjoint's state is what all later steps want of the state before one; W is W_g transposed and slope how the step feels
its logits, z gate (1 - gate).
"""

import torch
import triton
import triton.language as tl

from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import sigmoid
from ._exchange import awaited, publish, words_of
from ._launch import launch
from ._walk import divided, division, held_groups, load_step, rows_of_team, times, within

# ---- device code -------------------------------------------------------------------


@triton.jit(do_not_specialize=["first", "steps"])
def gated_walk_kernel(
    inflow_ptr, gamma_ptr, slope_ptr, W_ptr, bias_ptr, words_ptr, state_ptr, out_ptr, first, steps, turns, B, T,
    inflow_stride_b, inflow_stride_t, inflow_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    slope_stride_b, slope_stride_t, slope_stride_d, ADJOINT: tl.constexpr, FULL: tl.constexpr, D: tl.constexpr,
    HELD: tl.constexpr, CACHED: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, SUMMED: tl.constexpr,
    ABREAST: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = state_ptr.dtype.element_ty
    words_each: tl.constexpr = 2 if dtype == tl.float64 else 1
    k = tl.arange(0, BLOCK_K)
    mine = tl.program_id(0) * GROUPS * ROWS
    own = mine + tl.arange(0, GROUPS * ROWS)
    bias = tl.load(bias_ptr + own, mask=own < D, other=0.0).to(dtype)[:, None]
    held = held_groups(W_ptr, mine, k, D, HELD, GROUPS, ROWS, SUMMED)
    for j in range(steps):
        for turn in range(turns):
            begin, b = rows_of_team(turn, ABREAST)
            inside = within(own, b, B, D, FULL)  # [own, rows], as all below but the operand
            time = tl.full((), first, tl.int64) + j
            inflow_step = inflow_ptr + b * inflow_stride_b + time * inflow_stride_t
            gamma_step = gamma_ptr + b * gamma_stride_b + time * gamma_stride_t
            state_step = state_ptr + b[None, :] * D + own[:, None]
            # Before the wait, so that they arrive meanwhile.
            inflow = load_step(inflow_step, own, inflow_stride_d, inside, dtype)
            gamma = load_step(gamma_step, own, gamma_stride_d, inside, dtype)
            state = tl.load(state_step, mask=inside, other=0.0)
            if ADJOINT:
                then = within(own, b, B, tl.where(time + 1 < T, D, 0), FULL)
                slope_step = slope_ptr + b * slope_stride_b + (time + 1) * slope_stride_t
                inflow_then = load_step(inflow_step + inflow_stride_t, own, inflow_stride_d, then, dtype)
                slope_then = load_step(slope_step, own, slope_stride_d, then, dtype)
            words = words_ptr + ((j % 2) * B + begin) * words_each * D
            next_words = words_ptr + (((j + 1) % 2) * B + b[None, :]) * words_each * D + own[:, None]
            x = awaited(words, B - begin, j + 1, k, D, dtype, ABREAST, FULL)
            nought = (j + turn) >> 30
            Wx = times(x, held, W_ptr, mine, k, nought, D, HELD, CACHED, GROUPS, ROWS, SUMMED, ABREAST)
            if ADJOINT:
                state = tl.fma(gamma, inflow + state, Wx)  # ADJ-5
                operand = slope_then * (inflow_then + state)
            else:
                state = tl.fma(gamma, state, inflow * sigmoid(Wx + bias))  # REC-1
                operand = state
            publish(next_words, operand, j + 2, D, inside)
            out = out_ptr + (b * T + time)[None, :] * D + own[:, None]
            tl.store(state_step, state, mask=inside)
            tl.store(out, state.to(out_ptr.dtype.element_ty), mask=inside)
            tl.debug_barrier()  # another thread may read this state at the next step


def compile_specs() -> list[CompileSpec]:
    def spec(storage: str, adjoint: bool, B: int, D: int) -> CompileSpec:
        options = division(B, D, STORAGES[storage].itemsize, 132).options
        if B == 1:
            options |= {"turns": 1, "B": 1}
        arithmetic, types = ("state_ptr", "out_ptr", "slope_ptr"), {"words_ptr": "*i64"}
        return compile_spec(gated_walk_kernel, storage, arithmetic, types=types, ADJOINT=adjoint, **options)

    alone = [spec(storage, adjoint, 1, 4096) for storage in STORAGES for adjoint in (False, True)]
    abreast = [spec(storage, storage != "fp32", 17, 4096) for storage in STORAGES]
    return [*alone, *abreast, spec("bf16", False, 63, 1024)]


# ---- launch ------------------------------------------------------------------------


def walk_gated(
    inflow: torch.Tensor, gamma: torch.Tensor, slope: torch.Tensor | None, weight: torch.Tensor, bias: torch.Tensor,
    state: torch.Tensor, out: torch.Tensor, first: int,
) -> None:  # fmt: skip
    """Take all steps from `first` on; there is one.

    Args:
        inflow, gamma, slope: [B, T, D] with any strides; slope, of the adjoint only, in any dtype. weight: [D, D],
        bias: [D], contiguous.
        state: [B, D], contiguous, before step `first`, in the arithmetic dtype; in place. out: [B, T, D], contiguous,
        gets the states from `first` on, rounded to its dtype.
    """
    B, T = inflow.shape[:2]
    operand, slopes = state, inflow
    if slope is not None:
        slopes = slope
        operand = slope[:, first].to(state.dtype) * (inflow[:, first].to(state.dtype) + state)
    found = divided(B, weight)
    launch(
        gated_walk_kernel, found.grid, state.device,
        inflow, gamma, slopes, weight, bias, words_of(operand), state, out, first, T - first, found.turns, B, T,
        *inflow.stride(), *gamma.stride(), *slopes.stride(),
        ADJOINT=slope is not None, **found.options,
    )  # fmt: skip
