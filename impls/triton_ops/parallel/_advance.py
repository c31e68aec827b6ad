"""Many rows of the gated recurrence, by many steps in one launch.

Parallel    one program per tile of rows and output channels, all resident at once; a barrier of the whole grid ends a step
Memory      a program keeps its tile of the float32 state in registers for all steps; the state as the product reads it,
            in the storage dtype, passes through two buffers in memory that take turns; W and those are read from L2
Precision   operands of the product in the storage dtype, sums in float32; for float32 without TF32
"""

import torch
import triton
import triton.language as tl

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
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Row `c * B + b` takes the steps c * chunk + first .. + steps - 1 of batch row b; those from stored_steps on are
    not stored."""
    storage: tl.constexpr = exchange_ptr.dtype.element_ty
    r = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)  # [BLOCK_R]
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    k = tl.arange(0, BLOCK_K)
    batch, time = (r % B).to(tl.int64), (r // B).to(tl.int64) * chunk + first
    lanes = (r < R)[:, None] & (d < D)[None, :]
    z_tile = z_ptr + (batch * z_stride_b + time * z_stride_t)[:, None] + d[None, :] * z_stride_d
    gamma_tile = gamma_ptr + (batch * gamma_stride_b + time * gamma_stride_t)[:, None] + d[None, :] * gamma_stride_d
    out_tile = out_ptr + ((batch * T + time) * D)[:, None] + d[None, :]
    state = r.to(tl.int64)[:, None] * D + d[None, :]
    buffer = R.to(tl.int64) * D
    x_tile = exchange_ptr + r.to(tl.int64)[:, None] * D + k[None, :]  # [BLOCK_R, BLOCK_K]
    W_tile = W_ptr + d.to(tl.int64)[None, :] * W_stride_i + k[:, None] * W_stride_k  # [BLOCK_K, BLOCK_D]

    bias = tl.load(bias_ptr + d, mask=d < D, other=0.0).to(tl.float32)
    h = tl.load(carry_ptr + state, mask=lanes, other=0.0)
    programs = tl.num_programs(0) * tl.num_programs(1)
    arrived = 0
    for j in range(steps):
        inside = lanes & (time + j < T)[:, None]
        z = tl.load(z_tile, mask=inside, other=0.0).to(tl.float32)
        gamma = tl.load(gamma_tile, mask=inside, other=0.0).to(tl.float32)
        x_step = x_tile + (j % 2) * buffer
        logits = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
        for start in tl.range(0, D, BLOCK_K, num_stages=STAGES):
            if EVEN_D:
                x = tl.load(x_step + start, mask=(r < R)[:, None], other=0.0, cache_modifier=".cg")
                W = tl.load(W_tile + start * W_stride_k)
            else:
                within = start + k < D
                x = tl.load(x_step + start, mask=(r < R)[:, None] & within[None, :], other=0.0, cache_modifier=".cg")
                W = tl.load(W_tile + start * W_stride_k, mask=within[:, None] & (d < D)[None, :], other=0.0)
            logits = tl.dot(x, W, logits, input_precision="ieee")
        gate = sigmoid(logits + bias[None, :])
        if j == steps - 1:
            tl.store(previous_ptr + state, h, mask=lanes)
        h = z * gate + gamma * h
        tl.store(out_tile, h.to(out_ptr.dtype.element_ty), mask=inside & (j < stored_steps))
        if BARRIER:
            tl.store(exchange_ptr + ((j + 1) % 2) * buffer + state, h.to(storage), mask=lanes)
            arrived += programs
            grid_barrier(counter_ptr, arrived)
        z_tile += z_stride_t
        gamma_tile += gamma_stride_t
        out_tile += D
    tl.store(carry_ptr + state, h, mask=lanes)


# ---- launch ------------------------------------------------------------------------


def tile_options(R: int, D: int) -> dict[str, int]:
    """Tiles for which all programs of [R, D] are resident at once on a GPU with at least 128 multiprocessors."""
    if INTERPRETED:
        return {"BLOCK_R": 16, "BLOCK_D": 16, "BLOCK_K": 16, "STAGES": 1, "num_warps": 4}
    return {"BLOCK_R": 128, "BLOCK_D": 128, "BLOCK_K": 64, "STAGES": 4, "num_warps": 8}


def advance(
    z: torch.Tensor, gamma: torch.Tensor, W: torch.Tensor, bias: torch.Tensor, carry: torch.Tensor,
    previous: torch.Tensor, out: torch.Tensor, chunk: int, first: int, steps: int, stored: int, **tiles,
) -> None:  # fmt: skip
    """Advance carry [R, D] (float32, in place) of all chunks by `steps` steps and store the first `stored` of them in
    out [B, T, D]; previous [R, D] becomes the state before the last step."""
    B, T, D = z.shape
    R = carry.shape[0]
    options = {**tile_options(R, D), **tiles}
    grid = (triton.cdiv(D, options["BLOCK_D"]), triton.cdiv(R, options["BLOCK_R"]))
    even = D % options["BLOCK_K"] == 0 and D % options["BLOCK_D"] == 0
    exchange = torch.empty((2, R, D), dtype=z.dtype, device=z.device)
    counter = torch.zeros(1, dtype=torch.int32, device=z.device)

    def run(at: int, count: int, to_store: int, barrier: bool) -> None:
        exchange[0].copy_(carry)
        launch(
            advance_kernel, grid, z.device,
            z, gamma, W, bias, exchange, carry, previous, out, counter, at, count, to_store, R, B, T, chunk, D,
            *z.stride(), *gamma.stride(), *W.stride(), EVEN_D=even, BARRIER=barrier,
            **({} if INTERPRETED else {"launch_cooperative_grid": barrier}), **options,
        )  # fmt: skip

    if INTERPRETED:  # programs run one after another: a barrier would wait for ever
        for j in range(steps):
            run(first + j, 1, stored - j, False)
    else:
        run(first, steps, stored, True)
