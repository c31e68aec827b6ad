"""How does a program of a scan get the state that the chunks of time before its own leave behind?

A program first summarises its chunk, without the state that enters it: what its steps multiply by, and what they leave
of nothing. It composes that from the summaries of its segments, which its warps exchange. It publishes the whole, and
needs one thing more, the state that enters: that which the chunk DISTANCE before it left, led through the summaries of the
chunks between. So one hop of waiting covers DISTANCE chunks, and since they are composed in the same order from the same
numbers always, the result does not depend on who was ready when.

Order       Chunks follow the order of program ids, in which GPUs start programs: whoever waits, waits for programs that
            already run.
Memory      What is published are the bits of numbers, in arrays [B, chunks, D] that are UNWRITTEN at first, a NaN that is
            never published: a number and the news that it is there cannot arrive in the wrong order.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton as plgpu

from ._step import SEGMENTS, advance

DISTANCE = 3  # chunks that one hop of waiting covers
GROUP = 128  # lanes (rows and tiles of channels) that go through time together: what is read at once lies together
BITS = {4: jnp.int32, 8: jnp.int64}
UNWRITTEN = -1  # all bits set

Map = tuple[jax.Array | None, jax.Array | None]  # h -> f h + c; None where it multiplies by nothing or adds nothing


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


def of_segment(summary: Map, segment: jax.Array) -> list[Map]:
    """Of a map for each segment [SEGMENTS, tile], one after another, known to all segments."""

    def each(value: jax.Array) -> list[jax.Array]:
        """A sum of bits of which all but those of one segment are 0 is that segment's number."""
        bits = jax.lax.bitcast_convert_type(value, BITS[value.dtype.itemsize])
        picked = [
            jnp.sum(jnp.where(segment == s, bits, jnp.zeros_like(bits)), axis=0, dtype=bits.dtype)
            for s in range(SEGMENTS)
        ]
        return [jnp.broadcast_to(jax.lax.bitcast_convert_type(x, value.dtype)[None], value.shape) for x in picked]

    factors, inflows = ([None] * SEGMENTS if value is None else each(value) for value in summary)
    return list(zip(factors, inflows, strict=True))


def publish(ref: Any, value: jax.Array, mask: jax.Array) -> None:
    value = jnp.where(value != value, jnp.nan, value)  # any NaN: the ordinary one
    plgpu.store(ref, jax.lax.bitcast_convert_type(value, ref.dtype), mask=mask)


def await_all(refs: Sequence[Any], there: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """The words of `refs`, as soon as all of those that are there are written; 0 for the others.

    Every warp reads every word for itself, and none goes on before all have read all: they see the same numbers.
    """

    def look() -> tuple[jax.Array, ...]:
        return tuple(plgpu.load(ref, mask=mask, other=0, volatile=True) for ref, mask in zip(refs, there, strict=True))

    def missing(words: tuple[jax.Array, ...]) -> jax.Array:
        some = words[0] == UNWRITTEN
        for word in words[1:]:
            some |= word == UNWRITTEN
        return jnp.max(some.astype(jnp.int32)) == 1

    return jax.lax.while_loop(missing, lambda _: look(), look())


def entering_state(
    start: jax.Array,
    summary: Map,
    chunk: jax.Array,
    exchange: Sequence[Any],
    at: Callable[..., Any],
    writers: jax.Array,
    inside: jax.Array | None,
) -> jax.Array:
    """Publish a chunk's summary and the state that it leaves, and return the state that enters it, in every segment.

    Args  start     the state before the first chunk [SEGMENTS, tile], as the summary the same in every segment
          chunk     its number in the order of programs
          exchange  where chunks publish the states they leave, their factors and their inflows
          at        (one of these, number of a chunk) -> where to write and read
          writers   the places [SEGMENTS, tile] that publish;  inside  those of channels that there are, None for all
    """
    states, *parts = exchange
    used = [(ref, value) for ref, value in zip(parts, summary, strict=True) if value is not None]

    def of_chunk(ref: Any, other: jax.Array) -> Any:
        return at(ref, jnp.broadcast_to(jnp.maximum(other, 0), start.shape))

    for ref, value in used:
        publish(of_chunk(ref, chunk), value, writers)

    def exists(other: jax.Array) -> jax.Array:
        mask = jnp.broadcast_to(other >= 0, start.shape)
        return mask if inside is None else mask & inside

    between = [chunk - DISTANCE + k for k in range(1, DISTANCE)]  # the chunks after the one whose state is awaited
    refs = [of_chunk(ref, other) for other in between for ref, _ in used]
    words = iter(await_all(refs, [exists(other) for other in between for _ in used]) if refs else ())
    known = chunk - DISTANCE
    (left,) = await_all([of_chunk(states, known)], [exists(known)])
    h = jnp.where(known >= 0, jax.lax.bitcast_convert_type(left, start.dtype), start)
    for other in between:
        f, c = (None if value is None else jax.lax.bitcast_convert_type(next(words), start.dtype) for value in summary)
        h = jnp.where(other >= 0, advance(f, c, h), h)
    publish(of_chunk(states, chunk), advance(*summary, h), writers)
    return h
