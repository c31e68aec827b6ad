"""How does one GPU kernel compute all steps of h_t = f_t h_{t-1} + c_t while it reads every number only once?

Clauses     MDI-1, SCAN-2, SCAN-6, GRAD-1
Parallel    one program holds a chunk of steps of some channels of a row in registers, each of its SEGMENTS warps a
            segment of time. It composes what the steps do to a state, h -> f h + c, within and then across its segments,
            publishes that, gets the state that enters it (_handover.py), and all warps take their steps
Memory      inputs once, result once, and a few numbers a chunk for what is published; for the gradient also the state
            before each of backward's segments
Precision   that of `initial`; results are rounded once, to the dtype of the inputs

The order of all roundings is fixed: however long a program waits, results are the same to the bit.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from ._handover import BITS, UNWRITTEN, Map, composed, entering_state, of_segment, place_of
from ._step import SEGMENTS, Coefficients, advance, gradients_of_inputs, rows_backward, rows_forward

THREADS = 32  # of a warp
EXCHANGE = 3  # arrays through which chunks hand over: the states they leave, their factors, their inflows
Rows = list[list[jax.Array]]  # of each step of a segment its inputs, [SEGMENTS, tile] each


def tile_of(dtype: Any) -> int:
    """Channels of a program: a thread loads 4 bytes at once, or one number where that is wider."""
    return THREADS * max(1, 4 // jnp.dtype(dtype).itemsize)


# ---- device code -------------------------------------------------------------------


def _move(x: jax.Array, *after: jax.Array, with_: str = "") -> jax.Array:
    """x, but only once the others have been asked for."""
    constraint, kind, pack = {8: ("d", "f64", 1), 4: ("f", "f32", 1), 2: ("r", "b32", 2)}[x.dtype.itemsize]
    (same,) = plgpu.elementwise_inline_asm(
        f"{with_} mov.{kind} $0, $1;",
        args=[x, *after],
        constraints=",".join([f"={constraint}", *[constraint] * (1 + len(after))]),
        pack=pack,
        result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, x.dtype)],
    )
    return same


def _below(x: jax.Array, bound: int) -> jax.Array:
    """x, which is at least 0 and below the bound, and about which the compiler learns that: from it, that no place of a
    step overflows, so that the places of all steps are one and a constant each."""
    power = 1 << (bound - 1).bit_length()
    return jax.lax.rem(x.astype(jnp.uint32), jnp.full(x.shape, power, jnp.uint32)).astype(jnp.int32)


def _all_read(rows: Rows) -> Rows:
    """The same rows, of which none is used before all are on their way.

    Left to itself, the assembler moves the use of a row right behind its read, to save registers, and then waits for
    almost every row by itself. It moves nothing across `pmevent`, which marks a place for profilers and does nothing.
    """
    first, *others = (x for row in rows for x in row)
    fence = _move(first, *others, with_="pmevent 0;")
    return [[_move(x, fence) for x in row] for row in rows]


def _read_again(row: list[jax.Array], time: int) -> list[jax.Array]:
    """A narrow row, of which the compiler no longer knows that it has widened it before: it would keep both."""
    return [_move(x, with_=f"// time {time}\n") if x.dtype.itemsize == 2 else x for x in row]


class _Program:
    """Where a program stands: at a chunk, in a lane (some channels of one row). Chunks are started in their order."""

    def __init__(self, shape: tuple[int, int, int], rows: int, tile: int, backwards: bool, compiled: bool):
        batch, steps, channels = shape
        tiles, chunks = pl.cdiv(channels, tile), pl.cdiv(steps, SEGMENTS * rows)
        row, lane_tile, self.turn = place_of(pl.program_id(0), batch, tiles, chunks)
        self.steps, self.rows, self.tile, self.compiled = steps, rows, tile, compiled
        self.segment = jax.lax.broadcasted_iota(jnp.int32, (SEGMENTS, tile), 0)  # in the order they are handed over
        place = self.turn * SEGMENTS + self.segment
        self.earlier = chunks * SEGMENTS - 1 - place if backwards else place  # segments before each, in time
        self.first = _below(self.earlier * rows, chunks * SEGMENTS * rows)
        self.row, within = _below(row, batch), jax.lax.broadcasted_iota(jnp.int32, (SEGMENTS, tile), 1)
        self.channel = _below(lane_tile * tile, tiles * tile) + within
        self.inside = None if channels % tile == 0 else self.channel < channels  # no mask where none is needed

    def there(self, t: jax.Array) -> jax.Array | None:
        """Whether there are the steps t of the channels."""
        return self.inside if self.steps % (SEGMENTS * self.rows) == 0 else self.only(t < self.steps)

    def only(self, mask: jax.Array) -> jax.Array:
        """The channels that there are, of some places."""
        return mask if self.inside is None else mask & self.inside

    def at(self, ref: Any, *where: jax.Array) -> Any:
        """The places of the channels in an array [B, ..., D]."""
        return ref.at[self.row, *where, self.channel]

    def load(self, refs: Sequence[Any]) -> Rows:
        """All steps of a chunk of several arrays; 0 beyond the last step."""

        def row(ref: Any, t: jax.Array) -> jax.Array:
            mask = self.there(t)
            return plgpu.load(self.at(ref, t), mask=mask, other=None if mask is None else 0.0)

        rows = [[row(ref, self.first + i) for ref in refs] for i in range(self.rows)]
        return _all_read(rows) if self.compiled else rows

    def again(self, row: list[jax.Array], time: int = 2) -> list[jax.Array]:
        return _read_again(row, time) if self.compiled else row

    def store(self, ref: Any, i: int, value: jax.Array) -> None:
        t = self.first + i
        plgpu.store(self.at(ref, t), value.astype(ref.dtype), mask=self.there(t))

    def load_state(self, ref: Any, *where: jax.Array, mask: jax.Array | None) -> jax.Array:
        nothing = None if mask is None else jnp.zeros((), ref.dtype)
        return plgpu.load(self.at(ref, *where), mask=mask, other=nothing)

    def enter(self, start: jax.Array, steps: Iterable[Map], exchange: Sequence[Any]) -> jax.Array:
        """Publish what the chunk does to a state and what it leaves, and return the state that enters each segment."""
        maps = of_segment(composed(steps), self.segment)
        last = self.only(self.segment == SEGMENTS - 1)
        h = entering_state(start, composed(maps), self.turn, exchange, self.at, last, self.inside)
        entering = h
        for s, one in enumerate(maps[:-1], 1):
            h = advance(*one, h)
            entering = jnp.where(self.segment == s, h, entering)
        return entering


def _forward_kernel(coefficients: Coefficients, keep: int, shape: tuple, rows: int, compiled: bool, *refs: Any) -> None:
    """`keep` is 0, or of how many steps the segments are before which the state is kept."""
    # inputs, initial, exchange as given; result, states kept, if any, and exchange as left
    kept = keep > 0
    count = len(refs) - 2 - kept - 2 * EXCHANGE
    inputs, initial, outputs = refs[:count], refs[count], refs[count + 1 + EXCHANGE :]
    result, exchange = outputs[0], outputs[1 + kept :]
    program = _Program(shape, rows, tile_of(result.dtype), False, compiled)
    read = program.load(inputs)

    def step(row: list[jax.Array]) -> Map:
        return coefficients(*(x.astype(initial.dtype) for x in row))

    # One row after another is widened, where it is used: the compiler keeps this order, and would hold all of them.
    h = program.enter(program.load_state(initial, mask=program.inside), map(step, read), exchange)
    for i, row in enumerate(read):
        f, c = step(program.again(row))
        if kept and i % keep == 0:
            number = jax.lax.div(program.first, jnp.int32(keep)) + i // keep
            plgpu.store(program.at(outputs[1], number), h, mask=program.there(program.first + i))
        h = advance(f, c, h)
        program.store(result, i, h)


def _backward_kernel(coefficients: Coefficients, shape: tuple, rows: int, compiled: bool, *refs: Any) -> None:
    """Chunks and their steps from last to first: s_t = g_t + p_{t+1}, p_t = f_t s_t, where p_t is what h_{t-1} gets."""
    # inputs, grad, initial, states before segments, exchange as given; their gradients, that of initial, exchange as left
    count = (len(refs) - (3 + EXCHANGE) - (1 + EXCHANGE)) // 2
    inputs, (grad, initial, before), outputs = refs[:count], refs[count : count + 3], refs[count + 3 + EXCHANGE :]
    grad_inputs, (grad_initial, *exchange) = outputs[:count], outputs[count:]
    dtype = initial.dtype
    program = _Program(shape, rows, tile_of(grad.dtype), True, compiled)
    read = program.load((*inputs, grad))

    def wide(row: list[jax.Array]) -> list[jax.Array]:
        return [x.astype(dtype) for x in row]

    def step_back(row: list[jax.Array]) -> Map:
        *x, g = wide(row)
        f = coefficients(*x)[0]
        return f, g if f is None else f * g  # p -> f (g + p)

    p = program.enter(jnp.zeros((SEGMENTS, program.tile), dtype), map(step_back, reversed(read)), exchange)

    h = program.load_state(before, program.earlier, mask=program.there(program.first))
    previous = []  # the state before each step
    for *x, _ in read:
        previous.append(h)
        h = advance(*coefficients(*wide(program.again(x))), h)
    for i in reversed(range(rows)):
        *x, g = wide(program.again(read[i], 3))
        s = g + p
        for ref, value in zip(grad_inputs, gradients_of_inputs(coefficients, x, s, previous[i]), strict=True):
            program.store(ref, i, value)
        f = coefficients(*x)[0]
        p = s if f is None else f * s
    plgpu.store(program.at(grad_initial), p, mask=program.only(program.earlier == 0))


# ---- launch ------------------------------------------------------------------------


def _launch(
    name: str,
    kernel: Callable,
    rows: int,
    arguments: list[jax.Array],
    outputs: list[Any],
    dtype: Any,
    interpret: bool,
) -> list[jax.Array]:
    """Run one program a chunk and lane, with what the programs publish as the last arguments; return the outputs."""
    shape, storage = arguments[0].shape, arguments[0].dtype
    batch, steps, channels = shape
    chunks, lanes = pl.cdiv(steps, SEGMENTS * rows), batch * pl.cdiv(channels, tile_of(storage))
    published = [jnp.full((batch, chunks, channels), UNWRITTEN, BITS[jnp.dtype(dtype).itemsize])] * EXCHANGE
    shared = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in published]
    everything = pl.BlockSpec(memory_space=pl.ANY)
    results = pl.pallas_call(
        partial(kernel, shape, rows, not interpret),
        grid=(chunks * lanes,),
        out_shape=[*outputs, *shared],
        in_specs=[everything] * (len(arguments) + len(shared)),
        out_specs=[everything] * (len(outputs) + len(shared)),
        input_output_aliases={len(arguments) + i: len(outputs) + i for i in range(len(shared))},
        compiler_params=plgpu.CompilerParams(num_warps=SEGMENTS, num_stages=1),
        interpret=interpret,
        name=name,
    )(*arguments, *published)
    return results[: len(outputs)]


def forward(
    coefficients: Coefficients,
    inputs: tuple[jax.Array, ...],
    initial: jax.Array,
    keep: int,
    interpret: bool = False,
) -> tuple[jax.Array, ...]:
    """Return all states [B, T, D] in the dtype of the inputs, and if `keep` is not 0 the state before every `keep` steps,
    [B, T / keep rounded up, D] in that of `initial`.

    Args  inputs [B, T, D] each, T >= 1;  initial [B, D] in the arithmetic dtype
    """
    (batch, steps, channels), dtype = inputs[0].shape, inputs[0].dtype
    outputs = [jax.ShapeDtypeStruct(inputs[0].shape, dtype)]
    if keep:
        outputs.append(jax.ShapeDtypeStruct((batch, pl.cdiv(steps, keep), channels), initial.dtype))
    kernel = partial(_forward_kernel, coefficients, keep)
    rows = rows_forward(dtype, steps)
    return tuple(_launch("scan_forward", kernel, rows, [*inputs, initial], outputs, initial.dtype, interpret))


def backward(
    coefficients: Coefficients,
    inputs: tuple[jax.Array, ...],
    initial: jax.Array,
    before: jax.Array,
    grad: jax.Array,
    interpret: bool = False,
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Return the gradients of the inputs, in their dtype, and of the initial state [B, D], in the arithmetic dtype;
    `before` are the states that forward has kept."""
    outputs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (*inputs, initial)]
    rows, arguments = rows_backward(grad.dtype, grad.shape[1]), [*inputs, grad, initial, before]
    kernel = partial(_backward_kernel, coefficients)
    *grads, grad_initial = _launch("scan_backward", kernel, rows, arguments, outputs, initial.dtype, interpret)
    return tuple(grads), grad_initial
