"""How does a program of a scan get the state that the chunks of time before its own leave behind?

A sequence is cut into chunks of time, one program each. A program first summarises its chunk, without the state that
enters it: the product of the factors, and the state it would leave if it were entered by nothing. It publishes
that summary, and needs one thing more, the state that enters. That is the state which chunk ``c - DISTANCE`` left,
led through the summaries of the chunks between, one after the other. So one hop of waiting covers DISTANCE
chunks, and since the chunks between are always composed in the same order from the same numbers, the result does
not depend on who was ready when: it is reproducible bit for bit.

Order       Programs take their chunk by a ticket, so whoever waits, waits for programs that already run.
Memory      Every word of the exchange says by itself whether it is there: it starts as UNWRITTEN, a NaN that no
            arithmetic gives, and is written once. Words of 32 and 64 bits are written whole, so no fence is needed.
            The exchange is one number a channel and summary for every chunk, and stays in the cache.
"""

import triton
import triton.language as tl

UNWRITTEN = tl.constexpr(-1)  # all bits set


@triton.jit
def step(state, factor, flow, KIND: tl.constexpr):
    """The state after one step, or after a chunk that is summarised by a factor and an inflow."""
    if KIND == "linear":
        return factor * state + flow
    elif KIND == "log_sum":
        return state + flow
    else:
        return state * factor


@triton.jit
def take_ticket(ticket_ptr, lanes):
    """(chunk, lane): chunks in order, and in each chunk every lane (batch row and tile of channels) once."""
    ticket = tl.atomic_add(ticket_ptr, 1) + 1  # it starts where the whole exchange does, at -1
    return ticket // lanes, ticket % lanes


@triton.jit
def publish(word_ptr, value):
    """Write a number as a word that is not UNWRITTEN: every NaN becomes the usual one."""
    value = tl.where(value == value, value, float("nan"))
    tl.store(word_ptr, value.to(word_ptr.dtype.element_ty, bitcast=True), cache_modifier=".cg")


@triton.jit
def is_missing(word_ptr, there):
    return tl.load(word_ptr, mask=there, other=0, volatile=True) == UNWRITTEN


@triton.jit
def received(word_ptr, there, otherwise, dtype: tl.constexpr):
    word = tl.load(word_ptr, mask=there, other=0, volatile=True)
    return tl.where(there, word.to(dtype, bitcast=True), otherwise)


@triton.jit
def entering_state(initial, after_ptr, factor_ptr, flow_ptr, chunk, stride, KIND: tl.constexpr, DISTANCE: tl.constexpr):
    """The state that enters `chunk`, which is `initial` for the first; waits until everything it needs is there.

    The pointers are those of chunk 0 in this program's lane, `stride` words from chunk to chunk.
    """
    # The chunk whose state afterwards is awaited, if there is one; a vector, because masks have to be vectors.
    known = tl.zeros(initial.shape, tl.int64) + chunk - DISTANCE
    waiting = chunk > 0
    while waiting:
        missing = is_missing(after_ptr + known * stride, known >= 0)
        for ahead in tl.static_range(1, DISTANCE):
            between = known + ahead
            if KIND != "log_sum":
                missing |= is_missing(factor_ptr + between * stride, between >= 0)
            if KIND == "linear" or KIND == "log_sum":
                missing |= is_missing(flow_ptr + between * stride, between >= 0)
        waiting = tl.max(missing.to(tl.int32), axis=0) > 0
    state = received(after_ptr + known * stride, known >= 0, initial, initial.dtype)
    for ahead in tl.static_range(1, DISTANCE):
        between = known + ahead
        factor = state
        flow = state
        if KIND != "log_sum":
            factor = received(factor_ptr + between * stride, between >= 0, 1.0, initial.dtype)
        if KIND == "linear" or KIND == "log_sum":
            flow = received(flow_ptr + between * stride, between >= 0, -0.0, initial.dtype)
        state = step(state, factor, flow, KIND)
    return state
