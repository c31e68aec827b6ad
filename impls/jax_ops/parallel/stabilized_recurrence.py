"""Stabilized recurrence in parallel over time: chunks advance together from guessed states, until every splice is sound.

Clauses     REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, REC-16, REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4, ADJ-6
Parallel    all chunks of time at once, step by step within them; guessed is the state that a step leads to from 0
Memory      inputs in their dtype, states of all steps; for the gradient five more arrays of all steps
Precision   float32 for the narrow dtypes and float32, float64 for float64; no TF32
"""

from functools import partial

import jax
import jax.numpy as jnp

from .._precision import along_channels, widen
from .._steps import parameter_gradients
from ..stabilized_recurrence import Stabilizer, check_call, mix
from ._layout import after_steps, backwards, before_steps, cut, default_steps, join
from ._options import check_options
from ._products import product, weights
from ._solver import Report, no_steps, solve
from ._stabilized_cells import Backward, Forward

Arrays = tuple[jax.Array, ...]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _recurrence(norm: str, steps: int, tolerance: float, *arguments: jax.Array) -> tuple[jax.Array, Report]:
    states, report = _solved(norm, steps, tolerance, *arguments)
    z = arguments[2]
    return join(states, z.shape[1]).astype(z.dtype), report


def _solved(norm: str, steps: int, tolerance: float, *arguments: jax.Array) -> tuple[jax.Array, Report]:
    eps, clip, z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0 = arguments
    bias, scale, shift, first = widen(b_h, norm_weight, norm_bias, h0)
    stabilizer = Stabilizer(scale, shift, norm, eps, clip)
    inputs = cut(z, steps), cut(gate_z, steps), cut(gamma, steps)
    return solve(Forward(inputs, weights(W_h, first), bias, stabilizer), first, tolerance)


def _forward(norm: str, steps: int, tolerance: float, *arguments: jax.Array) -> tuple[tuple[jax.Array, Report], Arrays]:
    states, report = _solved(norm, steps, tolerance, *arguments)
    z = arguments[2]
    return (join(states, z.shape[1]).astype(z.dtype), report), (*arguments, states)


def _adjoint(
    norm: str, steps: int, tolerance: float, residuals: Arrays, cotangents: tuple[jax.Array, Report]
) -> tuple[jax.Array | None, ...]:
    """The adjoint by the same solver, last step first; then every gradient is a product with it (ADJ-6)."""
    eps, clip, z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, states = residuals
    T, dtype = z.shape[1], z.dtype
    bias, norm_scale, shift, first = widen(b_h, norm_weight, norm_bias, h0)
    stabilizer, weight = Stabilizer(norm_scale, shift, norm, eps, clip), weights(W_h, first)
    inputs, decays, g = widen(first, *(cut(array, steps) for array in (z, gamma, cotangents[0])))[1:]
    before = before_steps(first, states)
    logits = cut(gate_z, steps).astype(first.dtype) + (product(before, weight) + along_channels(bias, before))
    gate = jax.nn.sigmoid(logits)
    kept, slope = 1 - gate + decays, (inputs - before) * (gate * (1 - gate))
    mixed = mix(gate, before, inputs, decays)
    unclipped = jnp.abs(stabilizer.normalize(mixed)) <= clip  # ADJ-8
    direction, scale = stabilizer.standardize(mixed)
    felt = jnp.ones_like(norm_scale) if norm == "none" else norm_scale
    pull = jnp.where(unclipped, along_channels(felt, mixed), 0.0)

    of_steps = g, after_steps(kept), after_steps(slope), pull, direction, scale
    cell = Backward(tuple(backwards(array) for array in of_steps), weight.T, stabilizer)
    found, _ = solve(cell, jnp.zeros_like(first), tolerance)
    dmixed = backwards(found)
    dlogits = dmixed * slope
    wanted = product(dlogits, weight.T) + kept * dmixed  # of the state before each step
    of_value = join(jnp.where(unclipped, g + after_steps(wanted), 0.0), T)
    gradients = (
        join(dmixed * gate, T),
        join(dlogits, T),
        join(dmixed * before, T),
        *parameter_gradients(join(dlogits, T), join(before, T)),
        (of_value * join(direction, T)).sum((0, 1)) if norm != "none" else jnp.zeros_like(norm_scale),
        of_value.sum((0, 1)) if norm == "layer" else jnp.zeros_like(shift),
        wanted[0, 0],
    )
    return None, None, *(gradient.astype(dtype) for gradient in gradients)  # eps and clip are not differentiated


_recurrence.defvjp(_forward, _adjoint)
_compiled_recurrence = jax.jit(_recurrence, static_argnums=(0, 1, 2))


def stabilized_recurrence_parallel(
    z: jax.Array,
    gate_z: jax.Array,
    gamma: jax.Array,
    W_h: jax.Array,
    b_h: jax.Array,
    norm_weight: jax.Array,
    norm_bias: jax.Array,
    h0: jax.Array,
    *,
    norm: str = "rms",
    eps: float = 1e-6,
    clip: float = 100.0,
    chunk: int | None = None,
    tolerance: float = 1.0,
) -> tuple[jax.Array, Report]:
    """Return h_t = clip(norm(u_t), -clip, clip), u_t = (1 - g_t) h_{t-1} + g_t z_t + gamma_t h_{t-1}, and how it was found.

    The gate is g_t = sigmoid(gate_z_t + W_h h_{t-1} + b_h), as in `jax_ops.stabilized_recurrence`.

    Clauses  REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, REC-16, REC-PAR-1, REC-PAR-2, REC-PAR-3, REC-PAR-4
    Args     z, gate_z    [B, T, D]  input and its share of the gate, per step
             gamma        [B, T, D]  decay per step, in [0, 1]
             W_h, b_h     [D, D], [D]  weight (acting on column vectors) and bias of the state's share of the gate
             norm_weight, norm_bias  [D]
             h0           [B, D]     state before step 0
             norm         "rms", "layer" or "none";  eps >= 0;  clip > 0
             chunk        steps of a chunk; by default what gives at most 512 rows
             tolerance    share of the error granted to one step that a splice may use; 0 is the exact mode
    Returns  h [B, T, D] in the dtype of the arguments, differentiable; the report of the forward solution
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape, or an option is out of its range;
             in checked mode, value

    Under jit and vmap, and with sharded arrays, as `gated_recurrence_parallel`.
    """
    check_call(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, norm=norm, eps=eps, clip=clip)
    check_options(chunk, tolerance)
    B, T, _ = z.shape
    if T == 0:
        return z, no_steps(z)
    steps = min(chunk or default_steps(B, T), T)
    limits = (jnp.asarray(limit, widen(z)[0].dtype) for limit in (eps, clip))
    arrays = z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0
    return _compiled_recurrence(norm, steps, float(tolerance), *limits, *arrays)


def stabilized_recurrence(
    z: jax.Array,
    gate_z: jax.Array,
    gamma: jax.Array,
    W_h: jax.Array,
    b_h: jax.Array,
    norm_weight: jax.Array,
    norm_bias: jax.Array,
    h0: jax.Array,
    *,
    norm: str = "rms",
    eps: float = 1e-6,
    clip: float = 100.0,
) -> jax.Array:
    """The op of that name by the solver: `stabilized_recurrence_parallel` with its defaults, without the report."""
    return stabilized_recurrence_parallel(
        z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, norm=norm, eps=eps, clip=clip
    )[0]
