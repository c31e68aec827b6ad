"""Do both trees give what one step after the other gives, and at the stated cost?"""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.reference.scan_trees import step_efficient, work_efficient

modest = settings(max_examples=60, derandomize=True, deadline=None)

LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 100, 128)


def sequential(elements, combine):
    scanned = []
    for x in elements:
        scanned.append(combine(scanned[-1], x) if scanned else x)
    return scanned


def join(left, right):
    """First left, then right: strings notice every exchange."""
    return left + right


def compose(first, then):
    """h -> a h + b twice, on integers: associative, not commutative, exact."""
    (a1, b1), (a2, b2) = first, then
    return a2 * a1, a2 * b1 + b2


@modest
@given(st.lists(st.text("abcdefgh", max_size=3), max_size=70))
def test_trees_keep_the_order_of_strings(words):
    expected = sequential(words, join)
    assert step_efficient(words, join)[0] == expected
    assert work_efficient(words, join, "")[0] == expected


@modest
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-9, 9)), max_size=70))
def test_trees_compose_affine_maps(maps):
    expected = sequential(maps, compose)
    assert step_efficient(maps, compose)[0] == expected
    assert work_efficient(maps, compose, (1, 0))[0] == expected


@pytest.mark.parametrize("n", LENGTHS)
def test_the_step_efficient_tree_costs_what_the_clause_says(n):
    calls = []
    scanned, cost = step_efficient([1] * n, lambda a, b: calls.append(1) or a + b)
    levels = math.ceil(math.log2(n))
    assert scanned == list(range(1, n + 1))
    assert cost.levels == levels  # SCAN-5
    assert cost.combines == len(calls) == n * levels - (2**levels - 1)


@pytest.mark.parametrize("n", LENGTHS)
def test_the_work_efficient_tree_costs_what_the_clause_says(n):
    calls = []
    scanned, cost = work_efficient([1] * n, lambda a, b: calls.append(1) or a + b, 0)
    padded = 2 ** math.ceil(math.log2(n))
    assert scanned == list(range(1, n + 1))
    assert cost.levels == 2 * int(math.log2(padded)) + 1  # SCAN-23
    assert cost.combines == len(calls) == 2 * (padded - 1) + n


def test_the_costs_at_32768_are_those_of_the_spec():
    combines = []
    for tree in (step_efficient, lambda elements, combine: work_efficient(elements, combine, 0)):
        _, cost = tree(range(32768), lambda a, b: 0)
        combines.append((cost.levels, cost.combines))
    assert combines == [(15, 458_753), (31, 98_302)]


def test_nothing_costs_nothing():
    assert step_efficient([], join)[0] == [] and work_efficient([], join, "")[0] == []
    assert step_efficient([], join)[1].combines == work_efficient([], join, "")[1].combines == 0


def test_the_given_elements_are_left_alone():
    words = ["a", "b", "c"]
    step_efficient(words, join), work_efficient(words, join, "")
    assert words == ["a", "b", "c"]
