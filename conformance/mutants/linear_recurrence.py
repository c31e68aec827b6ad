"""Variants of linear_recurrence: h_t = a_t h_{t-1} + b_t."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmrec.conformance.mutants import EVERY_DTYPE, _arithmetic, right, wrong
from mmrec.conformance.mutants._contract import Kernel, under_contract
from mmrec.conformance.mutants._faults import (
    address,
    alternating,
    delayed,
    read_as_contiguous,
    remembering,
    spoiling,
    with_stale_row,
    with_unwritten_tail,
    without_last_step,
)
from mmrec.conformance.mutants._scans import (
    adjoint,
    affine,
    chunked,
    doubling,
    fused,
    in_bfloat16,
    in_blocks_of,
    masked_doubling,
    nothing_from_the_second_block,
    sequential,
    state_before_last,
    swapped_at_third_level,
    up_and_down,
    without_last_gradient,
)

kernel = partial(under_contract, "linear_recurrence")


def scanned(scan: Kernel) -> Kernel:
    """The whole op evaluated by one scan, forwards and backwards."""
    return kernel(affine(scan))


def differentiated(**mistake: Any) -> Kernel:
    """The sequential op with one mistake in its adjoint."""
    return kernel(affine(backward=partial(adjoint, **mistake)))


def inflow_before_decay(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """h_t = a_t (h_{t-1} + b_t)."""
    return sequential(a, a * b, h0)


def view_of_state(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Where nothing decays or flows in, the initial state is returned, broadcast but not copied."""
    if bool((a == 1).all()) and not b.any():
        return h0[:, None].expand(b.shape)
    return affine()(a, b, h0)


def without_state_gradient(*arrays: Tensor) -> tuple[Tensor, ...]:
    da, db, dh0 = adjoint(*arrays)
    return da, db, torch.zeros_like(dh0)


def narrow_states(h0: Tensor, h: Tensor) -> Tensor:
    return _arithmetic.in_bfloat16(torch.cat([h0[:, None], h[:, :-1]], dim=1))


def position_missing(op: object, arrays: dict[str, Tensor]) -> None:
    for name, array in arrays.items():
        if array.isnan().any() or (name == "a" and (array.abs() > 1).any()):
            raise ValueError(f"{name} is outside its domain")


VARIANTS = (
    right("sequential", scanned(sequential), "one step after another", dtypes=EVERY_DTYPE),
    right("fused", scanned(fused), "fused multiply-add: fewer roundings, never more"),
    right("blocks_of_16", scanned(in_blocks_of(16)), "blocks joined by their carry", dtypes=EVERY_DTYPE),
    right("blocks_of_64", scanned(in_blocks_of(64)), "larger blocks round elsewhere"),
    right("doubling", scanned(doubling), "Hillis and Steele's tree", dtypes=EVERY_DTYPE),
    right("up_and_down", scanned(up_and_down), "Blelloch's tree", dtypes=EVERY_DTYPE),
    right("flushing", scanned(partial(sequential, keep=_arithmetic.flushed)),
          "subnormal states become 0, as in fast modes of GPUs"),
    right("differentiated_loop", kernel(sequential), "gradients by automatic differentiation of the loop"),
    wrong("carry_off_by_one", scanned(partial(chunked, carry=state_before_last)),
          "a block continues the state before the last"),
    wrong("one_carry_missing", scanned(partial(chunked, carry=nothing_from_the_second_block)),
          "the third block starts at 0"),
    wrong("narrow_carry", scanned(partial(chunked, carry=in_bfloat16)), "blocks hand on a bfloat16 state"),
    wrong("narrow_state", kernel(partial(sequential, keep=_arithmetic.in_bfloat16)), "the state is kept in bfloat16",
          dtypes=("bfloat16",)),
    wrong("delayed_decay", kernel(affine(), a=delayed), "a_{t-1} in the place of a_t"),
    wrong("inflow_before_decay", kernel(inflow_before_decay), "the inflow decays in the step it arrives",
          caught_by="a_constant_decay_is_a_geometric_sum"),
    wrong("initial_state_ignored", kernel(affine(), h0=torch.zeros_like), "starts at 0",
          caught_by="a_split_stream_equals_one_call"),
    wrong("clipped_state", kernel(partial(sequential, keep=partial(torch.clamp, min=-4.0, max=4.0))),
          "the state is clipped", caught_by="states_superpose"),
    wrong("operands_swapped", scanned(partial(doubling, compose=swapped_at_third_level)),
          "one tree level composes in the wrong order"),
    wrong("last_step_dropped", kernel(without_last_step(affine())), "the loop ends one step early"),
    wrong("stale_row", kernel(with_stale_row(affine())), "half of the last row was computed for the first"),
    wrong("narrow_inflow", kernel(affine(), b=_arithmetic.in_bfloat16), "b is rounded to bfloat16 when it is loaded"),
    wrong("gradient_with_own_decay", differentiated(next_decay=lambda a: a), "the adjoint decays by a_t, not a_{t+1}"),
    wrong("gradient_with_own_state", differentiated(earlier_state=lambda h0, h: h), "da_t takes h_t, not h_{t-1}",
          caught_by="every_gradient_is_within_its_bound"),
    wrong("narrow_saved_states", differentiated(earlier_state=narrow_states),
          "states are saved for the gradient in bfloat16"),
    wrong("last_gradient_dropped", kernel(affine(backward=without_last_gradient)),
          "what the loss wants of the last step is lost"),
    wrong("state_gradient_missing", kernel(affine(backward=without_state_gradient)), "dh0 is zero"),
    wrong("adjoint_carry_missing", differentiated(scan=partial(chunked, carry=nothing_from_the_second_block)),
          "backwards, one block hands on nothing"),
    wrong("mask_by_product", kernel(masked_doubling),
          "0 times NaN of the future is NaN", caught_by="the_future_is_not_felt"),
    wrong("view_of_state", kernel(view_of_state),
          "a shortcut returns a view of h0", caught_by="nothing_decays_nothing_flows"),
    wrong("contiguous_only", kernel(affine(), b=read_as_contiguous),
          "ignores the strides of b", caught_by="memory_layout_does_not_matter"),
    wrong("remembered_by_address", remembering(kernel(affine()), address),
          "an answer is remembered by address and shape",
          caught_by="new_values_in_the_same_buffers_give_new_results"),
    wrong("order_by_chance", alternating(scanned(in_blocks_of(16)), scanned(doubling)),
          "the order of additions changes from call to call"),
    wrong("tail_not_written", kernel(with_unwritten_tail(affine())), "a last block of one step stays uninitialised"),
    wrong("spoils_inflow", spoiling(kernel(affine()), 1), "b is scratch space",
          caught_by="a_call_returns_its_own_array_and_leaves_its_inputs_alone"),
    wrong("accepts_anything", kernel(affine(), validates=False), "bad input is broadcast or fails far away",
          caught_by="bad_input_is_refused_by_the_name_of_the_argument"),
    wrong("no_empty_sequence", kernel(affine(), accepts_no_steps=False), "fails at T = 0",
          caught_by="no_steps_give_an_empty_result_and_no_gradient"),
    wrong("refuses_without_position", kernel(affine(), checks_domains=position_missing),
          "checked mode does not say where",
          caught_by="values_outside_their_domain_are_refused_in_checked_mode"),
    wrong("float32_out", kernel(affine(), narrows=False),
          "the result is float32 whatever the storage", dtypes=("bfloat16",)),
)  # fmt: skip
