"""How does one GPU kernel compute all steps of h_t = f_t h_{t-1} + c_t while it reads every number only once?

Clauses     MDI-1, SCAN-2, SCAN-6, GRAD-1
Parallel    one program (a warp) has CHUNK steps of some channels of a row. It publishes what its steps do to a state,
            h -> f h + c, gathers what those before it do, and then takes its steps. GROUP chunks form a group; only
            the state at a group's end is handed from one group to the next
Memory      inputs once (the second time from the cache), result once; and a few CHUNK-ths for what is published
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

from ._step import EDGE, Coefficients, advance, gradients_of_inputs

CHUNK = 32  # steps of a program: it reads them twice, and the second time finds them in the cache
BLOCK = EDGE  # steps that are loaded together. More make Triton's compilation slow
GROUP = 16  # chunks that look back at each other
THREADS = 32

# What programs publish are the bits of numbers. They wait for a number by reading it until it is not UNWRITTEN, a NaN
# that is never published: then a number and the news that it is there cannot arrive in the wrong order.
BITS = {4: jnp.int32, 8: jnp.int64}
UNWRITTEN = {4: 0x7FDEADBF, 8: 0x7FF8DEADBEEFBEEF}


def divide(number: jax.Array, by: int) -> tuple[jax.Array, jax.Array]:
    """Quotient and remainder of a number that is not negative."""
    divisor = jnp.asarray(by, number.dtype)
    return jax.lax.div(number, divisor), jax.lax.rem(number, divisor)


def tile_of(dtype: Any) -> int:
    """Channels of a program: a thread loads 4 bytes at once, or one number where that is wider."""
    return THREADS * max(1, 4 // jnp.dtype(dtype).itemsize)


# ---- device code -------------------------------------------------------------------


def _publish(ref: Any, value: jax.Array, inside: jax.Array) -> None:
    value = jnp.where(value != value, jnp.nan, value)  # any NaN: the ordinary one
    plgpu.store(ref, jax.lax.bitcast_convert_type(value, ref.dtype), mask=inside)


def _await(ref: Any, dtype: Any, inside: jax.Array) -> jax.Array:
    """The numbers of `ref` [TILE], as soon as all of them that are inside are written."""

    def look() -> jax.Array:
        return plgpu.load(ref, mask=inside, other=0, volatile=True)

    def missing(bits: jax.Array) -> jax.Array:
        return jnp.max((bits == UNWRITTEN[bits.dtype.itemsize]).astype(jnp.int32)) == 1

    return jax.lax.bitcast_convert_type(jax.lax.while_loop(missing, lambda _: look(), look()), dtype)


class _Program:
    """Where a program stands: in a lane (some channels of one row), at the chunk whose turn it is there.

    Chunks are given out one after another, so that whoever a program waits for has begun before it.
    """

    def __init__(self, turns: Any, shape: tuple[int, ...], tile: int):
        rows, channels = shape
        tiles = pl.cdiv(channels, tile)
        lane = divide(pl.program_id(0), rows * tiles)[1]
        self.chunk = plgpu.atomic_add(turns, lane, jnp.int32(1))
        self.row, place = divide(lane, tiles)
        self.group, self.place = divide(self.chunk, GROUP)
        first = place * tile
        self.channels = pl.ds(first, tile)
        self.inside = first + jax.lax.broadcasted_iota(jnp.int32, (tile,), 0) < channels

    def load(self, refs: Sequence[Any], first: jax.Array, steps: int) -> list[list[jax.Array]]:
        """BLOCK steps of each of several arrays, all asked for before the first is used; 0 beyond the last step."""

        def row(ref: Any, t: jax.Array) -> jax.Array:
            return plgpu.load(ref.at[self.row, t, self.channels], mask=self.inside & (t < steps), other=0.0)

        return [[row(ref, first + i) for ref in refs] for i in range(BLOCK)]

    def store(self, ref: Any, t: jax.Array, value: jax.Array, steps: int) -> None:
        mask = self.inside & (t < steps)
        plgpu.store(ref.at[self.row, t, self.channels], value.astype(ref.dtype), mask=mask)

    def publish(self, factor: jax.Array, inflow: jax.Array, factors: Any, inflows: Any) -> None:
        here = (self.chunk, self.row, self.channels)
        _publish(factors.at[here], factor, self.inside)
        _publish(inflows.at[here], inflow, self.inside)

    def incoming(self, start: jax.Array, factors: Any, inflows: Any, carries: Any) -> jax.Array:
        """The state before this chunk: what the chunks of its group do to the state at the end of the group before."""

        def compose(k: jax.Array, map_: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            factor, inflow = map_
            there = (self.group * GROUP + k, self.row, self.channels)
            f, c = (_await(ref.at[there], start.dtype, self.inside) for ref in (factors, inflows))
            return f * factor, f * inflow + c

        one = jnp.ones_like(start)
        factor, inflow = jax.lax.fori_loop(0, self.place, compose, (one, -0.0 * one))
        there = carries.at[jnp.maximum(self.group - 1, 0), self.row, self.channels]
        before = _await(there, start.dtype, self.inside & (self.group > 0))
        return factor * jnp.where(self.group > 0, before, start) + inflow

    def hand_on(self, state: jax.Array, carries: Any) -> None:
        """Publish the state at the end of a group."""
        there = carries.at[self.group, self.row, self.channels]
        _publish(there, state, self.inside & (self.place == GROUP - 1))


def _forward_kernel(coefficients: Coefficients, steps: int, count: int, *refs: Any) -> None:
    inputs, (initial, *_), outputs = refs[:count], refs[count : count + 5], refs[count + 5 :]
    result, edges, turns, factors, inflows, carries = outputs
    dtype = initial.dtype
    at = _Program(turns, initial.shape, tile_of(result.dtype))

    def maps_of(block: jax.Array) -> list[tuple[jax.Array | None, jax.Array | None]]:
        rows = at.load(inputs, at.chunk * CHUNK + block * BLOCK, steps)
        return [coefficients(*(x.astype(dtype) for x in row)) for row in rows]

    def summarise(block: jax.Array, map_: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        factor, inflow = map_
        for f, c in maps_of(block):
            factor, inflow = factor if f is None else f * factor, advance(f, c, inflow)
        return factor, inflow

    one = jnp.ones(at.inside.shape, dtype)
    factor, inflow = jax.lax.fori_loop(0, CHUNK // BLOCK, summarise, (one, -0.0 * one))
    at.publish(factor, inflow, factors, inflows)
    start = plgpu.load(initial.at[at.row, at.channels], mask=at.inside, other=0.0)
    h = at.incoming(start, factors, inflows, carries)
    at.hand_on(factor * h + inflow, carries)

    def take(block: jax.Array, h: jax.Array) -> jax.Array:
        first = at.chunk * CHUNK + block * BLOCK
        edge = edges.at[at.row, divide(first, EDGE)[0], at.channels]
        plgpu.store(edge, h, mask=at.inside & (first < steps))
        for i, (f, c) in enumerate(maps_of(block)):
            h = advance(f, c, h)
            at.store(result, first + i, h, steps)
        return h

    jax.lax.fori_loop(0, CHUNK // BLOCK, take, h)


def _backward_kernel(coefficients: Coefficients, steps: int, count: int, *refs: Any) -> None:
    """Chunks and their steps from last to first: s_t = g_t + p_{t+1}, p_t = f_t s_t, where p_t is what h_{t-1} gets."""
    inputs, (grad, edges, *_), outputs = refs[:count], refs[count : count + 6], refs[count + 6 :]
    *grad_inputs, grad_initial, turns, factors, inflows, carries = outputs
    dtype = grad_initial.dtype
    at = _Program(turns, grad_initial.shape, tile_of(grad.dtype))
    chunk = pl.cdiv(steps, CHUNK) - 1 - at.chunk

    def first_of(i: jax.Array) -> jax.Array:
        return (chunk + 1) * CHUNK - (i + 1) * BLOCK

    def summarise(i: jax.Array, map_: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        factor, inflow = map_
        for *x, g in reversed(at.load((*inputs, grad), first_of(i), steps)):
            f, s = coefficients(*(y.astype(dtype) for y in x))[0], g.astype(dtype) + inflow
            factor, inflow = (factor, s) if f is None else (f * factor, f * s)
        return factor, inflow

    one = jnp.ones(at.inside.shape, dtype)
    factor, inflow = jax.lax.fori_loop(0, CHUNK // BLOCK, summarise, (one, 0 * one))
    at.publish(factor, inflow, factors, inflows)
    p = at.incoming(0 * one, factors, inflows, carries)
    at.hand_on(factor * p + inflow, carries)

    def take(i: jax.Array, p: jax.Array) -> jax.Array:
        first = first_of(i)
        edge = edges.at[at.row, divide(first, EDGE)[0], at.channels]
        h = plgpu.load(edge, mask=at.inside & (first < steps), other=0.0)
        rows = [[x.astype(dtype) for x in row] for row in at.load((*inputs, grad), first, steps)]
        previous = []  # the state before each step
        for *x, _ in rows:
            previous.append(h)
            h = advance(*coefficients(*x), h)
        for t in reversed(range(BLOCK)):
            *x, g = rows[t]
            s = g + p
            for ref, value in zip(grad_inputs, gradients_of_inputs(coefficients, x, s, previous[t]), strict=True):
                at.store(ref, first + t, value, steps)
            f = coefficients(*x)[0]
            p = s if f is None else f * s
        return p

    p = jax.lax.fori_loop(0, CHUNK // BLOCK, take, p)
    plgpu.store(grad_initial.at[at.row, at.channels], p, mask=at.inside & (chunk == 0))


# ---- launch ------------------------------------------------------------------------


def _launch(name: str, kernel: Callable, arguments: list[jax.Array], outputs: list[Any], interpret: bool) -> Any:
    """Run one program a chunk and lane, with what the programs publish as the last arguments, and return the outputs."""
    rows, steps, channels = arguments[0].shape
    size = outputs[-1].dtype.itemsize  # of the arithmetic dtype
    chunks, lanes = pl.cdiv(steps, CHUNK), rows * pl.cdiv(channels, tile_of(arguments[0].dtype))
    published = [
        jnp.zeros(lanes, jnp.int32),
        *(
            jnp.full((count, rows, channels), UNWRITTEN[size], BITS[size])
            for count in (chunks, chunks, pl.cdiv(chunks, GROUP))
        ),
    ]
    shared = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in published]
    everything = pl.BlockSpec(memory_space=pl.ANY)
    results = pl.pallas_call(
        kernel,
        grid=(chunks * lanes,),
        out_shape=[*outputs, *shared],
        in_specs=[everything] * (len(arguments) + len(shared)),
        out_specs=[everything] * (len(outputs) + len(shared)),
        input_output_aliases={len(arguments) + i: len(outputs) + i for i in range(len(shared))},
        compiler_params=plgpu.CompilerParams(num_warps=1, num_stages=1),
        interpret=interpret,
        name=name,
    )(*arguments, *published)
    return results[: len(outputs)]


def forward(
    coefficients: Coefficients, inputs: tuple[jax.Array, ...], initial: jax.Array, interpret: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Return all states [B, T, D] in the dtype of the inputs, and the state before every EDGE-th step [B, T / EDGE, D].

    Args  inputs [B, T, D] each, T >= 1;  initial [B, D] in the arithmetic dtype
    """
    rows, steps, channels = inputs[0].shape
    outputs = [
        jax.ShapeDtypeStruct(inputs[0].shape, inputs[0].dtype),
        jax.ShapeDtypeStruct((rows, pl.cdiv(steps, EDGE), channels), initial.dtype),
    ]
    kernel = partial(_forward_kernel, coefficients, steps, len(inputs))
    return tuple(_launch("scan_forward", kernel, [*inputs, initial], outputs, interpret))


def backward(
    coefficients: Coefficients,
    inputs: tuple[jax.Array, ...],
    edges: jax.Array,
    grad: jax.Array,
    interpret: bool = False,
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Return the gradients of the inputs, in their dtype, and of the initial state [B, D], in the arithmetic dtype."""
    shape = inputs[0].shape
    outputs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]
    outputs.append(jax.ShapeDtypeStruct((shape[0], shape[2]), edges.dtype))
    kernel = partial(_backward_kernel, coefficients, shape[1], len(inputs))
    *grads, grad_initial = _launch("scan_backward", kernel, [*inputs, grad, edges], outputs, interpret)
    return tuple(grads), grad_initial
