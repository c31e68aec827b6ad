"""One step of the gated recurrence, and one step of its adjoint, as the solver runs them.

Clauses     REC-1, ADJ-5, REC-PAR-2
Precision   that of the state: float32, or float64; inputs are widened step by step

Room        that of the gated input and of the decayed state (_room.py). `near` leaves what the sum of the logits errs by to
            the step's own product, `defect` sums the product in blocks and takes some
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._precision import along_channels
from ._advance import Arrays, Pair, widened
from ._products import product, product_in_blocks
from ._room import OF_SIGMOID, distance_and_room, room_of_gate, room_of_product, unit


class Forward(NamedTuple):
    """h' = z sigmoid(W h + b) + gamma h."""

    inputs: Arrays  # z, gamma [steps, chunks, B, D]
    weight: jax.Array  # W [D, D]
    bias: jax.Array  # b [D]

    def step(self, inputs: Arrays, x: jax.Array) -> Pair:
        z, gamma = widened(inputs, x)
        gate = jax.nn.sigmoid(self._with_bias(product(x, self.weight)))
        inflow = z * gate
        return inflow + gamma * x, inflow  # REC-1

    def frozen(self, inputs: Arrays) -> Pair:
        z, gamma = widened(inputs, self.bias)
        return gamma, z * along_channels(jax.nn.sigmoid(self.bias), z)

    def near(self, inputs: Arrays, x: jax.Array, inflow: jax.Array, stored: jax.Array) -> Pair:
        missed, room = distance_and_room(stored, inflow, inputs[1].astype(x.dtype), x)
        return missed, room + OF_SIGMOID * unit(x) * jnp.abs(inflow)

    def defect(self, inputs: Arrays, x: jax.Array, stored: jax.Array) -> Pair:
        z, gamma = widened(inputs, x)
        logits = self._with_bias(product_in_blocks(x, self.weight))
        inflow, closed = z * jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
        terms = product(jnp.abs(x), jnp.abs(self.weight))
        terms = terms + along_channels(jnp.abs(self.bias), terms)
        missed, room = distance_and_room(stored, inflow, gamma, x)
        return missed, room + jnp.abs(inflow) * room_of_gate(closed, terms, x.shape[-1])

    def _with_bias(self, logits: jax.Array) -> jax.Array:
        return logits + along_channels(self.bias, logits)


class Backward(NamedTuple):
    """w' = W^T (s (g + w)) + gamma (g + w), what the loss wants of the state before the step through all later steps.

    g is what it wants of the step's own state, s = z gate (1 - gate) how the step feels the gate's logits.
    """

    inputs: Arrays  # g, s, gamma [steps, chunks, B, D], backwards in time
    weight: jax.Array  # W^T [D, D]

    def step(self, inputs: Arrays, x: jax.Array) -> Pair:
        g, slope, gamma = widened(inputs, x)
        adjoint = g + x
        through_gate = product(adjoint * slope, self.weight)
        return through_gate + gamma * adjoint, through_gate  # ADJ-5

    def frozen(self, inputs: Arrays) -> Pair:
        g, _, gamma = widened(inputs, self.inputs[0])
        return gamma, gamma * g

    def near(self, inputs: Arrays, x: jax.Array, through_gate: jax.Array, stored: jax.Array) -> Pair:
        g, _, gamma = widened(inputs, x)
        return distance_and_room(stored, through_gate, gamma, g + x)

    def defect(self, inputs: Arrays, x: jax.Array, stored: jax.Array) -> Pair:
        g, slope, gamma = widened(inputs, x)
        adjoint = g + x
        dlogits = adjoint * slope
        terms = product(jnp.abs(dlogits), jnp.abs(self.weight))
        missed, room = distance_and_room(stored, product_in_blocks(dlogits, self.weight), gamma, adjoint)
        return missed, room + room_of_product(terms, x.shape[-1])
