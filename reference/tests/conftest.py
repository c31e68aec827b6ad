"""What do the tests of the reference share? Every op, its options, its functions, and small inputs away from kinks."""

import importlib
import re

import numpy as np
import pytest

CALLS = (
    ("decay_product", {}),
    ("decay_product_exact", {}),
    ("log_decay_product", {}),
    ("linear_recurrence", {}),
    ("gated_recurrence", {}),
    ("stabilized_recurrence", {"norm": "rms"}),
    ("stabilized_recurrence", {"norm": "rms", "eps": 0.25, "clip": 0.75}),
    ("stabilized_recurrence", {"norm": "layer"}),
    ("stabilized_recurrence", {"norm": "layer", "eps": 0.25, "clip": 0.75}),
    ("stabilized_recurrence", {"norm": "none"}),
    ("stabilized_recurrence", {"norm": "none", "clip": 0.75}),
    ("decay_gate", {"gelu": "tanh"}),
    ("decay_gate", {"gelu": "erf"}),
)
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


class Reference:
    """The reference by name: functions, argument shapes, inputs."""

    shapes = SHAPES

    @staticmethod
    def function(op):
        return getattr(importlib.import_module(f"mmrec.reference.{op}"), op)

    @staticmethod
    def adjoint(op):
        return getattr(importlib.import_module(f"mmrec.reference.{op}"), f"{op}_adjoint")

    @staticmethod
    def inputs(op, seed=0, B=2, T=4, D=3):
        """Arguments in order, as float64; decays in (0, 1), one of them below the floor, one log decay clamped."""
        rng, lengths = np.random.default_rng(seed), {"B": B, "T": T, "D": D, "E": D + 2}
        arrays = {}
        for name, letters in SHAPES[op].items():
            shape = tuple(lengths[letter] for letter in letters)
            if name == "gamma":
                arrays[name] = rng.uniform(0.2, 0.95, shape)
            elif name == "log_gamma":
                arrays[name] = -rng.uniform(0.1, 3.0, shape)
            elif name == "a":
                arrays[name] = rng.uniform(-0.95, 0.95, shape)
            else:
                arrays[name] = rng.standard_normal(shape)
        if T > 1 and op == "decay_product":
            arrays["gamma"][0, 1, 0] = 1e-25
        if T > 1 and op == "log_decay_product":
            arrays["log_gamma"][0, 1, 0] = -70.0
        return list(arrays.values())

    @staticmethod
    def objects(kind, array):
        """The same numbers, exactly, as an object array of mpf or arb."""
        numbers = np.empty(np.shape(array), object)
        for index, x in np.ndenumerate(np.asarray(array, np.float64)):
            numbers[index] = kind(float(x))
        return numbers


@pytest.fixture
def reference():
    return Reference


def pytest_generate_tests(metafunc):
    """A test that asks for op, or for op and options, gets every one unless it names its own."""
    own = " ".join(str(marker.args[0]) for marker in metafunc.definition.iter_markers("parametrize"))
    if "op" not in metafunc.fixturenames or "op" in re.findall(r"\w+", own):
        return
    if "options" in metafunc.fixturenames:
        ids = ["-".join([op, *(f"{name}={value}" for name, value in options.items())]) for op, options in CALLS]
        metafunc.parametrize(("op", "options"), CALLS, ids=ids)
    else:
        metafunc.parametrize("op", list(SHAPES))
