"""Does the check report what is too slow, what was not timed, and what is too fast to be true?"""

import itertools

import pytest

from mmrec.benchmarks import thresholds
from mmrec.benchmarks.cases import DIRECTIONS
from mmrec.benchmarks.implementations import implementations
from mmrec.benchmarks.plans import PLANS
from mmrec.benchmarks.thresholds import Threshold
from mmrec.conformance.ops import all_ops

ROW = {
    "op": "linear_recurrence", "direction": "forward", "implementation": "jax", "shape": "B1-T8-D4",
    "size": "B1-T8-D4", "dtype": "float32", "scaling": False, "peer": False, "bound_by": "copy", "operations": 1000,
    "seconds": 2e-3, "bytes": 8_000_000, "share": 0.5, "copy_share": 0.5, "ratio": 0.8, "beyond_cache": True,
}  # fmt: skip


def expected(**limits):
    return {"float32": {"linear_recurrence forward jax": Threshold(**limits)}}


def test_what_is_fast_enough_is_no_miss():
    assert thresholds.misses([ROW], [], expected(share_at_least=0.5, ratio_at_most=0.8)) == []


def test_a_share_below_its_threshold_is_reported_with_both_numbers():
    (miss,) = thresholds.misses([ROW], [], expected(share_at_least=0.6))

    assert miss == "linear_recurrence forward jax B1-T8-D4 float32: 0.5 of the limit, at least 0.6 expected"


def test_a_ratio_above_its_threshold_is_reported():
    (miss,) = thresholds.misses([ROW], [], expected(ratio_at_most=0.7))

    assert "0.8 times the baseline's time, at most 0.7 expected" in miss


def test_a_ratio_without_a_baseline_is_reported():
    (miss,) = thresholds.misses([{**ROW, "ratio": None}], [], expected(ratio_at_most=0.7))

    assert "the baseline was not timed" in miss


@pytest.mark.parametrize("share", [float("nan"), 0.0])
def test_a_share_that_is_no_number_is_no_pass(share):
    assert len(thresholds.misses([{**ROW, "share": share}], [], expected(share_at_least=0.1))) == 1


def test_what_was_not_timed_is_reported_with_its_reason():
    (miss,) = thresholds.misses([], [{**ROW, "reason": "does not conform"}], expected(share_at_least=0.1))

    assert miss.endswith("does not conform")


def test_other_dtypes_and_implementations_have_no_threshold():
    others = [{**ROW, "dtype": "bfloat16", "share": 0.0}, {**ROW, "implementation": "torch", "share": 0.0}]

    assert thresholds.misses(others, others, expected(share_at_least=0.5)) == []


@pytest.mark.parametrize("copy_share", [1.2, float("inf"), float("nan")])
def test_faster_than_a_copy_is_suspicious(copy_share):
    (line,) = thresholds.suspicious([{**ROW, "copy_share": copy_share}])

    assert line.startswith("linear_recurrence forward jax B1-T8-D4 float32: 8 MB in 2 ms")


def test_as_fast_as_a_copy_is_not_suspicious_and_neither_is_the_cache():
    assert thresholds.suspicious([{**ROW, "copy_share": 1.1}, {**ROW, "copy_share": 9.0, "beyond_cache": False}]) == []


def test_a_product_faster_than_a_product_is_suspicious_even_in_the_cache():
    row = {**ROW, "bound_by": "product", "beyond_cache": False, "share": 1.6, "operations": 3 * 10**9}

    (line,) = thresholds.suspicious([row])

    assert "3 G operations in 2 ms" in line
    assert thresholds.suspicious([{**row, "share": 1.4}]) == []


def test_a_threshold_of_a_size_holds_there_and_the_general_one_elsewhere():
    key = "linear_recurrence forward jax"
    tables = {"float32": {key: Threshold(share_at_least=0.9), f"{key} B1-T8-D4": Threshold(share_at_least=0.4)}}
    elsewhere = {**ROW, "shape": "B2-T8-D4", "size": "B2-T8-D4"}

    assert thresholds.misses([ROW], [], tables) == []
    assert len(thresholds.misses([elsewhere], [], tables)) == 1


def test_a_threshold_of_a_shape_holds_in_every_regime_without_one_of_its_own():
    key = "linear_recurrence forward jax B1-T8-D4"
    tables = {"float32": {key: Threshold(share_at_least=0.9), f"{key} decay0.9": Threshold(share_at_least=0.1)}}

    assert thresholds.misses([{**ROW, "size": "B1-T8-D4 decay0.9"}], [], tables) == []
    assert len(thresholds.misses([{**ROW, "size": "B1-T8-D4 decay0.05"}], [], tables)) == 1


def test_points_of_scaling_have_no_threshold():
    assert thresholds.misses([{**ROW, "scaling": True}], [], expected(share_at_least=0.9)) == []


def test_the_file_speaks_of_cases_that_are_timed():
    names = {" ".join(parts) for parts in itertools.product(all_ops(), DIRECTIONS, implementations())}

    found = thresholds.read()

    assert set(found) == set(PLANS)
    for kind, tables in found.items():
        sizes = {f" {size.lengths} {regime}".rstrip() for op in all_ops().values() for size in PLANS[kind].of(op)
                 for regime in ("", *size.regimes)}  # fmt: skip
        known = names | {name + size for name in names for size in sizes}
        for table in tables.values():
            assert set(table) <= known


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cpu", "is not TOML"),
        ("[cpu]", "when and how it was measured"),
        ('[cpu]\nmeasured = "today"\n[cpu.float32]\n"x forward jax" = {share = 1.0}', "share_at_least"),
        ('[cpu]\nmeasured = "today"\n[cpu.float32]\n"x forward jax" = {}', "empty"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, said):
    path = tmp_path / "thresholds.toml"
    path.write_text(text)

    with pytest.raises(ValueError, match=said) as error:
        thresholds.read(path)

    assert str(path) in str(error.value)
