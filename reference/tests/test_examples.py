"""Do the worked examples of the spec come out of the reference, in every number system?"""

import inspect

import mpmath
import numpy as np
import pytest
from flint import arb, ctx

from mmrec import spec

EXAMPLES = {name: clause.example for name, clause in spec.clauses().items() if clause.example is not None}
LAST_DIGIT = 4e-16  # an example is exact or right to 17 digits; its inputs are the doubles nearest to what is written


def parts_of(reference, example):
    """(op, arguments in order, options, cotangent or None, expected arrays: result, then gradients)."""
    op = example["op"]
    parameters = inspect.signature(reference.function(op)).parameters
    options = {name: example[name] for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY and name in example}
    arguments = [np.asarray(example[name], float) for name in reference.shapes[op]]
    g = np.asarray(example["g"], float) if "g" in example else None
    gradients = [np.asarray(example[f"grad_{name}"], float) for name in reference.shapes[op]] if g is not None else []
    return op, arguments, options, g, [np.asarray(example["result"], float), *gradients]


def evaluate(reference, parts, convert):
    op, arguments, options, g, _ = parts
    arguments = [convert(x) for x in arguments]
    results = [reference.function(op)(*arguments, **options)]
    if g is not None:
        results += reference.adjoint(op)(*arguments, convert(g), **options)
    return results


@pytest.mark.parametrize("name", EXAMPLES)
def test_float64_gives_the_example(reference, name):
    parts = parts_of(reference, EXAMPLES[name])
    for got, expected in zip(evaluate(reference, parts, lambda x: x), parts[-1], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-15 * np.abs(expected).max())


@pytest.mark.parametrize("name", EXAMPLES)
def test_fifty_digits_give_the_example_to_its_last_digit(reference, name):
    parts = parts_of(reference, EXAMPLES[name])
    with mpmath.workdps(50):
        results = evaluate(reference, parts, lambda x: reference.objects(mpmath.mpf, x))
    for got, expected in zip(results, parts[-1], strict=True):
        np.testing.assert_allclose(got.astype(float), expected, rtol=LAST_DIGIT, atol=0)


@pytest.mark.parametrize("name", EXAMPLES)
def test_balls_prove_the_example(reference, name, monkeypatch):
    monkeypatch.setattr(ctx, "prec", 400)
    parts = parts_of(reference, EXAMPLES[name])
    for got, expected in zip(evaluate(reference, parts, lambda x: reference.objects(arb, x)), parts[-1], strict=True):
        for ball, number in zip(got.ravel(), expected.ravel(), strict=True):
            assert float((ball - arb(number)).abs_upper()) <= LAST_DIGIT * abs(number) + 1e-100


def test_every_op_has_an_example_of_its_value_and_of_its_gradient(reference):
    valued = {example["op"] for example in EXAMPLES.values()}
    differentiated = {example["op"] for example in EXAMPLES.values() if "g" in example}
    assert valued == differentiated == set(reference.shapes)
