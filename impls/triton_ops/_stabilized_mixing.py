"""What the adjoint of the stabilized recurrence needs to know of every step, found for all steps at once.

Clauses     ADJ-6
Parallel    one program per step and batch row; the product of all states with W_h by torch (_parts.py)
Memory      reads and writes every array once
Precision   float32 (float64 for float64)
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import sigmoid
from ._launch import launch, next_power_of_2
from ._parts import multiply
from ._stabilizer import moments, standardized


class Mixing(NamedTuple):
    """Of every step, [B, T, D] in the arithmetic dtype:"""

    gates: torch.Tensor
    slopes: torch.Tensor  # how the mix feels the gate's logits, gate (1 - gate) (z - h)
    standards: torch.Tensor  # the mix, standardized by the norm
    scales: torch.Tensor  # one over its deviation, [B, T]


# ---- device code -------------------------------------------------------------------


@triton.jit
def mixing_kernel(
    logits_ptr, before_ptr, z_ptr, gate_z_ptr, gamma_ptr, bias_ptr, slopes_ptr, standards_ptr, scales_ptr, T, D,
    z_stride_b, z_stride_t, z_stride_d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d, NORM: tl.constexpr, EPS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Replaces the state's share of the logits by the gates."""
    dtype: tl.constexpr = logits_ptr.dtype.element_ty
    t, b = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    inside, at = d < D, (b * T + t) * D + d
    z_step = z_ptr + b * z_stride_b + t * z_stride_t + d * z_stride_d
    gate_z_step = gate_z_ptr + b * gate_z_stride_b + t * gate_z_stride_t + d * gate_z_stride_d
    gamma_step = gamma_ptr + b * gamma_stride_b + t * gamma_stride_t + d * gamma_stride_d
    z = tl.load(z_step, mask=inside, other=0.0).to(dtype)
    gate_z = tl.load(gate_z_step, mask=inside, other=0.0).to(dtype)
    gamma = tl.load(gamma_step, mask=inside, other=0.0).to(dtype)
    bias = tl.load(bias_ptr + d, mask=inside, other=0.0).to(dtype)
    before = tl.load(before_ptr + at, mask=inside, other=0.0)
    gate = sigmoid(gate_z + tl.load(logits_ptr + at, mask=inside, other=0.0) + bias)  # REC-11
    u = tl.fma(gamma, before, tl.fma(gate, z, (1.0 - gate) * before))  # REC-12, REC-13
    mean, scale = moments(u, inside, D, NORM, EPS)
    tl.store(logits_ptr + at, gate, mask=inside)
    tl.store(slopes_ptr + at, gate * (1.0 - gate) * (z - before), mask=inside)
    tl.store(standards_ptr + at, standardized(u, mean, scale, NORM), mask=inside)
    tl.store(scales_ptr + b * T + t, scale)


def compile_specs() -> list[CompileSpec]:
    arithmetic = ("logits_ptr", "before_ptr", "slopes_ptr", "standards_ptr", "scales_ptr")
    return [
        compile_spec(mixing_kernel, storage, arithmetic, NORM=norm, EPS=1e-6, BLOCK_D=4096, num_warps=8)
        for storage in STORAGES
        for norm in ("rms", "layer", "none")
    ]


# ---- launch ------------------------------------------------------------------------


def mixing_of(
    z: torch.Tensor, gate_z: torch.Tensor, gamma: torch.Tensor, W_h: torch.Tensor, b_h: torch.Tensor,
    before: torch.Tensor, norm: str, eps: float,
) -> Mixing:  # fmt: skip
    """Given the states before all steps [B, T, D] in the arithmetic dtype, contiguous; b_h [D] contiguous."""
    B, T, D = z.shape
    gates = multiply(before.view(-1, D), W_h.T).view(B, T, D)
    slopes, standards = torch.empty_like(gates), torch.empty_like(gates)
    scales = gates.new_empty((B, T))
    block = next_power_of_2(D)
    launch(
        mixing_kernel, (T, B), z.device, gates, before, z, gate_z, gamma, b_h, slopes, standards, scales, T, D,
        *z.stride(), *gate_z.stride(), *gamma.stride(),
        NORM=norm, EPS=eps, BLOCK_D=block, num_warps=max(4, min(16, block // 512)),
    )  # fmt: skip
    return Mixing(gates, slopes, standards, scales)
