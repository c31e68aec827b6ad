"""The device code of the scans over time; _scan.py says what they compute and how they are launched.

A program keeps its whole chunk in registers, one warp for each of SEGMENTS segments of time, ROWS steps of VECTOR
channels a thread: it reads every input once, and its reads are on their way before the first is used. The loops over ROWS
are unrolled, so that a row is a register. Rows beyond the end of the sequence are read as the step that changes nothing
(logits are not: forwards nothing comes after them, and backwards nothing has come before). With KEEP, forward leaves behind
the state before every KEEP steps, from which backward begins its segments.

With GATED the factors are not in memory: `a` and `context` are the two logits, without their biases, of which the
decay gate makes them; they become the factors, and backwards also the factors' derivatives, as soon as they are read. What
is written for `a` is then the gradients of the logits, as gate_backward_kernel writes them: dlogits [2, B T, PARTS D], and of
the biases, summed over a segment.

VECTOR is above 1 where channels are neighbours in memory and every stride but theirs is a multiple of it. D and the
strides are then given as multiples of VECTOR, from which the compiler knows that it may read VECTOR channels at once.
"""

import triton
import triton.language as tl

from ._device import cdiv, unless_clipped
from ._handover import chunk_and_lane, entering_segments, entering_state, publish, step, through_segments
from ._parts import store_parts
from ._scan_rows import (
    FLOOR,
    LOWEST_LOG,
    as_read,
    channels,
    factor_of,
    gated_factors,
    not_negative,
    reads_before,
    row_of,
)

# Nothing else about a shape makes another kernel faster, so one is compiled for all of them.
ANY_SHAPE = [
    "T", "D", "lanes", "tiles",
    *(f"{array}_stride_{axis}" for array in ("grad", "a", "b", "initial") for axis in "btd"),
]  # fmt: skip


@triton.jit(do_not_specialize=ANY_SHAPE)
def forward_kernel(
    a_ptr, context_ptr, bias_ptr, b_ptr, initial_ptr, out_ptr, states_ptr,
    after_ptr, factor_ptr, flow_ptr, T, D, lanes, tiles,
    a_stride_b, a_stride_t, a_stride_d, b_stride_b, b_stride_t, b_stride_d, initial_stride_b, initial_stride_d,
    KIND: tl.constexpr, GATED: tl.constexpr, KEEP: tl.constexpr, ARITHMETIC: tl.constexpr, SEGMENTS: tl.constexpr,
    ROWS: tl.constexpr, GROUP: tl.constexpr, DISTANCE: tl.constexpr, BLOCK_D: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    chunk, lane = chunk_and_lane(lanes, cdiv(T, SEGMENTS * ROWS), GROUP)
    row = (lane // tiles).to(tl.int64)
    place = tl.arange(0, SEGMENTS * BLOCK_D)  # of every segment all channels
    segment = place // BLOCK_D
    d = (lane % tiles).to(tl.int64) * BLOCK_D + place % BLOCK_D
    D *= VECTOR
    inside = d < D
    last = segment == SEGMENTS - 1
    first = (chunk.to(tl.int64) * SEGMENTS + segment) * ROWS
    left = tl.where(inside, tl.minimum(T - first, ROWS).to(tl.int32), 0)  # rows of this place
    a_row = channels(a_ptr, row, first, d, a_stride_b, a_stride_t, a_stride_d, VECTOR)
    context_row = channels(context_ptr, row, first, d, a_stride_b, a_stride_t, a_stride_d, VECTOR)
    b_row = channels(b_ptr, row, first, d, b_stride_b, b_stride_t, b_stride_d, VECTOR)
    a_step, b_step = a_stride_t * VECTOR, b_stride_t * VECTOR

    raw_a = ()
    raw_context = ()
    raw_b = ()
    for j in tl.static_range(ROWS):
        raw_a = raw_a + (tl.load(a_row, mask=j < left, other=0.0 if KIND == "log_sum" else 1.0),)
        a_row += a_step
        if GATED:
            raw_context = raw_context + (tl.load(context_row, mask=j < left, other=0.0),)
            context_row += a_step
        if KIND == "linear":
            raw_b = raw_b + (tl.load(b_row, mask=j < left, other=-0.0),)  # adding -0.0 changes nothing
            b_row += b_step
    if KIND != "linear":
        raw_b = raw_a
    left = reads_before(left, VECTOR)
    raw_a = as_read(raw_a, VECTOR)
    raw_b = as_read(raw_b, VECTOR)
    if GATED:
        raw_a, _, _ = gated_factors(raw_a, raw_context, bias_ptr, d, D, False)
    factor, flow = row_of(raw_a, raw_b, 0, KIND, ARITHMETIC, False)
    for j in tl.static_range(1, ROWS):
        row_factor, row_flow = row_of(raw_a, raw_b, j, KIND, ARITHMETIC, False)
        flow = step(flow, row_factor, row_flow, KIND)
        if KIND != "log_sum":
            factor = factor * row_factor
    factor, flow = through_segments(factor, flow, KIND, SEGMENTS)
    stride = (lanes // tiles).to(tl.int64) * D  # words of a chunk
    word = row * D + d
    written = chunk * stride + word
    if KIND != "log_sum":
        publish(factor_ptr + written, factor, inside & last)
    if KIND == "linear" or KIND == "log_sum":
        publish(flow_ptr + written, flow, inside & last)

    initial_row = channels(initial_ptr, row, 0, d, initial_stride_b, 0, initial_stride_d, VECTOR)
    initial = tl.load(initial_row, mask=inside, other=0.0)
    state = entering_state(
        initial.to(ARITHMETIC), after_ptr + word, factor_ptr + word, flow_ptr + word, tl.where(inside, chunk, 0), stride,
        KIND, DISTANCE,
    )  # fmt: skip
    publish(after_ptr + written, step(state, factor, flow, KIND), inside & last)
    state = entering_segments(state, factor, flow, segment, KIND, SEGMENTS)
    out_row = out_ptr + (row * T + first) * D + d
    raw_a = as_read(raw_a, VECTOR)
    raw_b = as_read(raw_b, VECTOR)
    for j in tl.static_range(ROWS):
        if KEEP > 0 and j % KEEP == 0:
            tl.store(states_ptr + (first + j) // KEEP * stride + word, state, mask=j < left)
        row_factor, row_flow = row_of(raw_a, raw_b, j, KIND, ARITHMETIC, False)
        state = step(state, row_factor, row_flow, KIND)
        tl.store(out_row, state.to(out_ptr.dtype.element_ty), mask=j < left)
        out_row += D


@triton.jit(do_not_specialize=ANY_SHAPE)
def backward_kernel(
    grad_ptr, a_ptr, context_ptr, bias_ptr, b_ptr, initial_ptr, states_ptr, da_ptr, dbias_ptr, db_ptr, dinitial_ptr,
    after_ptr, factor_ptr, flow_ptr, T, D, lanes, tiles,
    grad_stride_b, grad_stride_t, grad_stride_d, a_stride_b, a_stride_t, a_stride_d,
    b_stride_b, b_stride_t, b_stride_d, initial_stride_b, initial_stride_d,
    KIND: tl.constexpr, GATED: tl.constexpr, PARTS: tl.constexpr, AGAIN: tl.constexpr, ARITHMETIC: tl.constexpr,
    SEGMENTS: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr, DISTANCE: tl.constexpr, BLOCK_D: tl.constexpr,
    VECTOR: tl.constexpr,
):  # fmt: skip
    # What is carried back is the inflow q_t = a_t (g_t + q_{t+1}) to the adjoint of the step before: an affine step.
    BACK: tl.constexpr = "log_sum" if KIND == "log_sum" else "linear"
    chunks = cdiv(T, SEGMENTS * ROWS)
    handed, lane = chunk_and_lane(lanes, chunks, GROUP)  # chunks are handed over from the last to the first
    chunk = chunks - 1 - handed
    row = (lane // tiles).to(tl.int64)
    place = tl.arange(0, SEGMENTS * BLOCK_D)  # of every segment all channels
    segment = place // BLOCK_D  # from the last in time to the first, as chunks
    d = (lane % tiles).to(tl.int64) * BLOCK_D + place % BLOCK_D
    D *= VECTOR
    inside = d < D
    last = segment == SEGMENTS - 1
    earlier = chunk.to(tl.int64) * SEGMENTS + SEGMENTS - 1 - segment  # segments before this one
    first = earlier * ROWS
    left = tl.where(inside, tl.minimum(T - first, ROWS).to(tl.int32), 0)  # rows of this place
    grad_row = channels(grad_ptr, row, first, d, grad_stride_b, grad_stride_t, grad_stride_d, VECTOR)
    a_row = channels(a_ptr, row, first, d, a_stride_b, a_stride_t, a_stride_d, VECTOR)
    context_row = channels(context_ptr, row, first, d, a_stride_b, a_stride_t, a_stride_d, VECTOR)
    b_row = channels(b_ptr, row, first, d, b_stride_b, b_stride_t, b_stride_d, VECTOR)
    stride = (lanes // tiles).to(tl.int64) * D  # words of a chunk
    word = row * D + d
    grad_step, a_step, b_step = grad_stride_t * VECTOR, a_stride_t * VECTOR, b_stride_t * VECTOR

    # A logit beyond the end gives the largest decay, whose gradient is 0, and nothing has been carried there yet.
    beyond: tl.constexpr = float("inf") if GATED else 0.0 if KIND == "log_sum" else 1.0
    raw_grad = ()
    raw_a = ()
    raw_context = ()
    raw_b = ()
    for j in tl.static_range(ROWS):
        raw_grad = raw_grad + (tl.load(grad_row, mask=j < left, other=-0.0),)
        raw_a = raw_a + (tl.load(a_row, mask=j < left, other=beyond),)
        grad_row += grad_step
        a_row += a_step
        if GATED:
            raw_context = raw_context + (tl.load(context_row, mask=j < left, other=beyond),)
            context_row += a_step
        if AGAIN and KIND == "linear":
            raw_b = raw_b + (tl.load(b_row, mask=j < left, other=-0.0),)
            b_row += b_step
    left = reads_before(left, VECTOR)
    raw_grad = as_read(raw_grad, VECTOR)
    raw_a = as_read(not_negative(raw_a, KIND), VECTOR)
    raw_b = as_read(raw_b, VECTOR)
    if GATED:
        raw_a, base_slopes, context_slopes = gated_factors(raw_a, raw_context, bias_ptr, d, D, True)
    if not AGAIN or KIND != "linear":
        raw_b = raw_a  # not used

    initial_row = channels(initial_ptr, row, 0, d, initial_stride_b, 0, initial_stride_d, VECTOR)
    initial = tl.load(initial_row, mask=inside, other=0.0)
    before = initial.to(ARITHMETIC)  # the state that entered this segment
    if AGAIN:
        before = tl.load(states_ptr + earlier * stride + word, mask=left > 0, other=0.0)

    q = tl.full(place.shape, -0.0, ARITHMETIC)
    factor = tl.full(place.shape, 1.0, ARITHMETIC)
    for i in tl.static_range(ROWS):
        if KIND == "log_sum":
            q = q + raw_grad[ROWS - 1 - i].to(ARITHMETIC)
        else:
            a, _b = row_of(raw_a, raw_b, ROWS - 1 - i, KIND, ARITHMETIC, True)
            q = a * (raw_grad[ROWS - 1 - i].to(ARITHMETIC) + q)
            factor = factor * a
    factor, q = through_segments(factor, q, BACK, SEGMENTS)
    written = handed * stride + word
    publish(flow_ptr + written, q, inside & last)
    if KIND != "log_sum":
        publish(factor_ptr + written, factor, inside & last)

    raw_a = as_read(raw_a, VECTOR)
    previous = ()  # the state before each step, computed again or read
    states_row = states_ptr + (row * T + first - 1) * D + d
    for j in tl.static_range(ROWS):
        if AGAIN:
            previous = previous + (before,)
            a, b = row_of(raw_a, raw_b, j, KIND, ARITHMETIC, True)
            before = step(before, a, b, KIND)
        elif KIND != "log_sum":
            after_one = first + j > 0  # before the first step there is `initial`
            stored = tl.load(states_row, mask=j < tl.where(after_one, left, 0), other=0.0).to(ARITHMETIC)
            previous = previous + (tl.where(after_one, stored, before),)
            states_row += D

    raw_grad = as_read(raw_grad, VECTOR)
    raw_a = as_read(raw_a, VECTOR)
    nothing = tl.full(place.shape, -0.0, ARITHMETIC)
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
    publish(after_ptr + written, step(inflow, factor, q, BACK), inside & last)
    inflow = entering_segments(inflow, factor, q, segment, BACK, SEGMENTS)
    result = (row * T + first + ROWS - 1) * D + d
    if GATED:
        result_logits = da_ptr + (row * T + first + ROWS - 1) * (PARTS * D) + d
        half = (lanes // tiles).to(tl.int64) * T * (PARTS * D)
        dbase_bias = tl.zeros(place.shape, ARITHMETIC)
        dcontext_bias = dbase_bias
    for i in tl.static_range(ROWS):
        here = ROWS - 1 - i < left
        adjoint = raw_grad[ROWS - 1 - i].to(ARITHMETIC) + inflow
        a = raw_a[ROWS - 1 - i].to(ARITHMETIC)
        if KIND == "log_sum":
            da = tl.where((a >= LOWEST_LOG) & (a <= 0), adjoint, 0.0)
            inflow = adjoint
        else:
            da = adjoint * previous[ROWS - 1 - i]
            inflow = factor_of(a, KIND, True) * adjoint
            if KIND == "linear":
                tl.store(db_ptr + result, adjoint.to(db_ptr.dtype.element_ty), mask=here)
            elif KIND == "product_floor":
                # float32 and float64 round e^-50 up: a gamma equal to FLOOR is above the floor.
                da = tl.where(a >= FLOOR, da, 0.0)
        if GATED:
            dbase = unless_clipped(a, da * base_slopes[ROWS - 1 - i])
            dcontext = unless_clipped(a, da * context_slopes[ROWS - 1 - i])
            store_parts(result_logits, dbase, D, PARTS, here)
            store_parts(result_logits + half, dcontext, D, PARTS, here)
            result_logits -= PARTS * D
            dbase_bias += dbase  # beyond the end the clip binds
            dcontext_bias += dcontext
        else:
            tl.store(da_ptr + result, da.to(da_ptr.dtype.element_ty), mask=here)
        result -= D
    tl.store(dinitial_ptr + word, inflow.to(dinitial_ptr.dtype.element_ty), mask=inside & (earlier == 0))
    if GATED:
        tl.store(dbias_ptr + earlier * stride + word, dbase_bias, mask=inside)
        tl.store(dbias_ptr + (earlier + chunks * SEGMENTS) * stride + word, dcontext_bias, mask=inside)
