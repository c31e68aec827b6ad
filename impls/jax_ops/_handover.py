"""How does a program of a scan get the state that the chunks of time before its own leave behind?

A program first summarises its segments, without the state that enters them: what their steps multiply by, and what they
leave of nothing. Its warps, of which each has one segment, exchange that. The program publishes the summary of the whole,
and needs one thing more, the state that enters. Its first warp looks for the state that the chunk SEGMENTS before left, the
others for the summaries of the chunks since then; the warps exchange what they found and lead that state through. So one
hop of waiting covers SEGMENTS chunks, and since they are composed in the same order from the same numbers always, the
result does not depend on who was ready when.

Order       Chunks follow the order of program ids, in which GPUs start programs: whoever waits, waits for programs that
            already run.
Memory      What is published are the bits of numbers, in an array [B, words, chunks, D] that is UNWRITTEN at first, a NaN
            that is never published: a number and the news that it is there cannot arrive in the wrong order. The words
            of a chunk are the state that it leaves, its factor and its inflow, or one of these two where there is one.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton as plgpu

from ._step import SEGMENTS, Map, advance

GROUP = 128  # lanes (rows and tiles of channels) that go through time together: what is read at once lies together
BITS = {4: jnp.int32, 8: jnp.int64}
UNWRITTEN = -1  # all bits set
STATE = 0  # the first word of a chunk


def place_of(program: jax.Array, rows: int, tiles: int, chunks: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Row, tile of channels and number of the chunk of a program: each once, and chunks of a lane in order."""
    div, rem = jax.lax.div, jax.lax.rem
    of_group = jnp.int32(GROUP * chunks)
    start = div(program, of_group) * GROUP
    size = jnp.minimum(rows * tiles - start, GROUP)
    within = rem(program, of_group)
    lane = start + rem(within, size)
    return div(lane, jnp.int32(tiles)), rem(lane, jnp.int32(tiles)), div(within, size)


def composed(maps: Iterable[Map]) -> Map:
    """The maps one after another as one."""
    later = iter(maps)
    factor, inflow = next(later)
    for f, c in later:
        factor = None if f is None or factor is None else f * factor
        inflow = c if inflow is None else advance(f, c, inflow)
    return factor, inflow


def of_all(value: jax.Array) -> list[jax.Array]:
    """Of a number for each segment [SEGMENTS, tile] those of the first, the second, ..., known to all segments.

    A sum of bits of which all but one are 0 is that one. The sums are over an axis that lies within a thread, for which
    the numbers change threads once.
    """
    bits = jax.lax.bitcast_convert_type(value, BITS[value.dtype.itemsize])
    places = jnp.broadcast_to(bits[:, None], (SEGMENTS, *bits.shape))
    number = jax.lax.broadcasted_iota(jnp.int32, places.shape, 0)
    picked = [jnp.sum(jnp.where(number == s, places, 0), axis=0, dtype=bits.dtype) for s in range(SEGMENTS)]
    return [jax.lax.bitcast_convert_type(x, value.dtype) for x in picked]


def maps_of_all(summary: Map) -> list[Map]:
    factors, inflows = ([None] * SEGMENTS if value is None else of_all(value) for value in summary)
    return list(zip(factors, inflows, strict=True))


def chosen(where: jax.Array, one: Map, other: Map) -> Map:
    return jax.tree.map(partial(jnp.where, where), one, other)


def before_each(maps: Sequence[Map], segment: jax.Array) -> Map:
    """What the segments before each one do to a state, as one map; the first has none, and its map changes nothing."""
    factor, inflow = maps[0]
    before: Map = (
        None if factor is None else jnp.ones_like(factor),
        None if inflow is None else jnp.full_like(inflow, -0.0),  # adding 0.0 would change a state of -0.0
    )
    for s, one in enumerate(maps[:-1]):
        before = chosen(segment > s, composed((before, one)), before)
    return before


def publish(ref: Any, value: jax.Array, mask: jax.Array) -> None:
    value = jnp.where(value != value, jnp.nan, value)  # any NaN: the ordinary one
    plgpu.store(ref, jax.lax.bitcast_convert_type(value, ref.dtype), mask=mask)


def await_all(refs: Sequence[Any], there: jax.Array) -> tuple[jax.Array, ...]:
    """The words of `refs` where they are `there`, as soon as all of these are written; 0 elsewhere."""

    def look() -> tuple[jax.Array, ...]:
        return tuple(plgpu.load(ref, mask=there, other=0, volatile=True) for ref in refs)

    def missing(words: tuple[jax.Array, ...]) -> jax.Array:
        some = words[0] == UNWRITTEN
        for word in words[1:]:
            some |= word == UNWRITTEN
        return jnp.max(some.astype(jnp.int32)) == 1

    return jax.lax.while_loop(missing, lambda _: look(), look())


def entering_states(
    start: jax.Array,
    summary: Map,
    chunk: jax.Array,
    chunks: int,
    segment: jax.Array,
    at: Callable[..., Any],
    inside: jax.Array | None,
) -> jax.Array:
    """Publish what a chunk does to a state and the state that it leaves, and return the state that enters each segment.

    Args  start    the state before the first chunk [SEGMENTS, tile], in every segment
          summary  what each segment does to a state, [SEGMENTS, tile]
          chunk    its number in the order of programs, of so many chunks
          at       (number of a word, number of a chunk), [SEGMENTS, tile] each or one for all -> where it is published
          inside   the channels that there are, [SEGMENTS, tile]; None for all
    """

    def only(mask: jax.Array) -> jax.Array:
        return mask if inside is None else mask & inside

    before = before_each(maps_of_all(summary), segment)
    if chunks == 1:  # nobody to wait for; and JAX 0.11.2 crashes compiling a wait that it can prove to be none
        return advance(*before, start)
    whole = composed((before, summary))  # of the chunk, in its last segment
    last = only(segment == SEGMENTS - 1)
    values = jax.tree.leaves(whole)
    numbers = range(STATE + 1, STATE + 1 + len(values))
    for number, value in zip(numbers, values, strict=True):
        publish(at(number, chunk), value, last)

    # The first segment looks for the state left SEGMENTS chunks ago, the others for what the chunks since then do to it.
    other = chunk - SEGMENTS + segment
    there, other = only(other >= 0), jnp.maximum(other, 0)
    words = await_all([at(jnp.where(segment == 0, STATE, number), other) for number in numbers], there)
    found = [jax.lax.bitcast_convert_type(word, start.dtype) for word in words]
    left, *between = maps_of_all(jax.tree.unflatten(jax.tree.structure(summary), found))
    h = jnp.where(chunk >= SEGMENTS, jax.tree.leaves(left)[0], start)
    for s, one in enumerate(between, 1):
        h = jnp.where(chunk >= SEGMENTS - s, advance(*one, h), h)
    publish(at(STATE, chunk), advance(*whole, h), last)
    return advance(*before, h)
