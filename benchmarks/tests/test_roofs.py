"""Do the bytes and operations of every op follow from its row, and the least time from them?"""

import pytest

from mmrec.benchmarks.cases import Case, Lengths
from mmrec.benchmarks.device import Device
from mmrec.benchmarks.roofs import bytes_moved, operations, roof
from mmrec.conformance.ops import all_ops

DEVICE = Device(
    "cpu", "cpu", "a test", cache_bytes=1000, copy_rate=1e9, product_rates={"float32": 1e12, "bfloat16": 1e13}
)


def case(op, direction="forward", lengths=None, dtype="float32"):
    return Case(op, "torch", "torch", direction, lengths or Lengths(2, 1000, 10, 5), dtype)


@pytest.mark.parametrize("op", all_ops())
def test_every_op_moves_bytes_and_more_of_them_backward(op):
    assert 0 < bytes_moved(case(op)) < bytes_moved(case(op, "forward+backward"))


@pytest.mark.parametrize(
    ("op", "forward", "backward"),
    [("decay_product", 2, 3), ("log_decay_product", 2, 3), ("linear_recurrence", 3, 5), ("gated_recurrence", 3, 5),
     ("stabilized_recurrence", 4, 7), ("decay_gate", 3, 5)],
)  # fmt: skip
def test_the_sequences_are_what_counts(op, forward, backward):
    lengths = Lengths(2, 10**6, 10, 5)  # weights and states are nothing beside them
    one = 4 * 2 * 10**6 * 10

    assert bytes_moved(case(op, lengths=lengths)) == pytest.approx(forward * one, rel=1e-3)
    assert bytes_moved(case(op, "forward+backward", lengths)) == pytest.approx((forward + backward) * one, rel=1e-3)


def test_half_the_width_is_half_the_bytes():
    assert 2 * bytes_moved(case("decay_product", dtype="bfloat16")) == bytes_moved(case("decay_product"))


@pytest.mark.parametrize(
    ("op", "forward"),
    [("decay_product", 2000 * 10), ("linear_recurrence", 2 * 2000 * 10),
     ("gated_recurrence", 2 * 2000 * 100 + 2 * 2000 * 10), ("decay_gate", 2 * 2000 * 4 * 50 + 2 * 2000 * 10)],
)  # fmt: skip
def test_weights_meet_every_step_and_sequences_one_operation_once_forward_and_twice_backward(op, forward):
    assert operations(case(op)) == forward
    assert operations(case(op, "forward+backward")) == 3 * forward


def test_the_roof_is_the_slower_of_the_two():
    limit = roof(case("decay_product"), DEVICE)

    assert limit.seconds == limit.copy_seconds == bytes_moved(case("decay_product")) / 1e9
    assert limit.bound_by == "copy"
    assert limit.beyond_cache


def test_the_rate_of_products_is_the_one_of_the_case_s_dtype():
    wide, narrow = (roof(case("decay_gate", dtype=dtype), DEVICE) for dtype in ("float32", "bfloat16"))

    assert wide.product_seconds == pytest.approx(10 * narrow.product_seconds)


def test_the_roof_of_a_long_recurrence_is_one_product_of_all_its_steps():
    T, D = 32768, 4096
    fast = Device("cuda", "gpu", "a test", 2**26, copy_rate=4.2e12, product_rates={"bfloat16": 7.9e14})

    limit = roof(case("gated_recurrence", lengths=Lengths(1, T, D), dtype="bfloat16"), fast)

    assert limit.bound_by == "product"
    assert limit.seconds == pytest.approx(2 * T * D * D / 7.9e14, rel=1e-3)
