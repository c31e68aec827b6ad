"""How inputs are drawn: named regimes, since the regime decides what a diff can see as much as the tolerance does.

With typical gates a memory of two steps is all there is, and no rule can see a truncated window. So every kind of
decay appears: memories from 2 steps to 32K, gates at 0 and 1, powers of two, tiny and subnormal values, signs,
outliers, and data on which arithmetic is exact.
"""

from collections.abc import Callable

import numpy as np

from mmrec.conformance.ops import Arrays, Sizes

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Anything in [0, 1]: a memory of about two steps."""
    return rng.random(shape)


def long_memory(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """1 - 1/n with a memory n from 2 to 32K steps, one for each channel, a little noise on top."""
    memory = 2.0 ** rng.uniform(1, 15, (shape[0], 1, shape[2]))
    return 1 - rng.uniform(0.5, 1.5, shape) / memory / 1.5


def saturated(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """sigmoid of wide logits: some gates at 1, some near 0."""
    return 1 / (1 + np.exp(-rng.normal(2.0, 4.0, shape)))


def mostly_one(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Exactly 1 but for a few steps: a memory that must not leak away."""
    return np.where(rng.random(shape) < 0.05, rng.random(shape), 1.0)


def with_zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Exactly 0 now and then, near 1 otherwise."""
    return np.where(rng.random(shape) < 2.0 / max(shape[1], 4), 0.0, 1 - 0.01 * rng.random(shape))


def tiny(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Single steps below the floor e^-50 and down to subnormal, near 1 otherwise.

    One channel of every row begins with two decays above the floor whose product is subnormal in float32, which chance
    alone seldom gives: a gradient that divides a product by one of its factors loses its digits there.
    """
    rows, steps, channels = shape
    below = np.exp(-rng.uniform(10, 95, shape))
    near_one = 1 - 1e-3 * rng.random(shape)
    decays = np.where(rng.random(shape) < 3.0 / max(steps, 6), below, near_one)
    if steps > 1:
        channel, places = rng.integers(channels), np.sort(rng.choice(steps, 2, replace=False))
        decays[:, : places[1], channel] = near_one[:, : places[1], channel]
        decays[:, places, channel] = np.exp(-rng.uniform(47, 49.5, (rows, 2)))
    return decays


def powers_of_two(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """1, 1/2, 1/4 and 0: every product is exact, the tolerance is 0."""
    return rng.choice([1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.0], shape, p=[0.2, 0.2, 0.2, 0.2, 0.06, 0.08, 0.04, 0.02])


def constant(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One decay for all steps: roundings repeat and do not cancel."""
    return np.broadcast_to(1 - 10.0 ** rng.uniform(-5, -0.3, (shape[0], 1, shape[2])), shape).copy()


DECAYS: dict[str, Draw] = {
    draw.__name__: draw
    for draw in (uniform, long_memory, saturated, mostly_one, with_zeros, tiny, powers_of_two, constant)
}


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


def scaled(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers times a power of ten from 1e-2 to 1e2, and a few outliers."""
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 2) * np.where(rng.random(shape) < 0.02, 30.0, 1.0)


def small_integers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """-2 .. 2: sums of a few hundred stay exact in every format but the narrowest."""
    return rng.integers(-2, 3, shape).astype(float)


def product_regimes(decay: str) -> dict[str, Callable[[np.random.Generator, Sizes], Arrays]]:
    """The regimes of the decay products: every kind of decay, an initial value of any size."""

    def regime(draw: Draw) -> Callable[[np.random.Generator, Sizes], Arrays]:
        def build(rng: np.random.Generator, sizes: Sizes) -> Arrays:
            return {decay: draw(rng, sizes.shape("BTD")), "initial": scaled(rng, sizes.shape("BD"))}

        return build

    return {name: regime(draw) for name, draw in DECAYS.items()}


def gate_weights(rng: np.random.Generator, sizes: Sizes, scale: float) -> np.ndarray:
    """[D, D] normal weights with spectral norm about 2 ``scale``."""
    return rng.standard_normal(sizes.shape("DD")) * scale / np.sqrt(sizes.D)


def recurrence_regimes(
    build: Callable[[np.random.Generator, Sizes, np.ndarray, float, float], Arrays],
) -> dict[str, Callable[[np.random.Generator, Sizes], Arrays]]:
    """The regimes of the gated recurrences, from contracting to chaotic.

    ``build(rng, sizes, gamma, weight_scale, input_scale)`` makes the arrays.
    """

    def regime(draw: Draw, weight_scale: float, input_scale: float) -> Callable[[np.random.Generator, Sizes], Arrays]:
        return lambda rng, sizes: build(rng, sizes, draw(rng, sizes.shape("BTD")), weight_scale, input_scale)

    return {
        "contracting": regime(uniform, 0.5, 1.0),
        "long_memory": regime(lambda rng, shape: np.minimum(long_memory(rng, shape), 0.9995), 1.0, 0.1),
        "saturated": regime(saturated, 4.0, 3.0),
        "chaotic": regime(lambda rng, shape: 0.95 + 0.05 * rng.random(shape), 8.0, 1.0),
        "with_zeros": regime(with_zeros, 1.0, 1.0),
        "mostly_one": regime(mostly_one, 1.0, 0.01),
        "no_gate_weight": regime(uniform, 0.0, 1.0),
    }
