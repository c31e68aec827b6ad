"""How does a program of a scan get the state that the chunks of time before its own leave behind?

A program first summarises its chunk, without the state that enters it: what its steps multiply by, and what they leave
of nothing. It publishes that, and needs one thing more, the state that enters: that which the chunk DISTANCE before it
left, led through the summaries of the chunks between. So one hop of waiting covers DISTANCE chunks, and since they are
composed in the same order from the same numbers always, the result does not depend on who was ready when.

Order       Chunks follow the order of program ids, in which GPUs start programs: whoever waits, waits for programs that
            already run.
Memory      What is published are the bits of numbers, in arrays [B, chunks, D] that are UNWRITTEN at first, a NaN that is
            never published: a number and the news that it is there cannot arrive in the wrong order.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton as plgpu

from ._step import advance

DISTANCE = 8  # chunks that one hop of waiting covers
BITS = {4: jnp.int32, 8: jnp.int64}
UNWRITTEN = -1  # all bits set

Map = tuple[jax.Array | None, jax.Array | None]  # h -> f h + c; None where it multiplies by nothing or adds nothing


def publish(ref: Any, value: jax.Array, inside: jax.Array | None) -> None:
    value = jnp.where(value != value, jnp.nan, value)  # any NaN: the ordinary one
    plgpu.store(ref, jax.lax.bitcast_convert_type(value, ref.dtype), mask=inside)


def await_all(refs: Sequence[Any], there: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """The words of `refs`, as soon as all of those that are there are written; 0 for the others."""

    def look() -> tuple[jax.Array, ...]:
        return tuple(plgpu.load(ref, mask=mask, other=0, volatile=True) for ref, mask in zip(refs, there, strict=True))

    def missing(words: tuple[jax.Array, ...]) -> jax.Array:
        some = words[0] == UNWRITTEN
        for word in words[1:]:
            some |= word == UNWRITTEN
        return jnp.max(some.astype(jnp.int32)) == 1

    return jax.lax.while_loop(missing, lambda _: look(), look())


def entering_state(
    start: jax.Array, summary: Map, exchange: Sequence[Any], place: tuple[Any, jax.Array, Any], inside: jax.Array | None
) -> jax.Array:
    """Publish a chunk's summary and the state that it leaves, and return the state that enters it.

    Args  start     the state before the first chunk
          exchange  where chunks publish the states they leave, their factors and their inflows
          place     row, number of the chunk in the order of programs, and channels
    """
    row, chunk, channels = place
    states, *parts = exchange
    used = [(ref, value) for ref, value in zip(parts, summary, strict=True) if value is not None]
    for ref, value in used:
        publish(ref.at[row, chunk, channels], value, inside)

    def exists(other: jax.Array) -> jax.Array:
        mask = jnp.broadcast_to(other >= 0, start.shape)
        return mask if inside is None else mask & inside

    between = [chunk - DISTANCE + k for k in range(1, DISTANCE)]  # the chunks after the one whose state is awaited
    refs = [ref.at[row, jnp.maximum(other, 0), channels] for other in between for ref, _ in used]
    words = iter(await_all(refs, [exists(other) for other in between for _ in used]) if refs else ())
    known = chunk - DISTANCE
    (left,) = await_all([states.at[row, jnp.maximum(known, 0), channels]], [exists(known)])
    h = jnp.where(known >= 0, jax.lax.bitcast_convert_type(left, start.dtype), start)
    for other in between:
        f, c = (None if value is None else jax.lax.bitcast_convert_type(next(words), start.dtype) for value in summary)
        h = jnp.where(other >= 0, advance(f, c, h), h)
    publish(states.at[row, chunk, channels], advance(*summary, h), inside)
    return h
