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
from ._exchange import awaited, present, publish, words_of
from ._launch import launch
from ._stabilized_mixing import Mixing
from ._stabilizer import averages, before_clip, before_norm, moments, stabilized
from ._walk import divided, division, held_groups, load_step, placed, rows_of_team, times, within

# What a program needs of all channels: forwards of each row the mix, and weight and shift; back of each row the gradient,
# how its mix was standardized, and how that feels the gate's logits.
FORWARDS = {"rms": {"vectors": 1}, "layer": {"vectors": 2}, "none": {}}
BACK = {"operands": 3}

# ---- device code -------------------------------------------------------------------


@triton.jit(do_not_specialize=["T"])
def stabilized_walk_kernel(
    z_ptr, gate_z_ptr, gamma_ptr, W_ptr, bias_ptr, weight_ptr, shift_ptr, words_ptr, mixed_ptr, out_ptr, turns, B, T,
    z_stride_b, z_stride_t, z_stride_d, gate_z_stride_b, gate_z_stride_t, gate_z_stride_d,
    gamma_stride_b, gamma_stride_t, gamma_stride_d,
    NORM: tl.constexpr, EPS: tl.constexpr, CLIP: tl.constexpr, FULL: tl.constexpr, D: tl.constexpr,
    HELD: tl.constexpr, CACHED: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, SUMMED: tl.constexpr,
    ABREAST: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Round j finds the state after step j - 1 from what was mixed for it, and mixes what becomes the state after step j."""
    dtype: tl.constexpr = mixed_ptr.dtype.element_ty
    words_each: tl.constexpr = 2 if dtype == tl.float64 else 1
    k = tl.arange(0, BLOCK_K)
    mine = tl.program_id(0) * GROUPS * ROWS
    own = mine + tl.arange(0, GROUPS * ROWS)
    bias = tl.load(bias_ptr + own, mask=own < D, other=0.0).to(dtype)[:, None]
    weight = tl.load(weight_ptr + own, mask=own < D, other=0.0).to(dtype)[:, None]
    shift = tl.load(shift_ptr + own, mask=own < D, other=0.0).to(dtype)[:, None]
    held = held_groups(W_ptr, mine, k, D, HELD, GROUPS, ROWS, SUMMED)
    for j in range(T + 1):
        for turn in range(turns):
            begin, b = rows_of_team(turn, ABREAST)
            time = tl.full((), 0, tl.int64) + j
            inside = within(own, b, B, D, FULL)  # [own, rows], as all below but the operand
            unfinished = within(own, b, B, tl.where(j < T, D, 0), FULL)
            begun = within(own, b, B, tl.where(j > 0, D, 0), FULL)
            # Before the wait, so that they arrive meanwhile.
            z_step = z_ptr + b * z_stride_b + time * z_stride_t
            gate_z_step = gate_z_ptr + b * gate_z_stride_b + time * gate_z_stride_t
            gamma_step = gamma_ptr + b * gamma_stride_b + time * gamma_stride_t
            z = load_step(z_step, own, z_stride_d, unfinished, dtype)
            gate_z = load_step(gate_z_step, own, gate_z_stride_d, unfinished, dtype)
            gamma = load_step(gamma_step, own, gamma_stride_d, unfinished, dtype)
            mixed_step = mixed_ptr + b[None, :] * D + own[:, None]
            mixed = tl.load(mixed_step, mask=inside, other=0.0)
            words = words_ptr + ((j % 2) * B + begin) * words_each * D
            next_words = words_ptr + (((j + 1) % 2) * B + b[None, :]) * words_each * D + own[:, None]
            us = awaited(words, B - begin, j + 1, k, D, dtype, ABREAST, FULL)
            nought = (j + turn) >> 30  # no constant (_walk.py)
            weight_k = tl.load(weight_ptr + k + nought, mask=k < D, other=0.0).to(dtype)
            shift_k = tl.load(shift_ptr + k + nought, mask=k < D, other=0.0).to(dtype)
            x = ()
            mean, scale = tl.zeros((1, ABREAST), dtype), tl.zeros((1, ABREAST), dtype)
            for r in tl.static_range(ABREAST):
                mean_r, scale_r = moments(us[r], k < D, D, NORM, EPS)
                mean, scale = placed(mean_r, r, mean, ABREAST), placed(scale_r, r, scale, ABREAST)
                h_k = stabilized(us[r], mean_r, scale_r, weight_k, shift_k, NORM, CLIP)
                x = x + (tl.where(j > 0, h_k, us[r]),)  # the first words are h0 itself
            h = tl.where(j > 0, stabilized(mixed, mean, scale, weight, shift, NORM, CLIP), mixed)
            out = out_ptr + (b * T + time - 1)[None, :] * D + own[:, None]
            tl.store(out, h.to(out_ptr.dtype.element_ty), mask=begun)
            Wh = times(x, held, W_ptr, mine, k, nought, D, HELD, CACHED, GROUPS, ROWS, SUMMED, ABREAST)
            gate = sigmoid(gate_z + Wh + bias)  # REC-11
            mixed = tl.fma(gamma, h, tl.fma(gate, z, (1.0 - gate) * h))  # REC-12, REC-13
            publish(next_words, mixed, j + 2, D, inside)
            tl.store(mixed_step, mixed, mask=inside)
            tl.debug_barrier()  # another thread may read it in the next round


@triton.jit(do_not_specialize=["T"])
def adjoint_walk_kernel(
    grad_ptr, gamma_ptr, W_ptr, weight_ptr, shift_ptr, gates_ptr, slopes_ptr, standards_ptr, scales_ptr, words_ptr,
    pull_ptr, dmixed_ptr, turns, B, T,
    grad_stride_b, grad_stride_t, grad_stride_d, gamma_stride_b, gamma_stride_t, gamma_stride_d,
    NORM: tl.constexpr, CLIP: tl.constexpr, FULL: tl.constexpr, D: tl.constexpr,
    HELD: tl.constexpr, CACHED: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, SUMMED: tl.constexpr,
    ABREAST: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Round j goes back through norm and mix of step T - j, given the gradient `pull` of its standardized mix, and through the
    clip of the step before. There is no step T: its gradients are 0, and the first round only begins."""
    dtype: tl.constexpr = pull_ptr.dtype.element_ty
    words_each: tl.constexpr = 2 if dtype == tl.float64 else 1
    k = tl.arange(0, BLOCK_K)
    mine = tl.program_id(0) * GROUPS * ROWS
    own = mine + tl.arange(0, GROUPS * ROWS)
    weight = tl.load(weight_ptr + own, mask=own < D, other=0.0).to(dtype)[:, None]
    shift = tl.load(shift_ptr + own, mask=own < D, other=0.0).to(dtype)[:, None]
    held = held_groups(W_ptr, mine, k, D, HELD, GROUPS, ROWS, SUMMED)
    for j in range(T + 1):
        for turn in range(turns):
            begin, b = rows_of_team(turn, ABREAST)
            time = tl.full((), T, tl.int64) - j
            inside = within(own, b, B, D, FULL)  # [own, rows], as all below but the operand
            known_width = tl.where(j > 0, D, 0)
            known, earlier = within(own, b, B, known_width, FULL), within(own, b, B, tl.where(j < T, D, 0), FULL)
            step, state_step = b * T + time, b[None, :] * D + own[:, None]
            # Before the wait, so that they arrive meanwhile.
            gate = load_step(gates_ptr + step * D, own, 1, known, dtype)
            gamma_step = gamma_ptr + b * gamma_stride_b + time * gamma_stride_t
            gamma = load_step(gamma_step, own, gamma_stride_d, known, dtype)
            standard = load_step(standards_ptr + step * D, own, 1, known, dtype)
            scale = tl.load(scales_ptr + step, mask=b < tl.where(j > 0, B, 0), other=0.0)[None, :]
            grad_step = grad_ptr + b * grad_stride_b + (time - 1) * grad_stride_t
            grad = load_step(grad_step, own, grad_stride_d, earlier, dtype)
            standard_before = load_step(standards_ptr + (step - 1) * D, own, 1, earlier, dtype)
            pull = tl.load(pull_ptr + state_step, mask=inside, other=0.0)
            standards, slopes, scales = (), (), ()
            for r in tl.static_range(ABREAST):
                there = present(k, r, B - begin, known_width, FULL)
                step_r = (begin + r) * T + time
                standards = standards + (tl.load(standards_ptr + step_r * D + k, mask=there, other=0.0),)
                slopes = slopes + (tl.load(slopes_ptr + step_r * D + k, mask=there, other=0.0),)
                scales = scales + (tl.load(scales_ptr + step_r, mask=begin + r < tl.where(j > 0, B, 0), other=0.0),)
            words = words_ptr + ((j % 2) * B + begin) * words_each * D
            next_words = words_ptr + (((j + 1) % 2) * B + b[None, :]) * words_each * D + own[:, None]
            pulls = awaited(words, B - begin, j + 1, k, D, dtype, ABREAST, FULL)
            x = ()
            along, level = tl.zeros((1, ABREAST), dtype), tl.zeros((1, ABREAST), dtype)
            for r in tl.static_range(ABREAST):
                along_r, level_r = averages(pulls[r], standards[r], D, NORM)
                along, level = placed(along_r, r, along, ABREAST), placed(level_r, r, level, ABREAST)
                x = x + (before_norm(pulls[r], standards[r], scales[r], along_r, level_r, NORM) * slopes[r],)
            dmixed = before_norm(pull, standard, scale, along, level, NORM)
            tl.store(dmixed_ptr + step[None, :] * D + own[:, None], dmixed, mask=known)
            nought = (j + turn) >> 30
            Wx = times(x, held, W_ptr, mine, k, nought, D, HELD, CACHED, GROUPS, ROWS, SUMMED, ABREAST)
            wanted = tl.fma(dmixed, 1.0 - gate + gamma, Wx)  # ADJ-6
            pull = before_clip(grad + wanted, standard_before, weight, shift, NORM, CLIP)  # ADJ-8
            if NORM != "none":
                pull = pull * weight
            publish(next_words, pull, j + 2, D, inside)
            tl.store(pull_ptr + state_step, pull, mask=inside)
            tl.debug_barrier()  # another thread may read it in the next round


def compile_specs() -> list[CompileSpec]:
    arithmetic = ("mixed_ptr", "out_ptr", "gates_ptr", "slopes_ptr", "standards_ptr", "scales_ptr", "pull_ptr",
                  "dmixed_ptr")  # fmt: skip

    def specs(storage: str, norm: str, B: int) -> list[CompileSpec]:
        options: dict[str, Any] = {"types": {"words_ptr": "*i64"}, "NORM": norm, "CLIP": 100.0}
        if B == 1:
            options |= {"turns": 1, "B": 1}
        forwards, back = (
            division(B, 4096, STORAGES[storage].itemsize, 132, **n).options for n in (FORWARDS[norm], BACK)
        )
        return [
            compile_spec(stabilized_walk_kernel, storage, arithmetic, EPS=1e-6, **forwards, **options),
            compile_spec(adjoint_walk_kernel, storage, arithmetic, **back, **options),
        ]

    alone = (("fp64", "layer", 1), ("fp32", "layer", 1), ("bf16", "rms", 1), ("bf16", "layer", 1))
    abreast = (("fp64", "rms", 17), ("fp32", "rms", 17), ("bf16", "rms", 17), ("bf16", "layer", 17))
    return [spec for storage, norm, B in (*alone, *abreast) for spec in specs(storage, norm, B)]


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
    found = divided(B, W, **FORWARDS[options["NORM"]])
    launch(
        stabilized_walk_kernel, found.grid, z.device,
        z, gate_z, gamma, W, bias, weight, shift, words_of(mixed), mixed, out, found.turns, B, T,
        *z.stride(), *gate_z.stride(), *gamma.stride(), **options, **found.options,
    )  # fmt: skip


def walk_stabilized_adjoint(
    grad: torch.Tensor, gamma: torch.Tensor, W_transposed: torch.Tensor, weight: torch.Tensor, shift: torch.Tensor,
    mixing: Mixing, dmixed: torch.Tensor, options: dict[str, Any],
) -> None:  # fmt: skip
    """The gradients of what is mixed in every step.

    Args:
        grad, gamma: [B, T, D] with any strides. W_transposed: [D, D], weight, shift: [D], contiguous.
        mixing: of all steps, contiguous. dmixed: [B, T, D], contiguous, in the arithmetic dtype, gets them.
        options: NORM and CLIP.
    """
    B, T, D = grad.shape
    found = divided(B, W_transposed, **BACK)
    pull = dmixed.new_zeros((B, D))
    launch(
        adjoint_walk_kernel, found.grid, grad.device,
        grad, gamma, W_transposed, weight, shift, *mixing, words_of(pull), pull, dmixed, found.turns, B, T,
        *grad.stride(), *gamma.stride(), **options, **found.options,
    )  # fmt: skip
