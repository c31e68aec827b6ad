"""One step of the stabilized recurrence, and one step of its adjoint, as the solver runs them.

Clauses     REC-10, REC-11, REC-12, REC-13, REC-14, REC-15, ADJ-6, REC-PAR-2
Precision   that of the state: float32, or float64; inputs are widened step by step

Room        Forwards the gate's room (_room.py) moves the mix by at most itself times |h| + |z|: E. "layer" takes the mean off,
            which adds mean(E) and the room of that mean. With n the direction of what is left, r one over its size and
            w the weight, the state's room is to first order |w| r (E + |n| mean(|n| E)), and |w n| times half of what is
            left of the sum of squares, which enters by its root. All of it at once: NUM-5 grants each with any sign. Where
            the clip is sure to bind it grants nothing. Every other rounding is left to the step that measures.
            Backwards E is the room of the product with W^T, times |w|; then the same with the rooms of the norm's means.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._precision import along_channels, clamp
from ..stabilized_recurrence import Stabilizer, mean, mix
from ._advance import Arrays, Pair, widened
from ._products import mean_in_blocks, product, product_in_blocks
from ._room import room_of_gate, room_of_product


class Forward(NamedTuple):
    """h' = stabilizer((1 - g) h + g z + gamma h), g = sigmoid(gate_z + W h + b)."""

    inputs: Arrays  # z, gate_z, gamma [steps, chunks, B, D]
    weight: jax.Array  # W [D, D]
    bias: jax.Array  # b [D]
    stabilizer: Stabilizer

    def step(self, inputs: Arrays, x: jax.Array) -> Pair:
        z, gate_z, gamma = widened(inputs, x)
        gate = jax.nn.sigmoid(self._logits(gate_z, product(x, self.weight)))  # REC-10, REC-11
        new = self.stabilizer(mix(gate, x, z, gamma))
        return new, new

    def frozen(self, inputs: Arrays) -> Pair:
        """Factor 0 and what the step leads to from 0: products of the weights 1 - gate + gamma would overflow."""
        z, gate_z, gamma = widened(inputs, self.bias)
        gate, nothing = jax.nn.sigmoid(gate_z + along_channels(self.bias, z)), jnp.zeros_like(z)
        return nothing, self.stabilizer(mix(gate, nothing, z, gamma))

    def near(self, inputs: Arrays, x: jax.Array, new: jax.Array, stored: jax.Array) -> Pair:
        return without_room(new, stored)

    def defect(self, inputs: Arrays, x: jax.Array, stored: jax.Array) -> Pair:
        z, gate_z, gamma = widened(inputs, x)
        logits = self._logits(gate_z, product_in_blocks(x, self.weight))
        gate, closed = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
        terms = product(jnp.abs(x), jnp.abs(self.weight)) + jnp.abs(gate_z)
        terms = terms + along_channels(jnp.abs(self.bias), terms)
        room = gate * room_of_gate(closed, terms, x.shape[-1]) * (jnp.abs(x) + jnp.abs(z))
        return self._stabilized(mix(gate, x, z, gamma), room, stored)

    def _stabilized(self, mixed: jax.Array, room: jax.Array, stored: jax.Array) -> Pair:
        """How far `stored` lies from what the norm and the clip make of `mixed`, and how far it may."""
        D, form = mixed.shape[-1], self.stabilizer
        value = form.normalize(mixed, mean_in_blocks)
        if form.norm != "none":
            if form.norm == "layer":
                room = room + mean(room) + room_of_product(mean(jnp.abs(mixed)), D)
            direction, scale = form.standardize(mixed, mean_in_blocks)
            of_size = room_of_product(1 - form.eps * scale * scale, D) / 2
            room = scale * through_norm(room, direction) + jnp.abs(direction) * of_size
            room = room * along_channels(jnp.abs(form.weight), room)
        unbound = jnp.abs(value) <= form.clip + room
        return stored - clamp(value, -form.clip, form.clip), jnp.where(unbound, room, 0.0)

    def _logits(self, gate_z: jax.Array, from_state: jax.Array) -> jax.Array:
        return gate_z + (from_state + along_channels(self.bias, from_state))


class Backward(NamedTuple):
    """e' = norm^T (g + k e + W^T (s e)), what the loss wants of what a step normalises, from the same of the step after it.

    k = 1 - gate + gamma and s = (z - h) gate (1 - gate) are how the later step's sum feels the state and its gate's
    logits; g is what the loss wants of the state between the two. `pull` is the norm's weight where the clip does not
    act, and else 0; direction and scale are those of what is normalised.
    """

    inputs: Arrays  # g, k, s, pull, direction [steps, chunks, B, D], scale [steps, chunks, B, 1], backwards in time
    weight: jax.Array  # W^T [D, D]
    stabilizer: Stabilizer

    def step(self, inputs: Arrays, x: jax.Array) -> Pair:
        g, kept, slope, pull, direction, scale = widened(inputs, x)
        wanted = g + (product(x * slope, self.weight) + kept * x)
        new = self.stabilizer.before_norm(wanted * pull, direction, scale)  # ADJ-6
        return new, new

    def frozen(self, inputs: Arrays) -> Pair:
        """As forwards: factor 0, and the step from 0."""
        g, _, _, pull, direction, scale = widened(inputs, self.inputs[0])
        return jnp.zeros_like(g), self.stabilizer.before_norm(g * pull, direction, scale)

    def near(self, inputs: Arrays, x: jax.Array, new: jax.Array, stored: jax.Array) -> Pair:
        return without_room(new, stored)

    def defect(self, inputs: Arrays, x: jax.Array, stored: jax.Array) -> Pair:
        g, kept, slope, pull, direction, scale = widened(inputs, x)
        D, dlogits = x.shape[-1], x * slope
        pulled = (g + (product_in_blocks(dlogits, self.weight) + kept * x)) * pull
        exact = self.stabilizer.before_norm(pulled, direction, scale, mean_in_blocks)
        room = room_of_product(product(jnp.abs(dlogits), jnp.abs(self.weight)), D) * jnp.abs(pull)
        if self.stabilizer.norm != "none":
            if self.stabilizer.norm == "layer":
                room = room + mean(room) + room_of_product(mean(jnp.abs(pulled)), D)
            of_mean = room_of_product(mean(jnp.abs(pulled * direction)), D)
            room = scale * (through_norm(room, direction) + jnp.abs(direction) * of_mean)
        return stored - exact, room


def through_norm(room: jax.Array, direction: jax.Array) -> jax.Array:
    """What the derivative of a norm makes of it at most, but for the scale: each element's own, and all through the size."""
    return room + jnp.abs(direction) * mean(jnp.abs(direction) * room)


def without_room(new: jax.Array, stored: jax.Array) -> Pair:
    """No element is taken over by itself: what one differs by reaches all others through the norm, at once."""
    return stored - new, jnp.zeros_like(new)
