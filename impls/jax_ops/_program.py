"""Where does a program of a scan stand, and how does it read and write the rows of its chunk?

The compiler is told nothing about registers, and has to be led: all reads are on their way before one is used, narrow rows
stay narrow in registers and are widened whenever they are used, and the places of all steps are one and a constant each.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from ._handover import entering_states, place_of
from ._step import SEGMENTS, Map

THREADS = 32  # of a warp
Rows = list[list[jax.Array]]  # of each step of a segment its inputs, [SEGMENTS, tile] each


def tile_of(dtype: Any) -> int:
    """Channels of a program: a thread loads 4 bytes at once, or one number where that is wider."""
    return THREADS * max(1, 4 // jnp.dtype(dtype).itemsize)


def _move(x: jax.Array, *after: jax.Array, first: str = "") -> jax.Array:
    """x, but only once the others have been asked for."""
    constraint, kind, pack = {8: ("d", "f64", 1), 4: ("f", "f32", 1), 2: ("r", "b32", 2)}[x.dtype.itemsize]
    (same,) = plgpu.elementwise_inline_asm(
        f"{first} mov.{kind} $0, $1;",
        args=[x, *after],
        constraints=",".join([f"={constraint}", *[constraint] * (1 + len(after))]),
        pack=pack,
        result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, x.dtype)],
    )
    return same


def after(x: jax.Array, others: Sequence[jax.Array]) -> jax.Array:
    """x, once the others have been computed, or asked for where they are read.

    The assembler moves nothing across `pmevent`, which marks a place for profilers and does nothing.
    """
    return _move(x, *others, first="pmevent 0;")


def _below(x: jax.Array, bound: int) -> jax.Array:
    """A scalar x, which is at least 0 and below the bound, and about which the compiler learns that: from it, that no place
    of a step overflows, so that the places of all steps are one and a constant each.

    Of numbers that have been multiplied already, Triton before 3.7 would no longer know by what they can be divided, and
    read narrow numbers one by one.
    """
    power = 1 << (bound - 1).bit_length()
    return jax.lax.rem(x.astype(jnp.uint32), jnp.uint32(power)).astype(jnp.int32)


def _all_read(rows: Rows) -> Rows:
    """The same rows, of which none is used before all are on their way.

    Left to itself, the assembler moves the use of a row right behind its read, to save registers, and then waits for
    almost every row by itself.
    """
    first, *others = (x for row in rows for x in row)
    fence = after(first, others)
    return [[_move(x, fence) for x in row] for row in rows]


# Two narrow numbers of a register as float32.
_WIDENING = {
    "bfloat16": "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;",
    "float16": "{ .reg .b16 a, b; mov.b32 {a, b}, $2; cvt.f32.f16 $0, a; cvt.f32.f16 $1, b; }",
}


def _widened(x: jax.Array, time: int) -> jax.Array:
    """A narrow row in float32, for the first or the second `time`: the compiler does not know that it has widened the row
    before, and so it does not keep it wide, which would take twice the registers."""
    (wide,) = plgpu.elementwise_inline_asm(
        f"// time {time}\n{_WIDENING[x.dtype.name]}",
        args=[x],
        constraints="=f,=f,r",
        pack=2,
        result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, jnp.float32)],
    )
    return wide


class Program:
    """Where a program stands: at a chunk, in a lane (some channels of one row). Chunks are started in their order."""

    def __init__(self, shape: tuple[int, int, int], rows: int, tile: int, backwards: bool, compiled: bool):
        batch, steps, channels = shape
        tiles, chunks = pl.cdiv(channels, tile), pl.cdiv(steps, SEGMENTS * rows)
        self.chunks = chunks
        row, lane_tile, self.turn = place_of(pl.program_id(0), batch, tiles, chunks)
        self.steps, self.rows, self.tile, self.compiled = steps, rows, tile, compiled
        self.segment = jax.lax.broadcasted_iota(jnp.int32, (SEGMENTS, tile), 0)  # in the order they are handed over
        chunk, within = (
            (chunks - 1 - self.turn, SEGMENTS - 1 - self.segment) if backwards else (self.turn, self.segment)
        )
        self.earlier = _below(chunk, chunks) * SEGMENTS + within  # segments before each, in time
        self.first = self.earlier * rows
        self.row = _below(row, batch)
        self.channel = _below(lane_tile, tiles) * tile + jax.lax.broadcasted_iota(jnp.int32, (SEGMENTS, tile), 1)
        self.inside = None if channels % tile == 0 else self.channel < channels  # no mask where none is needed

    def there(self, t: jax.Array) -> jax.Array | None:
        """Whether there are the steps t of the channels."""
        return self.inside if self.steps % (SEGMENTS * self.rows) == 0 else self.only(t < self.steps)

    def only(self, mask: jax.Array) -> jax.Array:
        """The channels that there are, of some places."""
        return mask if self.inside is None else mask & self.inside

    def at(self, ref: Any, *where: jax.Array | int) -> Any:
        """The places of the channels in an array [B, ..., D]."""
        return ref.at[self.row, *where, self.channel]

    def load(self, refs: Sequence[Any]) -> Rows:
        """All steps of a chunk of several arrays; 0 beyond the last step."""

        def row(ref: Any, t: jax.Array) -> jax.Array:
            mask = self.there(t)
            return plgpu.load(self.at(ref, t), mask=mask, other=None if mask is None else 0.0)

        rows = [[row(ref, self.first + i) for ref in refs] for i in range(self.rows)]
        return _all_read(rows) if self.compiled else rows

    def wide(self, row: list[jax.Array], time: int) -> list[jax.Array]:
        """A row in the arithmetic dtype. Rows are widened one after another where they are used, and each time again."""
        narrow = [x.dtype.itemsize == 2 for x in row]
        if not self.compiled:
            return [x.astype(jnp.float32) if is_narrow else x for x, is_narrow in zip(row, narrow, strict=True)]
        return [_widened(x, time) if is_narrow else x for x, is_narrow in zip(row, narrow, strict=True)]

    def store(self, ref: Any, i: int, value: jax.Array) -> None:
        t = self.first + i
        plgpu.store(self.at(ref, t), value.astype(ref.dtype), mask=self.there(t))

    def load_state(self, ref: Any, *where: jax.Array, mask: jax.Array | None) -> jax.Array:
        nothing = None if mask is None else jnp.zeros((), ref.dtype)
        return plgpu.load(self.at(ref, *where), mask=mask, other=nothing)

    def enter(self, start: jax.Array, summary: Map, exchange: Any) -> jax.Array:
        """Publish what the chunk does to a state and what it leaves, and return the state that enters each segment."""
        at = partial(self.at, exchange)
        return entering_states(start, summary, self.turn, self.chunks, self.segment, at, self.inside)
