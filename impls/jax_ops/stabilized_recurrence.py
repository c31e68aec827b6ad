"""Stabilized recurrence: a convex mix of state and input, plus decay, normalised and clipped at every step.

Clauses     REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, REC-16
Parallel    one step after another (each needs the last state); rows and channels at once
Memory      the adjoint keeps the inputs and, per step, state, gate, and where the clip does not bind;
            parameter gradients are one product
Precision   float32 for the narrow dtypes and float32, float64 for float64; no TF32
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._checks import check_arrays, check_choice, check_number
from ._precision import FULL, along_channels, clamp, linear, widen
from ._steps import parameter_gradients, previous_states

NORMS = ("rms", "layer", "none")
ARGUMENTS = {
    "z": "BTD",
    "gate_z": "BTD",
    "gamma": "BTD",
    "W_h": "DD",
    "b_h": "D",
    "norm_weight": "D",
    "norm_bias": "D",
    "h0": "BD",
}
Arrays = tuple[jax.Array, ...]
Mean = Callable[[jax.Array], jax.Array]

# Inside this section time is the first axis: z, gate_z, gamma and the states are [T, B, D].
# eps and clip are arrays [], so that what is compiled holds for any; only the norm is fixed then.


def mix(g: jax.Array, h: jax.Array, z: jax.Array, gamma: jax.Array) -> jax.Array:
    """What a step normalises: the convex mix of state and input, and the decayed state."""
    return (1 - g) * h + g * z + gamma * h  # REC-12, REC-13


def mean(x: jax.Array) -> jax.Array:
    """Over the channels, which are kept with length 1."""
    return x.mean(-1, keepdims=True)


class Stabilizer(NamedTuple):
    """Norm and clip of a step, in the dtype of its arrays. `mean` may be another way to take one."""

    weight: jax.Array
    bias: jax.Array
    norm: str
    eps: jax.Array
    clip: jax.Array

    def __call__(self, u: jax.Array) -> jax.Array:
        return clamp(self.normalize(u), -self.clip, self.clip)  # REC-15

    def normalize(self, u: jax.Array, mean: Mean = mean) -> jax.Array:  # REC-14
        if self.norm == "none":
            return u
        normalized = self.standardize(u, mean)[0] * along_channels(self.weight, u)
        return normalized + along_channels(self.bias, u) if self.norm == "layer" else normalized

    def standardize(self, u: jax.Array, mean: Mean = mean) -> Arrays:
        """u, which "layer" centres first, over its size; and one over its size [..., 1]. "none": u, and 1."""
        if self.norm == "none":
            return u, jnp.ones_like(u[..., :1])
        if self.norm == "layer":
            u = u - mean(u)  # two passes: E[u^2] - E[u]^2 would cancel
        scale = jax.lax.rsqrt(mean(u * u) + self.eps)
        return u * scale, scale

    def before_norm(self, grad: jax.Array, direction: jax.Array, scale: jax.Array, mean: Mean = mean) -> jax.Array:
        """The gradient of u from that of u over its size: what would change the size (and the mean) is taken out."""
        if self.norm == "none":
            return grad
        centred = grad - mean(grad) if self.norm == "layer" else grad
        return scale * (centred - direction * mean(grad * direction))


def _run(
    norm: str,
    eps: jax.Array,
    clip: jax.Array,
    z: jax.Array,
    gate_z: jax.Array,
    gamma: jax.Array,
    W_h: jax.Array,
    b_h: jax.Array,
    norm_weight: jax.Array,
    norm_bias: jax.Array,
    h0: jax.Array,
) -> Arrays:
    """Return the state, the gate, and where the clip does not bind, of every step."""

    stabilizer = Stabilizer(norm_weight, norm_bias, norm, eps, clip)

    def step(h: jax.Array, inputs: Arrays) -> tuple[jax.Array, Arrays]:
        z_t, gate_z_t, gamma_t = inputs
        g = jax.nn.sigmoid(gate_z_t + linear(h, W_h, b_h))  # REC-10, REC-11
        value = stabilizer.normalize(mix(g, h, z_t, gamma_t))
        h = clamp(value, -clip, clip)  # REC-15
        return h, (h, g, abs(value) <= clip)

    return jax.lax.scan(step, h0, (z, gate_z, gamma))[1]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrence(norm: str, *arguments: jax.Array) -> jax.Array:
    return _run(norm, *arguments)[0]


def _forward(norm: str, *arguments: jax.Array) -> tuple[jax.Array, tuple[Arrays, Arrays]]:
    results = _run(norm, *arguments)
    return results[0], (arguments, results)


def _adjoint(norm: str, residuals: tuple[Arrays, Arrays], grad_states: jax.Array) -> tuple[jax.Array | None, ...]:
    (eps, clip, z, _, gamma, W_h, _, norm_weight, norm_bias, h0), (states, g, unclipped) = residuals
    stabilizer = Stabilizer(norm_weight, norm_bias, norm, eps, clip)
    previous = previous_states(h0, states)
    standard, scale = stabilizer.standardize(mix(g, previous, z, gamma))

    def step(from_later: jax.Array, inputs: Arrays) -> tuple[jax.Array, Arrays]:
        grad_t, unclipped_t, standard_t, scale_t, g_t, slope_t, gamma_t = inputs
        grad_value = jnp.where(unclipped_t, grad_t + from_later, 0)
        grad_standard = grad_value if norm == "none" else grad_value * along_channels(norm_weight, grad_value)
        grad_u = stabilizer.before_norm(grad_standard, standard_t, scale_t)
        earlier = (1 - g_t + gamma_t) * grad_u + jnp.matmul(slope_t * grad_u, W_h, precision=FULL)
        return earlier, (grad_value, grad_u)

    slopes = (z - previous) * g * (1 - g)  # of u_t with respect to the gate's logits
    inputs = (grad_states, unclipped, standard, scale, g, slopes, gamma)
    grad_h0, (grad_values, grad_u) = jax.lax.scan(step, jnp.zeros_like(h0), inputs, reverse=True)
    grad_logits = slopes * grad_u
    return (
        None,  # eps and clip are not differentiated
        None,
        g * grad_u,
        grad_logits,
        previous * grad_u,
        *parameter_gradients(grad_logits, previous),
        (grad_values * standard).sum((0, 1)) if norm != "none" else jnp.zeros_like(norm_weight),
        grad_values.sum((0, 1)) if norm == "layer" else jnp.zeros_like(norm_bias),
        grad_h0,
    )


_recurrence.defvjp(_forward, _adjoint)


@partial(jax.jit, static_argnums=0)
def _compiled(norm: str, eps: float, clip: float, *arguments: jax.Array) -> jax.Array:
    """Return the op of checked arguments: what is around the recurrence is compiled with it."""
    z, gate_z, gamma, *parameters = widen(*arguments)
    limits = (jnp.asarray(limit, z.dtype) for limit in (eps, clip))
    states = _recurrence(norm, *limits, *(jnp.swapaxes(array, 0, 1) for array in (z, gate_z, gamma)), *parameters)
    return jnp.swapaxes(states, 0, 1).astype(arguments[0].dtype)


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
    """Return h_t = clip(norm(u_t), -clip, clip) with u_t = (1 - g_t) h_{t-1} + g_t z_t + gamma_t h_{t-1}.

    The gate is g_t = sigmoid(gate_z_t + W_h h_{t-1} + b_h). The norm "rms" uses norm_weight, "layer" uses
    norm_weight and norm_bias, "none" neither; the gradient of one that is not used is zero. The gradient of the
    clip is 1 where abs(value) <= clip and 0 outside.

    Clauses  REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, REC-16
    Args     z, gate_z    [B, T, D]  input and its share of the gate, per step
             gamma        [B, T, D]  decay per step, in [0, 1]
             W_h, b_h     [D, D], [D]  weight (acting on column vectors) and bias of the state's share of the gate
             norm_weight, norm_bias  [D]
             h0           [B, D]     state before step 0
             norm         "rms", "layer" or "none";  eps >= 0;  clip > 0
    Returns  [B, T, D] in the dtype of the arguments
    Raises   TypeError, ValueError when an argument has the wrong dtype or shape, or an option an unknown value;
             in checked mode also for values outside the domain
    """
    check_call(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, norm=norm, eps=eps, clip=clip)
    return _compiled(norm, float(eps), float(clip), z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0)


def check_call(*arrays: jax.Array, norm: str, eps: float, clip: float) -> None:
    """Raise TypeError or ValueError unless these are arguments and options of the op."""
    given = {name: (array, axes) for (name, axes), array in zip(ARGUMENTS.items(), arrays, strict=True)}
    check_arrays(given, domains={"gamma": (0.0, 1.0)})
    check_choice("norm", norm, NORMS)
    check_number("eps", eps, zero_allowed=True)
    check_number("clip", clip, zero_allowed=False)
