"""How fast does a gated cell forget? Estimated from some of its steps, in one launch.

A step's derivative is gamma + slope W, slope = z gate (1 - gate); independent terms add as squares. Of that gamma counts which
lasts longest. The larger states are, the more gates are shut or open for good: with logits x of variance v around the bias,

    mean of (gate (1 - gate))^2 = that at the bias / sqrt(1 + v)        as exp(-x^2 / 2) is nearly sech(x / 2)^4
    v = |W|^2 / D mean h^2,    h^2 = z^2 gate^2 / (1 - gamma^2)         of a state as it settles

Parallel    one program per block of channels
Memory      reads the weight once, and the streams of SAMPLE steps
Precision   float32, from any storage
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl

from .._compile import CompileSpec, compile_spec
from .._device import sigmoid
from .._launch import cdiv, launch

SAMPLE = 256  # steps from which the rate is estimated
BLOCK_S, BLOCK_D, BLOCK_K = 32, 32, 128

# ---- device code -------------------------------------------------------------------


@triton.jit
def sample_kernel(
    gamma_ptr, slope_ptr, bias_ptr, W_ptr, norm_ptr, found_ptr, samples, every, steps, D, root,
    gamma_stride_b, gamma_stride_t, gamma_stride_d, slope_stride_b, slope_stride_t, slope_stride_d, W_stride_i,
    ADJOINT: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """norm [D]: of each row of W. found [programs, 4]: of the mean square of gamma the largest of these channels, and sums over
    them: of the squares of their slopes (with the gate at the bias), of their states, and of their norms. Means are over
    `samples`, of each batch row `steps`, one of `every` so many. `root` is that of D."""
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    gammas = tl.zeros((BLOCK_D,), tl.float32)
    slopes = tl.zeros((BLOCK_D,), tl.float32)
    bias = tl.load(bias_ptr + d, mask=d < D, other=0.0).to(tl.float32)
    for start in range(0, samples, BLOCK_S):
        sample = start + tl.arange(0, BLOCK_S)
        b, t = (sample // steps).to(tl.int64), (sample % steps).to(tl.int64) * every
        inside = (sample < samples)[:, None] & (d < D)[None, :]
        gamma_at = gamma_ptr + (b * gamma_stride_b + t * gamma_stride_t)[:, None] + d[None, :] * gamma_stride_d
        slope_at = slope_ptr + (b * slope_stride_b + t * slope_stride_t)[:, None] + d[None, :] * slope_stride_d
        gamma = tl.load(gamma_at, mask=inside, other=0.0).to(tl.float32)
        slope = tl.load(slope_at, mask=inside, other=0.0).to(tl.float32)
        gammas += tl.sum(gamma * gamma, axis=0)
        slopes += tl.sum(slope * slope, axis=0)
    gammas /= samples
    slopes /= samples
    states = tl.zeros((BLOCK_D,), tl.float32)
    if not ADJOINT:
        gate = sigmoid(bias)
        states = tl.where(d < D, slopes * gate * gate / tl.maximum(1.0 - gammas, 1.0 / (steps * every)), 0.0)
        slopes *= gate * gate * (1.0 - gate) * (1.0 - gate)
    squares, largest = tl.zeros((BLOCK_D,), tl.float32), tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, D, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = (d < D)[:, None] & (k < D)[None, :]
        W = tl.load(W_ptr + d.to(tl.int64)[:, None] * W_stride_i + k[None, :], mask=inside, other=0.0).to(tl.float32)
        squares += tl.sum(W * W, axis=1)
        largest = tl.maximum(largest, tl.max(tl.abs(W), axis=1))
    # Where squares underflow, what the norm is at most.
    norm = tl.where(largest < 1e-12, largest * root, tl.sqrt(squares))
    tl.store(norm_ptr + d, norm, mask=d < D)
    found_ptr += tl.program_id(0) * 4
    tl.store(found_ptr, tl.max(gammas, axis=0))
    tl.store(found_ptr + 1, tl.sum(slopes, axis=0))
    tl.store(found_ptr + 2, tl.sum(states, axis=0))
    tl.store(found_ptr + 3, tl.sum(squares, axis=0))


def compile_specs() -> list[CompileSpec]:
    blocks: dict[str, Any] = {"BLOCK_S": BLOCK_S, "BLOCK_D": BLOCK_D, "BLOCK_K": BLOCK_K}
    specs = []
    for storage, slope, adjoint in (("bf16", "bf16", False), ("bf16", "fp32", True), ("fp32", "fp32", False)):
        types = {"slope_ptr": f"*{slope}", "root": "fp32"}
        specs.append(
            compile_spec(sample_kernel, storage, ("norm_ptr", "found_ptr"), types=types, ADJOINT=adjoint, **blocks)
        )
    return specs


# ---- launch ------------------------------------------------------------------------


def sampled(
    gamma: torch.Tensor, slope: torch.Tensor, bias: torch.Tensor, weight: torch.Tensor, adjoint: bool
) -> tuple[float, torch.Tensor]:
    """By what a difference grows in one step, squared, if the inflow has no memory of its own.

    Args     gamma, slope [B, T, D] with any strides, slope being z unless `adjoint`; bias [D]; weight [D, D] with contiguous rows
    Returns  the growth, and the norms of the rows of the weight [D] in float32
    """
    (B, T, D), device = gamma.shape, gamma.device
    every = max(1, T // SAMPLE)
    steps = cdiv(T, every)
    programs = cdiv(D, BLOCK_D)
    norms, found = (torch.empty(shape, dtype=torch.float32, device=device) for shape in (D, (programs, 4)))
    launch(
        sample_kernel, (programs,), device,
        gamma, slope, bias, weight, norms, found, B * steps, every, steps, D, math.sqrt(D), *gamma.stride(), *slope.stride(),
        weight.stride(0), ADJOINT=adjoint, BLOCK_S=BLOCK_S, BLOCK_D=BLOCK_D, BLOCK_K=BLOCK_K,
    )  # fmt: skip
    found = found.cpu()
    slope, state, square = (found[:, 1:].sum(0) / D).tolist()
    return found[:, 0].max().item() + slope * square / math.sqrt(1 + state * square), norms
