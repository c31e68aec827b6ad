"""The decay gate's products with their ends: what a product leaves never meets memory before its gelu or its sigmoids.

Parallel    one program per tile of rows (tokens) and columns; both networks' tiles of logits in one program, which ends
            with their decays
Memory      reads each operand once from memory (more often from the cache, where another program of its row or column has
            read it before) and writes its result once; what enters the gelus and the sigmoids only where backward
            will need it, in float32
Precision   tensor cores multiply what is stored in bfloat16 and parts of what is computed (_parts.py), part after part, the
            smallest first, and sum in float32
"""

from typing import Any, NamedTuple

import torch

from ._compile import CompileSpec, aligned, compile_spec
from ._gate_product_kernels import gate_kernel, hidden_gradient_kernel, hidden_kernel
from ._launch import INTERPRETED, launch, shared_memory
from ._parts import TWO_SUFFICE_FROM, parts_needed


class ProductTile(NamedTuple):
    """What a program computes, of how long a stretch of the sums at a time, by how many warps, with how many stretches
    on their way."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


HIDDEN_TILE = ProductTile(128, 256, 64, 8, 3)
GATE_TILE = ProductTile(128, 128, 64, 8, 3)
HIDDEN_GRADIENT_TILE = ProductTile(128, 128, 64, 8, 4)
TOGETHER = False
if INTERPRETED:  # it pays per operation, not per element, but its tests are small
    HIDDEN_TILE = GATE_TILE = HIDDEN_GRADIENT_TILE = ProductTile(128, 128, 128, 1, 1)

FARTHEST = 2**23  # elements from a row to the next, so that offsets in a tile fit into 32 bits
Pair = tuple[torch.Tensor, torch.Tensor]  # of the base and of the context


def compile_specs() -> list[CompileSpec]:
    """At the widths of a model: multiples of every depth and long enough sums for two parts; with what backward needs."""
    parts = parts_needed(torch.bfloat16, TWO_SUFFICE_FROM)

    def spec(kernel, tile, **constants):
        wide = ("hidden_ptr", "logits_ptr", "dbias_ptr")
        known = compile_spec(kernel, "bf16", wide, PARTS=parts, EVEN=True, **_options(tile), **constants)
        return aligned(known, "D", "E", "z_stride", "k_stride", "base_w_stride", "context_w_stride")

    return [
        spec(hidden_kernel, HIDDEN_TILE, FORM="tanh", KEEP=True),
        spec(gate_kernel, GATE_TILE, DECAYS=True, KEEP=True, TOGETHER=TOGETHER),
        spec(hidden_gradient_kernel, HIDDEN_GRADIENT_TILE, FORM="tanh"),
    ]


# ---- launch ------------------------------------------------------------------------


def hidden_product(
    inputs: Pair, w1: Pair, b1: Pair, parts: int, form: str, keep: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """inputs [N, D], w1 [E, D], b1 [E] of both networks -> (the gelus in parts [2, N, parts E], what enters them, less b1,
    [2, N, E] if it is to be kept)."""
    (N, D), E, x = inputs[0].shape, b1[0].shape[0], inputs[0]
    activation = x.new_empty(2, N, parts * E)
    hidden = x.new_empty(2, N, E, dtype=torch.float32) if keep else None
    inputs, w1 = _in_rows(inputs), _in_rows(w1)
    _over_tiles(
        hidden_kernel, HIDDEN_TILE, (N, E, D), True, *inputs, *w1, *b1, hidden, activation,
        N, D, E, *(matrix.stride(0) for matrix in (*inputs, *w1)), FORM=form, KEEP=keep, PARTS=parts,
    )  # fmt: skip
    return activation, hidden


def gate_product(
    activation: torch.Tensor, w2: Pair, b2: Pair, parts: int, keep: bool, out: torch.Tensor | None
) -> torch.Tensor | None:
    """activation [2, N, parts E], w2 [D, E], b2 [D] of both networks -> the decays, into out [N, D] or of as many elements,
    contiguous, of any float dtype; returns what enters the sigmoids, less b2, [2, N, D] if it is to be kept."""
    N, (D, E) = activation.shape[1], w2[0].shape
    logits = activation.new_empty(2, N, D, dtype=torch.float32) if keep else None
    w2 = _in_rows(w2)
    _over_tiles(
        gate_kernel, GATE_TILE, (N, D, E), False, activation, *w2, *b2, logits, out,
        N, D, E, *(matrix.stride(0) for matrix in w2), DECAYS=out is not None, KEEP=keep, PARTS=parts, TOGETHER=TOGETHER,
    )  # fmt: skip
    return logits


def hidden_gradient_product(
    dlogits: torch.Tensor, w2: Pair, b1: Pair, hidden: torch.Tensor, parts: int, form: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """dlogits [2, N, parts D], w2 [D, E], b1 [E] of both networks, hidden [2, N, E] -> (the gradient of what enters the gelus
    in parts [2, N, parts E], its sums over tiles of rows [2, tiles, E])."""
    (D, E), N = w2[0].shape, hidden.shape[1]
    dhidden = dlogits.new_empty(2, N, parts * E)
    db1 = hidden.new_empty(2, -(-N // HIDDEN_GRADIENT_TILE.rows), E)
    w2 = _in_rows(w2)
    _over_tiles(
        hidden_gradient_kernel, HIDDEN_GRADIENT_TILE, (N, E, D), True, dlogits, *w2, *b1, hidden, dhidden, db1,
        N, D, E, *(matrix.stride(0) for matrix in w2), FORM=form, PARTS=parts,
    )  # fmt: skip
    return dhidden, db1


def _in_rows(pair: Pair) -> Pair:
    """The same matrices, each row of which lies in one piece, and the next ones near it."""
    base, context = (x if x.stride(1) == 1 and x.stride(0) <= FARTHEST else x.contiguous() for x in pair)
    return base, context


def _over_tiles(kernel, tile: ProductTile, shape: tuple[int, int, int], apart: bool, *arguments, **options) -> None:
    """Launch `kernel` on every tile of a matrix [N, M] of sums of K products, of both networks, each `apart` or not."""
    N, M, K = shape
    if N:
        device = arguments[0].device
        tile = _fitting(tile, apart, shared_memory(device))
        grid = (-(-N // tile.rows) * -(-M // tile.columns), 2 if apart else 1)
        launch(kernel, grid, device, *arguments, **options, **_options(tile), EVEN=K % tile.depth == 0)


def _fitting(tile: ProductTile, apart: bool, shared: int) -> ProductTile:
    """The tile, with no more stretches on their way than there is shared memory for, each half as long if it must be."""
    stretch = 2 * (tile.rows + tile.columns) * tile.depth * (1 if apart else 2)  # bytes
    if shared < 2 * stretch:
        tile, stretch = tile._replace(depth=tile.depth // 2), stretch // 2
    return tile._replace(stages=min(tile.stages, shared // stretch))


def _options(tile: ProductTile) -> dict[str, Any]:
    return {
        "ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth, "STAGES": tile.stages, "num_warps": tile.warps,
    }  # fmt: skip
