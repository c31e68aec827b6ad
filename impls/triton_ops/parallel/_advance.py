"""Many rows of the gated recurrence, by many steps in one launch.

Parallel    one program per tile of rows and output channels, all resident at once; a barrier of the whole grid ends a step
Memory      a program keeps its tile of the float32 state in registers for all steps; the state as the product reads it,
            in the storage dtype, passes through two buffers in memory that take turns; W and those are read from L2
Precision   operands of the product in the storage dtype, sums in float32; for float32 without TF32
"""

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, compile_spec
from .._device import sigmoid
from .._launch import INTERPRETED, launch

# ---- device code -------------------------------------------------------------------


@triton.jit
def grid_barrier(counter_ptr, target):
    """Wait until all programs have arrived so often that the counter, which only grows, stands at `target`."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="release")
    while tl.atomic_add(counter_ptr, 0, sem="acquire") < target:
        pass
    tl.debug_barrier()


@triton.jit(do_not_specialize=["first", "steps"])
def advance_kernel(
    z_ptr, gamma_ptr, W_ptr, bias_ptr, exchange_ptr, carry_ptr, previous_ptr, out_ptr, counter_ptr,
    first, steps, stored_steps, R, B, T, chunk, D,
    z_stride_b, z_stride_t, z_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d, W_stride_i, W_stride_k,
    EVEN_D: tl.constexpr, BARRIER: tl.constexpr,
    STORE_BEFORE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Row `c * B + b` takes `steps` steps of batch row b from c * chunk + first on, of which it stores the first
    `stored_steps`, and with STORE_BEFORE the state it starts from."""
    storage: tl.constexpr = exchange_ptr.dtype.element_ty
    r = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)  # [BLOCK_R]
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    k = tl.arange(0, BLOCK_K)
    batch, begin = (r % B).to(tl.int64), (r // B) * chunk + first
    bias = tl.load(bias_ptr + d, mask=d < D, other=0.0).to(tl.float32)
    state = (r * D)[:, None] + d[None, :]
    h = tl.load(carry_ptr + state, mask=(r < R)[:, None] & (d < D)[None, :], other=0.0)
    if STORE_BEFORE:
        inside = ((r < R) & (begin <= T))[:, None] & (d < D)[None, :]
        out_row = (batch * T + begin - 1) * D
        tl.store(out_ptr + out_row[:, None] + d[None, :], h.to(out_ptr.dtype.element_ty), mask=inside)
    programs = tl.num_programs(0) * tl.num_programs(1)
    for j in range(steps):
        time = begin + j
        inside = ((r < R) & (time < T))[:, None] & (d < D)[None, :]
        z_row = batch * z_stride_b + time.to(tl.int64) * z_stride_t
        gamma_row = batch * gamma_stride_b + time.to(tl.int64) * gamma_stride_t
        z = tl.load(z_ptr + z_row[:, None] + d[None, :] * z_stride_d, mask=inside, other=0.0)
        gamma = tl.load(gamma_ptr + gamma_row[:, None] + d[None, :] * gamma_stride_d, mask=inside, other=0.0)

        x_ptr = exchange_ptr + (j % 2) * R * D
        logits = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
        for start in tl.range(0, D, BLOCK_K, num_stages=STAGES):
            x_tile = x_ptr + (r * D)[:, None] + (start + k)[None, :]
            W_tile = W_ptr + (d * W_stride_i)[None, :] + ((start + k) * W_stride_k)[:, None]
            if EVEN_D:
                x = tl.load(x_tile, mask=(r < R)[:, None], other=0.0, cache_modifier=".cg")
                W = tl.load(W_tile)
            else:
                within = start + k < D
                x = tl.load(x_tile, mask=(r < R)[:, None] & within[None, :], other=0.0, cache_modifier=".cg")
                W = tl.load(W_tile, mask=within[:, None] & (d < D)[None, :], other=0.0)
            logits = tl.dot(x, W, logits, input_precision="ieee")

        if j == steps - 1:
            tl.store(previous_ptr + state, h, mask=(r < R)[:, None] & (d < D)[None, :])
        h = z.to(tl.float32) * sigmoid(logits + bias[None, :]) + gamma.to(tl.float32) * h
        if j < stored_steps:
            out_row = (batch * T + time) * D
            tl.store(out_ptr + out_row[:, None] + d[None, :], h.to(out_ptr.dtype.element_ty), mask=inside)
        if BARRIER:
            next_ptr = exchange_ptr + ((j + 1) % 2) * R * D
            tl.store(next_ptr + state, h.to(storage), mask=(r < R)[:, None] & (d < D)[None, :])
            grid_barrier(counter_ptr, (j + 1) * programs)
    tl.store(carry_ptr + state, h, mask=(r < R)[:, None] & (d < D)[None, :])


def compile_specs() -> list[CompileSpec]:
    return [
        compile_spec(
            advance_kernel, storage, ("carry_ptr", "previous_ptr"), types={"counter_ptr": "*i32"}, num_warps=WARPS,
            enable_fp_fusion=True, W_stride_k=1, EVEN_D=even, BARRIER=True, STORE_BEFORE=False, **tiles(itemsize),
        )
        for storage, itemsize in (("fp32", 4), ("bf16", 2))
        for even in (True, False)
    ]  # fmt: skip


# ---- launch ------------------------------------------------------------------------

TILE = 16 if INTERPRETED else 128  # rows and channels of a program
WARPS = 8
MOST_ROWS = 32 if INTERPRETED else 512  # more rows mean fewer steps, but none of the first of each chunk is saved


def tiles(itemsize: int) -> dict[str, int]:
    """Tiles whose stages fit in the shared memory of a multiprocessor."""
    block_k, stages = (16, 1) if INTERPRETED else (64, 4) if itemsize == 2 else (32, 3)
    return {"BLOCK_R": TILE, "BLOCK_D": TILE, "BLOCK_K": block_k, "STAGES": stages}


def most_rows(D: int, device: torch.device) -> int:
    """Rows that can be advanced at once: every program has a multiprocessor, or the barrier would wait for ever."""
    if INTERPRETED:
        return MOST_ROWS
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return min(MOST_ROWS, processors // triton.cdiv(D, TILE) * TILE)


def advance(
    z: torch.Tensor, gamma: torch.Tensor, W: torch.Tensor, bias: torch.Tensor, carry: torch.Tensor,
    previous: torch.Tensor, out: torch.Tensor, chunk: int, first: int, steps: int, stored: int,
    store_before: bool = False, **other_options,
) -> None:  # fmt: skip
    """Advance carry [R, D] (float32, in place) of all chunks by `steps` steps from their step `first` on.

    The first `stored` of these states go to out [B, T, D], and on request the one before them;
    previous [R, D] becomes the state before the last step.
    """
    B, T, D = z.shape
    R = carry.shape[0]
    options = {**tiles(z.element_size()), "num_warps": WARPS, **other_options}
    grid = (triton.cdiv(D, options["BLOCK_D"]), triton.cdiv(R, options["BLOCK_R"]))
    even = D % options["BLOCK_K"] == 0 and D % options["BLOCK_D"] == 0
    exchange = torch.empty((2, R, D), dtype=z.dtype, device=z.device)
    counter = torch.zeros(1, dtype=torch.int32, device=z.device)

    def run(at: int, count: int, to_store: int, before: bool, barrier: bool) -> None:
        exchange[0].copy_(carry)
        launch(
            advance_kernel, grid, z.device,
            z, gamma, W, bias, exchange, carry, previous, out, counter, at, count, to_store, R, B, T, chunk, D,
            *z.stride(), *gamma.stride(), *W.stride(), EVEN_D=even, BARRIER=barrier, STORE_BEFORE=before,
            **({} if INTERPRETED else {"launch_cooperative_grid": barrier}), **options,
        )  # fmt: skip

    if INTERPRETED:  # programs run one after another: a barrier would wait for ever
        for j in range(steps):
            run(first + j, 1, stored - j, store_before and j == 0, False)
    else:
        run(first, steps, stored, store_before, True)
