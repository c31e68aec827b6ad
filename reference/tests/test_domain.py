"""What does the reference refuse, and does it say which argument, where, and what is accepted?"""

import mpmath
import numpy as np
import pytest

DOMAINS = {"gamma": (0, 1), "log_gamma": (float("-inf"), 0), "a": (-1, 1)}


def test_an_axis_too_many_is_refused_by_name(reference, op):
    for position, name in enumerate(reference.shapes[op]):
        arrays = reference.inputs(op)
        arrays[position] = arrays[position][..., None]
        with pytest.raises(ValueError, match=rf"^{name}: shape .* has rank {arrays[position].ndim}, expected \["):
            reference.function(op)(*arrays)


def test_a_length_that_does_not_match_is_refused(reference, op):
    """The message names two arguments that disagree, one of them the argument that was made longer, or its likes."""
    every_letter = "".join(reference.shapes[op].values())
    for position, letters in enumerate(reference.shapes[op].values()):
        for axis, letter in enumerate(letters):
            if every_letter.count(letter) == 1:
                continue
            arrays = reference.inputs(op)
            arrays[position] = np.concatenate([arrays[position], arrays[position].take([0], axis)], axis)
            with pytest.raises(ValueError, match=rf"^\w+: shape \(.*\) does not match \w+: {letter} is \d+$"):
                reference.function(op)(*arrays)


@pytest.mark.parametrize("op", ["decay_product", "decay_product_exact", "log_decay_product", "linear_recurrence",
                                "gated_recurrence", "stabilized_recurrence"])  # fmt: skip
@pytest.mark.parametrize("number", [np.nan, 1.5, -1.5, np.inf])
def test_a_number_outside_its_domain_is_refused_with_its_place(reference, op, number):
    position, name = next((i, n) for i, n in enumerate(reference.shapes[op]) if n in DOMAINS)
    low, high = DOMAINS[name]
    if low <= number <= high:
        pytest.skip("inside")
    arrays = reference.inputs(op)
    arrays[position][1, 2, 1] = arrays[position][1, 3, 0] = number
    with pytest.raises(ValueError) as told:
        reference.function(op)(*arrays)
    assert str(told.value) == f"{name}[1, 2, 1] = {number} is outside [{low}, {high}]"


def test_the_domain_holds_in_other_number_systems(reference):
    gamma = reference.objects(mpmath.mpf, np.array([0.5, -0.5]).reshape(1, 2, 1))
    with pytest.raises(ValueError, match=r"gamma\[0, 1, 0\] = -0.5 is outside \[0, 1\]"):
        reference.function("decay_product")(gamma, reference.objects(mpmath.mpf, np.ones((1, 1))))


def test_the_ends_of_a_domain_belong_to_it(reference):
    ends = np.array([0.0, 1.0, -0.0]).reshape(1, 3, 1)
    assert reference.function("decay_product_exact")(ends, np.ones((1, 1)))[0, :, 0].tolist() == [0, 0, 0]
    signs = np.array([1.0, -1.0, -1.0]).reshape(1, 3, 1)
    assert reference.function("linear_recurrence")(signs, 0 * signs, np.ones((1, 1)))[0, :, 0].tolist() == [1, -1, 1]
    logs = np.array([0.0, -np.inf]).reshape(1, 2, 1)
    assert reference.function("log_decay_product")(logs, np.ones((1, 1)))[0, :, 0].tolist() == [1, -49]


@pytest.mark.parametrize(("op", "option", "choices"), [("stabilized_recurrence", "norm", "rms, layer, none"),
                                                       ("decay_gate", "gelu", "tanh, erf")])  # fmt: skip
def test_an_unknown_option_is_refused_with_the_choices(reference, op, option, choices):
    with pytest.raises(ValueError, match=f"^{option}: 'batch' is not one of {choices}$"):
        reference.function(op)(*reference.inputs(op), **{option: "batch"})
    with pytest.raises(ValueError, match=f"^{option}: "):
        reference.adjoint(op)(*reference.inputs(op), np.ones((2, 4, 3)), **{option: "batch"})


@pytest.mark.parametrize("kind", [float, mpmath.mpf])
def test_no_steps_give_an_empty_result_and_zero_gradients(reference, op, options, kind):
    arrays = [x if kind is float else reference.objects(kind, x) for x in reference.inputs(op, T=0)]
    empty = np.zeros((2, 0, 3))
    assert reference.function(op)(*arrays, **options).shape == (2, 0, 3)
    gradients = reference.adjoint(op)(*arrays, empty if kind is float else reference.objects(kind, empty), **options)
    assert [x.shape for x in gradients] == [x.shape for x in arrays]
    assert all(np.all(x == 0) for x in gradients)
