"""Variants of gated_recurrence: h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1}."""

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
    sigmoid_above_half,
    sigmoid_by_exp2,
    sigmoid_by_hardware_tanh,
    sigmoid_with_narrow_gradient,
    sigmoid_with_noise,
    transposed_product,
    unchanged,
    unfelt,
)
from mmrec.conformance.mutants._contract import Kernel, under_contract
from mmrec.conformance.mutants._faults import (
    alternating,
    delayed,
    read_as_contiguous,
    remembering,
    shape,
    spoiling,
    with_rows_summed,
    with_stale_row,
    with_unwritten_tail,
    without_last_step,
)
from mmrec.conformance.mutants._solvers import halfway, in_chunks, speculated_alone
from mmrec.impls.torch_ops.parallel import gated_recurrence_parallel

op = partial(under_contract, "gated_recurrence")
Step = Callable[..., Tensor]


def gated_step(
    z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h: Tensor, *,
    product: Callable[[Tensor, Tensor], Tensor] = library_product, sigmoid: Callable[[Tensor], Tensor] = torch.sigmoid,
    seen_by_gate: Callable[[Tensor], Tensor] = unchanged,
) -> Tensor:  # fmt: skip
    """REC-1; the gate is computed from what it sees of the state."""
    return z * sigmoid(product(W_g, seen_by_gate(h)) + b_g) + gamma * h


def loop(step: Step = gated_step, keep: Callable[[Tensor, int], Tensor] = lambda h, t: h) -> Kernel:
    """One step after another; ``keep`` is what becomes of the state after step t."""

    def core(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h0: Tensor) -> Tensor:
        h, states = h0, []
        for t in range(z.shape[1]):
            h = keep(step(z[:, t], gamma[:, t], W_g, b_g, h), t)
            states.append(h)
        return torch.stack(states, dim=1)

    return core


def kernel(keep: Callable[[Tensor, int], Tensor] = lambda h, t: h, **fault: Any) -> Kernel:
    """The op with one fault in its step, or in what it keeps of the state."""
    return op(loop(partial(gated_step, **fault), keep))


def fused_step(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h: Tensor) -> Tensor:
    """The decay as a fused multiply-add: gamma h + (z * gate) rounded once."""
    inflow = z * torch.sigmoid(library_product(W_g, h) + b_g)
    return (gamma.double() * h.double() + inflow.double()).to(h.dtype)


def bias_first(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h: Tensor) -> Tensor:
    """The bias is the first term of the sum, not the last."""
    logits = b_g.expand(h.shape)
    for column in range(h.shape[-1]):
        logits = logits + h[:, column, None] * W_g[:, column]
    return z * torch.sigmoid(logits) + gamma * h


def gates_exchanged(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h: Tensor) -> Tensor:
    return z * gamma + torch.sigmoid(library_product(W_g, h) + b_g) * h


def gate_after_decay(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h: Tensor) -> Tensor:
    return z * torch.sigmoid(library_product(W_g, gamma * h) + b_g) + gamma * h


def state_kept_twice(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h: Tensor) -> Tensor:
    """A residual connection beside the decay: the state is no longer bounded."""
    return gated_step(z, gamma, W_g, b_g, h) + h


def gate_from_input(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h: Tensor) -> Tensor:
    return z * torch.sigmoid(library_product(W_g, z) + b_g) + gamma * h


def gates_all_at_once(z: Tensor, gamma: Tensor, W_g: Tensor, b_g: Tensor, h0: Tensor) -> Tensor:
    """Gates of all steps from the state before the first: parallel in time, and another model."""
    gate = torch.sigmoid(library_product(W_g, h0) + b_g)
    h, states = h0, []
    for t in range(z.shape[1]):
        h = z[:, t] * gate + gamma[:, t] * h
        states.append(h)
    return torch.stack(states, dim=1)


def solved(**options: Any) -> Kernel:
    """The built-in solver with other options."""
    return op(lambda *arrays: gated_recurrence_parallel(*arrays, **options)[0])


def narrow_state(h: Tensor, t: int) -> Tensor:
    return in_bfloat16(h)


def handed_on_as_stored(h: Tensor, t: int) -> Tensor:
    """Blocks of 8 steps pass the state to each other in the storage format."""
    return in_bfloat16(h) if t % 8 == 7 else h


def forgotten_every_16(h: Tensor, t: int) -> Tensor:
    """The gradient does not go further back than the block of 16 steps."""
    return h.detach() if t % 16 == 15 else h


def slowly_growing(h: Tensor, t: int) -> Tensor:
    """Roundings that always go outwards, a few of them a step."""
    return h * (1 + 2.0**-20)


VARIANTS = (
    right("loop", kernel(), "as the clause reads", dtypes=EVERY_DTYPE),
    right("permuted", kernel(product=permuted_product),
          "the product sums its columns in another order", dtypes=EVERY_DTYPE),
    right("pairwise", kernel(product=pairwise_product), "the product sums in a tree"),
    right("bias_first", op(loop(bias_first)), "the bias is added before the product, not after"),
    right("fused", op(loop(fused_step)), "the decay is a fused multiply-add"),
    right("sigmoid_by_exp2", kernel(sigmoid=sigmoid_by_exp2), "1 / (1 + 2^(-x log2 e)), as compilers write it"),
    right("sigmoid_with_noise", kernel(sigmoid=sigmoid_with_noise), "an exponential that is 2 ulp off"),
    right("chunks_of_5", op(in_chunks(loop(), 5)), "chunks of 5 steps, spliced where states are equal"),
    right("solver_chunk_3", solved(chunk=3), "the solver with chunks of 3 steps"),
    right("solver_chunk_11", solved(chunk=11), "the solver with chunks of 11 steps", dtypes=EVERY_DTYPE),
    right("solver_exact", solved(chunk=7, tolerance=0.0), "the solver, splicing equal states only"),
    wrong("chunks_unverified", op(in_chunks(loop(), 8, verifies=False)), "speculated, swept once, and returned"),
    wrong("chunks_spliced_early", op(in_chunks(loop(), 8, late=1)), "spliced one step early"),
    wrong("chunks_spliced_near", op(in_chunks(loop(), 8, closeness=1e-5)), "states within 1e-5 are taken for equal"),
    wrong("chunks_mended_once", op(in_chunks(loop(), 8, mends=False)),
          "restarted from ends that were mended afterwards"),
    wrong("chunks_carry_speculated", op(in_chunks(loop(), 8, carry=speculated_alone)),
          "restarted from the speculated state and not from the true one"),
    wrong("chunks_damped", op(in_chunks(loop(), 8, carry=halfway)), "restarted halfway to the true state"),
    wrong("transposed", kernel(product=transposed_product), "W_g acts on row vectors"),
    wrong("tf32_product", kernel(product=rounded_product(in_tf32)), "the product runs in TF32"),
    wrong("narrow_product", kernel(product=rounded_product(in_bfloat16)), "the product runs in bfloat16"),
    wrong("hardware_tanh", kernel(sigmoid=sigmoid_by_hardware_tanh), "the sigmoid is right to 2^-11"),
    wrong("narrow_state", kernel(keep=narrow_state), "the state is kept in bfloat16"),
    wrong("narrow_state_narrow_storage", kernel(keep=narrow_state),
          "the state is kept as it is stored", dtypes=("bfloat16",)),
    wrong("bias_ignored", op(loop(), b_g=torch.zeros_like), "the gate has no bias"),
    wrong("handed_on_as_stored", kernel(keep=handed_on_as_stored), "blocks of 8 steps hand the state on as it is stored",
          dtypes=("bfloat16",), caught_by="states_stay_near_the_exact_trajectory"),
    wrong("initial_state_ignored", op(loop(), h0=torch.zeros_like), "starts at 0"),
    wrong("delayed_decay", op(loop(), gamma=delayed), "gamma_{t-1} in the place of gamma_t"),
    wrong("gates_exchanged", op(loop(gates_exchanged)), "the gate multiplies the state, the decay the input"),
    wrong("gate_after_decay", op(loop(gate_after_decay)), "the gate sees the decayed state"),
    wrong("gate_from_input", op(loop(gate_from_input)), "the gate sees the input"),
    wrong("state_kept_twice", op(loop(state_kept_twice)), "a residual connection beside the decay",
          caught_by="the_state_stays_bounded"),
    wrong("gates_all_at_once", op(gates_all_at_once), "all gates are computed from h0"),
    wrong("grows", kernel(keep=slowly_growing),
          "the state grows by 2^-20 a step", caught_by="without_input_the_state_decays"),
    wrong("gate_not_half", kernel(sigmoid=sigmoid_above_half), "the sigmoid of 0 is an ulp above 1/2",
          caught_by="an_unweighted_gate_is_half_open"),
    wrong("last_step_dropped", op(without_last_step(loop())), "the loop ends one step early"),
    wrong("stale_row", op(with_stale_row(loop())), "half of the last row was computed for the first"),
    wrong("rows_leak", op(with_rows_summed(loop())),
          "NaN of one row reaches the others", caught_by="rows_never_mix"),
    wrong("gate_gradient_missing", kernel(seen_by_gate=unfelt), "the state is not felt through the gate"),
    wrong("truncated", kernel(keep=forgotten_every_16), "the gradient is truncated every 16 steps"),
    wrong("weight_half_felt", op(loop(), W_g=half_felt), "the gradient of W_g is halved"),
    wrong("bias_unfelt", op(loop(), b_g=unfelt), "the gradient of b_g is zero"),
    wrong("initial_state_unfelt", op(loop(), h0=unfelt), "dh0 is zero"),
    wrong("narrow_gate_gradient", kernel(sigmoid=sigmoid_with_narrow_gradient),
          "gates are saved for the gradient in bfloat16"),
    wrong("remembered_by_shape", remembering(kernel(), shape), "an answer is remembered by shape",
          caught_by="new_values_in_the_same_buffers_give_new_results"),
    wrong("order_by_chance", alternating(kernel(product=permuted_product), kernel(product=pairwise_product)),
          "the order of additions changes from call to call"),
    wrong("contiguous_only", op(loop(), W_g=read_as_contiguous), "ignores the strides of W_g"),
    wrong("tail_not_written", op(with_unwritten_tail(loop())), "a last block of one step stays uninitialised"),
    wrong("spoils_state", spoiling(kernel(), 4), "h0 is scratch space"),
    wrong("accepts_anything", op(loop(), validates=False), "bad input is broadcast or fails far away",
          caught_by="bad_input_is_refused_by_the_name_of_the_argument"),
    wrong("no_empty_sequence", op(loop(), accepts_no_steps=False), "fails at T = 0"),
)  # fmt: skip
