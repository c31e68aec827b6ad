"""How does a program of a scan get the state that the chunks of time before its own leave behind?

A sequence is cut into chunks of time, one program each, and a chunk into segments, one warp each. A warp first
summarises its segment, without the state that enters it: the product of the factors, and the state it would leave if it
were entered by nothing. The program composes these to the summary of the chunk, publishes it, and needs one thing more,
the state that enters. That is the state which chunk ``c - DISTANCE`` left, led through the summaries of the chunks
between, one after the other. So one hop of waiting covers DISTANCE chunks, and since all is always composed in the same
order from the same numbers, the result does not depend on who was ready when: it is reproducible bit for bit.

Order       Chunks follow the order of program ids, in which GPUs start programs (NVIDIA's own scans rest on it too):
            whoever waits, waits for programs that already run.
Memory      Every word of the exchange says by itself whether it is there: it starts as UNWRITTEN, a NaN that no
            arithmetic gives, and is written once. Words of 32 and 64 bits are written whole, so no fence is needed.
            The exchange is one number a channel and summary for every chunk, and stays in the cache.
"""

import triton
import triton.language as tl

from ._device import reduce_max
from ._launch import device_function

UNWRITTEN = tl.constexpr(-1)  # all bits set


@device_function
def step(state, factor, flow, KIND: tl.constexpr):
    """The state after one step, or after a chunk that is summarised by a factor and an inflow."""
    if KIND == "linear":
        return factor * state + flow
    elif KIND == "log_sum":
        return state + flow
    else:
        return state * factor


@triton.jit
def compose_linear(factor, flow, later_factor, later_flow):
    return factor * later_factor, later_factor * flow + later_flow


@triton.jit
def compose_sum(flow, later_flow):
    return flow + later_flow


@triton.jit
def compose_product(factor, later_factor):
    return factor * later_factor


@device_function
def through_segments(factor, flow, KIND: tl.constexpr, SEGMENTS: tl.constexpr):
    """The summaries of all segments of a chunk up to and with each."""
    if SEGMENTS > 1:
        places: tl.constexpr = factor.shape
        by_segment: tl.constexpr = (SEGMENTS, factor.shape[0] // SEGMENTS)
        factor, flow = tl.reshape(factor, by_segment), tl.reshape(flow, by_segment)
        if KIND == "linear":
            factor, flow = tl.associative_scan((factor, flow), 0, compose_linear)
        elif KIND == "log_sum":
            flow = tl.associative_scan(flow, 0, compose_sum)
        else:
            factor = tl.associative_scan(factor, 0, compose_product)
        factor, flow = tl.reshape(factor, places), tl.reshape(flow, places)
    return factor, flow


@device_function
def entering_segments(state, factor, flow, segment, KIND: tl.constexpr, SEGMENTS: tl.constexpr):
    """The state that enters each segment, of the state that enters their chunk and of what through_segments says."""
    if SEGMENTS == 1:
        return state
    BLOCK_D: tl.constexpr = state.shape[0] // SEGMENTS
    place = tl.arange(0, state.shape[0])
    before = tl.where(segment > 0, place - BLOCK_D, place)
    if KIND != "log_sum":
        factor = tl.gather(factor, before, 0)
    if KIND == "linear" or KIND == "log_sum":
        flow = tl.gather(flow, before, 0)
    return tl.where(segment > 0, step(state, factor, flow, KIND), state)


@device_function
def chunk_and_lane(lanes, chunks, GROUP: tl.constexpr):
    """Each lane (batch row and tile of channels) of each chunk once, chunks of a lane in the order of programs; GROUP lanes
    go through time together, so that what is read at once lies together."""
    program = tl.program_id(0)
    group = program // (GROUP * chunks)
    within = program - group * (GROUP * chunks)
    size = tl.minimum(lanes - group * GROUP, GROUP)
    return within // size, group * GROUP + within % size


@device_function
def publish(word_ptr, value, inside):
    """Write a number as a word that is not UNWRITTEN: every NaN becomes the usual one."""
    value = tl.where(value == value, value, float("nan"))
    tl.store(word_ptr, value.to(word_ptr.dtype.element_ty, bitcast=True), mask=inside, cache_modifier=".cg")


@device_function
def some_missing(words):
    missing = words[0] == UNWRITTEN
    for i in tl.static_range(1, len(words)):
        missing |= words[i] == UNWRITTEN
    return reduce_max(missing.to(tl.int32), axis=0) > 0


@device_function
def read_summaries(factor_ptr, flow_ptr, known, stride, KIND: tl.constexpr, DISTANCE: tl.constexpr):
    """The words of the chunks after `known`, one or two for each; 0 stands for chunks before the first."""
    words = ()
    for ahead in tl.static_range(1, DISTANCE):
        between = known + ahead
        if KIND != "log_sum":
            words = words + (tl.load(factor_ptr + between * stride, mask=between >= 0, other=0, volatile=True),)
        if KIND == "linear" or KIND == "log_sum":
            words = words + (tl.load(flow_ptr + between * stride, mask=between >= 0, other=0, volatile=True),)
    return words


@device_function
def entering_state(initial, after_ptr, factor_ptr, flow_ptr, chunk, stride, KIND: tl.constexpr, DISTANCE: tl.constexpr):
    """The state that enters `chunk`, which is `initial` for the first; waits until everything it needs is there.

    `chunk` is given for every channel, 0 for those outside. The pointers are those of chunk 0 in this program's
    lane, `stride` words from chunk to chunk.
    """
    dtype: tl.constexpr = initial.dtype
    known = chunk.to(tl.int64) - DISTANCE  # the chunk whose state afterwards is awaited, if there is one
    # The summaries wait for nobody, so they are there first; then the one word on which all later chunks wait.
    words = read_summaries(factor_ptr, flow_ptr, known, stride, KIND, DISTANCE)
    while some_missing(words):
        words = read_summaries(factor_ptr, flow_ptr, known, stride, KIND, DISTANCE)
    after = tl.load(after_ptr + known * stride, mask=known >= 0, other=0, volatile=True)
    while some_missing((after,)):
        after = tl.load(after_ptr + known * stride, mask=known >= 0, other=0, volatile=True)
    state = tl.where(known >= 0, after.to(dtype, bitcast=True), initial)
    each: tl.constexpr = 2 if KIND == "linear" else 1  # words of one summary
    for ahead in tl.static_range(1, DISTANCE):
        factor = words[each * ahead - each].to(dtype, bitcast=True)
        flow = words[each * ahead - 1].to(dtype, bitcast=True)
        state = tl.where(known + ahead >= 0, step(state, factor, flow, KIND), state)
    return state
