"""Variants of decay_gate: the product of two small networks' sigmoids, clipped to [1e-6, 1 - 1e-6]."""

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
    sigmoid_with_narrow_gradient,
    sigmoid_with_noise,
    straight_through,
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
    with_future_summed,
    with_rows_summed,
    with_stale_row,
    with_unwritten_tail,
)

op = partial(under_contract, "decay_gate")
APPROXIMATE = {"tanh": "tanh", "erf": "none"}  # ours -> torch's name of the same approximation


def activated(x: Tensor, gelu: str) -> Tensor:
    return torch.nn.functional.gelu(x, approximate=APPROXIMATE[gelu])


def formula(x: Tensor, gelu: str) -> Tensor:
    """The GELU written out."""
    if gelu == "erf":
        return 0.5 * x * (1 + torch.erf(x * 0.5**0.5))
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * (x * x * x))))


def by_sigmoid(x: Tensor, gelu: str) -> Tensor:
    """x sigmoid(1.702 x), the cheap approximation."""
    return x * torch.sigmoid(1.702 * x)


def within(gamma: Tensor, low: float = 1e-6, high: float = 1 - 1e-6) -> Tensor:
    return gamma.clamp(low, high)


def multiplied(base: Tensor, context: Tensor) -> Tensor:
    return base * context


def gate(
    z: Tensor, k: Tensor, base_w1: Tensor, base_b1: Tensor, base_w2: Tensor, base_b2: Tensor,
    context_w1: Tensor, context_b1: Tensor, context_w2: Tensor, context_b2: Tensor,
    *, gelu: str = "tanh", product: Callable = library_product, sigmoid: Callable = torch.sigmoid,
    activate: Callable = activated, hidden: Callable = unchanged, join: Callable = multiplied, limit: Callable = within,
) -> Tensor:  # fmt: skip
    """GAMMA-1 to GAMMA-6, each part replaceable."""

    def pathway(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        return sigmoid(product(w2, hidden(activate(product(w1, x) + b1, gelu))) + b2)

    base = pathway(z, base_w1, base_b1, base_w2, base_b2)
    context = pathway(k, context_w1, context_b1, context_w2, context_b2)
    return limit(join(base, context))


def kernel(**fault: Any) -> Kernel:
    return op(partial(gate, **fault))


def one_input(z: Tensor, k: Tensor, *weights: Tensor, **options: Any) -> Tensor:
    """Both pathways read the input."""
    return gate(z, z + 0 * k, *weights, **options)


def one_network(z: Tensor, k: Tensor, *weights: Tensor, **options: Any) -> Tensor:
    """Both pathways have the weights of the base."""
    return gate(z, k, *weights[:4], *weights[:4], **options)


def read_by_columns(weight: Tensor) -> Tensor:
    """The weight's numbers in the order of columns: stored transposed, never turned back."""
    return weight.T.reshape(weight.shape)


def one_gelu(name: str) -> Kernel:
    return lambda *arrays, gelu="tanh": gate(*arrays, gelu=name)


def limits_in_bfloat16(gamma: Tensor) -> Tensor:
    """In bfloat16 the upper limit is 1."""
    low, high = torch.tensor([1e-6, 1 - 1e-6], dtype=torch.bfloat16).tolist()
    return gamma.clamp(low, high)


def constant_gelu(x: Tensor, gelu: str) -> Tensor:
    """The gradient of x Phi(x) as Phi(x): the second term is forgotten."""
    y = activated(x, gelu)
    return x * torch.where(x == 0, 0.5, y / x).detach()


VARIANTS = (
    right("library", kernel(), "as the clauses read", dtypes=EVERY_DTYPE),
    right("permuted", kernel(product=permuted_product),
          "products sum their columns in another order", dtypes=EVERY_DTYPE),
    right("pairwise", kernel(product=pairwise_product), "products sum in a tree"),
    right("gelu_written_out", kernel(activate=formula), "tanh and erf of the library, the rest by hand"),
    right("sigmoid_by_exp2", kernel(sigmoid=sigmoid_by_exp2), "1 / (1 + 2^(-x log2 e)), as compilers write it"),
    right("sigmoid_with_noise", kernel(sigmoid=sigmoid_with_noise), "an exponential that is 2 ulp off"),
    wrong("always_gelu_tanh", op(one_gelu("tanh")), "the erf form is not there"),
    wrong("always_gelu_erf", op(one_gelu("erf")), "the tanh form is not there"),
    wrong("gelu_by_sigmoid", kernel(activate=by_sigmoid), "x sigmoid(1.702 x)"),
    wrong("context_ignored", kernel(join=lambda base, context: base + 0 * context), "the context's gate is left out"),
    wrong("base_ignored", kernel(join=lambda base, context: context + 0 * base), "the base's gate is left out"),
    wrong("gates_averaged", kernel(join=lambda base, context: (base + context) / 2), "the mean of the gates"),
    wrong("one_input", op(one_input), "both pathways read the input", caught_by="the_two_pathways_are_apart"),
    wrong("one_network", op(one_network), "both pathways have the base's weights"),
    wrong("no_clip", kernel(limit=unchanged), "decays reach 0 and 1", caught_by="decays_stay_in_range"),
    wrong("clip_at_1e-5", kernel(limit=partial(within, low=1e-5, high=1 - 1e-5)), "the limits are those of another op"),
    wrong("clip_limits_in_bfloat16", kernel(limit=limits_in_bfloat16), "the upper limit is 1 in bfloat16"),
    wrong("clip_in_bfloat16", kernel(limit=lambda gamma: within(in_bfloat16(gamma))), "the clip runs in bfloat16"),
    wrong("transposed", op(gate, base_w1=read_by_columns), "base_w1 is read by columns"),
    wrong("tf32_product", kernel(product=rounded_product(in_tf32)), "products run in TF32"),
    wrong("narrow_product", kernel(product=rounded_product(in_bfloat16)), "products run in bfloat16, as the storage",
          dtypes=("bfloat16",)),
    wrong("narrow_hidden", kernel(hidden=in_bfloat16), "the hidden layer is rounded to bfloat16"),
    wrong("hardware_tanh", kernel(sigmoid=sigmoid_by_hardware_tanh), "the sigmoid is right to 2^-11"),
    wrong("bias_ignored", op(gate, context_b1=torch.zeros_like), "the context's first layer has no bias"),
    wrong("delayed_context", op(gate, k=delayed), "the context of step t - 1"),
    wrong("stale_row", op(with_stale_row(gate)), "half of the last row was computed for the first"),
    wrong("rows_leak", op(with_rows_summed(gate)), "NaN of one row reaches the others", caught_by="rows_never_mix"),
    wrong("future_leaks", op(with_future_summed(gate)), "NaN of a later step reaches the earlier ones",
          caught_by="the_future_is_not_felt"),
    wrong("gradient_through_clip", kernel(limit=straight_through(within)), "a clipped decay still gets a gradient"),
    wrong("constant_gelu", kernel(activate=constant_gelu), "the gradient of the GELU lacks a term"),
    wrong("narrow_gate_gradient", kernel(sigmoid=sigmoid_with_narrow_gradient),
          "gates are saved for the gradient in bfloat16"),
    wrong("bias_half_felt", op(gate, base_b2=half_felt), "the gradient of base_b2 is halved"),
    wrong("context_unfelt", op(gate, k=unfelt), "the gradient of the context is zero"),
    wrong("remembered_by_shape", remembering(kernel(), shape), "an answer is remembered by shape"),
    wrong("order_by_chance", alternating(kernel(product=permuted_product), kernel(product=pairwise_product)),
          "the order of additions changes from call to call"),
    wrong("contiguous_only", op(gate, z=read_as_contiguous), "ignores the strides of z"),
    wrong("tail_not_written", op(with_unwritten_tail(gate)), "a last block of one step stays uninitialised"),
    wrong("spoils_context", spoiling(kernel(), 1), "the context is scratch space"),
    wrong("accepts_anything", op(gate, validates=False), "bad input is broadcast or fails far away"),
)  # fmt: skip
