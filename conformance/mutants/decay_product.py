"""Variants of decay_product: y_t = initial * product of max(gamma_i, e^-50)."""

from functools import partial

import torch
from torch import Tensor

from mmrec.conformance.mutants import EVERY_DTYPE, right, wrong
from mmrec.conformance.mutants._arithmetic import flushed, half_felt, in_bfloat16, straight_through
from mmrec.conformance.mutants._contract import Kernel, under_contract
from mmrec.conformance.mutants._faults import (
    alternating,
    delayed,
    read_as_contiguous,
    remembering,
    shape,
    with_rows_summed,
    without_last_step,
)
from mmrec.conformance.mutants._products import (
    FLOOR,
    by_adjoint,
    by_library,
    by_scan,
    floored,
    flushing,
    library_product,
    product_adjoint,
    refusing_negative,
    through_logarithms,
    zero_as_one,
)
from mmrec.conformance.mutants._scans import (
    chunked,
    doubling,
    fused,
    in_blocks_of,
    nothing_from_the_second_block,
    sequential,
    state_before_last,
    up_and_down,
)
from mmrec.conformance.mutants._scans import in_bfloat16 as narrow_carry

kernel = partial(under_contract, "decay_product")
TREE_OF_LOGARITHMS = {"class": "log", "depth": "tree"}


def scanned(scan: Kernel) -> Kernel:
    return kernel(by_scan(scan, floored))


def summed_in_pairs(logs: Tensor) -> Tensor:
    """Running sums by the doubling tree."""
    return doubling(torch.ones_like(logs), logs, torch.zeros_like(logs[:, 0]))


def floor_of_product(gamma: Tensor, initial: Tensor) -> Tensor:
    """The product is kept above e^-50, not each of its factors."""
    return torch.cumprod(refusing_negative(gamma), dim=1).clamp(min=FLOOR) * initial[:, None]


def growing_at_step_three(gamma: Tensor, initial: Tensor) -> Tensor:
    """One product in a hundred thousand too large from step 3 on."""
    y = by_library(floored)(gamma, initial)
    return torch.cat([y[:, :3], y[:, 3:] * 1.00001], dim=1)


def negative_as_floor(gamma: Tensor, initial: Tensor) -> Tensor:
    return by_library(lambda x: x.clamp(min=FLOOR))(gamma, initial)


def own_product(initial: Tensor, y: Tensor) -> Tensor:
    return y


VARIANTS = (
    right("sequential", scanned(sequential), "one step after another", dtypes=EVERY_DTYPE),
    right("fused", scanned(fused), "fused multiply-add with nothing to add"),
    right("blocks_of_16", scanned(in_blocks_of(16)), "products of blocks, then of carries", dtypes=EVERY_DTYPE),
    right("blocks_of_64", scanned(in_blocks_of(64)), "larger blocks round elsewhere"),
    right("doubling", scanned(doubling), "Hillis and Steele's tree", dtypes=EVERY_DTYPE),
    right("up_and_down", scanned(up_and_down), "Blelloch's tree"),
    right("flushing", scanned(partial(sequential, keep=flushed)),
          "subnormal states become 0, as in fast modes of GPUs"),
    right("library", kernel(by_adjoint(floored, product_adjoint, forward=library_product)),
          "torch.cumprod, and the adjoint of ADJ-1"),
    right("logarithms", kernel(through_logarithms(floored, summed_in_pairs)),
          "log, sum by a tree, exp, declared as such",
          declares=TREE_OF_LOGARITHMS),
    right("logarithms_in_order", kernel(through_logarithms(floored, partial(torch.cumsum, dim=1))),
          "log, sum in order, exp, declared as such", declares={"class": "log", "depth": "sequential"}),
    wrong("floor_at_1e-6", kernel(by_library(partial(floored, low=1e-6))), "the floor is that of the decay gate"),
    wrong("no_floor", kernel(by_scan(sequential, refusing_negative)), "a decay of 0 forgets for ever"),
    wrong("floor_of_product", kernel(floor_of_product), "the product is floored, not its factors"),
    wrong("zero_as_one", kernel(by_library(floored), gamma=zero_as_one), "a decay of 0 is treated as 1"),
    wrong("flush_below_1e-30", kernel(flushing(by_library(floored), 1e-30)), "products below 1e-30 become 0"),
    wrong("exclusive", kernel(by_library(floored), gamma=delayed), "the decay of step t - 1 in the place of step t"),
    wrong("log_clamp_-20", kernel(through_logarithms(partial(floored, low=2.06e-9), summed_in_pairs)),
          "logarithms are clamped at -20", declares=TREE_OF_LOGARITHMS),
    wrong("log_clamp_-49", kernel(through_logarithms(partial(floored, low=5.24e-22), summed_in_pairs)),
          "logarithms are clamped at -49", declares=TREE_OF_LOGARITHMS),
    wrong("narrow_logarithms", kernel(through_logarithms(floored, lambda x: summed_in_pairs(in_bfloat16(x)))),
          "logarithms are held in bfloat16", declares=TREE_OF_LOGARITHMS),
    wrong("undeclared_logarithms", kernel(through_logarithms(floored, partial(torch.cumsum, dim=1))),
          "logarithms cost digits, and nothing was declared"),
    wrong("narrow_accumulator", kernel(by_scan(partial(sequential, keep=in_bfloat16), floored)),
          "the product is kept in bfloat16",
          dtypes=("bfloat16",)),
    wrong("narrow_carry", scanned(partial(chunked, carry=narrow_carry)), "blocks hand on a bfloat16 product"),
    wrong("carry_off_by_one", scanned(partial(chunked, carry=state_before_last)),
          "a block continues the product before the last"),
    wrong("one_carry_missing", scanned(partial(chunked, carry=nothing_from_the_second_block)),
          "the third block starts at 0"),
    wrong("initial_ignored", kernel(by_library(floored), initial=torch.ones_like), "starts at 1"),
    wrong("last_step_dropped", kernel(without_last_step(by_library(floored))), "the loop ends one step early"),
    wrong("grows", kernel(growing_at_step_three),
          "a rounding error too many, upwards", caught_by="products_never_grow"),
    wrong("rows_leak", kernel(with_rows_summed(by_library(floored))),
          "NaN of one row reaches the others", caught_by="rows_never_mix"),
    wrong("negative_floored", kernel(negative_as_floor), "a negative decay is floored, not refused",
          caught_by="products_of_values_outside_their_domain_are_nan_from_there_on"),
    wrong("gradient_through_floor", kernel(by_library(straight_through(floored))),
          "a floored decay still gets a gradient"),
    wrong("gradient_with_own_product", kernel(by_adjoint(floored, partial(product_adjoint, earlier=own_product))),
          "dgamma_t takes y_t, not y_{t-1}"),
    wrong("gradient_of_library", kernel(by_library(floored)),
          "torch.cumprod differentiates by dividing, and subnormal products are lost"),
    wrong("initial_half_felt", kernel(by_library(floored), initial=half_felt), "dinitial is halved"),
    wrong("remembered_by_shape", remembering(kernel(by_library(floored)), shape), "an answer is remembered by shape"),
    wrong("contiguous_only", kernel(by_library(floored), gamma=read_as_contiguous), "ignores the strides of gamma"),
    wrong("order_by_chance", alternating(scanned(in_blocks_of(16)), scanned(doubling)),
          "the order of products changes from call to call"),
)  # fmt: skip
