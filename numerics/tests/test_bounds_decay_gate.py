"""Does the running error of the decay gate enclose correct float32 evaluations of every form, and little else?"""

import numpy as np
import pytest
from scipy.special import erf, erfc

from mmrec.numerics.bounds import Question, decay_gate
from mmrec.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, arithmetic_of
from mmrec.numerics.judgement import Enclosure, budget
from mmrec.reference.decay_gate import decay_gate as reference

PATHWAYS = ("base", "context")


def inputs_of(rng, B, T, D, storage, bias=0.0, weight_scale=1.0):
    E, arrays = D + 2, {"z": rng.standard_normal((B, T, D)), "k": rng.standard_normal((B, T, D))}
    for path in PATHWAYS:
        arrays[f"{path}_w1"] = rng.standard_normal((E, D)) * weight_scale / np.sqrt(D)
        arrays[f"{path}_b1"] = rng.standard_normal(E)
        arrays[f"{path}_w2"] = rng.standard_normal((D, E)) * weight_scale / np.sqrt(E)
        arrays[f"{path}_b2"] = rng.standard_normal(D) + bias
    return {name: storage.round(x) for name, x in arrays.items()}


def gelu(x, form, variant):
    """Three ways to write either form, in the dtype of x."""
    number = x.dtype.type
    if form == "erf":
        if variant == "complement":
            return x * number(0.5) * erfc(-x * number(np.sqrt(0.5)))
        inner = erf(x * number(np.sqrt(0.5))) if variant == "plain" else erf(x / np.sqrt(number(2)))
        return number(0.5) * x * (1 + inner)
    root = number(np.sqrt(2 / np.pi))
    bent = x * (root + root * number(0.044715) * x * x)
    if variant == "plain":
        bent = root * (x + number(0.044715) * (x * x * x))
    return number(0.5) * x * (1 + np.tanh(bent))


def slope(x, form):
    """The derivative of gelu, in the dtype of x."""
    number = x.dtype.type
    if form == "erf":
        density = np.exp(-x * x / 2) * number(1 / np.sqrt(2 * np.pi))
        return number(0.5) * (1 + erf(x * number(np.sqrt(0.5)))) + x * density
    root = number(np.sqrt(2 / np.pi))
    bend = np.tanh(root * (x + number(0.044715) * (x * x * x)))
    return number(0.5) * (1 + bend) + number(0.5) * x * (1 - bend * bend) * root * (1 + number(3 * 0.044715) * x * x)


def sigmoid(x):
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def product_of_matrices(x, W, reverse):
    total = np.zeros((*x.shape[:-1], W.shape[0]), x.dtype)
    for j in reversed(range(W.shape[1])) if reverse else range(W.shape[1]):
        total = total + x[..., j, None] * W[:, j]
    return total


def evaluate(inputs, dtype, form, variant="plain", reverse=False):
    arrays, gates = {name: x.astype(dtype) for name, x in inputs.items()}, []
    for path, x in zip(PATHWAYS, (arrays["z"], arrays["k"]), strict=True):
        hidden = gelu(product_of_matrices(x, arrays[f"{path}_w1"], reverse) + arrays[f"{path}_b1"], form, variant)
        gates.append(sigmoid(product_of_matrices(hidden, arrays[f"{path}_w2"], reverse) + arrays[f"{path}_b2"]))
    return np.clip(gates[0] * gates[1], dtype(1e-6), dtype(1 - 1e-6))


def differentiate(inputs, g, form):
    """All ten gradients in float32, by hand."""
    arrays, g = {name: x.astype(np.float32) for name, x in inputs.items()}, g.astype(np.float32)
    before, hidden, gates = [], [], []
    for path, x in zip(PATHWAYS, (arrays["z"], arrays["k"]), strict=True):
        before.append(x @ arrays[f"{path}_w1"].T + arrays[f"{path}_b1"])
        hidden.append(gelu(before[-1], form, "plain"))
        gates.append(sigmoid(hidden[-1] @ arrays[f"{path}_w2"].T + arrays[f"{path}_b2"]))
    product = gates[0] * gates[1]
    passed = np.where((product >= np.float32(1e-6)) & (product <= np.float32(1 - 1e-6)), g, np.float32(0))
    gradients = {}
    for i, (path, x) in enumerate(zip(PATHWAYS, "zk", strict=True)):
        wanted = passed * gates[1 - i] * (gates[i] * (1 - gates[i]))
        inner = (wanted @ arrays[f"{path}_w2"]) * slope(before[i], form)
        gradients[x] = inner @ arrays[f"{path}_w1"]
        E, D = inner.shape[-1], wanted.shape[-1]
        gradients[f"{path}_w1"] = inner.reshape(-1, E).T @ arrays[x].reshape(-1, D)
        gradients[f"{path}_b1"] = inner.sum(axis=(0, 1))
        gradients[f"{path}_w2"] = wanted.reshape(-1, D).T @ hidden[i].reshape(-1, E)
        gradients[f"{path}_b2"] = wanted.sum(axis=(0, 1))
    return gradients


def used(inputs, storage, form, result):
    enclosure = decay_gate.enclose(Question(inputs, {"gelu": form}, storage))["result"]
    factor = 2.0 if storage is FLOAT64 else 1.0
    enclosure = Enclosure(enclosure.value, factor * enclosure.tolerance)
    return budget(storage.round(result), enclosure, storage, arithmetic_of(storage))


@pytest.mark.parametrize("storage", [FLOAT32, BFLOAT16, FLOAT16, FLOAT64], ids=lambda f: f.name)
@pytest.mark.parametrize("form", ["tanh", "erf"])
@pytest.mark.parametrize("variant", ["plain", "other", "complement"])
def test_correct_evaluations_are_accepted(storage, form, variant):
    rng, dtype = np.random.default_rng(0), arithmetic_of(storage).dtype.type
    for bias, scale in ((0.0, 1.0), (0.0, 4.0), (-9.0, 1.0), (17.0, 1.0)):
        for D in (1, 3, 16):
            inputs = inputs_of(rng, 2, 7, D, storage, bias, scale)
            result = evaluate(inputs, dtype, form, variant, reverse=D == 3)
            assert used(inputs, storage, form, result).max() <= 1, (bias, scale, D)


def test_the_two_forms_of_gelu_are_told_apart():
    inputs = inputs_of(np.random.default_rng(1), 2, 7, 3, FLOAT32)
    assert used(inputs, FLOAT32, "erf", evaluate(inputs, np.float32, "tanh")).max() > 10
    assert used(inputs, FLOAT32, "tanh", evaluate(inputs, np.float32, "erf")).max() > 10


@pytest.mark.parametrize("name", ["z", "base_w2", "context_w1", "context_b2"])
def test_an_operand_rounded_to_bfloat16_is_rejected(name):
    inputs = inputs_of(np.random.default_rng(2), 2, 7, 5, FLOAT32)
    narrow = {**inputs, name: BFLOAT16.round(inputs[name])}
    assert used(inputs, FLOAT32, "tanh", evaluate(narrow, np.float32, "tanh")).max() > 10


def test_a_missing_lower_clip_is_rejected():
    """The upper one is 17 units of roundoff below 1, within the error of two sigmoids: GAMMA-7 alone can see it."""
    inputs = inputs_of(np.random.default_rng(3), 2, 7, 5, FLOAT32, bias=-9.0)
    arrays, gates = {name: x.astype(np.float32) for name, x in inputs.items()}, []
    for path, x in zip(PATHWAYS, (arrays["z"], arrays["k"]), strict=True):
        hidden = gelu(x @ arrays[f"{path}_w1"].T + arrays[f"{path}_b1"], "tanh", "plain")
        gates.append(sigmoid(hidden @ arrays[f"{path}_w2"].T + arrays[f"{path}_b2"]))
    assert used(inputs, FLOAT32, "tanh", gates[0] * gates[1]).max() > 1


@pytest.mark.parametrize("form", ["tanh", "erf"])
@pytest.mark.parametrize("bias", [0.0, -7.0])
def test_float32_gradients_are_enclosed_and_not_vacuously(form, bias):
    """Every gradient inside, and a thousandth more outside."""
    inputs = inputs_of(np.random.default_rng(4), 2, 9, 4, FLOAT32, bias)
    g = FLOAT32.round(np.random.default_rng(5).standard_normal((2, 9, 4)))
    in_float32 = differentiate(inputs, g, form)
    question = Question(inputs, {"gelu": form}, FLOAT32, cotangent=g)
    for name, enclosure in decay_gate.enclose_gradients(question).items():
        gradient = in_float32[name]
        assert gradient.dtype == np.float32
        assert budget(gradient, enclosure, FLOAT32, FLOAT32).max() <= 1, name
        largest = np.unravel_index(np.argmax(np.abs(enclosure.value)), enclosure.value.shape)
        moved = gradient.astype(float)
        moved[largest] *= 1.001
        assert budget(moved, enclosure, FLOAT32, FLOAT32).max() > 1, name


def test_where_the_clip_may_or_may_not_bind_both_gradients_are_inside():
    """A product of exactly 1e-6 give or take its error: gradient 0 and the full one both conform."""
    one, zero = np.ones((1, 1, 1)), np.zeros((1, 1))
    logit = float(np.float32(np.log(2e-6 / (1 - 2e-6))))
    inputs = {"z": one, "k": one}
    for path, bias in zip(PATHWAYS, (logit, 0.0), strict=True):
        inputs |= {f"{path}_w1": zero, f"{path}_b1": np.zeros(1), f"{path}_w2": zero, f"{path}_b2": np.full(1, bias)}
    question = Question(inputs, {}, FLOAT32, cotangent=one)
    assert abs(float(reference(*inputs.values())[0, 0, 0]) - 1e-6) < 1e-12
    gradient = decay_gate.enclose_gradients(question)["base_b2"]
    for legal in (0.0, 1e-6):
        assert budget(np.array([legal]), gradient, FLOAT32, FLOAT32).max() <= 1
    assert budget(np.array([2.1e-6]), gradient, FLOAT32, FLOAT32).max() > 1
