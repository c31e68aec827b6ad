"""The two networks of the decay gate, from their inputs to what enters the sigmoids, and back.

Products are torch's: stored operands in their own dtype, computed ones in parts (_parts.py). What a product leaves is
float32 (float64 for float64), without its bias: the kernels add it (_gate_kernels.py). Both networks' products are
formed at once where both of their operands lie in one array; their weights are put into one where they are repeated
anyway, once for each part.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ._gate_kernels import (
    TILES,
    Tile,
    gate_backward_kernel,
    gate_forward_kernel,
    gelu_backward_kernel,
    gelu_forward_kernel,
)
from ._launch import INTERPRETED, arithmetic_dtype, launch
from ._matmul import (
    full_precision,
    product,
    repeated,
    repeated_transposed,
    rounded_product,
    sum_of_parts,
    transposed_product,
)
from ._parts import operand_dtype, parts_needed

SHAPES = {
    "z": "BTD", "k": "BTD", "base_w1": "ED", "base_b1": "E", "base_w2": "DE", "base_b2": "D",
    "context_w1": "ED", "context_b1": "E", "context_w2": "DE", "context_b2": "D",
}  # fmt: skip
Pair = tuple[torch.Tensor, torch.Tensor]  # of the base and of the context


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
    def sizes(self) -> tuple[int, int, int]:
        """N, D and E."""
        return (*self.inputs[0].shape, self.b1[0].shape[0])

    @property
    def parts(self) -> int:
        """In how many parts computed operands are: sums go over E, and backward over D, over E, and over the N tokens,
        there with both operands in parts, and without the product of the smallest. Forward's are kept for backward; they
        are the same where none follows, and so is the result."""
        N, D, E = self.sizes
        return parts_needed(self.b1[0].dtype, min(D, E, N // 4))


class Kept(NamedTuple):
    """What backward needs of forward."""

    hidden: torch.Tensor  # [2, N, E], what enters the gelus, without its bias
    activation: torch.Tensor  # [2, N, P E], what leaves them, in parts
    logits: torch.Tensor  # [2, N, D], what enters the sigmoids, without its bias


def logits_of(nets: Networks, form: str) -> Kept:
    """The logits, and what came before them."""
    storage, (N, _, E), parts = nets.b1[0].dtype, nets.sizes, nets.parts
    hidden = nets.b1[0].new_empty(2, N, E, dtype=arithmetic_dtype(storage))
    activation = hidden.new_empty(2, N, parts * E, dtype=operand_dtype(storage))
    with full_precision(hidden.device):
        for x, w1, out in zip(nets.inputs, nets.w1, hidden, strict=True):
            product(x, w1.T, out)
        _over_tiles(
            gelu_forward_kernel, _tile("gelu_forward", storage, E), (N, E), 2,
            hidden, *nets.b1, activation, N, E, FORM=form, PARTS=parts,
        )  # fmt: skip
        logits = product(activation, repeated_transposed(nets.w2, parts, activation.dtype))
    return Kept(hidden, activation, logits)


def decays_of(nets: Networks, logits: torch.Tensor, out: torch.Tensor) -> None:
    """The decays, into out [B, T, D]."""
    N, D, _ = nets.sizes
    tile = _tile("gate_forward", nets.b2[0].dtype, D)
    _over_tiles(gate_forward_kernel, tile, (N, D), 1, logits, *nets.b2, out, N, D)


def logits_adjoint(nets: Networks, logits: torch.Tensor, grad: torch.Tensor) -> Pair:
    """grad [B, T, D] of the decays -> (that of the logits in parts [2, N, P D], that of their biases in tiles [2, tiles, D])."""
    storage, (N, D, _), parts = nets.b2[0].dtype, nets.sizes, nets.parts
    tile = _tile("gate_backward", storage, D)
    dlogits = logits.new_empty(2, N, parts * D, dtype=operand_dtype(storage))
    dbias = logits.new_empty(2, _tiles_down(tile, N), D)
    _over_tiles(
        gate_backward_kernel, tile, (N, D), 1,
        grad, logits, *nets.b2, dlogits, dbias, N, grad.shape[1], D, *grad.stride(), PARTS=parts,
    )  # fmt: skip
    return dlogits, dbias


def networks_adjoint(
    nets: Networks, kept: Kept, dlogits: torch.Tensor, db2: torch.Tensor, form: str
) -> list[torch.Tensor]:
    """The gradients of the ten arguments, those of z and k as rows [N, D], from what logits_adjoint gives."""
    storage, (N, D, E), parts = nets.b1[0].dtype, nets.sizes, nets.parts
    hidden, wide = kept.hidden, dlogits.dtype
    tile = _tile("gelu_backward", storage, E)
    dhidden = hidden.new_empty(2, N, parts * E, dtype=wide)
    db1 = hidden.new_empty(2, _tiles_down(tile, N), E)
    dw1 = hidden.new_empty(2, parts * E, D)
    with full_precision(hidden.device):
        dactivation = product(dlogits, repeated(nets.w2, parts, wide))
        _over_tiles(
            gelu_backward_kernel, tile, (N, E), 2,
            hidden, *nets.b1, dactivation, dhidden, db1, N, E, FORM=form, PARTS=parts,
        )  # fmt: skip
        dx = rounded_product(dhidden, repeated(nets.w1, parts, wide), storage)
        for g, x, out in zip(dhidden, nets.inputs, dw1, strict=True):
            product(g.T, x.to(wide), out)
        dw2 = transposed_product(dlogits, kept.activation, D, E)
    totals = sum_of_parts(dw1, E, D), db1.sum(1), dw2, db2.sum(1)
    (w1, b1, w2, b2), (dz, dk) = (total.to(storage).unbind() for total in totals), dx.unbind()
    return [dz, dk, w1[0], b1[0], w2[0], b2[0], w1[1], b1[1], w2[1], b2[1]]


def _tile(kernel: str, storage: torch.dtype, width: int) -> Tile:
    """What a program of it computes, no wider than it must be."""
    tile = TILES[kernel][operand_dtype(storage)]
    if INTERPRETED:  # the interpreter pays per operation, not per element
        tile = Tile(64, 256, tile.warps)
    columns = min(tile.columns, 1 << (width - 1).bit_length())
    return Tile(tile.rows * tile.columns // columns, columns, tile.warps)


def _tiles_down(tile: Tile, N: int) -> int:
    return -(-N // tile.rows)


def _over_tiles(kernel, tile: Tile, shape: tuple[int, int], networks: int, *arguments: Any, **options: Any) -> None:
    """Launch `kernel` on every tile of a matrix of that shape, for each of `networks`."""
    (N, width), (rows, columns, warps) = shape, tile
    if N:
        grid = (_tiles_down(tile, N) * -(-width // columns), networks)
        launch(kernel, grid, arguments[0].device, *arguments, **options, ROWS=rows, COLUMNS=columns, num_warps=warps)
