"""Variants of stabilized_recurrence: a convex mix of state and input, decay, norm and clip at every step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmrec.conformance.mutants import EVERY_DTYPE, right, wrong
from mmrec.conformance.mutants._arithmetic import (
    half_felt,
    in_bfloat16,
    in_tf32,
    library_product,
    pairwise_product,
    permuted_product,
    rounded_product,
    sigmoid_by_exp2,
    sigmoid_by_hardware_tanh,
    sigmoid_with_noise,
    straight_through,
    transposed_product,
    unchanged,
    unfelt,
)
from mmrec.conformance.mutants._contract import Kernel, under_contract
from mmrec.conformance.mutants._faults import (
    address,
    alternating,
    delayed,
    read_as_contiguous,
    remembering,
    with_stale_row,
    with_unwritten_tail,
)
from mmrec.conformance.mutants._solvers import halfway, in_chunks, speculated_alone
from mmrec.conformance.mutants._stabilizers import (
    always_rms,
    constant_scale,
    eps_outside,
    exchanged,
    factored,
    interpolated,
    mixed,
    normalized,
    normalized_apart,
    normalized_by_division,
    normalized_by_welford,
    rms_with_bias,
    rms_without_weight,
    sample_variance,
    with_eps,
    without_decay,
)
from mmrec.impls.torch_ops.parallel import stabilized_recurrence_parallel

op = partial(under_contract, "stabilized_recurrence")


def clipped(x: Tensor, limit: float) -> Tensor:
    return x.clamp(-limit, limit)


def clipped_with_gradient(x: Tensor, limit: float) -> Tensor:
    return straight_through(lambda value: value.clamp(-limit, limit))(x)


def norm_then_clip(u: Tensor, norm: Callable[[Tensor], Tensor], clip: Callable[[Tensor], Tensor]) -> Tensor:
    return clip(norm(u))


def clip_then_norm(u: Tensor, norm: Callable[[Tensor], Tensor], clip: Callable[[Tensor], Tensor]) -> Tensor:
    return norm(clip(u))


def loop(
    z: Tensor, gate_z: Tensor, gamma: Tensor, W_h: Tensor, b_h: Tensor, norm_weight: Tensor, norm_bias: Tensor,
    h0: Tensor, *, norm: str = "rms", eps: float = 1e-6, clip: float = 100.0,
    product: Callable = library_product, sigmoid: Callable = torch.sigmoid, mix: Callable = mixed,
    normalize: Callable = normalized, limit: Callable = clipped, order: Callable = norm_then_clip,
    seen_by_gate: Callable = unchanged, keep: Callable = unchanged, carries_clipped: bool = True,
) -> Tensor:  # fmt: skip
    """One step after another, each of its parts replaceable."""
    h, states = h0, []
    for t in range(z.shape[1]):
        g = sigmoid(gate_z[:, t] + product(W_h, seen_by_gate(h)) + b_h)
        u = mix(h, g, z[:, t], gamma[:, t])
        whole = order(u, lambda x: normalize(x, norm_weight, norm_bias, norm, eps), lambda x: limit(x, clip))
        h = keep(whole)
        states.append(h)
        if not carries_clipped:
            h = normalize(u, norm_weight, norm_bias, norm, eps)
    return torch.stack(states, dim=1)


def kernel(**fault: Any) -> Kernel:
    return op(partial(loop, **fault))


def with_fixed_clip(*arrays: Tensor, clip: float = 100.0, **options: Any) -> Tensor:
    return loop(*arrays, clip=100.0, **options)


def normalized_afterwards(*arrays: Tensor, norm: str = "rms", eps: float = 1e-6, clip: float = 100.0) -> Tensor:
    """No norm between steps: the states of all steps are normalised and clipped when the last one is there."""
    sums = loop(*arrays, norm="none", clip=torch.inf)
    *_, norm_weight, norm_bias, _h0 = arrays
    return clipped(normalized(sums, norm_weight, norm_bias, norm, eps), clip)


def solved(**options: Any) -> Kernel:
    """The built-in solver with other options."""
    return op(lambda *arrays, **of_op: stabilized_recurrence_parallel(*arrays, **(of_op | options))[0])


VARIANTS = (
    right("loop", kernel(), "as the clauses read", dtypes=EVERY_DTYPE),
    right("permuted", kernel(product=permuted_product, mix=factored),
          "products and mix in another order", dtypes=EVERY_DTYPE),
    right("pairwise", kernel(product=pairwise_product), "the product sums in a tree"),
    right("norm_apart", kernel(normalize=normalized_apart), "the layer norm as x r - mean r"),
    right("welford", kernel(normalize=normalized_by_welford), "mean and variance by Welford's update"),
    right("division", kernel(normalize=normalized_by_division), "divided by the root, the sum from the right"),
    right("sigmoid_by_exp2", kernel(sigmoid=sigmoid_by_exp2), "1 / (1 + 2^(-x log2 e)), as compilers write it"),
    right("sigmoid_with_noise", kernel(sigmoid=sigmoid_with_noise), "an exponential that is 2 ulp off"),
    right("chunks_of_5", op(in_chunks(loop, 5)), "chunks of 5 steps, spliced where states are equal"),
    right("solver_chunk_3", solved(chunk=3), "the solver with chunks of 3 steps"),
    right("solver_chunk_11", solved(chunk=11), "the solver with chunks of 11 steps", dtypes=EVERY_DTYPE),
    right("solver_exact", solved(chunk=7, tolerance=0.0), "the solver, splicing equal states only"),
    wrong("chunks_unverified", op(in_chunks(loop, 8, verifies=False)), "speculated, swept once, and returned"),
    wrong("chunks_spliced_early", op(in_chunks(loop, 8, late=1)), "spliced one step early"),
    wrong("chunks_spliced_near", op(in_chunks(loop, 8, closeness=1e-4)), "states within 1e-4 are taken for equal"),
    wrong("chunks_mended_once", op(in_chunks(loop, 8, mends=False)),
          "restarted from ends that were mended afterwards"),
    wrong("chunks_carry_speculated", op(in_chunks(loop, 8, carry=speculated_alone)),
          "restarted from the speculated state and not from the true one"),
    wrong("chunks_damped", op(in_chunks(loop, 8, carry=halfway)), "restarted halfway to the true state"),
    wrong("chunks_normalized_afterwards", op(in_chunks(normalized_afterwards, 8)),
          "chunks run without norm and clip, which all their states get at once"),
    wrong("transposed", kernel(product=transposed_product), "W_h acts on row vectors"),
    wrong("tf32_product", kernel(product=rounded_product(in_tf32)), "the product runs in TF32"),
    wrong("hardware_tanh", kernel(sigmoid=sigmoid_by_hardware_tanh), "the sigmoid is right to 2^-11"),
    wrong("mix_exchanged", kernel(mix=exchanged), "an open gate keeps the state"),
    wrong("mix_interpolated", kernel(mix=interpolated), "h + g (z - h) rounds the input to the state's size",
          caught_by="a_shut_or_open_gate_is_exact"),
    wrong("decay_ignored", kernel(mix=without_decay), "nothing of the state is kept beside the mix"),
    wrong("delayed_gate", op(loop, gate_z=delayed), "gate_z of step t - 1"),
    wrong("gate_input_ignored", op(loop, gate_z=torch.zeros_like), "the gate sees the state alone"),
    wrong("gate_state_ignored", op(loop, W_h=torch.zeros_like), "the gate sees the input alone"),
    wrong("eps_missing", kernel(normalize=with_eps(lambda eps: 0.0)), "no eps in the norm"),
    wrong("eps_1e-5", kernel(normalize=with_eps(lambda eps: 1e-5)), "eps is 1e-5 whatever was asked for"),
    wrong("eps_outside", kernel(normalize=eps_outside), "eps is added to the root"),
    wrong("sample_variance", kernel(normalize=sample_variance), "the variance is divided by D - 1"),
    wrong("rms_without_weight", kernel(normalize=rms_without_weight), "the RMS norm ignores its weight"),
    wrong("rms_with_bias", kernel(normalize=rms_with_bias), "the RMS norm adds the bias"),
    wrong("always_rms", kernel(normalize=always_rms), "the layer norm is an RMS norm"),
    wrong("clip_2_percent_wide", kernel(limit=lambda x, limit: clipped(x, 1.02 * limit)),
          "clips at 1.02 times the limit",
          caught_by="the_state_never_leaves_the_clip"),
    wrong("clip_fixed", op(with_fixed_clip), "clips at 100 whatever was asked for"),
    wrong("clip_before_norm", kernel(order=clip_then_norm), "the clip comes before the norm"),
    wrong("clip_in_bfloat16", kernel(limit=lambda x, limit: in_bfloat16(clipped(x, limit))),
          "the clip runs in bfloat16"),
    wrong("carry_not_clipped", kernel(carries_clipped=False), "what is carried on is not clipped"),
    wrong("narrow_state", kernel(keep=in_bfloat16), "the state is kept as it is stored", dtypes=("bfloat16",),
          caught_by="the_state_is_wider_than_its_storage"),
    wrong("initial_state_ignored", op(loop, h0=torch.zeros_like), "starts at 0"),
    wrong("stale_row", op(with_stale_row(loop)), "half of the last row was computed for the first"),
    wrong("gradient_through_clip", kernel(limit=clipped_with_gradient), "a clipped state still gets a gradient"),
    wrong("constant_scale", kernel(normalize=constant_scale),
          "the norm's scale is taken for a constant in the gradient"),
    wrong("gate_gradient_missing", kernel(seen_by_gate=unfelt), "the state is not felt through the gate"),
    wrong("weight_half_felt", op(loop, norm_weight=half_felt), "the gradient of norm_weight is halved"),
    wrong("bias_unfelt", op(loop, norm_bias=unfelt), "the gradient of norm_bias is zero"),
    wrong("initial_state_unfelt", op(loop, h0=unfelt), "dh0 is zero"),
    wrong("remembered_by_address", remembering(kernel(), address), "an answer is remembered by address and shape"),
    wrong("order_by_chance", alternating(kernel(product=permuted_product), kernel(product=pairwise_product)),
          "the order of additions changes from call to call"),
    wrong("contiguous_only", op(loop, gate_z=read_as_contiguous), "ignores the strides of gate_z"),
    wrong("tail_not_written", op(with_unwritten_tail(loop)), "a last block of one step stays uninitialised"),
    wrong("accepts_anything", op(loop, validates=False), "bad input is broadcast or fails far away"),
    wrong("no_empty_sequence", op(loop, accepts_no_steps=False), "fails at T = 0"),
)  # fmt: skip
