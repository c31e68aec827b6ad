"""Variants of log_decay_product: s_t = initial + sum of clamp(log_gamma_i, -50, 0)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mmrec.conformance.mutants import EVERY_DTYPE, right, wrong
from mmrec.conformance.mutants._arithmetic import half_felt, in_bfloat16, in_tf32, straight_through, unfelt
from mmrec.conformance.mutants._contract import Kernel, differentiated_by, under_contract
from mmrec.conformance.mutants._faults import (
    address,
    alternating,
    delayed,
    remembering,
    spoiling,
    with_rows_summed,
    with_stale_row,
    without_last_step,
)
from mmrec.conformance.mutants._scans import (
    affine,
    chunked,
    doubling,
    in_blocks_of,
    nothing_from_the_second_block,
    sequential,
    state_before_last,
    up_and_down,
)
from mmrec.conformance.mutants._scans import in_bfloat16 as narrow_carry

kernel = partial(under_contract, "log_decay_product")


def clamped(log_gamma: Tensor, low: float = -50.0, high: float | None = 0.0) -> Tensor:
    return log_gamma.clamp(min=low, max=high)


def running_sum(terms: Tensor, initial: Tensor, scan: Kernel) -> Tensor:
    """A linear recurrence without decay."""
    return scan(torch.ones_like(terms), terms, initial)


def summed(scan: Kernel, limit: Callable[[Tensor], Tensor] = clamped) -> Kernel:
    whole = affine(scan)
    return lambda log_gamma, initial: running_sum(limit(log_gamma), initial, whole)


def by_library(limit: Callable[[Tensor], Tensor] = clamped) -> Kernel:
    return lambda log_gamma, initial: initial[:, None] + torch.cumsum(limit(log_gamma), dim=1)


def compensated(log_gamma: Tensor, initial: Tensor) -> Tensor:
    """Knuth's two-sum: what each addition rounds away is collected, and added at the end."""
    total, lost, sums = initial, torch.zeros_like(initial), []
    for term in clamped(log_gamma).unbind(1):
        larger = total + term
        shown = larger - total
        lost = lost + ((total - (larger - shown)) + (term - shown)).detach()
        total = larger
        sums.append(total + lost)
    return torch.stack(sums, dim=1)


def clamp_of_sum(log_gamma: Tensor, initial: Tensor) -> Tensor:
    """The sum is kept above -50, not each of its terms."""
    return torch.cumsum(log_gamma.clamp(max=0.0), dim=1).clamp(min=-50.0) + initial[:, None]


def triangular(rounding: Callable[[Tensor], Tensor]) -> Kernel:
    """All sums as one product with a triangular matrix of ones: 0 times NaN of the future is NaN."""

    def core(log_gamma: Tensor, initial: Tensor) -> Tensor:
        steps = log_gamma.shape[1]
        ones = torch.ones(steps, steps, dtype=log_gamma.dtype).tril()
        return ones @ rounding(clamped(log_gamma)) + initial[:, None]

    return core


def clamp_by_masks(log_gamma: Tensor) -> Tensor:
    """The clamp as a sum of products with masks: 0 times -inf is NaN."""
    inside = (log_gamma > -50).to(log_gamma.dtype)
    return inside * log_gamma.clamp(max=0.0) - 50 * (1 - inside)


def forward_sums(terms: Tensor, initial: Tensor, sums: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient as a running sum from the beginning, not from the end."""
    return g.cumsum(1), g.sum(1)


def without_last(terms: Tensor, initial: Tensor, sums: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    g = torch.cat([g[:, :-1], torch.zeros_like(g[:, :1])], dim=1)
    return g.flip(1).cumsum(1).flip(1), g.sum(1)


def differentiated(backward: Callable[..., tuple[Tensor, Tensor]]) -> Kernel:
    whole = differentiated_by(partial(running_sum, scan=sequential), backward)
    return kernel(lambda log_gamma, initial: whole(clamped(log_gamma), initial))


def strictly_inside(log_gamma: Tensor) -> Tensor:
    """The clamp of which only the open interval gets a gradient: exactly 0 and exactly -50 get none."""
    limited = clamped(log_gamma)
    return torch.where((log_gamma > -50) & (log_gamma < 0), limited, limited.detach())


VARIANTS = (
    right("sequential", kernel(summed(sequential)), "one step after another", dtypes=EVERY_DTYPE),
    right("blocks_of_16", kernel(summed(in_blocks_of(16))),
          "blocks joined by their carry", declares={"depth": "chunk:16"}),
    right("blocks_of_64", kernel(summed(in_blocks_of(64))),
          "larger blocks round elsewhere", declares={"depth": "chunk:64"}),
    right("doubling", kernel(summed(doubling)),
          "Hillis and Steele's tree, declared as such", declares={"depth": "tree"}, dtypes=EVERY_DTYPE),
    right("up_and_down", kernel(summed(up_and_down)), "Blelloch's tree, declared as such", declares={"depth": "tree"}),
    right("library", kernel(by_library()), "torch.cumsum, the initial value added last"),
    right("compensated", kernel(compensated), "compensated summation loses less"),
    wrong("clamp_-20", kernel(by_library(partial(clamped, low=-20.0))), "terms are clamped at -20"),
    wrong("clamp_-49", kernel(by_library(partial(clamped, low=-49.0))), "terms are clamped at -49"),
    wrong("clamp_of_sum", kernel(clamp_of_sum), "the sum is clamped, not its terms"),
    wrong("no_clamp", kernel(by_library(lambda x: x)), "a log decay of -inf makes all sums -inf"),
    wrong("clamp_by_masks", kernel(by_library(clamp_by_masks)), "0 times -inf is NaN"),
    wrong("narrow_terms", kernel(by_library(), log_gamma=in_bfloat16), "log decays are rounded to bfloat16"),
    wrong("narrow_sum", kernel(summed(partial(sequential, keep=in_bfloat16))),
          "the sum is kept in bfloat16", dtypes=("bfloat16",)),
    wrong("narrow_carry", kernel(summed(partial(chunked, carry=narrow_carry))), "blocks hand on a bfloat16 sum"),
    wrong("tf32_sums", kernel(triangular(in_tf32)), "sums on tensor cores: terms lose bits"),
    wrong("triangular", kernel(triangular(lambda x: x)),
          "NaN of a later step reaches the earlier ones", caught_by="the_future_is_not_felt"),
    wrong("delayed", kernel(by_library(), log_gamma=delayed), "step t - 1 in the place of step t"),
    wrong("initial_ignored", kernel(by_library(), initial=torch.zeros_like), "starts at 0"),
    wrong("carry_off_by_one", kernel(summed(partial(chunked, carry=state_before_last))),
          "a block continues the sum before the last"),
    wrong("one_carry_missing", kernel(summed(partial(chunked, carry=nothing_from_the_second_block))),
          "the third block starts at 0"),
    wrong("last_step_dropped", kernel(without_last_step(by_library())), "the loop ends one step early"),
    wrong("stale_row", kernel(with_stale_row(by_library())), "half of the last row was computed for the first"),
    wrong("rows_leak", kernel(with_rows_summed(by_library())),
          "NaN of one row reaches the others", caught_by="rows_never_mix"),
    wrong("leaks_at_zero", kernel(by_library(partial(clamped, high=-1e-7))), "a log decay of 0 decays a little",
          caught_by="a_log_decay_of_zero_changes_no_bit"),
    wrong("gradient_through_clamp", kernel(by_library(straight_through(clamped))),
          "a clamped term still gets a gradient"),
    wrong("no_gradient_at_limits", kernel(by_library(strictly_inside)), "a log decay of exactly 0 gets no gradient"),
    wrong("gradient_from_the_beginning", differentiated(forward_sums), "the gradient sums forwards in time"),
    wrong("last_gradient_dropped", differentiated(without_last), "what the loss wants of the last step is lost"),
    wrong("initial_unfelt", kernel(by_library(), initial=unfelt), "dinitial is zero"),
    wrong("half_felt", kernel(by_library(), log_gamma=half_felt), "the gradient of log_gamma is halved"),
    wrong("remembered_by_address", remembering(kernel(by_library()), address),
          "an answer is remembered by address and shape"),
    wrong("order_by_chance", alternating(kernel(summed(in_blocks_of(16))), kernel(summed(doubling))),
          "the order of additions changes from call to call"),
    wrong("spoils_initial", spoiling(kernel(by_library()), 1), "the initial value is scratch space"),
    wrong("float32_out", kernel(by_library(), narrows=False),
          "the result is float32 whatever the storage", dtypes=("float16",)),
)  # fmt: skip
