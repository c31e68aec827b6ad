"""Does the check report what is too slow, what was not timed, and what is too fast to be true?"""

import itertools

import pytest

from mmrec.benchmarks import thresholds
from mmrec.benchmarks.cases import DIRECTIONS, IMPLEMENTATIONS, PLANS
from mmrec.benchmarks.thresholds import Threshold
from mmrec.conformance.ops import all_ops

ROW = {
    "op": "linear_recurrence", "direction": "forward", "implementation": "jax", "shape": "B1-T8-D4", "dtype": "float32",
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


def test_proposed_thresholds_leave_slack_under_the_worst_run():
    rows = [
        {**ROW, "peer": False},
        {**ROW, "peer": False, "share": 0.4, "ratio": 0.7},
        {**ROW, "peer": True, "share": 0.1},
    ]

    assert thresholds.proposed(rows) == [
        '"linear_recurrence forward jax" = { share_at_least = 0.2, ratio_at_most = 1.6 }'
    ]


def test_the_file_speaks_of_cases_that_are_timed():
    names = {" ".join(parts) for parts in itertools.product(all_ops(), DIRECTIONS, IMPLEMENTATIONS)}

    found = thresholds.read()

    assert set(found) == set(PLANS)
    for tables in found.values():
        for table in tables.values():
            assert set(table) <= names


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
