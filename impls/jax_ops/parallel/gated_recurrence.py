"""Gated recurrence in parallel over time: chunks advance together from speculated states, until every splice is sound.

Clauses     REC-1, REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4, ADJ-5
Parallel    all chunks of time at once, step by step within them; the speculation and its correction are scans
Memory      inputs in their dtype, states of all steps; for the gradient also gates and adjoints
Precision   float32 for the narrow dtypes and float32, float64 for float64; no TF32
"""

from functools import partial

import jax
import jax.numpy as jnp

from .._checks import check_arrays
from .._precision import along_channels, widen
from .._steps import parameter_gradients
from ._gated_cells import Backward, Forward
from ._layout import backwards, before_steps, cut, default_steps, join
from ._options import check_options
from ._products import product, weights
from ._solver import Report, no_steps, solve

Arrays = tuple[jax.Array, ...]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recurrence(
    steps: int, tolerance: float, z: jax.Array, gamma: jax.Array, W_g: jax.Array, b_g: jax.Array, h0: jax.Array
) -> tuple[jax.Array, Report]:
    states, report = _solved(steps, tolerance, z, gamma, W_g, b_g, h0)
    return join(states, z.shape[1]).astype(z.dtype), report


def _solved(steps: int, tolerance: float, *arrays: jax.Array) -> tuple[jax.Array, Report]:
    z, gamma, W_g, b_g, h0 = arrays
    bias, first = widen(b_g, h0)
    cell = Forward((cut(z, steps), cut(gamma, steps)), weights(W_g, first), bias)
    return solve(cell, first, tolerance)


def _forward(steps: int, tolerance: float, *arrays: jax.Array) -> tuple[tuple[jax.Array, Report], Arrays]:
    states, report = _solved(steps, tolerance, *arrays)
    T, dtype = arrays[0].shape[1], arrays[0].dtype
    return (join(states, T).astype(dtype), report), (*arrays, states)


def _adjoint(steps: int, tolerance: float, residuals: Arrays, cotangents: tuple[jax.Array, Report]) -> Arrays:
    """The adjoint by the same solver, last step first; then every gradient is a product with it (ADJ-5)."""
    z, gamma, W_g, b_g, h0, states = residuals
    T, dtype = z.shape[1], z.dtype
    bias, first = widen(b_g, h0)
    weight = weights(W_g, first)
    before = before_steps(first, states)
    gate = jax.nn.sigmoid(product(before, weight) + along_channels(bias, before))
    slope = cut(z, steps).astype(first.dtype) * (gate * (1 - gate))
    g = cut(cotangents[0], steps).astype(first.dtype)
    nothing = jnp.zeros_like(first)
    cell = Backward(tuple(backwards(array) for array in (g, slope, cut(gamma, steps))), weight.T)
    wanted, _ = solve(cell, nothing, tolerance)  # of the state before each step, last step first
    adjoint = g + backwards(before_steps(nothing, wanted))
    of_W, of_b = parameter_gradients(join(adjoint * slope, T), join(before, T))
    gradients = join(adjoint * gate, T), join(adjoint * before, T), of_W, of_b, wanted[-1, -1]
    return tuple(gradient.astype(dtype) for gradient in gradients)


_recurrence.defvjp(_forward, _adjoint)
_compiled_recurrence = jax.jit(_recurrence, static_argnums=(0, 1))


def gated_recurrence_parallel(
    z: jax.Array,
    gamma: jax.Array,
    W_g: jax.Array,
    b_g: jax.Array,
    h0: jax.Array,
    *,
    chunk: int | None = None,
    tolerance: float = 1.0,
) -> tuple[jax.Array, Report]:
    """Return h_t = z_t * sigmoid(W_g h_{t-1} + b_g) + gamma_t * h_{t-1} with h_{-1} = h0, and how it was found.

    Clauses  REC-1, REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
    Args     z          [B, T, D]  input per step
             gamma      [B, T, D]  decay per step, in [0, 1]
             W_g        [D, D]     gate weight, acting on column vectors
             b_g        [D]        gate bias
             h0         [B, D]     state before step 0
             chunk      steps of a chunk; by default what gives at most 512 rows
             tolerance  share of the error granted to one step that a splice may use; 0 is the exact mode
    Returns  h [B, T, D] in the dtype of the arguments, differentiable; the report of the forward solution
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape, or an option is out of its range;
             in checked mode, value

    Under jit and vmap; a vmap runs until its last entry is done. Arrays sharded over B are solved where they are, and
    only the few numbers by which it is decided whether to go on are exchanged; over D the state is gathered every step
    for its product; over T they are gathered, since chunks are cut from all of it.
    """
    check_arrays(
        {"z": (z, "BTD"), "gamma": (gamma, "BTD"), "W_g": (W_g, "DD"), "b_g": (b_g, "D"), "h0": (h0, "BD")},
        domains={"gamma": (0.0, 1.0)},
    )
    check_options(chunk, tolerance)
    B, T, _ = z.shape
    if T == 0:
        return z, no_steps(z)
    steps = min(chunk or default_steps(B, T), T)
    return _compiled_recurrence(steps, float(tolerance), z, gamma, W_g, b_g, h0)


def gated_recurrence(z: jax.Array, gamma: jax.Array, W_g: jax.Array, b_g: jax.Array, h0: jax.Array) -> jax.Array:
    """The op of that name by the solver: `gated_recurrence_parallel` with its defaults, without the report."""
    return gated_recurrence_parallel(z, gamma, W_g, b_g, h0)[0]
