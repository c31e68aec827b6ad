"""Speculate, scan, verify, splice: every chunk of time at once, from guessed states, until no guess is left.

Clauses     REC-PAR-1, REC-PAR-2, REC-PAR-3
Parallel    one step of all chunks is one call of the cell; guesses and their corrections are scans over the chunks
Memory      the states of all steps, written in place
Precision   that of the cell

A chunk runs from the state that its predecessor is believed to end in. When the predecessor turns out to end elsewhere,
the chunk runs again from there (restart) until its new trajectory meets the one that is stored (splice): from then on
both would be the same. Whether two states are the same is for the cell to say. A recurrence that contracts forgets
where it started, and chunks splice after a few steps. No shape depends on values: a restart steps all chunks until the
last one has met, and writes those that still run; it looks whether they met after every burst of steps.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from .._scan import scan
from ._layout import before_chunks, burst_of
from ._room import within

Arrays = tuple[jax.Array, ...]
NOISE = 16  # differences of so many units of roundoff may be roundings, which a pass need not make smaller


class Report(NamedTuple):
    """How a solution was found. Every number of it can be checked against the result (REC-PAR-2)."""

    defect: jax.Array  # largest difference between a state and the exact step to it where chunks were spliced, relative
    passes: jax.Array  # how often chunks were run
    fell_back: jax.Array  # whether the rest was walked step by step because it did not contract
    depth: jax.Array  # steps taken one after another; the loop takes T


class Cell(Protocol):
    """The recurrence x' = step(x) of states [..., D]; inputs [steps, chunks, B, D], of which a step gets its own."""

    @property
    def inputs(self) -> Arrays: ...

    def step(self, inputs: Arrays, x: jax.Array) -> Arrays:
        """The states after a step, and what the step adds to the decayed state."""

    def frozen(self, inputs: Arrays) -> Arrays:
        """The linear part of the step: factor and inflow."""

    def near(self, inputs: Arrays, x: jax.Array, summand: jax.Array, stored: jax.Array) -> Arrays:
        """How far `stored` lies from the step from x but for its roundings, and how far these may bring it (REC-PAR-2)."""

    def defect(self, inputs: Arrays, x: jax.Array, stored: jax.Array) -> Arrays:
        """The same, with a product that leaves some of its own roundings to a splice."""


class _Search(NamedTuple):
    """Where the solution stands after some passes."""

    begun: jax.Array  # [chunks, B, D], from where each chunk was run last
    states: jax.Array  # [steps, chunks, B, D]
    wrong: jax.Array  # [chunks], whether a chunk's predecessor ends elsewhere, in any row
    goes_on: jax.Array  # whether there are wrong chunks, and hope for them
    mismatches: jax.Array  # [3], the largest distance of the two after each of the last passes
    defect: jax.Array
    passes: jax.Array
    depth: jax.Array


def solve(cell: Cell, first: jax.Array, tolerance: float) -> tuple[jax.Array, Report]:
    """Return the states after every step, [steps, chunks, B, D], and how they were found.

    Args  first      [B, D] the state before the first step
          tolerance  share of a rounding's room that a defect may use; 0 splices equal states only
    """
    steps, count = cell.inputs[0].shape[:2]
    nothing, once = jnp.zeros((), first.dtype), jnp.int32(1)
    if count == 1:
        states = _sweep(cell, first[None])
        return states, Report(nothing, once, jnp.bool(False), jnp.int32(steps))
    factor, inflow = _frozen(cell, first, count)

    def another_pass(search: _Search) -> _Search:
        due = before_chunks(first, search.states)
        of_rows = _differ(due, search.begun).any(-1)
        wrong = of_rows.any(-1)
        mismatch = jnp.where(of_rows, _size_of(due - search.begun, due), 0.0).max()
        mismatches = jnp.concatenate([search.mismatches[1:], mismatch[None]])
        goes_on = wrong.any() & ~_is_hopeless(mismatches, search.passes, count - _first_of(wrong))
        start = due + _carried(due - search.begun, factor, due)
        restarted = goes_on & _differ(start, search.begun).any(-1)
        states, defect, taken = _restart(cell, start, restarted, search.states, tolerance)
        return _Search(
            start, states, wrong, goes_on, mismatches, jnp.maximum(search.defect, defect),
            search.passes + goes_on.astype("int32"), search.depth + taken,
        )  # fmt: skip

    begun = _through_chunks(factor, inflow, first)
    nowhere, never = jnp.zeros(count, bool), jnp.full(3, jnp.inf, first.dtype)
    search = _Search(begun, _sweep(cell, begun), nowhere, jnp.bool(True), never, nothing, once, jnp.int32(steps))
    search = jax.lax.while_loop(lambda search: search.goes_on, another_pass, search)

    falls_back = search.wrong.any()
    reached = jnp.where(falls_back, _first_of(search.wrong), count)
    states = _walk(cell, first, reached, search.states)
    passes, depth = search.passes + falls_back.astype("int32"), search.depth + (count - reached) * steps
    return states, Report(search.defect, passes, falls_back, depth)


def _frozen(cell: Cell, first: jax.Array, count: int) -> Arrays:
    """What each chunk does to its start if only the linear part of its steps acted: factor and inflow."""

    def then(map_: Arrays, inputs: Arrays) -> tuple[Arrays, None]:
        factor, inflow = cell.frozen(inputs)
        return (factor * map_[0], factor * map_[1] + inflow), None

    nothing = jnp.zeros((count, *first.shape), first.dtype)
    return jax.lax.scan(then, (nothing + 1, nothing), cell.inputs)[0]


def _sweep(cell: Cell, x: jax.Array) -> jax.Array:
    """Run every chunk from x."""

    def step(x: jax.Array, inputs: Arrays) -> Arrays:
        x, _ = cell.step(inputs, x)
        return x, x

    return jax.lax.scan(step, x, cell.inputs)[1]


def _restart(
    cell: Cell, x: jax.Array, live: jax.Array, states: jax.Array, tolerance: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Run the live chunks from x until each meets what is stored. Return the states, the largest defect left, the steps.

    The stored state stays where they meet, so that the steps after it stay exact: the step that leads to it from the
    new trajectory is the one with a defect. An element that is stored within a rounding of the step takes what is
    stored at once (`near`): otherwise two trajectories with a long memory would stay some roundings apart for ever,
    one element or another. After every burst a row takes all, if all are within what any order of the product grants.
    """
    steps = states.shape[0]
    burst = burst_of(steps)

    def some_steps(carry: Arrays) -> Arrays:
        begin, x, live, states, defect = carry
        *inputs, stored = (
            jax.lax.dynamic_slice_in_dim(array, begin, burst, axis=0) for array in (*cell.inputs, states)
        )

        def step(carry: Arrays, arrays: Arrays) -> tuple[Arrays, jax.Array]:
            (_, x, _, defect), (*inputs, stored) = carry, arrays
            new, summand = cell.step(inputs, x)
            if tolerance:
                missed, room = cell.near(inputs, x, summand, stored)
                near = live[..., None] & _differ(new, stored) & within(missed, room, tolerance)
                new = jnp.where(near, stored, new)
                defect = jnp.maximum(defect, _size_of(jnp.where(near, missed, 0.0), new).max())
            return (x, new, stored, defect), jnp.where(live[..., None], new, stored)

        # What was stored comes out with the carry: to read it from `states` again would make XLA copy all of them.
        (before, x, last, defect), taken = jax.lax.scan(step, (x, x, x, defect), (*inputs, stored))
        differ, missed = _differ(x, last), jnp.zeros_like(x)
        if tolerance:
            missed, room = cell.defect(tuple(array[-1] for array in inputs), before, last)
            missed = jnp.where(differ, missed, 0.0)
            differ &= ~within(missed, room, tolerance)
        met = live & ~differ.any(-1)
        taken = taken.at[-1].set(jnp.where(met[..., None], last, taken[-1]))
        states = jax.lax.dynamic_update_slice_in_dim(states, taken, begin, axis=0)
        defect = jnp.maximum(defect, jnp.where(met, _size_of(missed, last), 0.0).max())
        return begin + burst, x, live & ~met, states, defect

    def still_run(carry: Arrays) -> jax.Array:
        return (carry[0] < steps) & carry[2].any()

    begin = (jnp.int32(0), x, live, states, jnp.zeros((), x.dtype))
    taken, _, _, states, defect = jax.lax.while_loop(still_run, some_steps, begin)
    return states, defect, taken


def _walk(cell: Cell, first: jax.Array, chunk: jax.Array, states: jax.Array) -> jax.Array:
    """Take the steps one by one from a chunk on, if it is there, as the loop does (REC-PAR-3)."""
    count = states.shape[1]

    def one_chunk(carry: Arrays) -> Arrays:
        chunk, x, states = carry

        def step(x: jax.Array, inputs: Arrays) -> Arrays:
            x, _ = cell.step(inputs, x)
            return x, x

        inputs = tuple(jax.lax.dynamic_index_in_dim(array, chunk, axis=1, keepdims=False) for array in cell.inputs)
        x, walked = jax.lax.scan(step, x, inputs)
        return chunk + 1, x, jax.lax.dynamic_update_index_in_dim(states, walked, chunk, axis=1)

    x = jnp.take(before_chunks(first, states), jnp.minimum(chunk, count - 1), axis=0)
    return jax.lax.while_loop(lambda carry: carry[0] < count, one_chunk, (chunk, x, states))[2]


def _affine(factor: jax.Array, inflow: jax.Array) -> Arrays:
    return factor, inflow


def _through_chunks(factor: jax.Array, inflow: jax.Array, first: jax.Array) -> jax.Array:
    """x_{c+1} = factor_c x_c + inflow_c from x_0 = first on: the state before each chunk, [chunks, B, D]."""
    after = scan(_affine, tuple(jnp.swapaxes(x, 0, 1) for x in (factor, inflow)), first)
    return jnp.concatenate([first[None], jnp.swapaxes(after, 0, 1)[:-1]])


def _carried(mismatch: jax.Array, factor: jax.Array, due: jax.Array) -> jax.Array:
    """What corrections of earlier chunks change in the state before each chunk, in the linear part of the recurrence.

    Corrections of the size of roundings are dropped, so that the chunks settle.
    """
    factor = jnp.clip(factor, -1, 1)
    carried = _through_chunks(factor, factor * mismatch, jnp.zeros_like(mismatch[0]))
    matters = jnp.abs(carried) > NOISE * jnp.finfo(due.dtype).eps * jnp.abs(due)
    return jnp.where(matters & jnp.isfinite(carried), carried, 0.0)


def _first_of(wrong: jax.Array) -> jax.Array:
    return jnp.argmax(wrong).astype("int32")


def _is_hopeless(mismatches: jax.Array, passes: jax.Array, chunks_left: jax.Array) -> jax.Array:
    """Whether at the rate seen so many passes are needed as there are chunks left: then the loop is no slower."""
    before, _, now = mismatches
    rate = jnp.where(jnp.isfinite(now), jnp.sqrt(now / before), jnp.inf)
    shrinks_in_time = now * rate ** chunks_left.astype(now.dtype) <= float(jnp.finfo(now.dtype).eps)
    return (passes >= 3) & ~((rate < 1) & shrinks_in_time)


def _differ(x: jax.Array, y: jax.Array) -> jax.Array:
    """Where two states differ; NaN is like NaN."""
    return (x != y) & ~(jnp.isnan(x) & jnp.isnan(y))


def _size_of(difference: jax.Array, beside: jax.Array) -> jax.Array:
    """The largest difference of each row beside the row's largest value."""
    size = jnp.abs(difference).max(-1) / jnp.maximum(jnp.abs(beside).max(-1), jnp.finfo(beside.dtype).tiny)
    return jnp.where(jnp.isnan(size), jnp.inf, size)
