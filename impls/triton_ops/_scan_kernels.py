"""The device code of the scans over time; _scan.py says what they compute and how they are launched.

A program is one warp and keeps its whole chunk in registers, ROWS steps of VECTOR channels a thread: it reads every
input once, and its reads are on their way before the first is used. The loops over ROWS are unrolled, so that a row is
a register. Rows beyond the end of the sequence are read as the step that changes nothing.

VECTOR is above 1 where channels are neighbours in memory and every stride but theirs is a multiple of it. D and the
strides are then given as multiples of VECTOR, from which the compiler knows that it may read VECTOR channels at once.
"""

import triton
import triton.language as tl

from ._device import cdiv, clip
from ._handover import chunk_and_lane, entering_state, publish, received, step
from ._launch import INTERPRETED, device_function

COMPILED = tl.constexpr(not INTERPRETED)
LOWEST_LOG = tl.constexpr(-50.0)
FLOOR = tl.constexpr(1.9287498479639178e-22)  # e^-50


@device_function
def factor_of(a, KIND: tl.constexpr):
    """What one step multiplies by; a product's is NaN below zero, so that a sign error cannot pass for decay."""
    if KIND == "product_floor":
        # Not tl.maximum: it would round the constant to float32 also where gamma is float64.
        return tl.where(a >= 0, tl.where(a > FLOOR, a, FLOOR), float("nan"))
    elif KIND == "product_exact":
        return tl.where(a >= 0, a, float("nan"))
    else:
        return a


# Nothing else about a shape makes another kernel faster, so one is compiled for all of them.
ANY_SHAPE = [
    "T", "D", "lanes", "tiles",
    *(f"{array}_stride_{axis}" for array in ("grad", "a", "b", "initial") for axis in "btd"),
]  # fmt: skip


@device_function
def reads_before(left, VECTOR: tl.constexpr):
    """`left`, once all reads so far are on their way.

    Left to itself, the assembler moves the use of a row right behind its read, to save registers, and then waits
    for almost every row by itself, which makes some kernels three times slower. It moves nothing across this
    instruction, which does nothing else (it marks a place for profilers). And since nobody knows that `left` is what
    it was, masks are made of it again where they are needed, and not kept.
    """
    if COMPILED:
        left = tl.inline_asm_elementwise("pmevent 0; mov.b32 $0, $1;", "=r,r", [left], tl.int32, is_pure=False, pack=1)
        left = tl.max_constancy(left, [VECTOR])
    return left


@device_function
def as_read(rows):
    """The same rows, of which the compiler no longer knows that it has widened them before.

    It would keep the widened numbers of a chunk, and a register holds two of those that were read.
    """
    same = ()
    for j in tl.static_range(len(rows)):
        x = rows[j]
        if COMPILED and x.dtype.primitive_bitwidth == 16 and x.shape[0] > 32:
            x = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], dtype=x.dtype, is_pure=False, pack=2)
        same = same + (x,)
    return same


@device_function
def row_of(raw_a, raw_b, j, KIND: tl.constexpr, ARITHMETIC: tl.constexpr):
    """(factor, inflow) of one step; what a kind does not use is anything."""
    a = raw_a[j].to(ARITHMETIC)
    if KIND == "log_sum":
        return a, clip(a, LOWEST_LOG, 0.0)
    return factor_of(a, KIND), raw_b[j].to(ARITHMETIC)


@device_function
def channels(ptr, row, t, d, stride_b, stride_t, stride_d, VECTOR: tl.constexpr):
    """The places of channels `d` at step `t` of a batch row."""
    if VECTOR == 1:
        d = d * stride_d
    return ptr + (row * stride_b + t * stride_t) * VECTOR + d


@triton.jit(do_not_specialize=ANY_SHAPE)
def forward_kernel(
    a_ptr, b_ptr, initial_ptr, out_ptr, after_ptr, factor_ptr, flow_ptr, T, D, lanes, tiles,
    a_stride_b, a_stride_t, a_stride_d, b_stride_b, b_stride_t, b_stride_d, initial_stride_b, initial_stride_d,
    KIND: tl.constexpr, ARITHMETIC: tl.constexpr, ROWS: tl.constexpr, DISTANCE: tl.constexpr, BLOCK_D: tl.constexpr,
    VECTOR: tl.constexpr,
):  # fmt: skip
    chunk, lane = chunk_and_lane(lanes)
    row = (lane // tiles).to(tl.int64)
    d = (lane % tiles).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    D *= VECTOR
    inside = d < D
    first = chunk.to(tl.int64) * ROWS
    left = tl.where(inside, tl.minimum(T - first, ROWS).to(tl.int32), 0)  # [BLOCK_D], how many rows are this lane's
    a_row = channels(a_ptr, row, first, d, a_stride_b, a_stride_t, a_stride_d, VECTOR)
    b_row = channels(b_ptr, row, first, d, b_stride_b, b_stride_t, b_stride_d, VECTOR)
    a_step, b_step = a_stride_t * VECTOR, b_stride_t * VECTOR

    raw_a = ()
    raw_b = ()
    for j in tl.static_range(ROWS):
        raw_a = raw_a + (tl.load(a_row, mask=j < left, other=0.0 if KIND == "log_sum" else 1.0),)
        a_row += a_step
        if KIND == "linear":
            raw_b = raw_b + (tl.load(b_row, mask=j < left, other=-0.0),)  # adding -0.0 changes nothing
            b_row += b_step
    if KIND != "linear":
        raw_b = raw_a
    left = reads_before(left, VECTOR)
    factor, flow = row_of(raw_a, raw_b, 0, KIND, ARITHMETIC)
    for j in tl.static_range(1, ROWS):
        row_factor, row_flow = row_of(raw_a, raw_b, j, KIND, ARITHMETIC)
        flow = step(flow, row_factor, row_flow, KIND)
        if KIND != "log_sum":
            factor = factor * row_factor
    stride = (lanes // tiles).to(tl.int64) * D  # words of a chunk
    word = row * D + d
    written = chunk * stride + word
    if KIND != "log_sum":
        publish(factor_ptr + written, factor, inside)
    if KIND == "linear" or KIND == "log_sum":
        publish(flow_ptr + written, flow, inside)

    initial_row = channels(initial_ptr, row, 0, d, initial_stride_b, 0, initial_stride_d, VECTOR)
    initial = tl.load(initial_row, mask=inside, other=0.0)
    state = entering_state(
        initial.to(ARITHMETIC), after_ptr + word, factor_ptr + word, flow_ptr + word, tl.where(inside, chunk, 0), stride,
        KIND, DISTANCE,
    )  # fmt: skip
    publish(after_ptr + written, step(state, factor, flow, KIND), inside)
    out_row = out_ptr + (row * T + first) * D + d
    raw_a = as_read(raw_a)
    raw_b = as_read(raw_b)
    for j in tl.static_range(ROWS):
        row_factor, row_flow = row_of(raw_a, raw_b, j, KIND, ARITHMETIC)
        state = step(state, row_factor, row_flow, KIND)
        tl.store(out_row, state.to(out_ptr.dtype.element_ty), mask=j < left)
        out_row += D


@triton.jit(do_not_specialize=ANY_SHAPE)
def backward_kernel(
    grad_ptr, a_ptr, b_ptr, initial_ptr, states_ptr, da_ptr, db_ptr, dinitial_ptr,
    after_ptr, factor_ptr, flow_ptr, T, D, lanes, tiles,
    grad_stride_b, grad_stride_t, grad_stride_d, a_stride_b, a_stride_t, a_stride_d,
    b_stride_b, b_stride_t, b_stride_d, initial_stride_b, initial_stride_d,
    KIND: tl.constexpr, AGAIN: tl.constexpr, ARITHMETIC: tl.constexpr, ROWS: tl.constexpr, DISTANCE: tl.constexpr,
    BLOCK_D: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    # What is carried back is the inflow q_t = a_t (g_t + q_{t+1}) to the adjoint of the step before: an affine step.
    BACK: tl.constexpr = "log_sum" if KIND == "log_sum" else "linear"
    handed, lane = chunk_and_lane(lanes)  # chunks are handed over from the last to the first
    chunk = cdiv(T, ROWS) - 1 - handed
    row = (lane // tiles).to(tl.int64)
    d = (lane % tiles).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    D *= VECTOR
    inside = d < D
    first = chunk.to(tl.int64) * ROWS
    left = tl.where(inside, tl.minimum(T - first, ROWS).to(tl.int32), 0)  # [BLOCK_D], how many rows are this lane's
    grad_row = channels(grad_ptr, row, first, d, grad_stride_b, grad_stride_t, grad_stride_d, VECTOR)
    a_row = channels(a_ptr, row, first, d, a_stride_b, a_stride_t, a_stride_d, VECTOR)
    b_row = channels(b_ptr, row, first, d, b_stride_b, b_stride_t, b_stride_d, VECTOR)
    stride = (lanes // tiles).to(tl.int64) * D  # words of a chunk
    word = row * D + d
    grad_step, a_step, b_step = grad_stride_t * VECTOR, a_stride_t * VECTOR, b_stride_t * VECTOR

    raw_grad = ()
    raw_a = ()
    raw_b = ()
    for j in tl.static_range(ROWS):
        raw_grad = raw_grad + (tl.load(grad_row, mask=j < left, other=-0.0),)
        raw_a = raw_a + (tl.load(a_row, mask=j < left, other=0.0 if KIND == "log_sum" else 1.0),)
        grad_row += grad_step
        a_row += a_step
        if AGAIN and KIND == "linear":
            raw_b = raw_b + (tl.load(b_row, mask=j < left, other=-0.0),)
            b_row += b_step
    left = reads_before(left, VECTOR)
    grads = ()
    inputs = ()
    flows = ()
    for j in tl.static_range(ROWS):
        grads = grads + (raw_grad[j].to(ARITHMETIC),)
        inputs = inputs + (raw_a[j].to(ARITHMETIC),)
        flows = flows + (raw_b[j].to(ARITHMETIC) if AGAIN and KIND == "linear" else inputs[j],)  # or anything

    initial_row = channels(initial_ptr, row, 0, d, initial_stride_b, 0, initial_stride_d, VECTOR)
    initial = tl.load(initial_row, mask=inside, other=0.0)
    before = initial.to(ARITHMETIC)  # the state that entered this chunk
    if AGAIN:
        earlier = states_ptr + (chunk - 1) * stride + word
        before = received(earlier, tl.where(inside, chunk, 0) > 0, before, ARITHMETIC)

    q = tl.full((BLOCK_D,), -0.0, ARITHMETIC)
    factor = tl.full((BLOCK_D,), 1.0, ARITHMETIC)
    for i in tl.static_range(ROWS):
        if KIND == "log_sum":
            q = q + grads[ROWS - 1 - i]
        else:
            a = factor_of(inputs[ROWS - 1 - i], KIND)
            q = a * (grads[ROWS - 1 - i] + q)
            factor = factor * a
    written = handed * stride + word
    publish(flow_ptr + written, q, inside)
    if KIND != "log_sum":
        publish(factor_ptr + written, factor, inside)

    previous = ()  # the state before each step, computed again or read
    states_row = states_ptr + (row * T + first - 1) * D + d
    for j in tl.static_range(ROWS):
        if AGAIN:
            previous = previous + (before,)
            before = step(before, factor_of(inputs[j], KIND), flows[j], KIND)
        elif KIND != "log_sum":
            after_one = first + j > 0  # before the first step there is `initial`
            stored = tl.load(states_row, mask=j < tl.where(after_one, left, 0), other=0.0).to(ARITHMETIC)
            previous = previous + (tl.where(after_one, stored, before),)
            states_row += D

    nothing = tl.full((BLOCK_D,), -0.0, ARITHMETIC)
    inflow = entering_state(
        nothing,
        after_ptr + word,
        factor_ptr + word,
        flow_ptr + word,
        tl.where(inside, handed, 0),
        stride,
        BACK,
        DISTANCE,
    )
    publish(after_ptr + written, step(inflow, factor, q, BACK), inside)
    result = (row * T + first + ROWS - 1) * D + d
    for i in tl.static_range(ROWS):
        here = ROWS - 1 - i < left
        adjoint = grads[ROWS - 1 - i] + inflow
        a = inputs[ROWS - 1 - i]
        if KIND == "log_sum":
            da = tl.where((a >= LOWEST_LOG) & (a <= 0), adjoint, 0.0)
            inflow = adjoint
        else:
            da = adjoint * previous[ROWS - 1 - i]
            inflow = factor_of(a, KIND) * adjoint
            if KIND == "linear":
                tl.store(db_ptr + result, adjoint.to(db_ptr.dtype.element_ty), mask=here)
            elif KIND == "product_floor":
                # float32 and float64 round e^-50 up: a gamma equal to FLOOR is above the floor.
                da = tl.where(a >= FLOOR, da, 0.0)
        tl.store(da_ptr + result, da.to(da_ptr.dtype.element_ty), mask=here)
        result -= D
    if chunk == 0:
        tl.store(dinitial_ptr + row * D + d, inflow.to(dinitial_ptr.dtype.element_ty), mask=inside)
