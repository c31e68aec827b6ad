"""The gated recurrence one step after another, all steps in one launch: for few rows that cannot be split over time.

Parallel    every program owns some output channels; all are resident at once
Memory      a program keeps its first rows of W in registers and reads the others through its L1 cache, which holds
            them from step to step: after the first step W moves over no bus. The state passes through memory as words
            that hold a number and the step it belongs to; who waits for a state reads until all words are of that
            step. That needs no barrier and no fence, which would empty the cache.
Precision   the product reads the state in the storage dtype and sums in float32; the state itself stays float32
"""

import torch
import triton
import triton.language as tl

from .._device import sigmoid
from .._launch import INTERPRETED, launch

TAGS = tl.constexpr(32767)  # a word's step, modulo 32768: two states that can meet in a buffer are two steps apart
ROWS = 8  # rows of W that are multiplied at once

# ---- device code -------------------------------------------------------------------


@triton.jit
def as_word(h, tag, storage: tl.constexpr):
    """A number in the storage dtype and its tag: 32 bits for the narrow dtypes, 64 for float32."""
    if storage == tl.float32:
        return (tag.to(tl.int64) << 32) | (h.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF)
    else:
        return (tag << 16) | (h.to(storage).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF)


@triton.jit
def await_state(words, inside, tag, storage: tl.constexpr):
    """The state [BLOCK_K] in float32, once every word of it has the tag."""
    bits: tl.constexpr = 32 if storage == tl.float32 else 16
    word = tl.load(words, mask=inside, other=0, volatile=True)
    while tl.max((((word >> bits) != tag) & inside).to(tl.int32), axis=0) != 0:
        word = tl.load(words, mask=inside, other=0, volatile=True)
    if storage == tl.float32:
        return word.to(tl.int32).to(tl.float32, bitcast=True)
    else:
        return word.to(tl.int16).to(storage, bitcast=True).to(tl.float32)


@triton.jit
def step_rows(
    W, h, i, z_step, gamma_step, z_stride_d, gamma_stride_d, bias_ptr, state_ptr, out_step, words, tag, D,
    storage: tl.constexpr,
):  # fmt: skip
    """One step of the channels i [ROWS], whose rows of W are given [ROWS, BLOCK_K]."""
    inside = i < D
    z = tl.load(z_step + i * z_stride_d, mask=inside, other=0.0).to(tl.float32)
    gamma = tl.load(gamma_step + i * gamma_stride_d, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + i, mask=inside, other=0.0).to(tl.float32)
    previous = tl.load(state_ptr + i, mask=inside, other=0.0)
    logits = tl.sum(W.to(tl.float32) * h[None, :], axis=1) + bias
    state = z * sigmoid(logits) + gamma * previous
    tl.store(words + i, as_word(state, tag, storage), mask=inside)
    tl.store(state_ptr + i, state, mask=inside)
    tl.store(out_step + i, state.to(storage), mask=inside)


@triton.jit(do_not_specialize=["first", "steps"])
def walk_kernel(
    z_ptr, gamma_ptr, W_ptr, bias_ptr, words_ptr, state_ptr, out_ptr, first, steps, B, T, D,
    z_stride_b, z_stride_t, z_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d, W_stride_i, W_stride_k,
    HELD: tl.constexpr, CACHED: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Of the GROUPS * ROWS rows of W of a program HELD are in registers, CACHED groups in L1, the others pass by it."""
    storage: tl.constexpr = W_ptr.dtype.element_ty
    k = tl.arange(0, BLOCK_K)
    mine = tl.program_id(0) * (HELD + GROUPS * ROWS)
    held = mine + tl.arange(0, HELD if HELD else 1)
    if HELD:
        W_held = tl.load(W_ptr + held.to(tl.int64)[:, None] * W_stride_i + k[None, :] * W_stride_k,
                         mask=(held < D)[:, None] & (k < D)[None, :], other=0.0)  # fmt: skip
    for j in range(steps):
        tag = (j + 1) & TAGS
        for b in range(B):
            time = tl.full((), first, tl.int64) + j
            z_step = z_ptr + b * z_stride_b + time * z_stride_t
            gamma_step = gamma_ptr + b * gamma_stride_b + time * gamma_stride_t
            out_step = out_ptr + (tl.full((), b, tl.int64) * T + time) * D
            words = words_ptr + ((j % 2) * B + b) * D
            next_words = words_ptr + (((j + 1) % 2) * B + b) * D
            h = await_state(words + k, k < D, tag, storage)
            next_tag = (j + 2) & TAGS
            if HELD:
                step_rows(W_held, h, held, z_step, gamma_step, z_stride_d, gamma_stride_d, bias_ptr, state_ptr + b * D,
                          out_step, next_words, next_tag, D, storage)  # fmt: skip
            for group in tl.static_range(GROUPS):
                i = mine + HELD + group * ROWS + tl.arange(0, ROWS)
                tile = W_ptr + i.to(tl.int64)[:, None] * W_stride_i + k[None, :] * W_stride_k
                inside = (i < D)[:, None] & (k < D)[None, :]
                if group < CACHED:
                    W = tl.load(tile, mask=inside, other=0.0, cache_modifier=".ca")
                else:
                    W = tl.load(tile, mask=inside, other=0.0, cache_modifier=".cg")
                step_rows(W, h, i, z_step, gamma_step, z_stride_d, gamma_stride_d, bias_ptr, state_ptr + b * D,
                          out_step, next_words, next_tag, D, storage)  # fmt: skip


# ---- launch ------------------------------------------------------------------------


def division(D: int, itemsize: int, processors: int) -> dict[str, int]:
    """How a program's rows of W are divided over registers and caches: 128 KiB and 160 KiB of them hold W."""
    own = max(ROWS, triton.next_power_of_2(triton.cdiv(D, processors)))
    held = min(own, 2 ** ((131072 // (triton.next_power_of_2(D) * itemsize)).bit_length() - 1)) if D * itemsize <= 131072 else 0
    held = held if held >= ROWS else 0
    groups = (own - held) // ROWS
    return {"HELD": held, "GROUPS": groups, "CACHED": min(groups, 163840 // (ROWS * D * itemsize))}


def walk(
    z: torch.Tensor, gamma: torch.Tensor, W: torch.Tensor, bias: torch.Tensor, state: torch.Tensor, out: torch.Tensor,
    first: int, steps: int, **options,
) -> None:  # fmt: skip
    """Take `steps` steps from `first` on: state [B, D] float32 in place, out [B, T, D]."""
    B, T, D = z.shape
    wide = z.dtype == torch.float32
    bits = state.to(z.dtype).view(torch.int32 if wide else torch.int16)
    words = torch.zeros((2, B, D), dtype=torch.int64 if wide else torch.int32, device=z.device)
    words[0] = bits.to(words.dtype) & (0xFFFFFFFF if wide else 0xFFFF) | (1 << (32 if wide else 16))
    if INTERPRETED:  # programs run one after another: only one alone does not wait for others
        split = {"HELD": 0, "GROUPS": triton.cdiv(D, ROWS), "CACHED": 0}
    else:
        split = division(D, W.element_size(), torch.cuda.get_device_properties(z.device).multi_processor_count)
    split |= {name: options.pop(name) for name in ("HELD", "GROUPS", "CACHED") if name in options}
    block = triton.next_power_of_2(D)
    warps = {"num_warps": max(4, min(16, block // 256))}
    grid = (triton.cdiv(D, split["HELD"] + split["GROUPS"] * ROWS),)
    launch(
        walk_kernel, grid, z.device,
        z, gamma, W, bias, words, state, out, first, steps, B, T, D,
        *z.stride(), *gamma.stride(), *W.stride(), ROWS=ROWS, BLOCK_K=block, **split,
        **({} if INTERPRETED else {"launch_cooperative_grid": True}), **{**warps, **options},
    )  # fmt: skip
