"""The two networks of the decay gate, from their inputs to what enters the sigmoids, and back.

Products are torch's: stored operands in their own dtype, computed ones in parts (_parts.py). What a product leaves is
float32 (float64 for float64), without its bias: the kernels add it (_gate_kernels.py).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton

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
from ._launch import INTERPRETED, arithmetic_dtype, launch
from ._matmul import full_precision, parts_product, parts_total, product, rounded_parts_product
from ._parts import operand_dtype, parts_needed

SHAPES = {
    "z": "BTD", "k": "BTD", "base_w1": "ED", "base_b1": "E", "base_w2": "DE", "base_b2": "D",
    "context_w1": "ED", "context_b1": "E", "context_w2": "DE", "context_b2": "D",
}  # fmt: skip
Pair = tuple[torch.Tensor, torch.Tensor]  # of the base and of the context


class Networks(NamedTuple):
    """What the projections read, in the storage dtype: pairs of the base's and the context's, or both in one array."""

    inputs: Pair  # [N, D]
    w1: Pair  # [E, D]
    b1: torch.Tensor  # [2, E]
    w2: Pair  # [D, E]
    b2: torch.Tensor  # [2, D]

    @classmethod
    def of(cls, arguments: Sequence[torch.Tensor]) -> "Networks":
        """Of the ten arguments of the op."""
        z, k, w1, b1, w2, b2, wc1, bc1, wc2, bc2 = arguments
        rows = z.reshape(-1, z.shape[-1]), k.reshape(-1, k.shape[-1])
        return cls(rows, (w1, wc1), torch.stack([b1, bc1]), (w2, wc2), torch.stack([b2, bc2]))


def logits_of(nets: Networks, form: str) -> Pair:
    """(what enters the gelus [2, N, E], what enters the sigmoids [2, N, D]), both without their biases."""
    storage, (N, D), E = nets.b1.dtype, nets.inputs[0].shape, nets.b1.shape[1]
    hidden = nets.b1.new_empty(2, N, E, dtype=arithmetic_dtype(storage))
    parts = parts_needed(storage, E)
    activation = hidden.new_empty(2, N, parts * E, dtype=operand_dtype(storage))
    logits = hidden.new_empty(2, N, D)
    with full_precision(hidden.device):
        for x, w1, out in zip(nets.inputs, nets.w1, hidden, strict=True):
            product(x, w1.T, out)
        _over_tiles(gelu_forward_kernel, GELU_TILE, N, E, 2, hidden, nets.b1, activation, N, E, FORM=form, PARTS=parts)
        for a, w2, out in zip(activation, nets.w2, logits, strict=True):
            parts_product(a, w2.T, out)
    return hidden, logits


def decays_of(logits: torch.Tensor, b2: torch.Tensor, out: torch.Tensor) -> None:
    """logits [2, N, D], b2 [2, D] -> out [B, T, D]."""
    _, N, D = logits.shape
    _over_tiles(gate_forward_kernel, GATE_TILE, N, D, 1, logits, b2, out, N, D)


def parts_backward(nets: Networks) -> int:
    """In how many parts backward's operands are: its sums go over D, over E, and over the N tokens, there with both
    operands in parts."""
    (N, D), E = nets.inputs[0].shape, nets.b1.shape[1]
    return parts_needed(nets.b1.dtype, min(D, E, N // 2))


def logits_adjoint(nets: Networks, logits: torch.Tensor, grad: torch.Tensor) -> Pair:
    """grad [B, T, D] of the decays -> (that of the logits in parts [2, N, P D], that of their biases in tiles [2, tiles, D])."""
    (_, N, D), parts = logits.shape, parts_backward(nets)
    dlogits = logits.new_empty(2, N, parts * D, dtype=operand_dtype(nets.b2.dtype))
    dbias = logits.new_empty(2, _tiles(GATE_BACKWARD_TILE, N, D), D)
    _over_tiles(
        gate_backward_kernel, GATE_BACKWARD_TILE, N, D, 1,
        grad, logits, nets.b2, dlogits, dbias, N, grad.shape[1], D, *grad.stride(), PARTS=parts,
    )  # fmt: skip
    return dlogits, dbias


def networks_adjoint(
    nets: Networks, hidden: torch.Tensor, dlogits: torch.Tensor, db2: torch.Tensor, form: str
) -> list[torch.Tensor]:
    """The gradients of the ten arguments, those of z and k as rows [N, D], from what logits_adjoint gives."""
    storage, (N, D), E, parts = nets.b1.dtype, nets.inputs[0].shape, nets.b1.shape[1], parts_backward(nets)
    wide = dlogits.dtype
    dactivation = torch.empty_like(hidden)
    activation, dhidden = (hidden.new_empty(2, N, parts * E, dtype=wide) for _ in range(2))
    db1 = hidden.new_empty(2, _tiles(GELU_BACKWARD_TILE, N, E), E)
    with full_precision(hidden.device):
        for g, w2, out in zip(dlogits, nets.w2, dactivation, strict=True):
            parts_product(g, w2, out)
        _over_tiles(
            gelu_backward_kernel, GELU_BACKWARD_TILE, N, E, 2,
            hidden, nets.b1, dactivation, activation, dhidden, db1, N, E, FORM=form, PARTS=parts,
        )  # fmt: skip
        dx = [rounded_parts_product(g, w1) for g, w1 in zip(dhidden, nets.w1, strict=True)]
        dw1 = [parts_total(g, x.to(wide), E, D) for g, x in zip(dhidden, nets.inputs, strict=True)]
        dw2 = [parts_total(g, a, D, E) for g, a in zip(dlogits, activation, strict=True)]
    each = zip(dw1, db1.sum(1), dw2, db2.sum(1), strict=True)
    return [gradient.to(storage) for gradient in (*dx, *(one for network in each for one in network))]


def _tile(tile: Tile, width: int) -> Tile:
    """The tile, no wider than it must be."""
    if INTERPRETED:  # the interpreter pays per operation, not per element
        tile = Tile(64, 256, tile.warps)
    columns = min(tile.columns, triton.next_power_of_2(width))
    return Tile(tile.rows * tile.columns // columns, columns, tile.warps)


def _tiles(tile: Tile, N: int, width: int) -> int:
    return triton.cdiv(N, _tile(tile, width).rows)


def _over_tiles(kernel, tile: Tile, N: int, width: int, networks: int, *arguments: Any, **options: Any) -> None:
    """Launch `kernel` on every tile of a matrix [N, width], for each of `networks`."""
    rows, columns, warps = _tile(tile, width)
    if N:
        grid = (triton.cdiv(N, rows) * triton.cdiv(width, columns), networks)
        launch(kernel, grid, arguments[0].device, *arguments, **options, ROWS=rows, COLUMNS=columns, num_warps=warps)
