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

from .._compile import CompileSpec, compile_spec
from .._device import sigmoid
from .._launch import INTERPRETED, launch

ROWS = 4  # rows of W that are multiplied at once

# ---- device code -------------------------------------------------------------------


@triton.jit
def as_word(h, tag, storage: tl.constexpr):
    """A number in the storage dtype and its tag: 32 bits for the narrow dtypes, 64 for float32.

    The tag is the step modulo 32768: two states that can meet in a buffer are two steps apart."""
    if storage == tl.float32:
        bits = h.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF
        return ((tl.zeros_like(bits) + tag) << 32) | bits
    else:
        bits = h.to(storage).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
        return ((tl.zeros_like(bits) + tag) << 16) | bits


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
def load_rows(W_ptr, group, i, k, D, W_stride_i, W_stride_k, CACHED: tl.constexpr):
    """Rows i [ROWS] of W, all columns."""
    tile = W_ptr + i.to(tl.int64)[:, None] * W_stride_i + k[None, :] * W_stride_k
    inside = (i < D)[:, None] & (k < D)[None, :]
    if group < CACHED:
        return tl.load(tile, mask=inside, other=0.0, cache_modifier=".ca")
    else:
        return tl.load(tile, mask=inside, other=0.0, cache_modifier=".cg")


@triton.jit(do_not_specialize=["first", "steps"])
def walk_kernel(
    z_ptr, gamma_ptr, W_ptr, bias_ptr, words_ptr, state_ptr, out_ptr, first, steps, B, T, D,
    z_stride_b, z_stride_t, z_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d, W_stride_i, W_stride_k,
    HELD: tl.constexpr, CACHED: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Of a program's GROUPS of ROWS rows of W the first HELD (at most 2) stay in registers, those up to CACHED in L1."""
    storage: tl.constexpr = W_ptr.dtype.element_ty
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
            z_step = z_ptr + b * z_stride_b + time * z_stride_t
            gamma_step = gamma_ptr + b * gamma_stride_b + time * gamma_stride_t
            # Before the wait, so that they arrive meanwhile.
            z = tl.load(z_step + own * z_stride_d, mask=inside, other=0.0).to(tl.float32)
            gamma = tl.load(gamma_step + own * gamma_stride_d, mask=inside, other=0.0).to(tl.float32)
            previous = tl.load(state_ptr + b * D + own, mask=inside, other=0.0)
            h = await_state(words_ptr + ((j % 2) * B + b) * D + k, k < D, (j + 1) & 32767, storage)
            logits = tl.zeros((GROUPS, ROWS), tl.float32)
            for group in tl.static_range(GROUPS):
                if group == 0 and HELD > 0:
                    W = W_first
                elif group == 1 and HELD > 1:
                    W = W_second
                else:
                    # j >> 30 is 0, but no constant: or the compiler would load all of W before the loop, and spill it.
                    i = mine + group * ROWS + row + (j >> 30)
                    W = load_rows(W_ptr, group, i, k, D, W_stride_i, W_stride_k, CACHED)
                Wh = tl.sum(W.to(tl.float32) * h[None, :], axis=1)
                logits = tl.where(place == group, Wh[None, :], logits)
            state = z * sigmoid(logits + bias) + gamma * previous
            next_words = words_ptr + (((j + 1) % 2) * B + b) * D
            tl.store(next_words + own, as_word(state, (j + 2) & 32767, storage), mask=inside)
            tl.store(state_ptr + b * D + own, state, mask=inside)
            tl.store(out_ptr + (tl.full((), b, tl.int64) * T + time) * D + own, state.to(storage), mask=inside)
            tl.debug_barrier()  # another thread may read this state at the next step


def compile_specs() -> list[CompileSpec]:
    return [
        compile_spec(
            walk_kernel, storage, ("state_ptr",), types={"words_ptr": words}, num_warps=16,
            W_stride_k=1, B=1, BLOCK_K=4096, enable_fp_fusion=True, **division(1, 4096, itemsize, 132),
        )
        for storage, words, itemsize in (("fp32", "*i64", 4), ("bf16", "*i32", 2))
    ]  # fmt: skip


# ---- launch ------------------------------------------------------------------------


def division(B: int, D: int, itemsize: int, processors: int) -> dict[str, int]:
    """How a program's rows of W are divided: into registers (64 KiB), into L1 (192 KiB), the rest from L2.

    The loop over several batch rows takes registers that W does not get."""
    group = ROWS * D * itemsize
    groups = triton.next_power_of_2(triton.cdiv(D, ROWS * processors))
    held = min(2 if B == 1 else 1, groups, 65536 // group)
    return {"ROWS": ROWS, "HELD": held, "GROUPS": groups, "CACHED": held + 196608 // group}


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
        split = {"ROWS": ROWS, "HELD": 0, "GROUPS": triton.next_power_of_2(triton.cdiv(D, ROWS)), "CACHED": 0}
    else:
        split = division(B, D, W.element_size(), torch.cuda.get_device_properties(z.device).multi_processor_count)
    split |= {name: options.pop(name) for name in split if name in options}
    block = triton.next_power_of_2(D)
    warps = {"num_warps": max(4, min(16, block // 256))}
    grid = (triton.cdiv(D, split["GROUPS"] * split["ROWS"]),)
    launch(
        walk_kernel, grid, z.device,
        z, gamma, W, bias, words, state, out, first, steps, B, T, D,
        *z.stride(), *gamma.stride(), *W.stride(), BLOCK_K=block, **split,
        **({} if INTERPRETED else {"launch_cooperative_grid": True}), **{**warps, **options},
    )  # fmt: skip
