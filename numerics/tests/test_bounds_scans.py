"""Do the bounds of products, sums and linear recurrences admit every order in float32, and little else?"""

import numpy as np
import pytest

from mmrec.numerics.bounds import (
    Question,
    decay_product,
    decay_product_exact,
    linear_recurrence,
    log_decay_product,
)
from mmrec.numerics.bounds.affine import enclose_affine, smallest_step
from mmrec.numerics.bounds.products import FLOOR, declared_additions
from mmrec.numerics.error_model import model_for
from mmrec.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, arithmetic_of
from mmrec.numerics.judgement import budget
from mmrec.numerics.running_error import RunningError
from mmrec.reference.decay_product_exact import decay_product_exact as exact_product
from mmrec.reference.decay_product_exact import decay_product_exact_adjoint
from mmrec.reference.linear_recurrence import linear_recurrence as linear
from mmrec.reference.linear_recurrence import linear_recurrence_adjoint
from mmrec.reference.log_decay_product import log_decay_product as log_product
from mmrec.reference.log_decay_product import log_decay_product_adjoint

BOUNDS = {
    "decay_product": decay_product,
    "decay_product_exact": decay_product_exact,
    "log_decay_product": log_decay_product,
    "linear_recurrence": linear_recurrence,
}
ORDERS = ("sequential", "tree", "random", "chunks of 5", "chunks of 16")


# ---- one scan in many orders -----------------------------------------------------------------
class Machine:
    """Arithmetic of one dtype: with or without fused multiply-add, with or without subnormal numbers."""

    def __init__(self, dtype, order, rng, fused=False, flush=False):
        self.dtype, self.order, self.rng, self.fused, self.flush = dtype, order, rng, fused, flush

    def kept(self, x):
        x = np.asarray(x, self.dtype)
        return np.where(np.abs(x) < np.finfo(self.dtype).tiny, self.dtype(0), x) if self.flush else x

    def combine(self, first, then):
        """h -> a h + b twice."""
        (a1, b1), (a2, b2) = first, then
        if self.fused and self.dtype is np.float32:
            return self.kept(a1 * a2), self.kept(a2.astype(np.float64) * b1 + b2)
        return self.kept(a1 * a2), self.kept(self.kept(a2 * b1) + b2)

    def scan(self, maps, order=None):
        order, n = order or self.order, len(maps)
        if order == "sequential":
            scanned = maps[:1]
            for x in maps[1:]:
                scanned.append(self.combine(scanned[-1], x))
        elif order == "tree":
            scanned, distance = list(maps), 1
            while distance < n:
                earlier = scanned[:distance]
                scanned = earlier + [self.combine(*pair) for pair in zip(scanned, scanned[distance:])]  # noqa: B905
                distance *= 2
        elif order == "random":
            scanned = [self.bracketed(maps, 0, t + 1) for t in range(n)]
        else:
            scanned, size = [], int(order.split()[-1])
            for start in range(0, n, size):
                block = self.scan(maps[start : start + size], "tree" if size % 2 else "sequential")
                scanned += [self.combine(scanned[start - 1], x) for x in block] if start else block
        return scanned

    def bracketed(self, maps, start, stop):
        if stop - start == 1:
            return maps[start]
        middle = int(self.rng.integers(start + 1, stop))
        return self.combine(self.bracketed(maps, start, middle), self.bracketed(maps, middle, stop))

    def affine(self, a, b, h0, late=False):
        """States [B,T,D]; the initial one enters with the first step or, ``late``, after the scan."""
        maps = [(a[:, t], b[:, t]) for t in range(a.shape[1])]
        if late:
            return np.stack([self.kept(self.kept(A * h0) + B) for A, B in self.scan(maps)], 1)
        maps[0] = self.combine((np.ones_like(h0), h0), maps[0])
        return np.stack([B for _, B in self.scan(maps)], 1)

    def adjoint(self, a, g):
        nothing = np.zeros_like(g[:, :1])
        coefficients, inflow = np.concatenate([nothing, a[:, ::-1]], 1), np.concatenate([g[:, ::-1], nothing], 1)
        wanted = self.affine(coefficients, inflow, np.zeros_like(g[:, 0]))[:, ::-1]
        return wanted[:, 1:], wanted[:, 0]

    def evaluate(self, op, inputs, g, late):
        """Result and gradients of one op, by argument."""
        first, *rest = (self.kept(x) for x in inputs.values())
        g, initial = self.kept(g), rest[-1]
        if op == "log_decay_product":
            clamped = np.clip(first, self.dtype(-50), self.dtype(0))
            result = self.affine(np.ones_like(clamped), clamped, initial, late)
            wanted, grad_initial = self.adjoint(np.ones_like(clamped), g)
            return result, {"log_gamma": np.where((first >= -50) & (first <= 0), wanted, 0), "initial": grad_initial}
        decay = np.maximum(first, self.dtype(FLOOR)) if op == "decay_product" else first
        inflow = rest[0] if op == "linear_recurrence" else np.zeros_like(decay)
        result = self.affine(decay, inflow, initial, late)
        wanted, grad_initial = self.adjoint(decay, g)
        before = np.concatenate([initial[:, None], result[:, :-1]], 1)
        grad_decay = self.kept(wanted * before)
        if op == "linear_recurrence":
            return result, {"a": grad_decay, "b": wanted, "h0": grad_initial}
        if op == "decay_product":
            grad_decay = np.where(first > self.dtype(FLOOR), grad_decay, 0)
        return result, {"gamma": grad_decay, "initial": grad_initial}


# ---- inputs ------------------------------------------------------------------------------
def decays(kind, rng, shape):
    if kind == "short memory":
        return rng.random(shape)
    if kind == "long memory":
        return 1 - rng.uniform(0.2, 1, shape) * 2.0 ** -rng.uniform(2, 15, (shape[0], 1, shape[2]))
    if kind == "zeros and ones":
        return np.where(rng.random(shape) < 0.6, rng.choice([0.0, 1.0, 1.0, 0.5], shape), rng.random(shape))
    if kind == "tiny":
        return np.where(rng.random(shape) < 0.2, np.exp(-rng.uniform(10, 95, shape)), 1 - 1e-3 * rng.random(shape))
    return np.full(shape, 1 - 2.0**-10 * 1.37)


KINDS = ("short memory", "long memory", "zeros and ones", "tiny", "constant")


def inputs_of(op, kind, rng, shape, storage):
    first = decays(kind, rng, shape)
    initial = rng.standard_normal((shape[0], shape[2])) * 10.0 ** rng.integers(-2, 3)
    if op == "log_decay_product":
        with np.errstate(divide="ignore"):
            arrays = {"log_gamma": np.log(first), "initial": initial}
    elif op == "linear_recurrence":
        sign = rng.choice([-1.0, 1.0], shape) if rng.random() < 0.5 else 1.0
        arrays = {"a": first * sign, "b": rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 3), "h0": initial}
    else:
        arrays = {"gamma": first, "initial": initial}
    g = rng.standard_normal(shape) * (rng.random(shape) > 0.1)
    return {name: storage.round(x) for name, x in arrays.items()}, storage.round(g)


def budgets(op, inputs, g, storage, result, gradients, declares=None):
    """The largest share of its tolerance each output uses, by name."""
    question = Question(inputs, {}, storage, storage.round(result), g, declares=declares or {})
    bound, factor = BOUNDS[op], 2.0 if storage is FLOAT64 else 1.0  # float64: value and output both err
    enclosures = {"result": bound.enclose(question)["result"], **bound.enclose_gradients(question)}
    outputs = {"result": result, **gradients}
    found = {}
    for name, enclosure in enclosures.items():
        enclosure = type(enclosure)(enclosure.value, factor * enclosure.tolerance)
        found[name] = budget(storage.round(outputs[name]), enclosure, storage, arithmetic_of(storage)).max(initial=0.0)
    return found


# ---- every order is enclosed ------------------------------------------------------------------
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", BOUNDS)
def test_every_order_is_enclosed(op, kind, order):
    """NUM-1: any bracketing, fused or not, flushed or not."""
    rng = np.random.default_rng([len(op), KINDS.index(kind), ORDERS.index(order)])
    for example in range(8):
        storage = (FLOAT32, FLOAT32, BFLOAT16, FLOAT16, FLOAT64)[example % 5]
        shape = (2, int(rng.integers(1, 40 if order == "random" else 130)), 2)
        inputs, g = inputs_of(op, kind, rng, shape, storage)
        machine = Machine(arithmetic_of(storage).dtype.type, order, rng, fused=example % 2 == 0, flush=example % 4 == 1)
        result, gradients = machine.evaluate(op, inputs, g, late=example % 3 == 0)
        found = budgets(op, inputs, g, storage, result, gradients)
        assert max(found.values()) <= 1, (storage.name, shape, example, found)


@pytest.mark.parametrize("op", BOUNDS)
def test_no_steps_need_no_tolerance(op):
    inputs, g = inputs_of(op, "short memory", np.random.default_rng(0), (2, 0, 3), FLOAT32)
    question = Question(inputs, {}, FLOAT32, np.zeros((2, 0, 3)), g)
    assert BOUNDS[op].enclose(question)["result"].value.shape == (2, 0, 3)
    for name, enclosure in BOUNDS[op].enclose_gradients(question).items():
        assert enclosure.value.shape == inputs[name].shape
        assert not enclosure.value.any() and not enclosure.tolerance.any()


# ---- the running error of the plain text is enclosed ---------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", ["decay_product_exact", "log_decay_product", "linear_recurrence"])
def test_the_bound_encloses_the_running_error_of_the_sequential_text(op, kind):
    """The derived bound admits more than the one order the text has, so it is never the smaller.

    ``decay_product`` is left out: run on running-error numbers its floor is exp(-50) with the error of exp, while
    STAB-3 makes it a constant rounded once.
    """
    texts = {"decay_product_exact": (exact_product, decay_product_exact_adjoint),
             "log_decay_product": (log_product, log_decay_product_adjoint),
             "linear_recurrence": (linear, linear_recurrence_adjoint)}  # fmt: skip
    function, adjoint = texts[op]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        inputs, g = inputs_of(op, kind, rng, (2, 33, 2), FLOAT32)
        question = Question(inputs, {}, FLOAT32, np.zeros(g.shape), g)
        running = question.exact()
        found = {"result": function(*running)}
        found |= dict(zip(inputs, adjoint(*running, RunningError(g, 0.0, question.model)), strict=True))
        enclosures = {"result": BOUNDS[op].enclose(question)["result"], **BOUNDS[op].enclose_gradients(question)}
        for name, number in found.items():
            enclosure = enclosures[name]
            np.testing.assert_allclose(number.value, enclosure.value, rtol=1e-12, atol=1e-25)
            normal = np.abs(number.value) > 1e-30  # below, the two count underflows differently
            certified = enclosure.tolerance == 0  # exactness is shown by a certificate, which the running error has not
            outside = number.error > enclosure.tolerance * (1 + 1e-5) + 2.0**-120
            assert not (outside & normal & ~certified).any(), name


# ---- bounds are not vacuous ---------------------------------------------------------------------
@pytest.mark.parametrize("op", BOUNDS)
@pytest.mark.parametrize("T", [1, 8, 64, 129])
def test_a_tolerance_is_a_few_roundings_a_step(op, T):
    """At most the operations behind a value, in units of roundoff of its terms' sizes; 20 times it is seen."""
    rng = np.random.default_rng(T)
    inputs, g = inputs_of(op, "long memory", rng, (2, T, 3), FLOAT32)
    enclosure = BOUNDS[op].enclose(Question(inputs, {}, FLOAT32, np.zeros(g.shape), g))["result"]
    sizes = {name: np.abs(x) for name, x in inputs.items()}
    if op == "linear_recurrence":
        size = linear(sizes["a"], sizes["b"], sizes["h0"])
    elif op == "log_decay_product":
        size = sizes["initial"][:, None] + np.cumsum(sizes["log_gamma"], axis=1)
    else:
        size = np.abs(enclosure.value)
    units = enclosure.tolerance / (size * 2.0**-24)
    assert np.all(units <= 2 * np.arange(1, T + 1)[None, :, None] + 3 + 2 * np.log2(T + 1))
    moved = enclosure.value + 20 * np.maximum(enclosure.tolerance, size * 2.0**-23)
    assert np.all(budget(moved, enclosure, FLOAT32, FLOAT32) > 1)


@pytest.mark.parametrize("narrow", [BFLOAT16, FLOAT16], ids=lambda f: f.name)
@pytest.mark.parametrize("op", BOUNDS)
def test_a_state_kept_in_a_narrow_format_is_rejected(op, narrow):
    """Sequential, one rounding to the narrow format a step: far outside in float32 storage, and in narrow storage."""
    rng = np.random.default_rng(3)
    for storage in (FLOAT32, narrow):
        inputs, g = inputs_of(op, "long memory", rng, (2, 65, 3), storage)
        first, *rest = inputs.values()
        step = (lambda h, t: h + first[:, t]) if op == "log_decay_product" else (lambda h, t: h * first[:, t])  # noqa: B023
        inflow = rest[0] if op == "linear_recurrence" else np.zeros_like(first)
        h, states = rest[-1], []
        for t in range(65):
            h = narrow.round(step(h, t) + inflow[:, t])
            states.append(h)
        question = Question(inputs, {}, storage, np.stack(states, 1), g)
        found = budget(np.stack(states, 1), BOUNDS[op].enclose(question)["result"], storage, arithmetic_of(storage))
        assert found.max() > 10


MISTAKES = {
    "one step late": lambda op, x: x[:, [0, *range(x.shape[1] - 1)]],
    "the last step missing": lambda op, x: np.concatenate([x[:, :-1], x[:, -2:-1]], 1),
    "a carry missing": lambda op, x: np.concatenate([x[:, :16], x[:, 16:] - x[:, 15:16]], 1),
    "one unit in a thousand": lambda op, x: x * 1.001,
    "flushed below 1e-30": lambda op, x: np.where(np.abs(x) < 1e-30, 0.0, x),
}


@pytest.mark.parametrize("mistake", list(MISTAKES)[:-1])
@pytest.mark.parametrize("op", BOUNDS)
def test_usual_mistakes_are_rejected(op, mistake):
    rng = np.random.default_rng(4)
    inputs, g = inputs_of(op, "long memory", rng, (1, 65, 3), FLOAT32)
    result, gradients = Machine(np.float32, "sequential", rng).evaluate(op, inputs, g, late=False)
    wrong = MISTAKES[mistake](op, result)
    assert budgets(op, inputs, g, FLOAT32, wrong, gradients)["result"] > 10
    name = "a" if op == "linear_recurrence" else next(iter(inputs))
    if mistake != "a carry missing":
        wrong_gradients = {**gradients, name: MISTAKES[mistake](op, gradients[name])}
        assert budgets(op, inputs, g, FLOAT32, result, wrong_gradients)[name] > 10


@pytest.mark.parametrize("op", ["decay_product", "decay_product_exact"])
def test_small_products_may_not_be_flushed(op):
    inputs = {"gamma": np.full((1, 40, 1), float(np.float32(0.1))), "initial": np.ones((1, 1))}
    rng = np.random.default_rng(5)
    result, gradients = Machine(np.float32, "sequential", rng).evaluate(op, inputs, np.ones((1, 40, 1)), late=False)
    assert budgets(op, inputs, np.ones((1, 40, 1)), FLOAT32, result, gradients)["result"] <= 1
    flushed = MISTAKES["flushed below 1e-30"](op, result)
    assert budgets(op, inputs, np.ones((1, 40, 1)), FLOAT32, flushed, gradients)["result"] > 10


# ---- where nothing is rounded -----------------------------------------------------------------
@pytest.mark.parametrize("order", ORDERS)
def test_certified_recurrences_are_exact_in_every_order(order):
    """NUM-7: a of 0, 1, -1 and multiples of 2^q: tolerance 0, and no order rounds."""
    rng = np.random.default_rng(6)
    for q in (0, -7, 12):
        a, b = rng.choice([1.0, 1.0, -1.0, 0.0], (2, 60, 3)), rng.integers(-900, 900, (2, 60, 3)) * 2.0**q
        h0 = rng.integers(-900, 900, (2, 3)) * 2.0**q
        enclosure = enclose_affine(a, b, h0, model_for(FLOAT32))
        assert not enclosure.tolerance.any()
        machine = Machine(np.float32, order, rng, fused=True)
        assert np.array_equal(machine.affine(*(x.astype(np.float32) for x in (a, b, h0))), enclosure.value)


@pytest.mark.parametrize("order", ORDERS)
def test_certified_sums_and_products_are_exact_in_every_order(order):
    """NUM-7"""
    rng = np.random.default_rng(7)
    machine = Machine(np.float32, order, rng)
    for op, first in (("log_decay_product", -rng.integers(0, 70, (2, 50, 3)) / 4.0),
                      ("decay_product_exact", rng.choice([1.0, 1.0, 0.5, 0.25, 0.0], (2, 50, 3)))):  # fmt: skip
        name = "log_gamma" if op == "log_decay_product" else "gamma"
        initial = rng.integers(-8, 8, (2, 3)) / 4.0
        inputs = {name: first, "initial": initial}
        enclosure = BOUNDS[op].enclose(Question(inputs, {}, FLOAT32))["result"]
        result, _ = machine.evaluate(op, inputs, np.zeros(first.shape), late=True)
        exact = enclosure.tolerance == 0
        assert np.array_equal(result[exact], enclosure.value[exact])
        assert exact[enclosure.value != 0].all()


def test_a_certificate_ends_where_the_digits_do():
    """NUM-7: integers that add up to more than 2^24: from there on a float32 sum may round."""
    b = np.full((1, 4, 1), 2.0**23 - 1)
    enclosure = enclose_affine(np.ones((1, 4, 1)), b, np.zeros((1, 1)), model_for(FLOAT32))
    assert (enclosure.tolerance[0, :, 0] == 0).tolist() == [True, True, False, False]
    assert not enclose_affine(np.ones((1, 4, 1)), b, np.zeros((1, 1)), model_for(FLOAT64)).tolerance.any()
    half = enclose_affine(np.full((1, 4, 1), 0.5), b, np.zeros((1, 1)), model_for(FLOAT32))
    assert half.tolerance.all()


def test_decays_of_one_demand_the_initial_value():
    """NUM-7"""
    inputs = {"gamma": np.ones((1, 500, 1)), "initial": np.full((1, 1), 0.1)}
    for bound in (decay_product, decay_product_exact):
        enclosure = bound.enclose(Question(inputs, {}, FLOAT32))["result"]
        assert not enclosure.tolerance.any() and np.all(enclosure.value == 0.1)


@pytest.mark.parametrize(
    ("x", "step"),
    [(0.0, np.inf), (1.0, 1.0), (12.0, 4.0), (-0.375, 0.125), (2.0**60 + 512, 512), (5e-324, 5e-324), (0.1, 2.0**-55)],
)
def test_the_smallest_step_is_the_largest_power_of_two_that_divides(x, step):
    assert smallest_step(np.array([x]))[0] == step


# ---- limits -------------------------------------------------------------------------------
@pytest.mark.parametrize("side", [-1, 1])
def test_decays_beside_the_floor(side):
    """The float32 neighbours of e^-50 on either side: value and gradient as the clause says."""
    floor = np.float32(FLOOR)
    beside = np.nextafter(np.nextafter(floor, np.float32(side)), np.float32(side))
    inputs = {"gamma": np.array([0.5, float(beside), 0.5]).reshape(1, 3, 1), "initial": np.full((1, 1), 4.0)}
    g = np.ones((1, 3, 1))
    for order in ("sequential", "tree"):
        machine = Machine(np.float32, order, np.random.default_rng(0))
        result, gradients = machine.evaluate("decay_product", inputs, g, late=True)
        assert max(budgets("decay_product", inputs, g, FLOAT32, result, gradients).values()) <= 1
        assert bool(gradients["gamma"][0, 1, 0]) == (side > 0)


def test_clamped_logarithms_have_no_gradient_and_no_tolerance():
    inputs = {"log_gamma": np.array([-50.0, -50.5, 0.0, -np.inf]).reshape(1, 4, 1), "initial": np.zeros((1, 1))}
    question = Question(inputs, {}, FLOAT32, np.zeros((1, 4, 1)), np.full((1, 4, 1), 0.1))
    grad = log_decay_product.enclose_gradients(question)["log_gamma"]
    assert (grad.value[0, :, 0] == 0).tolist() == [False, True, False, True]
    assert (grad.tolerance[0, :, 0] == 0).tolist() == [False, True, False, True]


@pytest.mark.parametrize("initial", [1e38, -3e38, 1e-30, 1e-38, 3e-45])
@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_initial_values_of_any_size(initial, flush, late):
    rng = np.random.default_rng(8)
    inputs = {"gamma": np.float32(10.0 ** -rng.uniform(0, 12, (2, 12, 3))).astype(float),
              "initial": np.full((2, 3), float(np.float32(initial)))}  # fmt: skip
    for order in ORDERS:
        machine = Machine(np.float32, order, rng, flush=flush)
        result, _ = machine.evaluate("decay_product_exact", inputs, np.zeros((2, 12, 3)), late)
        enclosure = decay_product_exact.enclose(Question(inputs, {}, FLOAT32))["result"]
        assert budget(result, enclosure, FLOAT32, FLOAT32).max() <= 1


# ---- products through logarithms ---------------------------------------------------------------
@pytest.mark.parametrize("op", ["decay_product", "decay_product_exact"])
@pytest.mark.parametrize("depth", ["sequential", "tree", "chunk:8"])
def test_products_through_logarithms_are_enclosed_by_their_class(op, depth):
    """SCAN-3, NUM-8: each declared depth, summed so, within the bound of the log class."""
    rng = np.random.default_rng(9)
    order = {"sequential": "sequential", "tree": "tree", "chunk:8": "chunks of 8"}[depth]
    for kind in ("short memory", "long memory", "zeros and ones", "constant"):
        inputs, _ = inputs_of(op, kind, rng, (2, 60, 3), FLOAT32)
        inputs["initial"] = FLOAT32.round(rng.uniform(-1, 1, (2, 3)))
        with np.errstate(divide="ignore"):
            logs = np.log(inputs["gamma"].astype(np.float32))
        logs = np.maximum(logs, np.float32(-50)) if op == "decay_product" else logs
        sums = Machine(np.float32, order, rng).affine(np.ones_like(logs), logs, np.zeros((2, 3), np.float32))
        result = inputs["initial"][:, None].astype(np.float32) * np.exp(sums)
        declares = {"class": "log", "depth": depth}
        enclosure = BOUNDS[op].enclose(Question(inputs, {}, FLOAT32, declares=declares))["result"]
        assert budget(result, enclosure, FLOAT32, FLOAT32).max() <= 1, kind
        assert np.all(budget(enclosure.value * 1.001, enclosure, FLOAT32, FLOAT32)[np.abs(enclosure.value) > 1e-30] > 1)


def test_a_declared_depth_bounds_the_additions():
    """NUM-8"""
    depths = ("tree", "chunk:64", "sequential", "any")
    question = {depth: Question({}, {}, FLOAT32, declares={"depth": depth}) for depth in depths}
    counted = np.arange(4096)[None, :, None]
    found = {depth: declared_additions(q, counted)[0, -1, 0] for depth, q in question.items()}
    assert found["sequential"] == found["any"] == 4095
    assert 12 <= found["tree"] <= 26 and 64 + 63 <= found["chunk:64"] <= 64 + 64 + 2
    assert declared_additions(question["tree"], counted)[0, 3, 0] == 3  # never more than there are
    with pytest.raises(ValueError, match='depth: \'deep\' is not one of "sequential", "tree", "chunk:<steps>", "any"'):
        declared_additions(Question({}, {}, FLOAT32, declares={"depth": "deep"}), counted)
