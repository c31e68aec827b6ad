"""Variants of decay_product_exact: y_t = initial * product of gamma_i, exactly 0 from the first 0 on."""

from functools import partial

import torch
from torch import Tensor

from mmrec.conformance.mutants import EVERY_DTYPE, right, wrong
from mmrec.conformance.mutants._arithmetic import flushed, in_bfloat16
from mmrec.conformance.mutants._contract import Kernel, under_contract
from mmrec.conformance.mutants._faults import (
    spoiling,
    with_future_summed,
    with_stale_row,
    with_unwritten_tail,
)
from mmrec.conformance.mutants._products import (
    Adjoint,
    by_adjoint,
    by_library,
    by_scan,
    divided_adjoint,
    floored,
    flushing,
    library_product,
    product_adjoint,
    refusing_negative,
    through_logarithms,
    zero_as_one,
)
from mmrec.conformance.mutants._scans import (
    before,
    chunked,
    doubling,
    in_blocks_of,
    nothing_from_the_second_block,
    sequential,
    state_before_last,
    up_and_down,
)

kernel = partial(under_contract, "decay_product_exact")
exact = by_library(refusing_negative)


def scanned(scan: Kernel) -> Kernel:
    return kernel(by_scan(scan, refusing_negative))


def differentiated(backward: Adjoint) -> Kernel:
    return kernel(by_adjoint(refusing_negative, backward))


def starting_again(gamma: Tensor, initial: Tensor) -> Tensor:
    """After a zero the product starts again from the next decay."""
    y, products = initial, []
    for t in range(gamma.shape[1]):
        y = torch.where(y == 0, gamma[:, t], y * gamma[:, t])
        products.append(y)
    return torch.stack(products, dim=1)


def view_of_initial(gamma: Tensor, initial: Tensor) -> Tensor:
    """Where nothing decays, the initial value is returned, broadcast but not copied."""
    return initial[:, None].expand(gamma.shape) if bool((gamma == 1).all()) else exact(gamma, initial)


def slightly_below_one(gamma: Tensor) -> Tensor:
    """A decay of 1 is kept a little below it, so that its logarithm is not 0."""
    return gamma.clamp(max=1 - 2.0**-24)


def without_gradient_at_zero(decay: Tensor, initial: Tensor, y: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    ddecay, dinitial = product_adjoint(decay, initial, y, g)
    return torch.where(decay == 0, 0.0, ddecay), dinitial


def own_term_only(decay: Tensor, initial: Tensor, y: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """What later steps want of a decay is forgotten."""
    return g * before(initial, y), product_adjoint(decay, initial, y, g)[1]


def narrow_products(initial: Tensor, y: Tensor) -> Tensor:
    return in_bfloat16(before(initial, y))


VARIANTS = (
    right("sequential", scanned(sequential), "one step after another", dtypes=EVERY_DTYPE),
    right("blocks_of_16", scanned(in_blocks_of(16)), "products of blocks, then of carries", dtypes=EVERY_DTYPE),
    right("blocks_of_64", scanned(in_blocks_of(64)), "larger blocks round elsewhere"),
    right("doubling", scanned(doubling), "Hillis and Steele's tree", dtypes=EVERY_DTYPE),
    right("up_and_down", scanned(up_and_down), "Blelloch's tree"),
    right("flushing", scanned(partial(sequential, keep=flushed)),
          "subnormal states become 0, as in fast modes of GPUs"),
    right("library", kernel(by_adjoint(refusing_negative, product_adjoint, forward=library_product)),
          "torch.cumprod, and the adjoint of ADJ-2"),
    right("logarithms", kernel(through_logarithms(refusing_negative, partial(torch.cumsum, dim=1))),
          "log, sum in order, exp, declared as such: log 0 is -inf and exp makes it 0",
          declares={"class": "log", "depth": "sequential"}),
    wrong("floored", kernel(by_library(floored)),
          "the floor of the other op: a zero does not forget", caught_by="a_zero_forgets_for_ever"),
    wrong("starts_again", kernel(starting_again),
          "after a zero the product starts again", caught_by="a_zero_forgets_for_ever"),
    wrong("zero_as_one", kernel(exact, gamma=zero_as_one), "a decay of 0 is treated as 1"),
    wrong("flush_below_1e-30", kernel(flushing(exact, 1e-30)), "products below 1e-30 become 0"),
    wrong("eps_in_logarithm",
          kernel(through_logarithms(lambda x: refusing_negative(x) + 1e-6, partial(torch.cumsum, dim=1))),
          "log(gamma + 1e-6)", declares={"class": "log"}),
    wrong("below_one", kernel(exact, gamma=slightly_below_one), "a decay of 1 is taken for 1 - 2^-24",
          caught_by="a_decay_of_one_changes_no_bit"),
    wrong("narrow_decay", kernel(exact, gamma=in_bfloat16), "decays are rounded to bfloat16"),
    wrong("carry_off_by_one", scanned(partial(chunked, carry=state_before_last)),
          "a block continues the product before the last"),
    wrong("one_carry_missing", scanned(partial(chunked, carry=nothing_from_the_second_block)),
          "the third block starts at 0"),
    wrong("stale_row", kernel(with_stale_row(exact)), "half of the last row was computed for the first"),
    wrong("future_leaks", kernel(with_future_summed(exact)), "NaN of a later step reaches the earlier ones",
          caught_by="the_future_is_not_felt"),
    wrong("negatives_cancel", kernel(by_library(lambda x: x)), "two negative decays make a positive one",
          caught_by="products_of_values_outside_their_domain_are_nan_from_there_on"),
    wrong("gradient_of_library", kernel(exact),
          "torch.cumprod differentiates by dividing, and subnormal products are lost"),
    wrong("gradient_divides", differentiated(divided_adjoint), "the gradient divides by gamma: 0 / 0"),
    wrong("gradient_divides_safely", differentiated(partial(divided_adjoint, lowest=1e-6)),
          "the gradient divides by max(gamma, 1e-6)"),
    wrong("no_gradient_at_zero", differentiated(without_gradient_at_zero), "a decay of 0 gets no gradient"),
    wrong("own_term_only", differentiated(own_term_only), "a decay is not felt by later steps"),
    wrong("narrow_saved_products", differentiated(partial(product_adjoint, earlier=narrow_products)),
          "products are saved in bfloat16"),
    wrong("view_of_initial", kernel(view_of_initial), "a shortcut returns a view of the initial value",
          caught_by="a_decay_of_one_changes_no_bit"),
    wrong("tail_not_written", kernel(with_unwritten_tail(exact)), "a last block of one step stays uninitialised"),
    wrong("spoils_gamma", spoiling(kernel(exact)), "gamma is scratch space"),
    wrong("accepts_anything", kernel(exact, validates=False), "bad input is broadcast or fails far away"),
    wrong("no_empty_sequence", kernel(by_scan(sequential, refusing_negative), accepts_no_steps=False),
          "fails at T = 0"),
)  # fmt: skip
