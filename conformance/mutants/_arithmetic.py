"""Roundings, matrix-vector products and sigmoids: the exact-enough ones, and those a fast kernel is tempted by."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmrec.conformance.mutants._contract import differentiated_by

LOG2_E = 1.4426950408889634

# ---- roundings --------------------------------------------------------------------------------


def unchanged(x: Tensor) -> Tensor:
    return x


def in_bfloat16(x: Tensor) -> Tensor:
    """x rounded to 8 significant bits, and its gradient too."""
    return x.bfloat16().to(x.dtype)


def flushed(x: Tensor) -> Tensor:
    """x, subnormal numbers as 0: what GPUs do in their fast modes."""
    return torch.where(x.abs() < torch.finfo(x.dtype).tiny, torch.zeros_like(x), x)


def in_tf32(x: Tensor) -> Tensor:
    """x rounded to the 11 significant bits of TF32 (Veltkamp's splitting)."""
    spread = x * (2.0**13 + 1)
    return spread - (spread - x)


# ---- what an argument's gradient can lose -------------------------------------------------------


def unfelt(x: Tensor) -> Tensor:
    """The value, without a gradient."""
    return x.detach()


half_felt = differentiated_by(torch.clone, lambda x, same, g: (0.5 * g,))  # the value, with half its gradient


def straight_through(limit: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``limit``, with a gradient that passes as if nothing had been limited."""
    return differentiated_by(limit, lambda x, limited, g: (g,))


# ---- products W x, x [..., D] -------------------------------------------------------------------


def library_product(W: Tensor, x: Tensor) -> Tensor:
    return x @ W.T


def permuted_product(W: Tensor, x: Tensor) -> Tensor:
    """One column after another, the odd ones first, from the right."""
    columns = list(range(W.shape[1]))[::-1]
    order = columns[1::2] + columns[0::2]
    total = x[..., order[0], None] * W[:, order[0]]
    for column in order[1:]:
        total = total + x[..., column, None] * W[:, column]
    return total


def pairwise_product(W: Tensor, x: Tensor) -> Tensor:
    """Neighbouring terms are added in pairs until one is left."""
    terms = x[..., None, :] * W
    while terms.shape[-1] > 1:
        if terms.shape[-1] % 2:
            terms = torch.nn.functional.pad(terms, (0, 1))
        terms = terms[..., 0::2] + terms[..., 1::2]
    return terms[..., 0]


def transposed_product(W: Tensor, x: Tensor) -> Tensor:
    """Mistake: the weight acts on row vectors."""
    return x @ W


def rounded_product(rounding: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Mistake: the operands lose bits before they are multiplied, as on tensor cores."""
    return lambda W, x: rounding(x) @ rounding(W).T


# ---- sigmoids -----------------------------------------------------------------------------------


def sigmoid_through(exp_of_minus: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """1 / (1 + exp(-x)) with an exponential of one's own; the gradient is s (1 - s)."""
    return differentiated_by(lambda x: 1 / (1 + exp_of_minus(x)), lambda x, s, g: (g * s * (1 - s),))


def _exp2_of_minus(x: Tensor) -> Tensor:
    return torch.exp2(-x * LOG2_E)


def _noisy_exp_of_minus(x: Tensor) -> Tensor:
    return torch.exp(-x) * (1 + 2 * torch.finfo(x.dtype).eps * torch.sin(977 * x))


sigmoid_by_exp2 = sigmoid_through(_exp2_of_minus)
sigmoid_with_noise = sigmoid_through(_noisy_exp_of_minus)  # 2 ulp


def _approximate_sigmoid(x: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.tanh(x / 2) * (1 + 2.0**-11 * torch.sin(977 * x))


# Mistake: 0.5 + 0.5 tanh(x / 2) with the hardware's tanh, wrong by 2^-11.
sigmoid_by_hardware_tanh = differentiated_by(_approximate_sigmoid, lambda x, s, g: (g * s * (1 - s),))

# Mistake: one ulp too large everywhere, as a constant that was rounded up makes it: half open is not exactly 1/2.
sigmoid_above_half = differentiated_by(
    lambda x: torch.sigmoid(x) * (1 + torch.finfo(x.dtype).eps), lambda x, s, g: (g * s * (1 - s),)
)

# Mistake: the gradient takes its sigmoid from a table in bfloat16.
sigmoid_with_narrow_gradient = differentiated_by(torch.sigmoid, lambda x, s, g: (g * in_bfloat16(s * (1 - s)),))
