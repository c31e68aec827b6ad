"""How are the steps of chunks taken: of all at once, of those that must run again, and one by one?

Parallel    one step of all chunks is one call of the cell
Memory      the states of all steps, which loops change in place
Precision   that of the cell
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from ._layout import before_chunks, burst_of
from ._room import within

Arrays = tuple[jax.Array, ...]
Pair = tuple[jax.Array, jax.Array]
Stepping = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # the state before and after, what is stored there, defect
Restart = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]  # steps taken, x, live, states, defect
Walking = tuple[jax.Array, jax.Array, jax.Array]  # chunk, x, states


def widened(inputs: Arrays, like: jax.Array) -> Arrays:
    """The inputs of a step in the dtype of the state."""
    return tuple(array.astype(like.dtype) for array in inputs)


class Cell(Protocol):
    """The recurrence x' = step(x) of states [..., D]; inputs [steps, chunks, B, D], of which a step gets its own."""

    @property
    def inputs(self) -> Arrays: ...

    def step(self, inputs: Arrays, x: jax.Array) -> Pair:
        """The states after a step, and what `near` wants to know of it."""

    def frozen(self, inputs: Arrays) -> Pair:
        """A linear step in the place of this one, by which chunks guess where they begin: factor and inflow."""

    def near(self, inputs: Arrays, x: jax.Array, known: jax.Array, stored: jax.Array) -> Pair:
        """How far `stored` lies from the step from x but for its roundings, and how far these may bring it (REC-PAR-2)."""

    def defect(self, inputs: Arrays, x: jax.Array, stored: jax.Array) -> Pair:
        """The same, with a product that leaves some of its own roundings to a splice."""


def sweep(cell: Cell, x: jax.Array) -> jax.Array:
    """Run every chunk from x."""

    def step(x: jax.Array, inputs: Arrays) -> Pair:
        x, _ = cell.step(inputs, x)
        return x, x

    return jax.lax.scan(step, x, cell.inputs)[1]


def frozen(cell: Cell, first: jax.Array, count: int) -> Pair:
    """What each chunk does to its start if only the linear part of its steps acted: factor and inflow."""

    def then(map_: Pair, inputs: Arrays) -> tuple[Pair, None]:
        factor, inflow = cell.frozen(inputs)
        return (factor * map_[0], factor * map_[1] + inflow), None

    nothing = jnp.zeros((count, *first.shape), first.dtype)
    return jax.lax.scan(then, (nothing + 1, nothing), cell.inputs)[0]


def restart(
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

    def some_steps(carry: Restart) -> Restart:
        begin, x, live, states, defect = carry
        inputs, stored = jax.tree.map(
            lambda array: jax.lax.dynamic_slice_in_dim(array, begin, burst, axis=0), (cell.inputs, states)
        )

        def step(carry: Stepping, arrays: tuple[Arrays, jax.Array]) -> tuple[Stepping, jax.Array]:
            (_, x, _, defect), (inputs, stored) = carry, arrays
            new, known = cell.step(inputs, x)
            if tolerance:
                missed, room = cell.near(inputs, x, known, stored)
                near = live[..., None] & differ(new, stored) & within(missed, room, tolerance)
                new = jnp.where(near, stored, new)
                defect = jnp.maximum(defect, size_of(jnp.where(near, missed, 0.0), new).max())
            return (x, new, stored, defect), jnp.where(live[..., None], new, stored)

        # What was stored comes out with the carry: to read it from `states` again would make XLA copy all of them.
        (before, x, last, defect), taken = jax.lax.scan(step, (x, x, x, defect), (inputs, stored))
        apart, missed = differ(x, last), jnp.zeros_like(x)
        if tolerance:
            missed, room = cell.defect(tuple(array[-1] for array in inputs), before, last)
            missed = jnp.where(apart, missed, 0.0)
            apart &= ~within(missed, room, tolerance)
        met = live & ~apart.any(-1)
        taken = taken.at[-1].set(jnp.where(met[..., None], last, taken[-1]))
        states = jax.lax.dynamic_update_slice_in_dim(states, taken, begin, axis=0)
        defect = jnp.maximum(defect, jnp.where(met, size_of(missed, last), 0.0).max())
        return begin + burst, x, live & ~met, states, defect

    def still_run(carry: Restart) -> jax.Array:
        return (carry[0] < steps) & carry[2].any()

    begin = (jnp.int32(0), x, live, states, jnp.zeros((), x.dtype))
    taken, _, _, states, defect = jax.lax.while_loop(still_run, some_steps, begin)
    return states, defect, taken


def walk(cell: Cell, first: jax.Array, chunk: jax.Array, states: jax.Array) -> jax.Array:
    """Take the steps one by one from a chunk on, if it is there, as the loop does (REC-PAR-3)."""
    count = states.shape[1]

    def one_chunk(carry: Walking) -> Walking:
        chunk, x, states = carry

        def step(x: jax.Array, inputs: Arrays) -> Pair:
            x, _ = cell.step(inputs, x)
            return x, x

        inputs = tuple(jax.lax.dynamic_index_in_dim(array, chunk, axis=1, keepdims=False) for array in cell.inputs)
        x, walked = jax.lax.scan(step, x, inputs)
        return chunk + 1, x, jax.lax.dynamic_update_index_in_dim(states, walked, chunk, axis=1)

    x = jnp.take(before_chunks(first, states), jnp.minimum(chunk, count - 1), axis=0)
    return jax.lax.while_loop(lambda carry: carry[0] < count, one_chunk, (chunk, x, states))[2]


def differ(x: jax.Array, y: jax.Array) -> jax.Array:
    """Where two states differ; NaN is like NaN."""
    return (x != y) & ~(jnp.isnan(x) & jnp.isnan(y))


def size_of(difference: jax.Array, beside: jax.Array) -> jax.Array:
    """The largest difference of each row beside the row's largest value."""
    size = jnp.abs(difference).max(-1) / jnp.maximum(jnp.abs(beside).max(-1), jnp.finfo(beside.dtype).tiny)
    return jnp.where(jnp.isnan(size), jnp.inf, size)
