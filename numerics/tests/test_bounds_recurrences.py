"""Does the defect of a correct float32 loop and its hand adjoint stay within the bound, and that of a wrong one not?"""

import importlib

import numpy as np
import pytest

from mmrec.numerics.bounds import Question, gated_recurrence, stabilized_recurrence
from mmrec.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, arithmetic_of
from mmrec.numerics.judgement import Enclosure, budget

BOUNDS = {"gated": gated_recurrence, "stabilized": stabilized_recurrence}
NORMS = ("rms", "layer", "none")
MATRIX_ORDERS = ("library", "forwards", "backwards")


class Loop:
    """Both recurrences and their adjoints, step by step in one dtype; ``mistakes`` are switched on by name."""

    def __init__(self, dtype, order="library", other_form=False, mistakes=()):
        self.dtype, self.order, self.other_form, self.mistakes = dtype, order, other_form, mistakes

    def sigmoid(self, x):
        with np.errstate(over="ignore", under="ignore"):
            value = self.dtype(1) / (self.dtype(1) + np.exp(-x))
        return BFLOAT16.round(value).astype(self.dtype) if "bfloat16 gate" in self.mistakes else value

    def weighted(self, h, W):
        if self.order == "library":
            return h @ W.T
        total = np.zeros((h.shape[0], W.shape[0]), self.dtype)
        for j in range(W.shape[1]) if self.order == "forwards" else reversed(range(W.shape[1])):
            total = total + h[:, j : j + 1] * W[None, :, j]
        return total

    def kept(self, h):
        return BFLOAT16.round(h).astype(self.dtype) if "bfloat16 state" in self.mistakes else h

    def mean(self, x):
        return x.mean(axis=-1, keepdims=True, dtype=self.dtype)

    # ---- gated ----
    def gated(self, inputs, g):
        z, gamma, W, b, h0 = (x.astype(self.dtype) for x in inputs.values())
        g, T = g.astype(self.dtype), z.shape[1]
        h, states, before, gates = h0, [], [], []
        for t in range(T):
            opening = self.sigmoid(self.weighted(h, W) + b)
            before.append(h)
            gates.append(opening)
            decay = gamma[:, t - 1] if "late decay" in self.mistakes and t else gamma[:, t]
            h = self.kept(z[:, t] * opening + decay * h)
            states.append(h)
        wanted, grads = np.zeros_like(h0), {"z": np.zeros_like(z), "gamma": np.zeros_like(z)}
        dgate = np.zeros_like(z)
        for t in reversed(range(T)):
            s = g[:, t] + wanted
            dgate[:, t] = s * z[:, t] * (gates[t] * (1 - gates[t]))
            grads["z"][:, t] = s * gates[t]
            grads["gamma"][:, t] = s * (states[t] if "state after the step" in self.mistakes else before[t])
            wanted = self.weighted(dgate[:, t], W.T) + gamma[:, t] * s
            if "no gradient through the gate" in self.mistakes:
                wanted = gamma[:, t] * s
            if "wrong decay backwards" in self.mistakes and t:
                wanted = self.weighted(dgate[:, t], W.T) + gamma[:, t - 1] * s
            if "backwards cut at step 3" in self.mistakes and t == 3:
                wanted = np.zeros_like(h0)
        grads |= self.parameters("W_g", "b_g", dgate, before)
        return np.stack(states, 1), {**grads, "h0": wanted}

    def parameters(self, weight, bias, dgate, before):
        D = dgate.shape[-1]
        q, h = dgate.reshape(-1, D), np.stack(before, 1).reshape(-1, D)
        rows = slice(1, None) if "first row of the weight gradient missing" in self.mistakes else slice(None)
        return {weight: q[rows].T @ h[rows], bias: q.sum(axis=0, dtype=self.dtype)}

    # ---- stabilized ----
    def normalized(self, u, weight, bias, norm, eps):
        """(direction, 1 / deviation, normalized)"""
        if norm == "none":
            return u * 0, u[:, :1] * 0, u
        middle = self.mean(u) if norm == "layer" else u[:, :1] * 0
        if "one-pass variance" in self.mistakes:
            scale = 1 / np.sqrt(self.mean(u * u) - middle * middle + self.dtype(eps))
        else:
            scale = 1 / np.sqrt(self.mean((u - middle) * (u - middle)) + self.dtype(eps))
        if "eps after the root" in self.mistakes:
            scale = 1 / (np.sqrt(self.mean(u * u)) + self.dtype(eps))
        direction = u * scale - middle * scale if self.other_form else (u - middle) * scale
        return direction, scale, direction * weight + (bias if norm == "layer" else self.dtype(0))

    def stabilized(self, inputs, g, norm="rms", eps=1e-6, clip=100.0):
        z, gate_z, gamma, W, b, weight, bias, h0 = (x.astype(self.dtype) for x in inputs.values())
        g, T, limit = g.astype(self.dtype), z.shape[1], self.dtype(clip)
        h, states, steps = h0, [], []
        for t in range(T):
            opening = self.sigmoid(gate_z[:, t] + (self.weighted(h, W) + b))
            if self.other_form:
                u = opening * z[:, t] + ((1 - opening) + gamma[:, t]) * h
            else:
                u = ((1 - opening) * h + opening * z[:, t]) + gamma[:, t] * h
            direction, scale, v = self.normalized(u, weight, bias, norm, eps)
            steps.append((h, opening, direction, scale, v))
            states.append(np.clip(v, -limit, limit))
            h = self.kept(v if "carry before the clip" in self.mistakes else states[-1])
        wanted, grads = np.zeros_like(h0), {name: np.zeros_like(z) for name in ("z", "gate_z", "gamma")}
        dweight, dbias = np.zeros_like(weight), np.zeros_like(bias)
        for t in reversed(range(T)):
            h, opening, direction, scale, v = steps[t]
            c = g[:, t] + wanted
            if "gradient through the clip" not in self.mistakes:
                c = np.where(np.abs(v) <= limit, c, self.dtype(0))
            e = c
            if norm != "none":
                d = c * weight
                e = d - direction * self.mean(d * direction)
                if norm == "layer":
                    dbias, e = dbias + c.sum(axis=0), e - self.mean(d)
                if "norm backwards without projection" in self.mistakes:
                    e = d
                dweight, e = dweight + (c * direction).sum(axis=0), e * scale
            q = e * (z[:, t] - h) * (opening * (1 - opening))
            grads["z"][:, t], grads["gate_z"][:, t], grads["gamma"][:, t] = opening * e, q, h * e
            wanted = ((1 - opening) + gamma[:, t]) * e + self.weighted(q, W.T)
            if "gate not differentiated" in self.mistakes:
                wanted = ((1 - opening) + gamma[:, t]) * e
        grads |= self.parameters("W_h", "b_h", grads["gate_z"], [step[0] for step in steps])
        return np.stack(states, 1), {**grads, "norm_weight": dweight, "norm_bias": dbias, "h0": wanted}


def inputs_of(kind, rng, B, T, D, storage, weight_scale=1.0, decay=(0.0, 1.0)):
    """Arguments in order, rounded to storage, and a cotangent with some zeros."""
    normal = rng.standard_normal
    arrays = {"z": normal((B, T, D))}
    if kind == "stabilized":
        arrays["gate_z"] = normal((B, T, D))
    gamma = np.where(rng.random((B, T, D)) < 0.1, rng.choice([0.0, 1.0], (B, T, D)), rng.uniform(*decay, (B, T, D)))
    W, b = normal((D, D)) * weight_scale / np.sqrt(D), 0.5 * normal(D)
    arrays |= {"gamma": gamma, "W_g" if kind == "gated" else "W_h": W, "b_g" if kind == "gated" else "b_h": b}
    if kind == "stabilized":
        arrays |= {"norm_weight": 1 + 0.3 * normal(D), "norm_bias": 0.3 * normal(D)}
    arrays["h0"] = normal((B, D))
    g = normal((B, T, D)) * (rng.random((B, T, D)) > 0.1)
    return {name: storage.round(x) for name, x in arrays.items()}, storage.round(g)


def budgets(kind, inputs, g, options, storage, result, gradients):
    """The largest share of its tolerance each output uses, by name."""
    result, gradients = storage.round(result), {name: storage.round(gradients[name]) for name in inputs}
    question = Question(inputs, options, storage, result, g, gradients)
    found = {"result": BOUNDS[kind].enclose(question)["result"], **BOUNDS[kind].enclose_gradients(question)}
    factor = 2.0 if storage is FLOAT64 else 1.0  # float64: the reference's one step errs as well
    return {
        name: budget({"result": result, **gradients}[name], Enclosure(e.value, factor * e.tolerance), storage,
                     arithmetic_of(storage)).max(initial=0.0)
        for name, e in found.items()
    }  # fmt: skip


def judged(kind, seed, T, storage, options, loop, B=2, D=3, **drawn):
    inputs, g = inputs_of(kind, np.random.default_rng(seed), B, T, D, storage, **drawn)
    result, gradients = getattr(loop, kind)(inputs, g, **options)
    return budgets(kind, inputs, g, options, storage, result, gradients)


# ---- correct loops --------------------------------------------------------------------------
@pytest.mark.parametrize("storage", [FLOAT32, BFLOAT16, FLOAT16, FLOAT64], ids=lambda f: f.name)
@pytest.mark.parametrize("order", MATRIX_ORDERS)
@pytest.mark.parametrize("T", [1, 2, 17, 130])
def test_correct_gated_loops_are_accepted(T, order, storage):
    """NUM-5"""
    loop = Loop(arithmetic_of(storage).dtype.type, order)
    for seed, scale in enumerate((0.0, 1.0, 4.0)):
        decay = (0.0, 1.0) if seed else (0.9, 1.0)
        found = judged("gated", seed, T, storage, {}, loop, weight_scale=scale, decay=decay)
        assert max(found.values()) <= 1, (scale, found)


@pytest.mark.parametrize("storage", [FLOAT32, BFLOAT16, FLOAT16, FLOAT64], ids=lambda f: f.name)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("other_form", [False, True])
@pytest.mark.parametrize("T", [1, 2, 17, 130])
def test_correct_stabilized_loops_are_accepted(T, other_form, norm, storage):
    """NUM-5"""
    for seed, (scale, eps, clip) in enumerate(((0.0, 1e-6, 100.0), (1.0, 1e-3, 1.5), (4.0, 1e-6, 100.0))):
        loop = Loop(arithmetic_of(storage).dtype.type, MATRIX_ORDERS[seed], other_form)
        options = {"norm": norm, "eps": eps, "clip": clip}
        found = judged("stabilized", seed, T, storage, options, loop, weight_scale=scale)
        assert max(found.values()) <= 1, (options, found)


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize(("B", "D"), [(1, 1), (3, 17), (1, 65)])
def test_correct_loops_of_other_widths_are_accepted(kind, B, D):
    for norm in NORMS if kind == "stabilized" else (None,):
        options = {"norm": norm} if norm else {}
        found = judged(kind, 5, 9, FLOAT32, options, Loop(np.float32), B=B, D=D)
        assert max(found.values()) <= 1, (norm, found)


def test_a_shut_gate_does_not_hide_what_later_steps_want():
    """Logits of -90 and below: float32 gates are 0, grad z says nothing, and a correct loop must still conform."""
    for logit in (-80.0, -90.0, -104.0, -200.0, -1000.0):
        inputs, g = inputs_of("stabilized", np.random.default_rng(6), 2, 9, 3, FLOAT32)
        inputs["gate_z"] = np.where(np.random.default_rng(7).random((2, 9, 3)) < 0.5, logit, inputs["gate_z"])
        result, gradients = Loop(np.float32).stabilized(inputs, g, norm="none")
        found = budgets("stabilized", inputs, g, {"norm": "none"}, FLOAT32, result, gradients)
        assert max(found.values()) <= 1, (logit, found)


@pytest.mark.parametrize("kind", BOUNDS)
def test_no_steps_conform(kind):
    inputs, _ = inputs_of(kind, np.random.default_rng(8), 2, 0, 3, FLOAT32)
    nothing = np.zeros((2, 0, 3))
    question = Question(inputs, {}, FLOAT32, nothing, nothing, {name: np.zeros(x.shape) for name, x in inputs.items()})
    assert BOUNDS[kind].enclose(question)["result"].value.shape == (2, 0, 3)
    for name, enclosure in BOUNDS[kind].enclose_gradients(question).items():
        assert enclosure.value.shape == inputs[name].shape and not enclosure.value.any()


# ---- wrong loops -----------------------------------------------------------------------------
GATED_MISTAKES = {
    "late decay": "result",
    "bfloat16 state": "result",
    "bfloat16 gate": "result",
    "state after the step": "gamma",
    "no gradient through the gate": "z",
    "wrong decay backwards": "z",
    "backwards cut at step 3": "z",
    "first row of the weight gradient missing": "W_g",
}


@pytest.mark.parametrize("T", [8, 130])
@pytest.mark.parametrize("mistake", GATED_MISTAKES)
def test_wrong_gated_loops_are_rejected(mistake, T):
    found = judged("gated", 9, T, FLOAT32, {}, Loop(np.float32, mistakes=(mistake,)))
    assert found[GATED_MISTAKES[mistake]] > 10


@pytest.mark.parametrize("mistake", [m for m in GATED_MISTAKES if not m.startswith("bfloat16")])
def test_wrong_gated_loops_are_rejected_in_narrow_storage(mistake):
    found = judged("gated", 10, 33, BFLOAT16, {}, Loop(np.float32, mistakes=(mistake,)))
    assert found[GATED_MISTAKES[mistake]] > 1


STABILIZED_MISTAKES = {
    "bfloat16 state": ("result", {"norm": "rms"}),
    "bfloat16 gate": ("result", {"norm": "layer"}),
    "eps after the root": ("result", {"norm": "rms", "eps": 1e-3}),
    "carry before the clip": ("result", {"norm": "rms", "clip": 0.8}),
    "gradient through the clip": ("z", {"norm": "rms", "clip": 0.8}),
    "norm backwards without projection": ("z", {"norm": "layer"}),
    "gate not differentiated": ("z", {"norm": "none"}),
    "first row of the weight gradient missing": ("W_h", {"norm": "rms"}),
}


@pytest.mark.parametrize("T", [8, 130])
@pytest.mark.parametrize("mistake", STABILIZED_MISTAKES)
def test_wrong_stabilized_loops_are_rejected(mistake, T):
    name, options = STABILIZED_MISTAKES[mistake]
    found = judged("stabilized", 11, T, FLOAT32, options, Loop(np.float32, mistakes=(mistake,)))
    assert found[name] > 10


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("step", [0, 1, 60, 128, 129])
def test_one_wrong_step_among_130_is_rejected_where_it_is(kind, step):
    """NUM-5: the state of one step is off by a thousandth, and the loop goes on from the right one."""
    inputs, g = inputs_of(kind, np.random.default_rng(12), 2, 130, 3, FLOAT32)
    result, gradients = getattr(Loop(np.float32), kind)(inputs, g)
    result = result.copy()
    result[1, step, 2] += 1e-3
    gradients = {name: np.asarray(gradients[name], float) for name in inputs}
    question = Question(inputs, {}, FLOAT32, result.astype(float), g, gradients)
    used = budget(result, BOUNDS[kind].enclose(question)["result"], FLOAT32, FLOAT32)
    assert used[1, step, 2] > 10
    assert not (np.argwhere(used > 1)[:, 1] > step + 1).any() and not (np.argwhere(used > 1)[:, 0] == 0).any()


@pytest.mark.parametrize("kind", BOUNDS)
def test_one_wrong_gradient_among_130_is_rejected_where_it_is(kind):
    inputs, g = inputs_of(kind, np.random.default_rng(13), 2, 130, 3, FLOAT32)
    result, gradients = getattr(Loop(np.float32), kind)(inputs, g)
    for name in inputs:
        wrong = {other: x.copy() for other, x in gradients.items()}
        place = (1, 60, 2)[: wrong[name].ndim] if inputs[name].ndim == 3 else (1,) * wrong[name].ndim
        if name == "norm_bias" or not wrong[name][place]:
            continue  # unused by the default norm
        wrong[name][place] *= 1.001
        assert budgets(kind, inputs, g, {}, FLOAT32, result, wrong)[name] > 2, name


# ---- size ----------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", BOUNDS)
def test_the_bound_of_a_step_is_a_few_hundred_roundings(kind):
    """NUM-5: no propagation, at step 129 it is what it is at step 0."""
    inputs, g = inputs_of(kind, np.random.default_rng(14), 2, 130, 3, FLOAT32)
    result, gradients = getattr(Loop(np.float32), kind)(inputs, g)
    question = Question(inputs, {}, FLOAT32, result.astype(float), g, {n: gradients[n].astype(float) for n in inputs})
    tolerance = BOUNDS[kind].enclose(question)["result"].tolerance
    assert tolerance.max() < 300 * 2.0**-24 * max(1.0, np.abs(result).max())
    assert np.median(tolerance[:, 100:]) < 3 * np.median(tolerance[:, :30])
    for name, enclosure in BOUNDS[kind].enclose_gradients(question).items():
        size = np.abs(enclosure.value).max()
        assert np.median(enclosure.tolerance) <= 4000 * 2.0**-24 * size, name  # sums over 260 rows and steps


@pytest.mark.parametrize("kind", BOUNDS)
def test_the_reference_itself_has_no_defect(kind):
    inputs, g = inputs_of(kind, np.random.default_rng(15), 2, 40, 3, FLOAT64)
    module = importlib.import_module(f"mmrec.reference.{kind}_recurrence")
    result = getattr(module, f"{kind}_recurrence")(*inputs.values())
    gradients = getattr(module, f"{kind}_recurrence_adjoint")(*inputs.values(), g)
    found = budgets(kind, inputs, g, {}, FLOAT64, result, dict(zip(inputs, gradients, strict=True)))
    assert max(found.values()) <= 1, found
