"""How does a program of a scan get the state that the chunks of time before its own leave behind?

A sequence is cut into chunks of time, one program each. A program first summarises its chunk, without the state that
enters it: the product of the factors, and the state it would leave if it were entered by nothing. It publishes
that summary, and needs one thing more, the state that enters. That is the state which chunk ``c - DISTANCE`` left,
led through the summaries of the chunks between, one after the other. So one hop of waiting covers DISTANCE
chunks, and since the chunks between are always composed in the same order from the same numbers, the result does
not depend on who was ready when: it is reproducible bit for bit.

Order       Chunks follow the order of program ids, in which GPUs start programs (NVIDIA's own scans rest on it too):
            whoever waits, waits for programs that already run.
Memory      Every word of the exchange says by itself whether it is there: it starts as UNWRITTEN, a NaN that no
            arithmetic gives, and is written once. Words of 32 and 64 bits are written whole, so no fence is needed.
            The exchange is one number a channel and summary for every chunk, and stays in the cache.
"""

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


@device_function
def chunk_and_lane(lanes):
    """Chunks in the order of programs, and in each chunk every lane (batch row and tile of channels) once."""
    program = tl.program_id(0)
    return program // lanes, program % lanes


@device_function
def publish(word_ptr, value, inside):
    """Write a number as a word that is not UNWRITTEN: every NaN becomes the usual one."""
    value = tl.where(value == value, value, float("nan"))
    tl.store(word_ptr, value.to(word_ptr.dtype.element_ty, bitcast=True), mask=inside, cache_modifier=".cg")


@device_function
def received(word_ptr, there, otherwise, dtype: tl.constexpr):
    """The number that was published as a word; `otherwise` where there is no such chunk."""
    word = tl.load(word_ptr, mask=there, other=0, volatile=True)
    return tl.where(there, word.to(dtype, bitcast=True), otherwise)


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
