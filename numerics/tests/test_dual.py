"""Are the adjoints the transposes of the derivatives that dual numbers carry (GRAD-4)?"""

import importlib

import numpy as np
import pytest

from mmrec.numerics.dual import Dual
from mmrec.reference import numbers

SHAPES = {
    "decay_product": {"gamma": "BTD", "initial": "BD"},
    "decay_product_exact": {"gamma": "BTD", "initial": "BD"},
    "log_decay_product": {"log_gamma": "BTD", "initial": "BD"},
    "linear_recurrence": {"a": "BTD", "b": "BTD", "h0": "BD"},
    "gated_recurrence": {"z": "BTD", "gamma": "BTD", "W_g": "DD", "b_g": "D", "h0": "BD"},
    "stabilized_recurrence": {
        "z": "BTD", "gate_z": "BTD", "gamma": "BTD", "W_h": "DD", "b_h": "D",
        "norm_weight": "D", "norm_bias": "D", "h0": "BD",
    },
    "decay_gate": {
        "z": "BTD", "k": "BTD", "base_w1": "ED", "base_b1": "E", "base_w2": "DE", "base_b2": "D",
        "context_w1": "ED", "context_b1": "E", "context_w2": "DE", "context_b2": "D",
    },
}  # fmt: skip
OPTIONS = {
    "stabilized_recurrence": [{"norm": n, "clip": c} for n in ("rms", "layer", "none") for c in (100.0, 0.8)],
    "decay_gate": [{"gelu": "tanh"}, {"gelu": "erf"}],
}
CALLS = [(op, options) for op in SHAPES for options in OPTIONS.get(op, [{}])]


def function_and_adjoint(op):
    module = importlib.import_module(f"mmrec.reference.{op}")
    return getattr(module, op), getattr(module, f"{op}_adjoint")


def inputs(op, rng, B=2, T=7, D=3):
    """Decays in (0, 1) with a few zeros, ones and clamped numbers, everything else normal."""
    lengths = {"B": B, "T": T, "D": D, "E": D + 2}
    arrays = []
    for name, letters in SHAPES[op].items():
        shape = tuple(lengths[letter] for letter in letters)
        if name == "gamma":
            x = np.where(rng.random(shape) < 0.15, rng.choice([0.0, 1.0, 1e-30], shape), rng.uniform(0.1, 0.99, shape))
        elif name == "log_gamma":
            x = np.where(rng.random(shape) < 0.15, rng.choice([-80.0, -50.0, 0.0], shape), -9 * rng.random(shape))
        elif name == "a":
            x = rng.uniform(-1, 1, shape)
        else:
            x = rng.standard_normal(shape)
        arrays.append(x)
    return arrays


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("op", "options"), CALLS, ids=str)
def test_adjoints_agree_with_dual_numbers(op, options, seed):
    """GRAD-4: <adjoint(g), v> = <g, derivative in direction v>, at zeros and where limits bind too."""
    rng = np.random.default_rng(seed)
    function, adjoint = function_and_adjoint(op)
    arrays = inputs(op, rng)
    g = rng.standard_normal((2, 7, 3))
    gradients = adjoint(*arrays, g, **options)
    directions = [rng.standard_normal(x.shape) for x in arrays]
    result = function(*(Dual(x, v) for x, v in zip(arrays, directions, strict=True)), **options)
    products = [float(np.sum(x * v)) for x, v in zip(gradients, directions, strict=True)]
    scale = sum(abs(x) for x in products) + float(np.sum(np.abs(g * result.derivative)))
    assert abs(sum(products) - float(np.sum(g * result.derivative))) <= 1e-12 * scale
    np.testing.assert_allclose(result.value, function(*arrays, **options), rtol=1e-12, atol=1e-13)
    for moved, (x, v) in enumerate(zip(arrays, directions, strict=True)):  # one argument at a time
        alone = function(*(Dual(y, v if i == moved else 0.0) for i, y in enumerate(arrays)), **options)
        inner = float(np.sum(gradients[moved] * v))
        size = float(np.sum(np.abs(g * alone.derivative)) + np.sum(np.abs(gradients[moved] * v)))
        assert abs(float(np.sum(g * alone.derivative)) - inner) <= 1e-12 * size, x.shape


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "rsqrt", "sigmoid", "tanh", "erf"])
def test_slopes_of_elementary_functions(name):
    function, h = getattr(numbers, name), 1e-6
    x = np.linspace(0.2, 3.0, 15)
    slope = function(Dual(x, 2.0)).derivative / 2
    np.testing.assert_allclose(slope, (function(x + h) - function(x - h)) / (2 * h), rtol=1e-8, atol=1e-9)


def test_rules_of_arithmetic_by_hand():
    x, y = Dual([3.0], [1.0]), Dual([2.0], [5.0])
    found = {"sum": x + y, "difference": x - y, "product": x * y, "quotient": x / y, "inverse": 1 / y, "rest": 1 - x}
    expected = {"sum": 6, "difference": -4, "product": 17, "quotient": (2 - 15) / 4, "inverse": -5 / 4, "rest": -1}
    assert {name: number.derivative[0] for name, number in found.items()} == expected
    matrix = Dual(np.eye(2), [[1.0, 2.0], [3.0, 4.0]]) @ Dual([[1.0], [10.0]], [[0.5], [0.0]])
    assert matrix.derivative.ravel().tolist() == [21.5, 43.0]
