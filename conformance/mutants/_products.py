"""What the decay products share: the running product in every order, and its gradients."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mmrec.conformance.mutants._contract import Kernel, differentiated_by
from mmrec.conformance.mutants._scans import Scan, adjoint, affine, before, sequential

FLOOR = math.exp(-50.0)

Adjoint = Callable[..., tuple[Tensor, Tensor]]


def refusing_negative(gamma: Tensor) -> Tensor:
    """NaN in the place of a negative decay, so that two of them do not make a positive one (CONV-10)."""
    return torch.where(gamma < 0, math.nan, gamma)


def floored(gamma: Tensor, low: float = FLOOR) -> Tensor:
    return refusing_negative(gamma).clamp(min=low)


def product(decay: Tensor, initial: Tensor, scan: Kernel) -> Tensor:
    """A linear recurrence without inflow."""
    return scan(decay, torch.zeros_like(decay), initial)


def by_scan(scan: Scan, limit: Callable[[Tensor], Tensor]) -> Kernel:
    """The product of limited decays in the scan's order, forwards and backwards."""
    whole = affine(scan)
    return lambda gamma, initial: product(limit(gamma), initial, whole)


def library_product(decay: Tensor, inflow: Tensor, initial: Tensor) -> Tensor:
    """torch.cumprod in the place of a scan that has no inflow."""
    return torch.cumprod(decay, dim=1) * initial[:, None]


def by_library(limit: Callable[[Tensor], Tensor]) -> Kernel:
    """torch.cumprod with its own gradient, which divides: mutants that are wrong in their values use it."""
    return lambda gamma, initial: torch.cumprod(limit(gamma), dim=1) * initial[:, None]


def product_adjoint(
    decay: Tensor, initial: Tensor, y: Tensor, g: Tensor, *, scan: Scan = sequential,
    earlier: Callable[[Tensor, Tensor], Tensor] = before,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """r_t = g_t + decay_{t+1} r_{t+1};  ddecay_t = r_t y_{t-1}, dinitial = decay_0 r_0: never a division."""
    ddecay, _, dinitial = adjoint(decay, y, initial, y, g, scan=scan, earlier_state=earlier)
    return ddecay, dinitial


def by_adjoint(limit: Callable[[Tensor], Tensor], backward: Adjoint, forward: Kernel = sequential) -> Kernel:
    """The product, differentiated by ``backward(decay, initial, y, g)``."""
    whole = differentiated_by(partial(product, scan=forward), backward)
    return lambda gamma, initial: whole(limit(gamma), initial)


def divided_adjoint(
    decay: Tensor, initial: Tensor, y: Tensor, g: Tensor, *, lowest: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Mistake: all products at once, and the decay divided out of them; 0 / 0 where it is zero."""
    wanted = (g * y).flip(1).cumsum(1).flip(1)
    ddecay = wanted / decay.clamp(min=lowest)
    return ddecay, product_adjoint(decay, initial, y, g)[1]


def through_logarithms(limit: Callable[[Tensor], Tensor], sums: Callable[[Tensor], Tensor]) -> Kernel:
    """initial * exp(running sum of log gamma); gradients by the exclusion product, which needs no logarithm."""

    def forward(decay: Tensor, initial: Tensor) -> Tensor:
        return initial[:, None] * torch.exp(sums(torch.log(decay)))

    whole = differentiated_by(forward, product_adjoint)
    return lambda gamma, initial: whole(limit(gamma), initial)


def flushing(core: Kernel, below: float) -> Kernel:
    """Mistake: products smaller than ``below`` are taken for zero."""

    def flushed(*arrays: Tensor) -> Tensor:
        y = core(*arrays)
        return torch.where(y.abs() < below, 0.0 * y, y)

    return flushed


def zero_as_one(gamma: Tensor) -> Tensor:
    """Mistake: a decay of 0 means that nothing is masked out."""
    return torch.where(gamma == 0, torch.ones_like(gamma), gamma)
