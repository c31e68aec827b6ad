"""The device code of the decay gate's products with their ends: what a product leaves goes into a gelu or a sigmoid before
it meets memory. _gate_products.py says how they are launched.

A program takes a tile of rows (tokens) and columns, and of the sums a stretch of DEPTH products at a time. An operand in parts
(_parts.py) is taken part after part, the smallest first, in the order of memory. Rows and columns beyond the end are read as
the last one, and not written. EVEN says that DEPTH divides the sums.
"""

import triton
import triton.language as tl

from ._device import decay, gelu, gelu_derivative, odds_against
from ._launch import COMPILED, device_function
from ._parts import store_parts


@device_function
def load_stretch(tile, start, length, k, ALL: tl.constexpr, ACROSS: tl.constexpr):
    """Columns [start, start + DEPTH) of rows whose places are given, 0 beyond their `length`: as they are, or as rows."""
    if ALL:
        return tl.load(tile + start)
    inside = start + k < length
    return tl.load(tile + start, mask=inside[:, None] if ACROSS else inside[None, :], other=0.0)


@device_function
def dot(left, right, total):
    if not COMPILED:  # the interpreter cannot multiply bfloat16
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, total, input_precision="ieee")


@device_function
def row_at(ptr, row, width):
    """Where a row of a matrix `width` wide begins, which may have more than 2^31 elements."""
    return ptr + row.to(tl.int64) * width


@device_function
def left_places(first_ptr, rows, left, width, k):
    """[ROWS, DEPTH]: the first columns of rows, the last of the `left` ones in place of those beyond it."""
    return first_ptr + (tl.minimum(rows, left - 1) * width)[:, None] + k[None, :]


@device_function
def right_places(first_ptr, columns, left, width, k):
    """[DEPTH, COLUMNS]: the same, transposed."""
    return first_ptr + (tl.minimum(columns, left - 1) * width)[None, :] + k[:, None]


@triton.jit
def hidden_kernel(
    z_ptr, k_ptr, base_w_ptr, context_w_ptr, base_b_ptr, context_b_ptr, hidden_ptr, activation_ptr, N, D, E,
    z_stride, k_stride, base_w_stride, context_w_stride,
    FORM: tl.constexpr, KEEP: tl.constexpr, PARTS: tl.constexpr, EVEN: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """z, k [N, D], w [E, D], b [E] -> activation [2, N, PARTS E] and, to KEEP, what enters the gelu [2, N, E], less b."""
    network, across = tl.program_id(1), tl.cdiv(E, COLUMNS)
    row, column = tl.program_id(0) // across * ROWS, tl.program_id(0) % across * COLUMNS
    rows, columns, k = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    x_ptr, x_stride = tl.where(network == 0, z_ptr, k_ptr), tl.where(network == 0, z_stride, k_stride)
    w_ptr = tl.where(network == 0, base_w_ptr, context_w_ptr)
    w_stride = tl.where(network == 0, base_w_stride, context_w_stride)
    x_tile = left_places(row_at(x_ptr, row, x_stride), rows, N - row, x_stride, k)
    w_tile = right_places(row_at(w_ptr, column, w_stride), columns, E - column, w_stride, k)
    hidden = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in tl.range(0, D, DEPTH, num_stages=STAGES):
        x = load_stretch(x_tile, start, D, k, EVEN, False)
        hidden = dot(x, load_stretch(w_tile, start, D, k, EVEN, True), hidden)

    inside = (rows < N - row)[:, None] & (columns < E - column)[None, :]
    row += network * N
    if KEEP:
        tl.store(row_at(hidden_ptr, row, E) + column + (rows * E)[:, None] + columns[None, :], hidden, mask=inside)
    b_ptr = tl.where(network == 0, base_b_ptr, context_b_ptr)
    b = tl.load(b_ptr + column + columns, mask=columns < E - column, other=0.0).to(tl.float32)
    place = (rows * (PARTS * E))[:, None] + columns[None, :]
    activation = gelu(hidden + b[None, :], FORM)
    store_parts(row_at(activation_ptr, row, PARTS * E) + column + place, activation, E, PARTS, inside)


@triton.jit
def gate_kernel(
    activation_ptr, base_w_ptr, context_w_ptr, base_b_ptr, context_b_ptr, logits_ptr, gamma_ptr, N, D, E,
    base_w_stride, context_w_stride,
    DECAYS: tl.constexpr, KEEP: tl.constexpr, PARTS: tl.constexpr, EVEN: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """activation [2, N, PARTS E], w [D, E], b [D] -> gamma [N, D] if DECAYS, and, to KEEP, the logits [2, N, D], less b."""
    across = tl.cdiv(D, COLUMNS)
    row, column = tl.program_id(0) // across * ROWS, tl.program_id(0) % across * COLUMNS
    rows, columns, k = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    base_tile = left_places(row_at(activation_ptr, row, PARTS * E), rows, N - row, PARTS * E, k)
    context_tile = left_places(row_at(activation_ptr, row + N, PARTS * E), rows, N - row, PARTS * E, k)
    base_w_tile = right_places(row_at(base_w_ptr, column, base_w_stride), columns, D - column, base_w_stride, k)
    context_w_tile = right_places(
        row_at(context_w_ptr, column, context_w_stride), columns, D - column, context_w_stride, k
    )
    base = tl.zeros((ROWS, COLUMNS), tl.float32)
    context = tl.zeros((ROWS, COLUMNS), tl.float32)
    if TOGETHER:
        for start in tl.range(0, E, DEPTH, num_stages=STAGES):
            base_w = load_stretch(base_w_tile, start, E, k, EVEN, True)
            context_w = load_stretch(context_w_tile, start, E, k, EVEN, True)
            for part in tl.static_range(PARTS):
                a = load_stretch(base_tile + part * E, start, E, k, EVEN, False)
                base = dot(a, base_w, base)
                c = load_stretch(context_tile + part * E, start, E, k, EVEN, False)
                context = dot(c, context_w, context)
    else:
        stretches = tl.cdiv(E, DEPTH)
        for stretch in tl.range(0, PARTS * stretches, num_stages=STAGES):
            part, start = stretch // stretches * E, stretch % stretches * DEPTH
            a = load_stretch(base_tile + part, start, E, k, EVEN, False)
            base = dot(a, load_stretch(base_w_tile, start, E, k, EVEN, True), base)
            c = load_stretch(context_tile + part, start, E, k, EVEN, False)
            context = dot(c, load_stretch(context_w_tile, start, E, k, EVEN, True), context)

    inside = (rows < N - row)[:, None] & (columns < D - column)[None, :]
    place = (rows * D)[:, None] + columns[None, :]
    if KEEP:
        tl.store(row_at(logits_ptr, row, D) + column + place, base, mask=inside)
        tl.store(row_at(logits_ptr, row + N, D) + column + place, context, mask=inside)
    if DECAYS:
        base_b = tl.load(base_b_ptr + column + columns, mask=columns < D - column, other=0.0).to(tl.float32)
        context_b = tl.load(context_b_ptr + column + columns, mask=columns < D - column, other=0.0).to(tl.float32)
        gamma = decay(odds_against(base + base_b[None, :]), odds_against(context + context_b[None, :]))
        tl.store(row_at(gamma_ptr, row, D) + column + place, gamma.to(gamma_ptr.dtype.element_ty), mask=inside)


@triton.jit
def hidden_gradient_kernel(
    dlogits_ptr, base_w_ptr, context_w_ptr, base_b_ptr, context_b_ptr, hidden_ptr, dhidden_ptr, dbias_ptr, N, D, E,
    base_w_stride, context_w_stride,
    FORM: tl.constexpr, PARTS: tl.constexpr, EVEN: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """dlogits [2, N, PARTS D], w [D, E], b [E], hidden [2, N, E] -> dhidden [2, N, PARTS E], and its sums over tiles of rows,
    dbias [2, tiles, E]."""
    network, across = tl.program_id(1), tl.cdiv(E, COLUMNS)
    down = tl.program_id(0) // across
    row, column = down * ROWS, tl.program_id(0) % across * COLUMNS
    rows, columns, k = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    known = (columns < E - column)[None, :]
    inside = (rows < N - row)[:, None] & known
    w_ptr = tl.where(network == 0, base_w_ptr, context_w_ptr)
    w_stride = tl.where(network == 0, base_w_stride, context_w_stride)
    g_tile = left_places(row_at(dlogits_ptr, network * N + row, PARTS * D), rows, N - row, PARTS * D, k)
    w_tile = w_ptr + column + (k * w_stride)[:, None] + columns[None, :]
    dactivation = tl.zeros((ROWS, COLUMNS), tl.float32)
    stretches = tl.cdiv(D, DEPTH)
    for stretch in tl.range(0, PARTS * stretches, num_stages=STAGES):
        part, start = stretch // stretches * D, stretch % stretches * DEPTH
        g = load_stretch(g_tile + part, start, D, k, EVEN, False)
        w_inside = known if EVEN else known & (start + k < D)[:, None]
        w = tl.load(w_tile + start.to(tl.int64) * w_stride, mask=w_inside, other=0.0)
        dactivation = dot(g, w, dactivation)

    row += network * N
    b_ptr = tl.where(network == 0, base_b_ptr, context_b_ptr)
    b = tl.load(b_ptr + column + columns, mask=columns < E - column, other=0.0).to(tl.float32)
    hidden_tile = row_at(hidden_ptr, row, E) + column + (rows * E)[:, None] + columns[None, :]
    x = tl.load(hidden_tile, mask=inside, other=0.0) + b[None, :]
    place = column + (rows * (PARTS * E))[:, None] + columns[None, :]
    dhidden = tl.where(inside, dactivation * gelu_derivative(x, FORM), 0.0)
    store_parts(row_at(dhidden_ptr, row, PARTS * E) + place, dhidden, E, PARTS, inside)
    sums = row_at(dbias_ptr, network * tl.cdiv(N, ROWS) + down, E) + column + columns
    tl.store(sums, tl.sum(dhidden, axis=0), mask=columns < E - column)
