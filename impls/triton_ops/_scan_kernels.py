"""The device code of the scans over time; _scan.py says what they compute and how they are launched.

A program keeps its whole chunk in registers, ROWS steps of one channel a thread: it reads every input once, and all
its reads are on their way before the first is used. The loops over ROWS are unrolled, so that a row is a register.
Rows beyond the end of the sequence are read as the step that changes nothing.
"""

import triton
import triton.language as tl

from ._device import clip
from ._handover import entering_state, publish, received, step, take_ticket

LOWEST_LOG = tl.constexpr(-50.0)
FLOOR = tl.constexpr(1.9287498479639178e-22)  # e^-50


@triton.jit
def factor_of(a, KIND: tl.constexpr):
    """What one step multiplies by; a product's is NaN below zero, so that a sign error cannot pass for decay."""
    if KIND == "product_floor":
        # Not tl.maximum: it would round the constant to float32 also where gamma is float64.
        return tl.where(a >= 0, tl.where(a > FLOOR, a, FLOOR), float("nan"))
    elif KIND == "product_exact":
        return tl.where(a >= 0, a, float("nan"))
    else:
        return a

# A thread reads one channel, so neither alignment nor a stride of 1 makes another kernel faster: one for all shapes.
ANY_SHAPE = [
    "T", "D", "lanes", "tiles",
    *(f"{array}_stride_{axis}" for array in ("grad", "a", "b", "initial") for axis in "btd"),
]  # fmt: skip


@triton.jit(do_not_specialize=ANY_SHAPE)
def forward_kernel(
    a_ptr, b_ptr, initial_ptr, out_ptr, after_ptr, factor_ptr, flow_ptr, ticket_ptr,
    T, D, lanes, tiles,
    a_stride_b, a_stride_t, a_stride_d, b_stride_b, b_stride_t, b_stride_d, initial_stride_b, initial_stride_d,
    KIND: tl.constexpr, ARITHMETIC: tl.constexpr, ROWS: tl.constexpr, DISTANCE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    chunk, lane = take_ticket(ticket_ptr, lanes)
    row = (lane // tiles).to(tl.int64)
    d = (lane % tiles).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    inside = d < D
    first = chunk.to(tl.int64) * ROWS
    left = tl.where(inside, T - first, 0)  # [BLOCK_D], the steps from `first` on that are this lane's
    a_row = a_ptr + row * a_stride_b + first * a_stride_t + d * a_stride_d
    b_row = b_ptr + row * b_stride_b + first * b_stride_t + d * b_stride_d

    factors = ()
    flows = ()
    for j in tl.static_range(ROWS):
        a = tl.load(a_row, mask=j < left, other=0.0 if KIND == "log_sum" else 1.0).to(ARITHMETIC)
        a_row += a_stride_t
        if KIND == "log_sum":
            flows = flows + (clip(a, LOWEST_LOG, 0.0),)
        else:
            factors = factors + (factor_of(a, KIND),)
        if KIND == "linear":
            flows = flows + (tl.load(b_row, mask=j < left, other=-0.0).to(ARITHMETIC),)  # -0.0: adding it changes nothing
            b_row += b_stride_t
    if KIND == "log_sum":
        factors = flows
    elif KIND != "linear":
        flows = factors

    factor = factors[0]
    flow = flows[0]
    for j in tl.static_range(1, ROWS):
        flow = step(flow, factors[j], flows[j], KIND)
        factor = factor * factors[j]
    stride = lanes * BLOCK_D
    word = lane * BLOCK_D + tl.arange(0, BLOCK_D)
    written = chunk.to(tl.int64) * stride + word
    if KIND != "log_sum":
        publish(factor_ptr + written, factor)
    if KIND == "linear" or KIND == "log_sum":
        publish(flow_ptr + written, flow)

    initial = tl.load(initial_ptr + row * initial_stride_b + d * initial_stride_d, mask=inside, other=0.0)
    state = entering_state(
        initial.to(ARITHMETIC), after_ptr + word, factor_ptr + word, flow_ptr + word, chunk, stride, KIND, DISTANCE
    )
    publish(after_ptr + written, step(state, factor, flow, KIND))
    out_row = out_ptr + (row * T + first) * D + d
    for j in tl.static_range(ROWS):
        state = step(state, factors[j], flows[j], KIND)
        tl.store(out_row, state.to(out_ptr.dtype.element_ty), mask=j < left)
        out_row += D


@triton.jit(do_not_specialize=ANY_SHAPE)
def backward_kernel(
    grad_ptr, a_ptr, b_ptr, initial_ptr, states_ptr, da_ptr, db_ptr, dinitial_ptr,
    after_ptr, factor_ptr, flow_ptr, ticket_ptr, T, D, lanes, tiles,
    grad_stride_b, grad_stride_t, grad_stride_d, a_stride_b, a_stride_t, a_stride_d,
    b_stride_b, b_stride_t, b_stride_d, initial_stride_b, initial_stride_d,
    KIND: tl.constexpr, AGAIN: tl.constexpr, ARITHMETIC: tl.constexpr, ROWS: tl.constexpr, DISTANCE: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    # What is carried back is the inflow q_t = a_t (g_t + q_{t+1}) to the adjoint of the step before: an affine step.
    BACK: tl.constexpr = "log_sum" if KIND == "log_sum" else "linear"
    handed, lane = take_ticket(ticket_ptr, lanes)  # chunks are handed over from the last to the first
    chunk = tl.cdiv(T, ROWS) - 1 - handed
    row = (lane // tiles).to(tl.int64)
    d = (lane % tiles).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    inside = d < D
    first = chunk.to(tl.int64) * ROWS
    left = tl.where(inside, T - first, 0)  # [BLOCK_D], the steps from `first` on that are this lane's
    grad_row = grad_ptr + row * grad_stride_b + first * grad_stride_t + d * grad_stride_d
    a_row = a_ptr + row * a_stride_b + first * a_stride_t + d * a_stride_d
    b_row = b_ptr + row * b_stride_b + first * b_stride_t + d * b_stride_d
    stride = lanes * BLOCK_D
    word = lane * BLOCK_D + tl.arange(0, BLOCK_D)

    grads = ()
    inputs = ()
    flows = ()
    for j in tl.static_range(ROWS):
        here = j < left
        grads = grads + (tl.load(grad_row, mask=here, other=-0.0).to(ARITHMETIC),)
        inputs = inputs + (tl.load(a_row, mask=here, other=0.0 if KIND == "log_sum" else 1.0).to(ARITHMETIC),)
        grad_row += grad_stride_t
        a_row += a_stride_t
        if AGAIN and KIND == "linear":
            flows = flows + (tl.load(b_row, mask=j < left, other=-0.0).to(ARITHMETIC),)
            b_row += b_stride_t

    initial = tl.load(initial_ptr + row * initial_stride_b + d * initial_stride_d, mask=inside, other=0.0)
    before = initial.to(ARITHMETIC)  # the state that entered this chunk
    if AGAIN:
        earlier = states_ptr + (chunk.to(tl.int64) - 1) * stride + word
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
    written = handed.to(tl.int64) * stride + word
    publish(flow_ptr + written, q)
    if KIND != "log_sum":
        publish(factor_ptr + written, factor)

    previous = ()  # the state before each step, computed again or read
    states_row = states_ptr + (row * T + first - 1) * D + d
    for j in tl.static_range(ROWS):
        if AGAIN:
            previous = previous + (before,)
            if KIND == "linear":
                before = step(before, inputs[j], flows[j], KIND)
            else:
                before = before * factor_of(inputs[j], KIND)
        elif KIND != "log_sum":
            reaches = tl.where(first + j > 0, left, 0)  # before the first step there is `initial`
            stored = tl.load(states_row, mask=j < reaches, other=0.0).to(ARITHMETIC)
            previous = previous + (tl.where(first + j > 0, stored, before),)
            states_row += D

    nothing = tl.full((BLOCK_D,), -0.0, ARITHMETIC)
    inflow = entering_state(
        nothing, after_ptr + word, factor_ptr + word, flow_ptr + word, handed, stride, BACK, DISTANCE
    )
    publish(after_ptr + written, step(inflow, factor, q, BACK))
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
