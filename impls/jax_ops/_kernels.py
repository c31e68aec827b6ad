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

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from ._handover import BITS, UNWRITTEN, composed
from ._program import Program, after, tile_of
from ._step import BLOCK, SEGMENTS, Coefficients, advance, differentiable, rows_backward, rows_forward


def _forward_kernel(coefficients: Coefficients, keep: int, shape: tuple, rows: int, compiled: bool, *refs: Any) -> None:
    """`keep` is 0, or of how many steps the segments are before which the state is kept."""
    # inputs, initial, exchange as given; result, states kept, if any, and exchange as left
    *inputs, initial, _ = refs[: len(refs) - 2 - (keep > 0)]
    result, *kept, exchange = refs[len(inputs) + 2 :]
    program = Program(shape, rows, tile_of(result.dtype), False, compiled)
    read = program.load(inputs)

    summary = composed(coefficients(*program.wide(row, 1)) for row in read)
    h = program.enter(program.load_state(initial, mask=program.inside), summary, exchange)
    for i, row in enumerate(read):
        if kept and i % keep == 0:
            number = jax.lax.div(program.first, jnp.int32(keep)) + i // keep
            plgpu.store(program.at(kept[0], number), h, mask=program.there(program.first + i))
        h = advance(*coefficients(*program.wide(row, 2)), h)
        program.store(result, i, h)


def _backward_kernel(coefficients: Coefficients, shape: tuple, rows: int, compiled: bool, *refs: Any) -> None:
    """Chunks and their steps from last to first: s_t = g_t + p_{t+1}, p_t = f_t s_t, where p_t is what h_{t-1} gets."""
    # inputs, grad, states before segments, exchange as given; gradients of the inputs and of `initial`, exchange as left
    count = (len(refs) - 3 - 2) // 2
    inputs, (grad, before, _) = refs[:count], refs[count : count + 3]
    *grad_inputs, grad_initial, exchange = refs[count + 3 :]
    program = Program(shape, rows, tile_of(grad.dtype), True, compiled)
    read = program.load((*inputs, grad))

    # In the order of time: the state before each block of steps, and what the steps so far do to a p, last of them first.
    h = program.load_state(before, program.earlier, mask=program.there(program.first))
    starts: list[jax.Array] = []
    factor, inflow = None, None
    for i, row in enumerate(read):
        if i % BLOCK == 0:
            starts.append(h)
        *x, g = program.wide(row, 1)
        f, c = coefficients(*x)
        h = advance(f, c, h)
        factor = f if f is None or factor is None else factor * f
        inflow = advance(factor, inflow, g)
    if compiled and factor is not None:
        factor = after(factor, starts)  # or they would be computed later, of factors that were kept
    p = program.enter(jnp.zeros_like(h), (factor, inflow), exchange)

    # One block after another, from the last: its states again, then its gradients.
    for block, h in reversed(list(enumerate(starts))):
        steps = []
        for row in read[block * BLOCK :][:BLOCK]:
            *x, g = program.wide(row, 2)
            (f, c), gradients = differentiable(coefficients, x)
            steps.append((f, gradients, h, g))
            h = advance(f, c, h)
        for i, (f, gradients, previous, g) in reversed(list(enumerate(steps, block * BLOCK))):
            s = g + p
            for ref, value in zip(grad_inputs, gradients(s, previous), strict=True):
                program.store(ref, i, value)
            p = s if f is None else f * s
    plgpu.store(program.at(grad_initial), p, mask=program.only(program.earlier == 0))


# ---- launch ------------------------------------------------------------------------


def _launch(
    name: str,
    kernel: Callable,
    rows: int,
    arguments: list[jax.Array],
    outputs: list[Any],
    words: int,
    dtype: Any,
    interpret: bool,
) -> list[jax.Array]:
    """Run one program a chunk and lane; return the outputs. The last argument is what the programs publish: of every chunk
    and channel so many words of this dtype."""
    shape, storage = arguments[0].shape, arguments[0].dtype
    batch, steps, channels = shape
    chunks, lanes = pl.cdiv(steps, SEGMENTS * rows), batch * pl.cdiv(channels, tile_of(storage))
    published = jnp.full((batch, words, chunks, channels), UNWRITTEN, BITS[jnp.dtype(dtype).itemsize])
    everything = pl.BlockSpec(memory_space=pl.ANY)
    *results, _ = pl.pallas_call(
        partial(kernel, shape, rows, not interpret),
        grid=(chunks * lanes,),
        out_shape=[*outputs, jax.ShapeDtypeStruct(published.shape, published.dtype)],
        in_specs=[everything] * (len(arguments) + 1),
        out_specs=[everything] * (len(outputs) + 1),
        input_output_aliases={len(arguments): len(outputs)},
        compiler_params=plgpu.CompilerParams(num_warps=SEGMENTS, num_stages=1),
        interpret=interpret,
        name=name,
    )(*arguments, published)
    return results


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
    words = 1 + sum(value is not None for value in jax.eval_shape(coefficients, *inputs))
    arguments, rows = [*inputs, initial], rows_forward(dtype, steps)
    return tuple(_launch("scan_forward", kernel, rows, arguments, outputs, words, initial.dtype, interpret))


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
    rows, arguments = rows_backward(grad.dtype, grad.shape[1], len(inputs) + 1), [*inputs, grad, before]
    kernel = partial(_backward_kernel, coefficients)
    words = 2 + (jax.eval_shape(coefficients, *inputs)[0] is not None)
    *grads, grad_initial = _launch("scan_backward", kernel, rows, arguments, outputs, words, initial.dtype, interpret)
    return tuple(grads), grad_initial
