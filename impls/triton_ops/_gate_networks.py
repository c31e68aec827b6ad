"""The two networks of the decay gate, from their inputs to what enters the sigmoids, and back.

Products are torch's: stored operands in their own dtype, computed ones in parts (_parts.py). What a product leaves is
float32 (float64 for float64), without its bias: the kernels add it (_gate_kernels.py).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ._gate_kernels import (
    GATE_BACKWARD_TILE,
    GATE_TILE,
    GELU_BACKWARD_TILE,
    GELU_TILE,
    Tile,
    gate_backward_kernel,
    gate_forward_kernel,
    gelu_backward_kernel,
    gelu_forward_kernel,
)
from ._gate_products import Pair, gate_product, hidden_gradient_product, hidden_product
from ._launch import INTERPRETED, arithmetic_dtype, launch
from ._matmul import full_precision, product, repeated, rounded_product, sum_of_parts, transposed_product
from ._parts import operand_dtype, parts_needed

SHAPES = {
    "z": "BTD", "k": "BTD", "base_w1": "ED", "base_b1": "E", "base_w2": "DE", "base_b2": "D",
    "context_w1": "ED", "context_b1": "E", "context_w2": "DE", "context_b2": "D",
}  # fmt: skip

FUSED_GRADIENT = True


class Networks(NamedTuple):
    """What the projections read, in the storage dtype: pairs of the base's and the context's."""

    inputs: Pair  # [N, D]
    w1: Pair  # [E, D]
    b1: Pair  # [E], elements side by side
    w2: Pair  # [D, E]
    b2: Pair  # [D], the same

    @classmethod
    def of(cls, arguments: Sequence[torch.Tensor]) -> "Networks":
        """Of the ten arguments of the op."""
        z, k, w1, b1, w2, b2, wc1, bc1, wc2, bc2 = arguments
        D = z.shape[-1]
        b1, bc1, b2, bc2 = (bias.contiguous() for bias in (b1, bc1, b2, bc2))
        return cls((z.reshape(-1, D), k.reshape(-1, D)), (w1, wc1), (b1, bc1), (w2, wc2), (b2, bc2))

    @property
    def fused(self) -> bool:
        """Whether tensor cores multiply in both products, which then end in the gelus and in the decays."""
        return operand_dtype(self.b1[0].dtype) == torch.bfloat16


class Kept(NamedTuple):
    """What backward needs of forward."""

    hidden: torch.Tensor  # [2, N, E], what enters the gelus, without its bias
    activation: torch.Tensor  # [2, N, P E], what leaves them, in parts
    logits: torch.Tensor  # [2, N, D], what enters the sigmoids, without its bias


def decays_of(nets: Networks, form: str, keep: bool, out: torch.Tensor) -> Kept | None:
    """The decays, into out [B, T, D]."""
    if nets.fused:
        return _fused(nets, form, keep, out)
    kept = logits_of(nets, form)
    _, N, D = kept.logits.shape
    _over_tiles(gate_forward_kernel, GATE_TILE, N, D, 1, kept.logits, *nets.b2, out, N, D)
    return kept


def logits_of(nets: Networks, form: str) -> Kept:
    """The logits alone, of which another kernel makes the decays."""
    if nets.fused:
        return _fused(nets, form, True, None)
    (N, D), (E,) = nets.inputs[0].shape, nets.b1[0].shape
    hidden = nets.b1[0].new_empty(2, N, E, dtype=arithmetic_dtype(nets.b1[0].dtype))
    activation, logits = torch.empty_like(hidden), hidden.new_empty(2, N, D)
    with full_precision(hidden.device):
        for x, w1, out in zip(nets.inputs, nets.w1, hidden, strict=True):
            product(x, w1.T, out)
        _over_tiles(gelu_forward_kernel, GELU_TILE, N, E, 2, hidden, *nets.b1, activation, N, E, FORM=form)
        for a, w2, out in zip(activation, nets.w2, logits, strict=True):
            product(a, w2.T.to(a.dtype), out)
    return Kept(hidden, activation, logits)


def _fused(nets: Networks, form: str, keep: bool, out: torch.Tensor | None) -> Any:
    """Kept, or None; the decays, if there is where to write them."""
    parts = parts_backward(nets) if keep else parts_needed(nets.b1[0].dtype, nets.b1[0].shape[0])
    activation, hidden = hidden_product(nets.inputs, nets.w1, nets.b1, parts, form, keep)
    logits = gate_product(activation, nets.w2, nets.b2, parts, keep, out)
    return None if hidden is None or logits is None else Kept(hidden, activation, logits)


def parts_backward(nets: Networks) -> int:
    """In how many parts backward's operands are: its sums go over D, over E, and over the N tokens, there with both
    operands in parts, and without the product of the smallest."""
    (N, D), (E,) = nets.inputs[0].shape, nets.b1[0].shape
    return parts_needed(nets.b1[0].dtype, min(D, E, N // 4))


def logits_adjoint(nets: Networks, logits: torch.Tensor, grad: torch.Tensor) -> Pair:
    """grad [B, T, D] of the decays -> (that of the logits in parts [2, N, P D], that of their biases in tiles [2, tiles, D])."""
    (_, N, D), parts = logits.shape, parts_backward(nets)
    dlogits = logits.new_empty(2, N, parts * D, dtype=operand_dtype(nets.b2[0].dtype))
    dbias = logits.new_empty(2, _tiles(GATE_BACKWARD_TILE, N, D), D)
    _over_tiles(
        gate_backward_kernel, GATE_BACKWARD_TILE, N, D, 1,
        grad, logits, *nets.b2, dlogits, dbias, N, grad.shape[1], D, *grad.stride(), PARTS=parts,
    )  # fmt: skip
    return dlogits, dbias


def networks_adjoint(
    nets: Networks, kept: Kept, dlogits: torch.Tensor, db2: torch.Tensor, form: str
) -> list[torch.Tensor]:
    """The gradients of the ten arguments, those of z and k as rows [N, D], from what logits_adjoint gives."""
    storage, (N, D), (E,), parts = nets.b1[0].dtype, nets.inputs[0].shape, nets.b1[0].shape, parts_backward(nets)
    hidden, wide = kept.hidden, dlogits.dtype
    dw1 = hidden.new_empty(2, parts * E, D)
    with full_precision(hidden.device):
        if nets.fused and FUSED_GRADIENT:
            dhidden, db1 = hidden_gradient_product(dlogits, nets.w2, nets.b1, hidden, parts, form)
        else:
            dhidden = hidden.new_empty(2, N, parts * E, dtype=wide)
            db1 = hidden.new_empty(2, _tiles(GELU_BACKWARD_TILE, N, E), E)
            dactivation = product(dlogits, repeated(nets.w2, parts, wide))
            _over_tiles(
                gelu_backward_kernel, GELU_BACKWARD_TILE, N, E, 2,
                hidden, *nets.b1, dactivation, dhidden, db1, N, E, FORM=form, PARTS=parts,
            )  # fmt: skip
        dx = rounded_product(dhidden, repeated(nets.w1, parts, wide), storage)
        for g, x, out in zip(dhidden, nets.inputs, dw1, strict=True):
            product(g.T, x.to(wide), out)
        dw2 = transposed_product(dlogits, kept.activation, D, E)
    totals = sum_of_parts(dw1, E, D), db1.sum(1), dw2, db2.sum(1)
    (w1, b1, w2, b2), (dz, dk) = (total.to(storage).unbind() for total in totals), dx.unbind()
    return [dz, dk, w1[0], b1[0], w2[0], b2[0], w1[1], b1[1], w2[1], b2[1]]


def _tile(tile: Tile, width: int) -> Tile:
    """The tile, no wider than it must be."""
    if INTERPRETED:  # the interpreter pays per operation, not per element
        tile = Tile(64, 256, tile.warps)
    columns = min(tile.columns, 1 << (width - 1).bit_length())
    return Tile(tile.rows * tile.columns // columns, columns, tile.warps)


def _tiles(tile: Tile, N: int, width: int) -> int:
    return -(-N // _tile(tile, width).rows)


def _over_tiles(kernel, tile: Tile, N: int, width: int, networks: int, *arguments: Any, **options: Any) -> None:
    """Launch `kernel` on every tile of a matrix [N, width], for each of `networks`."""
    rows, columns, warps = _tile(tile, width)
    if N:
        grid = (-(-N // rows) * -(-width // columns), networks)
        launch(kernel, grid, arguments[0].device, *arguments, **options, ROWS=rows, COLUMNS=columns, num_warps=warps)
