"""How does one GPU kernel compute all steps of h_t = f_t h_{t-1} + c_t while it reads every number only once?

Clauses     MDI-1, SCAN-2, SCAN-6, GRAD-1
Parallel    one program (a warp) holds a chunk of steps of some channels of a row in registers. It publishes what its
            steps do to a state, h -> f h + c, gets the state that enters it (_handover.py) and then takes its steps
Memory      inputs once, result once, and a few numbers a chunk for what is published
Precision   that of `initial`; results are rounded once, to the dtype of the inputs

The order of all roundings is fixed: however long a program waits, results are the same to the bit.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from ._handover import BITS, UNWRITTEN, Map, entering_state
from ._step import Coefficients, advance, chunk_of, gradients_of_inputs

THREADS = 32
EXCHANGE = 3  # arrays through which chunks hand over: the states they leave, their factors, their inflows
Rows = list[list[jax.Array]]  # of each step, its inputs


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


def _all_read(rows: Rows) -> Rows:
    """The same rows, of which none is used before all are on their way.

    Left to itself, the assembler moves the use of a row right behind its read, to save registers, and then waits for
    almost every row by itself. It moves nothing across `pmevent`, which marks a place for profilers and does nothing.
    """
    first, *others = (x for row in rows for x in row)
    fence = _move(first, *others, with_="pmevent 0;")
    return [[_move(x, fence) for x in row] for row in rows]


def _read_again(rows: Rows) -> Rows:
    """The same narrow rows, of which the compiler no longer knows that it has widened them before: it would keep both."""
    if rows[0][0].dtype.itemsize != 2:
        return rows
    return [[_move(x, with_="// again\n") for x in row] for row in rows]


class _Program:
    """Where a program stands: at a chunk, in a lane (some channels of one row). Chunks are started in their order."""

    def __init__(self, shape: tuple[int, int, int], chunk: int, tile: int, compiled: bool):
        rows, steps, channels = shape
        tiles = pl.cdiv(channels, tile)
        lanes = jnp.int32(rows * tiles)
        self.turn, lane = jax.lax.div(pl.program_id(0), lanes), jax.lax.rem(pl.program_id(0), lanes)
        self.row, place = jax.lax.div(lane, jnp.int32(tiles)), jax.lax.rem(lane, jnp.int32(tiles))
        self.steps, self.chunk, self.tile, self.compiled = steps, chunk, tile, compiled
        self.channels = pl.ds(place * tile, tile)
        inside = place * tile + jax.lax.broadcasted_iota(jnp.int32, (tile,), 0) < channels
        self.inside = None if channels % tile == 0 else inside  # no mask where none is needed

    def _until_the_end(self, t: jax.Array) -> jax.Array | None:
        if self.steps % self.chunk == 0:
            return self.inside
        there = jnp.broadcast_to(t < self.steps, (self.tile,))
        return there if self.inside is None else self.inside & there

    def load(self, refs: Sequence[Any], first: jax.Array) -> Rows:
        """All steps of a chunk of several arrays; 0 beyond the last step."""

        def row(ref: Any, t: jax.Array) -> jax.Array:
            mask = self._until_the_end(t)
            return plgpu.load(ref.at[self.row, t, self.channels], mask=mask, other=None if mask is None else 0.0)

        rows = [[row(ref, first + i) for ref in refs] for i in range(self.chunk)]
        return _all_read(rows) if self.compiled else rows

    def again(self, rows: Rows) -> Rows:
        return _read_again(rows) if self.compiled else rows

    def store(self, ref: Any, t: jax.Array, value: jax.Array) -> None:
        plgpu.store(ref.at[self.row, t, self.channels], value.astype(ref.dtype), mask=self._until_the_end(t))

    def load_state(self, ref: Any, *where: Any) -> jax.Array:
        nothing = None if self.inside is None else jnp.zeros((), ref.dtype)
        return plgpu.load(ref.at[self.row, *where, self.channels], mask=self.inside, other=nothing)

    def enter(self, start: jax.Array, summary: Map, exchange: Sequence[Any]) -> jax.Array:
        """Publish what the chunk does to a state and what it leaves, and return the state that enters it."""
        return entering_state(start, summary, exchange, (self.row, self.turn, self.channels), self.inside)


def _forward_kernel(coefficients: Coefficients, shape: tuple, chunk: int, compiled: bool, *refs: Any) -> None:
    # inputs, initial, exchange as given; result, exchange as left
    count = len(refs) - 2 * (1 + EXCHANGE)
    inputs, initial, (result, *exchange) = refs[:count], refs[count], refs[count + 1 + EXCHANGE :]
    at = _Program(shape, chunk, tile_of(result.dtype), compiled)
    first = at.turn * chunk
    rows = at.load(inputs, first)

    def steps(rows: Rows) -> list[Map]:
        return [coefficients(*(x.astype(initial.dtype) for x in row)) for row in rows]

    h = at.enter(at.load_state(initial), composed(steps(rows)), exchange)
    for i, (f, c) in enumerate(steps(at.again(rows))):
        h = advance(f, c, h)
        at.store(result, first + i, h)


def _backward_kernel(coefficients: Coefficients, shape: tuple, chunk: int, compiled: bool, *refs: Any) -> None:
    """Chunks and their steps from last to first: s_t = g_t + p_{t+1}, p_t = f_t s_t, where p_t is what h_{t-1} gets."""
    # inputs, grad, initial, states left, exchange as given; their gradients, that of initial, exchange as left
    count = (len(refs) - (3 + EXCHANGE) - (1 + EXCHANGE)) // 2
    inputs, (grad, initial, left), outputs = refs[:count], refs[count : count + 3], refs[count + 3 + EXCHANGE :]
    grad_inputs, (grad_initial, *exchange) = outputs[:count], outputs[count:]
    dtype = initial.dtype
    at = _Program(shape, chunk, tile_of(grad.dtype), compiled)
    here = pl.cdiv(at.steps, chunk) - 1 - at.turn
    first = here * chunk
    rows = at.load((*inputs, grad), first)

    def wide(rows: Rows) -> Rows:
        return [[x.astype(dtype) for x in row] for row in rows]

    def step_back(f: jax.Array | None, g: jax.Array) -> Map:
        return f, g if f is None else f * g  # p -> f (g + p)

    maps = [step_back(coefficients(*x)[0], g) for *x, g in reversed(wide(rows))]
    p = at.enter(jnp.zeros_like(at.load_state(initial)), composed(maps), exchange)

    entered = at.load_state(left, jnp.maximum(here - 1, 0))
    h = jnp.where(here > 0, jax.lax.bitcast_convert_type(entered, dtype), at.load_state(initial))
    rows = wide(at.again(rows))
    previous = []  # the state before each step
    for *x, _ in rows:
        previous.append(h)
        h = advance(*coefficients(*x), h)
    for i in reversed(range(chunk)):
        *x, g = rows[i]
        s = g + p
        for ref, value in zip(grad_inputs, gradients_of_inputs(coefficients, x, s, previous[i]), strict=True):
            at.store(ref, first + i, value)
        f = coefficients(*x)[0]
        p = s if f is None else f * s
    mask = jnp.broadcast_to(here == 0, p.shape)
    plgpu.store(grad_initial.at[at.row, at.channels], p, mask=mask if at.inside is None else mask & at.inside)


def composed(maps: list[Map]) -> Map:
    """The steps one after another as one map."""
    factor, inflow = maps[0]
    for f, c in maps[1:]:
        factor = None if f is None or factor is None else f * factor
        inflow = c if inflow is None else advance(f, c, inflow)
    return factor, inflow


# ---- launch ------------------------------------------------------------------------


def _launch(
    name: str,
    kernel: Callable,
    arguments: list[jax.Array],
    outputs: list[Any],
    dtype: Any,
    keep: bool,
    interpret: bool,
) -> list[jax.Array]:
    """Run one program a chunk and lane, with what the programs publish as the last arguments; return the outputs and the
    bits of the states after each chunk [B, chunks, D], as they were published."""
    shape, storage = arguments[0].shape, arguments[0].dtype
    rows, steps, channels = shape
    chunk, size = chunk_of(storage, steps, keep), jnp.dtype(dtype).itemsize
    chunks, lanes = pl.cdiv(steps, chunk), rows * pl.cdiv(channels, tile_of(storage))
    published = [jnp.full((rows, chunks, channels), UNWRITTEN, BITS[size])] * EXCHANGE
    shared = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in published]
    everything = pl.BlockSpec(memory_space=pl.ANY)
    results = pl.pallas_call(
        partial(kernel, shape, chunk, not interpret),
        grid=(chunks * lanes,),
        out_shape=[*outputs, *shared],
        in_specs=[everything] * (len(arguments) + len(shared)),
        out_specs=[everything] * (len(outputs) + len(shared)),
        input_output_aliases={len(arguments) + i: len(outputs) + i for i in range(len(shared))},
        compiler_params=plgpu.CompilerParams(num_warps=1, num_stages=1),
        interpret=interpret,
        name=name,
    )(*arguments, *published)
    return results[: len(outputs) + 1]


def forward(
    coefficients: Coefficients,
    inputs: tuple[jax.Array, ...],
    initial: jax.Array,
    keep: bool,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Return all states [B, T, D] in the dtype of the inputs, and the state after each chunk [B, chunks, D], which backward
    needs if it is to `keep` them.

    Args  inputs [B, T, D] each, T >= 1;  initial [B, D] in the arithmetic dtype
    """
    outputs = [jax.ShapeDtypeStruct(inputs[0].shape, inputs[0].dtype)]
    kernel = partial(_forward_kernel, coefficients)
    result, left = _launch("scan_forward", kernel, [*inputs, initial], outputs, initial.dtype, keep, interpret)
    return result, jax.lax.bitcast_convert_type(left, initial.dtype)


def backward(
    coefficients: Coefficients,
    inputs: tuple[jax.Array, ...],
    initial: jax.Array,
    left: jax.Array,
    grad: jax.Array,
    interpret: bool = False,
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Return the gradients of the inputs, in their dtype, and of the initial state [B, D], in the arithmetic dtype;
    `left` [B, chunks, D] are the states after the chunks."""
    outputs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (*inputs, initial)]
    bits = jax.lax.bitcast_convert_type(left, BITS[left.dtype.itemsize])
    kernel = partial(_backward_kernel, coefficients)
    *grads, grad_initial, _ = _launch(
        "scan_backward", kernel, [*inputs, grad, initial, bits], outputs, initial.dtype, True, interpret
    )
    return tuple(grads), grad_initial
