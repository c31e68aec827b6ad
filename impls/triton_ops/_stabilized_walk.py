"""The stabilized recurrence, and its adjoint, one step after another, all steps in one launch (_walk.py).

A norm needs all channels. So each program publishes what it has before the norm, and whoever reads all channels, as it must
for the product, computes the norm of them once more: one exchange a step suffices. All compute it from the same words in
the same order, so they agree bit for bit.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from ._compile import STORAGES, CompileSpec, compile_spec
from ._device import sigmoid
from ._exchange import awaited, publish, words_of
from ._launch import launch
from ._stabilized_mixing import Mixing
from ._stabilizer import averages, before_clip, before_norm, moments, stabilized
from ._walk import divided, division, held_rows, load_step, row_of_team, times

# ---- device code -------------------------------------------------------------------


@triton.jit(do_not_specialize=["T"])
def stabilized_walk_kernel(
    z_ptr, gate_z_ptr, gamma_ptr, W_ptr, bias_ptr, weight_ptr, shift_ptr, words_ptr, mixed_ptr, out_ptr, turns, B, T,
    z_stride_b, z_stride_t, z_stride_d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d,
    NORM: tl.constexpr, EPS: tl.constexpr, CLIP: tl.constexpr, ONE_TEAM: tl.constexpr, D: tl.constexpr,
    HELD: tl.constexpr, CACHED: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Round j finds the state after step j - 1 from what was mixed for it, and mixes what becomes the state after step j."""
    dtype: tl.constexpr = mixed_ptr.dtype.element_ty
    words_each: tl.constexpr = 2 if dtype == tl.float64 else 1
    k = tl.arange(0, BLOCK_K)
    mine, row = tl.program_id(0) * GROUPS * ROWS, tl.arange(0, ROWS)
    own = mine + tl.arange(0, GROUPS)[:, None] * ROWS + row[None, :]  # [GROUPS, ROWS]
    bias = tl.load(bias_ptr + own, mask=own < D, other=0.0).to(dtype)
    weight = tl.load(weight_ptr + own, mask=own < D, other=0.0).to(dtype)
    shift = tl.load(shift_ptr + own, mask=own < D, other=0.0).to(dtype)
    held = held_rows(W_ptr, mine, row, k, D, HELD)
    for j in range(T + 1):
        for turn in range(turns):
            b, width = row_of_team(turn, B, D, ONE_TEAM)
            time = tl.full((), 0, tl.int64) + j
            inside, unfinished, begun = own < width, own < tl.where(j < T, width, 0), own < tl.where(j > 0, width, 0)
            # Before the wait, so that they arrive meanwhile.
            z_step = z_ptr + b * z_stride_b + time * z_stride_t
            gate_z_step = gate_z_ptr + b * gate_z_stride_b + time * gate_z_stride_t
            gamma_step = gamma_ptr + b * gamma_stride_b + time * gamma_stride_t
            z = load_step(z_step, own, z_stride_d, unfinished, dtype)
            gate_z = load_step(gate_z_step, own, gate_z_stride_d, unfinished, dtype)
            gamma = load_step(gamma_step, own, gamma_stride_d, unfinished, dtype)
            mixed = tl.load(mixed_ptr + b * D + own, mask=inside, other=0.0)
            words = words_ptr + ((j % 2) * B + b) * words_each * D
            next_words = words_ptr + (((j + 1) % 2) * B + b) * words_each * D
            u = awaited(words + k, j + 1, D, k < width, dtype)
            mean, scale = moments(u, k < D, D, NORM, EPS)
            # j >> 30 is 0, but no constant (_walk.py)
            weight_k = tl.load(weight_ptr + k + (j >> 30), mask=k < D, other=0.0).to(dtype)
            shift_k = tl.load(shift_ptr + k + (j >> 30), mask=k < D, other=0.0).to(dtype)
            # The first words are h0 itself.
            x = tl.where(j > 0, stabilized(u, mean, scale, weight_k, shift_k, NORM, CLIP), u)
            h = tl.where(j > 0, stabilized(mixed, mean, scale, weight, shift, NORM, CLIP), mixed)
            out = out_ptr + (b * T + time - 1) * D + own
            tl.store(out, h.to(out_ptr.dtype.element_ty), mask=begun)
            Wh = times(x, held, W_ptr, mine, row, k, j, D, HELD, CACHED, GROUPS, ROWS)
            gate = sigmoid(gate_z + Wh + bias)  # REC-11
            mixed = tl.fma(gamma, h, tl.fma(gate, z, (1.0 - gate) * h))  # REC-12, REC-13
            publish(next_words + own, mixed, j + 2, D, inside)
            tl.store(mixed_ptr + b * D + own, mixed, mask=inside)
            tl.debug_barrier()  # another thread may read it in the next round


@triton.jit(do_not_specialize=["T"])
def adjoint_walk_kernel(
    grad_ptr, gamma_ptr, W_ptr, weight_ptr, shift_ptr, gates_ptr, slopes_ptr, standards_ptr, scales_ptr, words_ptr,
    pull_ptr, dmixed_ptr, dweight_ptr, dshift_ptr, dinitial_ptr, turns, B, T,
    grad_stride_b, grad_stride_t, grad_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    NORM: tl.constexpr, CLIP: tl.constexpr, ONE_TEAM: tl.constexpr, D: tl.constexpr,
    HELD: tl.constexpr, CACHED: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Round j goes back through norm and mix of step T - j, given the gradient `pull` of its standardized mix, and through the
    clip of the step before. There is no step T: its gradients are 0, and the first round only begins."""
    dtype: tl.constexpr = pull_ptr.dtype.element_ty
    words_each: tl.constexpr = 2 if dtype == tl.float64 else 1
    k = tl.arange(0, BLOCK_K)
    mine, row = tl.program_id(0) * GROUPS * ROWS, tl.arange(0, ROWS)
    own = mine + tl.arange(0, GROUPS)[:, None] * ROWS + row[None, :]  # [GROUPS, ROWS]
    weight = tl.load(weight_ptr + own, mask=own < D, other=0.0).to(dtype)
    shift = tl.load(shift_ptr + own, mask=own < D, other=0.0).to(dtype)
    held = held_rows(W_ptr, mine, row, k, D, HELD)
    for j in range(T + 1):
        for turn in range(turns):
            b, width = row_of_team(turn, B, D, ONE_TEAM)
            time = tl.full((), T, tl.int64) - j
            inside, known, earlier = own < width, tl.where(j > 0, width, 0), own < tl.where(j < T, width, 0)
            step = b * T + time
            # Before the wait, so that they arrive meanwhile.
            gate = load_step(gates_ptr + step * D, own, 1, own < known, dtype)
            gamma_step = gamma_ptr + b * gamma_stride_b + time * gamma_stride_t
            gamma = load_step(gamma_step, own, gamma_stride_d, own < known, dtype)
            standard = load_step(standards_ptr + step * D, own, 1, own < known, dtype)
            scale = tl.load(scales_ptr + step, mask=known > 0, other=0.0)
            grad_step = grad_ptr + b * grad_stride_b + (time - 1) * grad_stride_t
            grad = load_step(grad_step, own, grad_stride_d, earlier, dtype)
            standard_before = load_step(standards_ptr + (step - 1) * D, own, 1, earlier, dtype)
            pull = tl.load(pull_ptr + b * D + own, mask=inside, other=0.0)
            if NORM != "none":
                dweight = tl.load(dweight_ptr + b * D + own, mask=inside, other=0.0)
            if NORM == "layer":
                dshift = tl.load(dshift_ptr + b * D + own, mask=inside, other=0.0)
            words = words_ptr + ((j % 2) * B + b) * words_each * D
            next_words = words_ptr + (((j + 1) % 2) * B + b) * words_each * D
            standards = load_step(standards_ptr + step * D, k, 1, k < known, dtype)
            slopes = load_step(slopes_ptr + step * D, k, 1, k < known, dtype)
            pulls = awaited(words + k, j + 1, D, k < width, dtype)
            along, level = averages(pulls, standards, D, NORM)
            x = before_norm(pulls, standards, scale, along, level, NORM) * slopes
            dmixed = before_norm(pull, standard, scale, along, level, NORM)
            tl.store(dmixed_ptr + step * D + own, dmixed, mask=own < known)
            Wx = times(x, held, W_ptr, mine, row, k, j, D, HELD, CACHED, GROUPS, ROWS)
            wanted = tl.fma(dmixed, 1.0 - gate + gamma, Wx)  # ADJ-6
            tl.store(dinitial_ptr + b * D + own, wanted, mask=inside)  # the last one stays
            pull = before_clip(grad + wanted, standard_before, weight, shift, NORM, CLIP)  # ADJ-8
            if NORM == "layer":
                tl.store(dshift_ptr + b * D + own, dshift + pull, mask=earlier)
            if NORM != "none":
                tl.store(dweight_ptr + b * D + own, tl.fma(pull, standard_before, dweight), mask=earlier)
                pull = pull * weight
            publish(next_words + own, pull, j + 2, D, inside)
            tl.store(pull_ptr + b * D + own, pull, mask=inside)
            tl.debug_barrier()  # another thread may read it in the next round


def compile_specs() -> list[CompileSpec]:
    arithmetic = ("mixed_ptr", "out_ptr", "gates_ptr", "slopes_ptr", "standards_ptr", "scales_ptr", "pull_ptr",
                  "dmixed_ptr", "dweight_ptr", "dshift_ptr", "dinitial_ptr")  # fmt: skip

    def specs(storage: str, norm: str) -> list[CompileSpec]:
        options = division(1, 4096, STORAGES[storage].itemsize, 132).options
        options |= {"types": {"words_ptr": "*i64"}, "turns": 1, "B": 1, "NORM": norm, "CLIP": 100.0}
        return [
            compile_spec(stabilized_walk_kernel, storage, arithmetic, EPS=1e-6, **options),
            compile_spec(adjoint_walk_kernel, storage, arithmetic, **options),
        ]

    variants = (("fp64", "layer"), ("fp32", "layer"), ("bf16", "rms"), ("bf16", "layer"))
    return [spec for storage, norm in variants for spec in specs(storage, norm)]


# ---- launch ------------------------------------------------------------------------


def walk_stabilized(
    z: torch.Tensor, gate_z: torch.Tensor, gamma: torch.Tensor, W: torch.Tensor, bias: torch.Tensor,
    weight: torch.Tensor, shift: torch.Tensor, mixed: torch.Tensor, out: torch.Tensor, options: dict[str, Any],
) -> None:  # fmt: skip
    """All states, rounded to the dtype of out [B, T, D].

    Args:
        z, gate_z, gamma: [B, T, D] with any strides. W: [D, D], bias, weight, shift: [D], contiguous.
        mixed: [B, D] in the arithmetic dtype, contiguous, the state to start from; overwritten. out: contiguous.
        options: NORM, EPS and CLIP.
    """
    B, T = z.shape[:2]
    found = divided(B, W)
    launch(
        stabilized_walk_kernel, found.grid, z.device,
        z, gate_z, gamma, W, bias, weight, shift, words_of(mixed), mixed, out, found.turns, B, T,
        *z.stride(), *gate_z.stride(), *gamma.stride(), **options, **found.options,
    )  # fmt: skip


def walk_stabilized_adjoint(
    grad: torch.Tensor, gamma: torch.Tensor, W_transposed: torch.Tensor, weight: torch.Tensor, shift: torch.Tensor,
    mixing: Mixing, options: dict[str, Any],
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    """The gradients of what is mixed in every step [B, T, D], of norm_weight and norm_bias per row [B, D], and of h0.

    Args:
        grad, gamma: [B, T, D] with any strides. W_transposed: [D, D], weight, shift: [D], contiguous.
        mixing: of all steps. options: NORM and CLIP.
    """
    B, T, D = grad.shape
    found = divided(B, W_transposed)
    dmixed = torch.empty_like(mixing.gates)
    pull, dweight, dshift, dinitial = mixing.gates.new_zeros((4, B, D))
    launch(
        adjoint_walk_kernel, found.grid, grad.device,
        grad, gamma, W_transposed, weight, shift, *mixing, words_of(pull), pull, dmixed, dweight, dshift, dinitial,
        found.turns, B, T, *grad.stride(), *gamma.stride(), **options, **found.options,
    )  # fmt: skip
    return dmixed, dweight, dshift, dinitial
