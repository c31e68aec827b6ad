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

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._precision import widen
from .._scan import scan
from ._advance import Cell, Pair, differ, frozen, restart, size_of, sweep, walk
from ._layout import before_chunks

NOISE = 16  # differences of so many units of roundoff may be roundings, which a pass need not make smaller


class Report(NamedTuple):
    """How a solution was found. Every number of it can be checked against the result (REC-PAR-2)."""

    defect: jax.Array  # largest difference between a state and the exact step to it where chunks were spliced, relative
    passes: jax.Array  # how often chunks were run
    fell_back: jax.Array  # whether the rest was walked step by step because it did not contract
    depth: jax.Array  # steps taken one after another; the loop takes T


def no_steps(like: jax.Array) -> Report:
    """The report of a sequence without steps."""
    return Report(jnp.zeros((), widen(like)[0].dtype), jnp.int32(0), jnp.bool(False), jnp.int32(0))


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
        states = sweep(cell, first[None])
        return states, Report(nothing, once, jnp.bool(False), jnp.int32(steps))
    factor, inflow = frozen(cell, first, count)

    def another_pass(search: _Search) -> _Search:
        due = before_chunks(first, search.states)
        of_rows = differ(due, search.begun).any(-1)
        wrong = of_rows.any(-1)
        mismatch = jnp.where(of_rows, size_of(due - search.begun, due), 0.0).max()
        mismatches = jnp.concatenate([search.mismatches[1:], mismatch[None]])
        goes_on = wrong.any() & ~_is_hopeless(mismatches, search.passes, count - _first_of(wrong))
        start = due + _carried(due - search.begun, factor, due)
        restarted = goes_on & differ(start, search.begun).any(-1)
        states, defect, taken = restart(cell, start, restarted, search.states, tolerance)
        return _Search(
            start, states, wrong, goes_on, mismatches, jnp.maximum(search.defect, defect),
            search.passes + goes_on.astype("int32"), search.depth + taken,
        )  # fmt: skip

    begun = _through_chunks(factor, inflow, first)
    nowhere, never = jnp.zeros(count, bool), jnp.full(3, jnp.inf, first.dtype)
    search = _Search(begun, sweep(cell, begun), nowhere, jnp.bool(True), never, nothing, once, jnp.int32(steps))
    search = jax.lax.while_loop(lambda search: search.goes_on, another_pass, search)

    falls_back = search.wrong.any()
    reached = jnp.where(falls_back, _first_of(search.wrong), count)
    states = walk(cell, first, reached, search.states)
    passes, depth = search.passes + falls_back.astype("int32"), search.depth + (count - reached) * steps
    return states, Report(search.defect, passes, falls_back, depth)


def _affine(factor: jax.Array, inflow: jax.Array) -> Pair:
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
