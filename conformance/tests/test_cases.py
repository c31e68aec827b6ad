"""Does a case's text bring back the case, and the case the same inputs, inside the op's domain, on every machine?"""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.conformance.cases import EDGE_SHAPES, LAYOUTS, SHAPES, Case, cases
from mmrec.conformance.ops import Sizes, all_ops
from mmrec.numerics.formats import FORMATS

modest = settings(max_examples=60, derandomize=True, deadline=None)
REGIMES = [(name, regime) for name, op in all_ops().items() for regime in op.regimes]
any_case = st.sampled_from(REGIMES).flatmap(
    lambda row: st.sampled_from(list(FORMATS)).flatmap(lambda dtype: cases(all_ops()[row[0]], dtype, row[1]))
)


def plain(op="linear_recurrence", dtype="float32", regime="uniform", sizes=(2, 5, 3), **more):
    return Case(op, dtype, regime, Sizes(*sizes), 7, **more)


# ---- text ----------------------------------------------------------------------------------
@modest
@given(any_case)
def test_the_text_of_a_case_brings_it_back(case):
    assert Case.parse(str(case)) == case
    assert str(Case.parse(str(case))) == str(case)


def test_the_text_is_what_the_documentation_shows():
    text = "linear_recurrence/float32/long_memory/B2-T65-D3/seed17/strided"
    case = Case.parse(text)
    assert (case.op, case.dtype, case.regime, case.layout) == ("linear_recurrence", "float32", "long_memory", "strided")
    assert (case.sizes, case.seed, case.options) == (Sizes(2, 65, 3), 17, ())
    assert str(case) == text
    text = "stabilized_recurrence/float64/chaotic/B1-T2-D3/seed0/contiguous/norm=layer/eps=0.001/clip=1.5"
    assert dict(Case.parse(text).options) == {"norm": "layer", "eps": 1e-3, "clip": 1.5}


WRONG_TEXTS = {
    "nosuch/float32/uniform/B1-T2-D3/seed0/contiguous": "unknown op 'nosuch', expected one of decay_gate, ",
    "decay_product": "expected op/dtype/regime/B1-T2-D3/seed0/layout",
    "decay_product/int8/uniform/B1-T2-D3/seed0/contiguous": "unknown dtype 'int8', expected one of float64, float32, ",
    "decay_product/float32/wild/B1-T2-D3/seed0/contiguous": "unknown regime 'wild', expected one of uniform, ",
    "decay_product/float32/uniform/B1-T2/seed0/contiguous": "B1-T2/seed0 is not of the form B1-T2-D3/seed0",
    "decay_product/float32/uniform/B1-T-2-D3/seed0/contiguous": "is not of the form",
    "decay_product/float32/uniform/B1-T2-D3/seed/contiguous": "is not of the form",
    "decay_product/float32/uniform/B1-T2-D3/seed0/diagonal": "unknown layout 'diagonal', expected one of contiguous, ",
    "decay_product/float32/uniform/B1-T2-D3/seed0/contiguous/norm=rms": "unknown option 'norm'",
    "decay_gate/float32/typical/B1-T2-D3/seed0/contiguous/gelu=relu": "unknown gelu 'relu', expected one of tanh, erf",
    "": "unknown op ''",
}


@pytest.mark.parametrize("text", WRONG_TEXTS, ids=lambda text: text or "nothing")
def test_a_wrong_text_is_refused_by_its_part(text):
    with pytest.raises(ValueError) as told:
        Case.parse(text)
    assert str(told.value).startswith(f"case {text!r}: ") and WRONG_TEXTS[text] in str(told.value)
    assert "\n" not in str(told.value)


# ---- inputs ----------------------------------------------------------------------------------
@modest
@given(any_case)
def test_inputs_are_the_same_every_time_and_in_every_layout(case):
    first, again = case.inputs(), Case.parse(str(case)).inputs()
    assert list(first) == list(case.row.arguments)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    plainly = replace(case, layout="contiguous").inputs()
    for layout in LAYOUTS:
        arrays = replace(case, layout=layout).inputs()
        for name, letters in case.row.arguments.items():
            expected = plainly[name]
            if layout == "expanded" and letters.startswith("B"):
                expected = np.broadcast_to(plainly[name][:1], plainly[name].shape)
            assert np.array_equal(arrays[name], expected)
    assert np.array_equal(case.cotangent(), replace(case, layout="contiguous").cotangent())


@pytest.mark.parametrize(("op", "regime"), REGIMES, ids="-".join)
@pytest.mark.parametrize("dtype", FORMATS)
def test_inputs_are_representable_and_in_their_domain(op, regime, dtype):
    """CONV-4: the reference is given what the storage format can hold."""
    row, storage = all_ops()[op], FORMATS[dtype]
    for seed, sizes in enumerate((Sizes(1, 1, 1), Sizes(2, 9, 1), Sizes(2, 65, 2), Sizes(1, 3, 130), Sizes(1, 257, 2))):
        case = Case(op, dtype, regime, sizes, seed)
        inputs, g = case.inputs(), case.cotangent()
        for name, letters in row.arguments.items():
            assert inputs[name].shape == sizes.shape(letters) and inputs[name].dtype == np.float64
            low, high = row.domains.get(name, (-np.inf, np.inf))
            assert np.all((inputs[name] >= low) & (inputs[name] <= high)), name
            assert np.array_equal(storage.round(inputs[name]), inputs[name]), name
            assert np.all(np.isfinite(inputs[name])) or name == "log_gamma", name
        assert np.array_equal(storage.round(g), g) and g.shape == sizes.shape("BTD")
        row.reference(*inputs.values(), **{name: choices[0] for name, choices in row.options.items()})


@pytest.mark.parametrize(("op", "regime"), REGIMES, ids="-".join)
def test_seeds_regimes_and_arguments_differ(op, regime):
    case = Case(op, "float64", regime, Sizes(2, 33, 3), 0)
    other = replace(case, seed=1)
    assert any(not np.array_equal(case.inputs()[name], other.inputs()[name]) for name in case.row.arguments)
    assert not np.array_equal(case.cotangent(), other.cotangent())
    per_step = [case.inputs()[name] for name in case.row.per_step]
    assert all(not np.array_equal(x, y) for i, x in enumerate(per_step) for y in per_step[:i])


def test_dtypes_see_the_same_numbers_rounded():
    """CONV-4"""
    double = plain(dtype="float64").inputs()
    for dtype, storage in FORMATS.items():
        assert all(np.array_equal(storage.round(double[name]), x) for name, x in plain(dtype=dtype).inputs().items())


def test_random_numbers_hang_on_seed_op_regime_and_purpose_only():
    case = plain()
    expected = np.random.default_rng([7, zlib.crc32(b"linear_recurrence/uniform/inputs")]).random()
    assert case.generator().random() == expected == plain(dtype="float16", layout="strided").generator().random()
    assert case.generator("other").random() != expected


def test_long_memories_are_long_and_saturated_gates_saturate():
    """What a regime is named for is there, in float32."""
    regimes = all_ops()["linear_recurrence"].regimes
    gamma = {regime: plain(regime=regime, sizes=(2, 257, 8)).inputs()["a"] for regime in regimes}
    assert (1 - gamma["long_memory"]).min() < 1e-3 < 0.1 < (1 - gamma["long_memory"]).max()
    assert np.any(gamma["saturated"] > 1 - 1e-6) and np.any(gamma["saturated"] < 0.01)
    assert np.mean(gamma["mostly_one"] == 1) > 0.9 and np.any(gamma["mostly_one"] < 1)
    assert np.any(gamma["with_zeros"] == 0) and np.any(gamma["signed"] < 0)
    assert np.any((gamma["tiny"] > 0) & (gamma["tiny"] < 2.0**-126))
    assert set(np.unique(gamma["powers_of_two"])) == {0.0, 0.25, 0.5, 1.0}
    assert set(np.unique(gamma["exact"])) == {-1.0, 0.0, 1.0}
    assert np.all(np.ptp(gamma["constant"], axis=1) == 0)


@pytest.mark.parametrize("sizes", [(1, 2, 1), (2, 5, 3), (3, 129, 2)], ids=str)
def test_in_every_row_two_tiny_decays_make_a_subnormal_product(sizes):
    """Each above the floor, so that its gradient is judged; under every seed."""
    for seed in range(50):
        gamma = replace(plain("decay_product", regime="tiny", sizes=sizes), seed=seed).inputs()["gamma"]
        product = np.cumprod(gamma, axis=1)
        lost = (product[:, 1:] > 0) & (product[:, 1:] < 2.0**-126) & (product[:, :-1] >= 2.0**-126)
        assert np.all(np.any(lost & (gamma[:, 1:] > np.exp(-50)), axis=(1, 2)))


def test_shapes_stand_around_the_block_edges_and_start_small():
    lengths = {sizes.T for sizes in SHAPES}
    assert {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257} <= lengths
    assert SHAPES[0] == EDGE_SHAPES[0] == Sizes(1, 1, 1) and set(EDGE_SHAPES) <= set(SHAPES)
    assert Sizes(2, 5, 3).shape("BTED") == (2, 5, 5, 3)


def test_lengths_can_be_changed_alone():
    assert plain().with_sizes(T=9).sizes == Sizes(2, 9, 3) and plain().with_sizes() == plain()
