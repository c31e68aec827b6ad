"""The device code of the decay gate: everything between and after its matrix products.

A program takes a tile of rows (tokens) and columns, neighbours in memory taken by neighbouring programs. What the
products read, the activations and the gradients of logits and hidden layers, is written as its parts, side by side
(_parts.py). The biases are added here, so that a product is nothing but a product; their gradients are summed here,
over the rows of a tile, and over the tiles by torch.

Both pathways are halves of one array: `network` 0 is the base, 1 the context.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._compile import STORAGES, CompileSpec, aligned, compile_spec
from ._device import decay, decay_slopes, gelu, gelu_derivative, odds_against, unless_clipped
from ._launch import device_function
from ._parts import TWO_SUFFICE_FROM, operand_dtype, parts_needed, store_parts

BFLOAT16, FLOAT32, FLOAT64 = torch.bfloat16, torch.float32, torch.float64


class Tile(NamedTuple):
    """What a program computes, and by how many warps. A row's stretch of it is whole cache lines, several for a warp."""

    rows: int
    columns: int
    warps: int


# Of each kernel, by the dtype in which it writes what products read: the best of those tried on an H200
# (notes/decay_gate.md); float64's are not measured.
TILES = {
    "gelu_forward": {BFLOAT16: Tile(8, 128, 2), FLOAT32: Tile(8, 128, 2), FLOAT64: Tile(8, 128, 2)},
    "gelu_backward": {BFLOAT16: Tile(8, 128, 2), FLOAT32: Tile(8, 128, 2), FLOAT64: Tile(8, 128, 2)},
    "gate_forward": {BFLOAT16: Tile(8, 128, 2), FLOAT32: Tile(8, 128, 2), FLOAT64: Tile(8, 128, 2)},
    "gate_backward": {BFLOAT16: Tile(8, 128, 2), FLOAT32: Tile(8, 256, 4), FLOAT64: Tile(8, 128, 2)},
}


@device_function
def tile(width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """(tile of rows, rows [ROWS], columns [COLUMNS]) of this program in a matrix `width` wide."""
    across = tl.cdiv(width, COLUMNS)
    program = tl.program_id(0)
    down = program // across
    return down, down * ROWS + tl.arange(0, ROWS), program % across * COLUMNS + tl.arange(0, COLUMNS)


@device_function
def places(rows, columns, width):
    """[ROWS, COLUMNS] in a matrix `width` wide, which may have more than 2^31 elements."""
    return (rows.to(tl.int64) * width)[:, None] + columns[None, :]


@device_function
def load_and_bias(ptr, bias_ptr, rows, columns, width, inside):
    """A tile of what a product left, and the bias of its columns [1, COLUMNS]."""
    bias = tl.load(bias_ptr + columns, mask=columns < width, other=0.0).to(ptr.dtype.element_ty)
    return tl.load(ptr + places(rows, columns, width), mask=inside, other=0.0), bias[None, :]


@triton.jit
def gelu_forward_kernel(
    hidden_ptr, base_b_ptr, context_b_ptr, activation_ptr, N, E,
    FORM: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """hidden [2, N, E], b [E] -> activation [2, N, PARTS E]."""
    network = tl.program_id(1)
    _, rows, columns = tile(E, ROWS, COLUMNS)
    inside = (rows < N)[:, None] & (columns < E)[None, :]
    rows += network * N
    b_ptr = tl.where(network == 0, base_b_ptr, context_b_ptr)
    x, bias = load_and_bias(hidden_ptr, b_ptr, rows, columns, E, inside)
    store_parts(activation_ptr + places(rows, columns, PARTS * E), gelu(x + bias, FORM), E, PARTS, inside)


@triton.jit
def gelu_backward_kernel(
    hidden_ptr, base_b_ptr, context_b_ptr, dactivation_ptr, dhidden_ptr, dbias_ptr, N, E,
    FORM: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """hidden, dactivation [2, N, E], b [E] -> dhidden [2, N, PARTS E], dbias [2, tiles, E]."""
    network = tl.program_id(1)
    down, rows, columns = tile(E, ROWS, COLUMNS)
    inside = (rows < N)[:, None] & (columns < E)[None, :]
    rows += network * N
    dactivation = tl.load(dactivation_ptr + places(rows, columns, E), mask=inside, other=0.0)
    b_ptr = tl.where(network == 0, base_b_ptr, context_b_ptr)
    x, bias = load_and_bias(hidden_ptr, b_ptr, rows, columns, E, inside)
    dhidden = dactivation * gelu_derivative(x + bias, FORM)
    store_parts(dhidden_ptr + places(rows, columns, PARTS * E), dhidden, E, PARTS, inside)
    row_of_sums = (network * tl.cdiv(N, ROWS) + down).to(tl.int64)
    tl.store(dbias_ptr + row_of_sums * E + columns, tl.sum(dhidden, axis=0), mask=columns < E)


@triton.jit
def gate_forward_kernel(
    logits_ptr, base_b_ptr, context_b_ptr, gamma_ptr, N, D, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """logits [2, N, D], b [D] -> gamma [N, D]."""
    _, rows, columns = tile(D, ROWS, COLUMNS)
    inside = (rows < N)[:, None] & (columns < D)[None, :]
    base = odds_against(*load_and_bias(logits_ptr, base_b_ptr, rows, columns, D, inside))
    context = odds_against(*load_and_bias(logits_ptr, context_b_ptr, rows + N, columns, D, inside))
    gamma = decay(base, context)
    tl.store(gamma_ptr + places(rows, columns, D), gamma.to(gamma_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gate_backward_kernel(
    grad_ptr, logits_ptr, base_b_ptr, context_b_ptr, dlogits_ptr, dbias_ptr, N, T, D,
    grad_stride_b, grad_stride_t, grad_stride_d,
    PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """grad [B, T, D], logits [2, N, D], b [D] -> dlogits [2, N, PARTS D], dbias [2, tiles, D]."""
    down, rows, columns = tile(D, ROWS, COLUMNS)
    inside = (rows < N)[:, None] & (columns < D)[None, :]
    grad_row = (rows // T).to(tl.int64) * grad_stride_b + (rows % T).to(tl.int64) * grad_stride_t
    grad_column = columns.to(tl.int64) * grad_stride_d
    grad = tl.load(grad_ptr + grad_row[:, None] + grad_column[None, :], mask=inside, other=0.0)
    base = odds_against(*load_and_bias(logits_ptr, base_b_ptr, rows, columns, D, inside))
    context = odds_against(*load_and_bias(logits_ptr, context_b_ptr, rows + N, columns, D, inside))
    gamma = decay(base, context)
    grad = grad.to(gamma.dtype)
    base_slope, context_slope = decay_slopes(gamma, base, context)
    dbase, dcontext = unless_clipped(gamma, grad * base_slope), unless_clipped(gamma, grad * context_slope)
    store_parts(dlogits_ptr + places(rows, columns, PARTS * D), dbase, D, PARTS, inside)
    row_of_sums = down.to(tl.int64)
    tl.store(dbias_ptr + row_of_sums * D + columns, tl.sum(dbase, axis=0), mask=columns < D)
    store_parts(dlogits_ptr + places(rows + N, columns, PARTS * D), dcontext, D, PARTS, inside)
    tl.store(dbias_ptr + (row_of_sums + tl.cdiv(N, ROWS)) * D + columns, tl.sum(dcontext, axis=0), mask=columns < D)


def compile_specs() -> list[CompileSpec]:
    """At the widths of a model: multiples of 16 and long enough sums for two parts."""
    wide = ("hidden_ptr", "dactivation_ptr", "logits_ptr", "dbias_ptr")
    specs = []
    for storage, dtype in STORAGES.items():
        parts = parts_needed(dtype, TWO_SUFFICE_FROM)

        def spec(kernel, name, storage=storage, dtype=dtype, **constants):
            rows, columns, warps = TILES[name][operand_dtype(dtype)]
            known = compile_spec(kernel, storage, wide, num_warps=warps, ROWS=rows, COLUMNS=columns, **constants)
            return aligned(known, "D", "E", "grad_stride_b", "grad_stride_t")

        specs.append(spec(gate_forward_kernel, "gate_forward"))
        specs.append(spec(gate_backward_kernel, "gate_backward", PARTS=parts))
        for form in ("tanh", "erf"):
            specs.append(spec(gelu_forward_kernel, "gelu_forward", FORM=form, PARTS=parts))
            specs.append(spec(gelu_backward_kernel, "gelu_backward", FORM=form, PARTS=parts))
    return specs
