"""Are the PyTorch ops usable, differentiable, careful with their arguments, and right on hand-made cases?

How close they are to the reference is judged elsewhere; the second formulas here are float64 loops.
"""

import math
import subprocess
import sys
from fractions import Fraction

import pytest
import torch

from mmrec.impls import torch_ops
from mmrec.impls.torch_ops import (
    checked,
    decay_gate,
    decay_product,
    decay_product_exact,
    gated_recurrence,
    linear_recurrence,
    log_decay_product,
    stabilized_recurrence,
)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NARROW = [torch.bfloat16, torch.float16]
CASES = {  # id -> (op, options)
    "decay_product": (decay_product, {}),
    "decay_product_exact": (decay_product_exact, {}),
    "log_decay_product": (log_decay_product, {}),
    "linear_recurrence": (linear_recurrence, {}),
    "gated_recurrence": (gated_recurrence, {}),
    "stabilized_recurrence-rms": (stabilized_recurrence, {}),
    "stabilized_recurrence-layer": (stabilized_recurrence, {"norm": "layer", "eps": 1e-3}),
    "stabilized_recurrence-none": (stabilized_recurrence, {"norm": "none"}),
    "stabilized_recurrence-clip": (stabilized_recurrence, {"clip": 0.7}),
    "decay_gate-tanh": (decay_gate, {}),
    "decay_gate-erf": (decay_gate, {"gelu": "erf"}),
}
every_case = pytest.mark.parametrize(("op", "options"), CASES.values(), ids=CASES.keys())
every_device = pytest.mark.parametrize("device", DEVICES)


def make_arguments(op, steps=5, rows=2, channels=3, width=4, dtype=torch.float64, device="cpu", seed=0):
    """Return the arguments of an op by name, random values inside its domain."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)

    def unit(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)

    time, row = (rows, steps, channels), (rows, channels)
    square, channel = (channels, channels), (channels,)
    if op in (decay_product, decay_product_exact):
        return {"gamma": unit(*time), "initial": normal(*row)}
    if op is log_decay_product:
        return {"log_gamma": -3 * unit(*time), "initial": normal(*row)}
    if op is linear_recurrence:
        return {"a": 2 * unit(*time) - 1, "b": normal(*time), "h0": normal(*row)}
    if op is gated_recurrence:
        arrays = {"z": normal(*time), "gamma": unit(*time), "W_g": normal(*square), "b_g": normal(*channel)}
        return {**arrays, "h0": normal(*row)}
    if op is stabilized_recurrence:
        arrays = {"z": normal(*time), "gate_z": normal(*time), "gamma": unit(*time)}
        arrays |= {"W_h": normal(*square), "b_h": normal(*channel)}
        return {**arrays, "norm_weight": normal(*channel), "norm_bias": normal(*channel), "h0": normal(*row)}
    arrays = {"z": normal(*time), "k": normal(*time)}
    for pathway in ("base", "context"):
        arrays |= {f"{pathway}_w1": normal(width, channels), f"{pathway}_b1": normal(width)}
        arrays |= {f"{pathway}_w2": normal(channels, width), f"{pathway}_b2": normal(channels)}
    return arrays


def normalize(u, weight, bias, norm, eps):
    if norm == "none":
        return u
    if norm == "rms":
        return u / ((u**2).mean(-1, keepdim=True) + eps) ** 0.5 * weight
    deviation = ((u**2).mean(-1, keepdim=True) - u.mean(-1, keepdim=True) ** 2 + eps) ** 0.5
    return (u - u.mean(-1, keepdim=True)) / deviation * weight + bias


def step_by_step(op, x, norm="rms", eps=1e-6, clip=100.0, gelu="tanh"):
    """The second formula: one step per loop turn, differentiated by autograd."""
    if op is decay_gate:

        def pathway(values, name):
            hidden = values @ x[f"{name}_w1"].T + x[f"{name}_b1"]
            if gelu == "tanh":
                cumulative = (1 + torch.tanh((2 / math.pi) ** 0.5 * (hidden + 0.044715 * hidden**3))) / 2
            else:
                cumulative = (1 + torch.erf(hidden / 2**0.5)) / 2
            return torch.sigmoid((hidden * cumulative) @ x[f"{name}_w2"].T + x[f"{name}_b2"])

        return (pathway(x["z"], "base") * pathway(x["k"], "context")).clip(1e-6, 1 - 1e-6)
    h = x["initial"] if "initial" in x else x["h0"]
    steps = next(iter(x.values())).shape[1]
    x = {name: array.unbind(1) if array.ndim == 3 else array for name, array in x.items()}
    states = []
    for t in range(steps):
        if op is decay_product:
            h = h * x["gamma"][t].clip(min=math.exp(-50))
        elif op is decay_product_exact:
            h = h * x["gamma"][t]
        elif op is log_decay_product:
            h = h + x["log_gamma"][t].clip(-50, 0)
        elif op is linear_recurrence:
            h = x["a"][t] * h + x["b"][t]
        elif op is gated_recurrence:
            h = x["z"][t] * torch.sigmoid(h @ x["W_g"].T + x["b_g"]) + x["gamma"][t] * h
        else:
            g = torch.sigmoid(x["gate_z"][t] + h @ x["W_h"].T + x["b_h"])
            u = (1 - g) * h + g * x["z"][t] + x["gamma"][t] * h
            h = normalize(u, x["norm_weight"], x["norm_bias"], norm, eps).clip(-clip, clip)
        states.append(h)
    return torch.stack(states, 1)


def gradients(op, arguments, options, weights_rounded_to=torch.float64):
    """Return the gradients of a random weighting of the result, by argument name."""
    leaves = {name: array.detach().requires_grad_() for name, array in arguments.items()}
    result = op(**leaves, **options)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad(result, list(leaves.values()), weights.to(weights_rounded_to).to(result))
    return dict(zip(leaves, found, strict=True))


def test_every_module_without_an_underscore_is_an_op_of_the_subject():
    assert set(torch_ops.SUBJECT["ops"]) == {op.__name__ for op, _ in CASES.values()}
    assert all(getattr(torch_ops, name) is op for name, op in torch_ops.SUBJECT["ops"].items())


@every_device
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 33])
@every_case
def test_every_state_and_gradient_is_what_the_formula_gives_step_by_step(op, options, steps, device):
    arguments = make_arguments(op, steps, device=device)

    result = op(**arguments, **options)

    torch.testing.assert_close(result, step_by_step(op, arguments, **options))
    expected = gradients(
        lambda **x: step_by_step(op, x, **options) + 0 * sum(v.sum() for v in x.values()), arguments, {}
    )
    torch.testing.assert_close(gradients(op, arguments, options), expected)


@every_device
@pytest.mark.parametrize(
    ("rows", "channels", "steps"), [(2, 3, 277), (2, 4000, 277), (1, 20000, 100)], ids=["narrow", "two slabs", "wide"]
)
@pytest.mark.parametrize("op", [decay_product, decay_product_exact, log_decay_product, linear_recurrence])
def test_a_scan_is_the_same_side_by_side_and_in_slabs(op, rows, channels, steps, device):
    """On a CPU: 17 chunks side by side and 5 steps; a slab of 16 chunks and one of 21 steps; slabs of 96 and 4 steps."""
    arguments = make_arguments(op, steps, rows, channels, device=device)

    torch.testing.assert_close(op(**arguments), step_by_step(op, arguments))
    expected = gradients(lambda **x: step_by_step(op, x), arguments, {})
    torch.testing.assert_close(gradients(op, arguments, {}), expected)


@every_device
@pytest.mark.parametrize(
    ("op", "argument", "outside"),
    [(decay_product, "gamma", 1e-30), (decay_product_exact, "gamma", 0.0), (log_decay_product, "log_gamma", -60.0)],
)
def test_a_bound_that_binds_in_one_slab_only_holds_there(op, argument, outside, device):
    arguments = make_arguments(op, 277, 2, 4000, device=device)
    arguments[argument][1, 270, ::2] = outside

    torch.testing.assert_close(op(**arguments), step_by_step(op, arguments))
    expected = gradients(lambda **x: step_by_step(op, x), arguments, {})
    torch.testing.assert_close(gradients(op, arguments, {}), expected)


@every_case
def test_gradients_equal_central_differences_in_float64(op, options):
    arguments = make_arguments(op)

    assert torch.autograd.gradcheck(
        lambda *arrays: op(*arrays, **options), [array.requires_grad_() for array in arguments.values()]
    )


@every_device
@pytest.mark.parametrize("dtype", NARROW, ids=str)
@every_case
def test_narrow_results_and_gradients_are_the_rounded_float32_ones(op, options, dtype, device):
    narrow = make_arguments(op, dtype=dtype, device=device)
    wide = {name: array.float() for name, array in narrow.items()}

    result = op(**narrow, **options)

    assert result.dtype == dtype
    assert torch.equal(result, op(**wide, **options).to(dtype))
    wide_gradients = gradients(op, wide, options, weights_rounded_to=dtype)
    for name, gradient in gradients(op, narrow, options).items():
        assert gradient.dtype == dtype
        assert torch.equal(gradient, wide_gradients[name].to(dtype)), name


@every_device
@every_case
def test_no_steps_give_an_empty_result_and_gradients_of_zero(op, options, device):
    arguments = make_arguments(op, steps=0, device=device, dtype=torch.float32)

    assert op(**arguments, **options).shape == (2, 0, 3)
    assert op(**arguments, **options).dtype == torch.float32
    for name, gradient in gradients(op, arguments, options).items():
        assert torch.equal(gradient, torch.zeros_like(arguments[name])), name


@every_device
@pytest.mark.parametrize("steps", [9, 77], ids=["one after another", "side by side"])
@every_case
def test_strided_arguments_give_the_bits_of_contiguous_ones(op, options, steps, device):
    arguments = make_arguments(op, steps, dtype=torch.float32, device=device)
    strided = {}
    for name, array in arguments.items():
        room = torch.full((*array.shape[::-1], 2), math.nan, dtype=array.dtype, device=device)
        strided[name] = room[..., 1].permute(*reversed(range(array.ndim))).copy_(array)
        assert array.numel() == 1 or not strided[name].is_contiguous()

    assert torch.equal(op(**strided, **options), op(**arguments, **options))
    strided_gradients = gradients(op, strided, options)
    for name, gradient in gradients(op, arguments, options).items():
        assert torch.equal(gradient, strided_gradients[name]), name


def test_expanded_arguments_are_accepted():
    a = torch.tensor(0.5).expand(2, 4, 3)

    assert torch.equal(linear_recurrence(a, a, a[:, 0]), linear_recurrence(a.clone(), a.clone(), a[:, 0].clone()))


@every_device
@every_case
def test_calls_leave_their_arguments_alone_and_repeat_to_the_bit(op, options, device):
    arguments = make_arguments(op, steps=1, dtype=torch.float32, device=device)
    before = {name: array.clone() for name, array in arguments.items()}

    first = op(**arguments, **options)
    second = op(**arguments, **options)

    assert torch.equal(first, second)
    assert all(torch.equal(array, before[name]) for name, array in arguments.items())
    storage = first.untyped_storage().data_ptr()
    assert all(array.untyped_storage().data_ptr() != storage for array in arguments.values())


@every_device
@pytest.mark.parametrize("op", [gated_recurrence, stabilized_recurrence, decay_gate])
def test_switches_that_allow_narrow_matrix_products_change_nothing(op, device):
    arguments = make_arguments(op, channels=64, width=64, dtype=torch.float32, device=device)
    expected, expected_gradients = op(**arguments), gradients(op, arguments, {})
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(op(**arguments), expected)
        found = gradients(op, arguments, {})
        assert all(torch.equal(found[name], gradient) for name, gradient in expected_gradients.items())
    finally:
        torch.set_float32_matmul_precision(precision)


@every_device
@pytest.mark.parametrize("op", [decay_product, decay_product_exact])
def test_decays_of_one_keep_every_bit_of_the_initial_value(op, device):
    initial = torch.tensor([[0.1, -0.0, 1e-42, 3e38, -7.0]], device=device)

    result = op(torch.ones(1, 77, 5, device=device), initial)

    expected = initial[:, None].expand(1, 77, 5).contiguous()
    assert torch.equal(result.view(torch.int32), expected.view(torch.int32))


def test_powers_of_two_multiply_exactly():
    exponents = torch.arange(60) % 3

    result = decay_product(torch.exp2(-exponents.double()).float().reshape(1, 60, 1), torch.tensor([[1.7]]))

    assert torch.equal(result.flatten(), torch.tensor(1.7) * torch.exp2(-exponents.cumsum(0).double()).float())


@pytest.mark.parametrize("op", [decay_product, decay_product_exact])
def test_products_err_by_at_most_one_rounding_per_factor(op):
    gamma = 1 - 0.1 * torch.rand(1, 300, 1, generator=torch.Generator().manual_seed(3))

    result = op(gamma, torch.ones(1, 1))

    exact = Fraction(1)
    for t, (factor, value) in enumerate(zip(gamma.flatten().tolist(), result.flatten().tolist(), strict=True)):
        exact *= Fraction(factor)
        assert abs(Fraction(value) / exact - 1) <= Fraction(t + 2, 2**24)


def test_a_recurrence_of_small_integers_is_exact():
    generator = torch.Generator().manual_seed(4)
    a = torch.randint(-1, 2, (3, 257, 5), generator=generator)
    b = torch.randint(-99, 100, (3, 257, 5), generator=generator)
    h, states = torch.full((3, 5), 7), []
    for t in range(257):
        h = a[:, t] * h + b[:, t]
        states.append(h)

    result = linear_recurrence(a.float(), b.float(), torch.full((3, 5), 7.0))

    assert torch.equal(result, torch.stack(states, 1).float())


@every_device
@pytest.mark.parametrize("bad", [-0.5, math.nan])
@pytest.mark.parametrize("steps", [9, 77], ids=["one after another", "side by side"])
@pytest.mark.parametrize("op", [decay_product, decay_product_exact])
def test_a_decay_below_zero_or_nan_gives_nan_from_its_step_on_and_nowhere_else(op, steps, bad, device):
    gamma = torch.full((2, steps, 3), 0.5, device=device)
    gamma[1, 4, 2] = bad

    result = op(gamma, torch.ones(2, 3, device=device))

    expected = torch.zeros(2, steps, 3, dtype=torch.bool, device=device)
    expected[1, 4:, 2] = True
    assert torch.equal(result.isnan(), expected)


@pytest.mark.parametrize("steps", [9, 77], ids=["one after another", "side by side"])
@pytest.mark.parametrize("argument", ["a", "b"])
def test_nan_in_a_recurrence_stays_in_its_row_and_channel_and_its_future(argument, steps):
    arguments = {"a": torch.zeros(2, steps, 3), "b": torch.ones(2, steps, 3), "h0": torch.ones(2, 3)}
    arguments["a"][:, :5] = 1
    arguments[argument][1, 4, 2] = math.nan

    result = linear_recurrence(**arguments)

    expected = torch.zeros(2, steps, 3, dtype=torch.bool)
    expected[1, 4:, 2] = True
    assert torch.equal(result.isnan(), expected)


@pytest.mark.parametrize("op", [gated_recurrence, stabilized_recurrence, decay_gate])
def test_nan_in_one_row_reaches_no_other_row_and_no_earlier_step(op):
    arguments = make_arguments(op, steps=6, dtype=torch.float32)
    arguments["z"][1, 3, 0] = math.nan

    result = op(**arguments)

    assert not result[0].isnan().any()
    assert not result[1, :3].isnan().any()
    assert result[1, 3, 0].isnan()


def test_log_of_zero_counts_minus_fifty_and_nan_stays_nan():
    log_gamma = torch.tensor([-math.inf, -1.0, 2.0, math.nan, -1.0]).reshape(1, 5, 1)

    result = log_decay_product(log_gamma, torch.zeros(1, 1))

    torch.testing.assert_close(result.flatten(), torch.tensor([-50, -51, -51, math.nan, math.nan]), equal_nan=True)


def test_the_gradient_of_a_clamped_logarithm_is_zero_outside_and_one_at_the_ends():
    log_gamma = torch.tensor([-math.inf, -51.0, -50.0, -1.0, 0.0, 0.5]).reshape(1, 6, 1).requires_grad_()

    log_decay_product(log_gamma, torch.zeros(1, 1))[:, -1].sum().backward()

    assert log_gamma.grad.flatten().tolist() == [0, 0, 1, 1, 1, 0]


def test_the_gradient_at_a_zero_decay_is_the_product_of_the_others():
    gamma = torch.tensor([0.5, 0.0, 0.25, 0.5]).reshape(1, 4, 1).requires_grad_()

    decay_product_exact(gamma, torch.full((1, 1), 3.0))[:, -1].sum().backward()

    assert gamma.grad.flatten().tolist() == [0, 3 * 0.5 * 0.25 * 0.5, 0, 0]


def test_the_gradient_is_zero_where_the_floor_binds_and_only_there():
    floor = torch.tensor(math.exp(-50))
    gamma = torch.stack([torch.tensor(0.5), floor / 2, torch.tensor(0.25)]).reshape(1, 3, 1).requires_grad_()
    at_floor = floor.reshape(1, 1, 1).requires_grad_()

    decay_product(gamma, torch.ones(1, 1))[:, -1].sum().backward()
    decay_product(at_floor, torch.ones(1, 1)).sum().backward()

    assert gamma.grad.flatten().tolist() == [float(floor) * 0.25, 0, float(floor) * 0.5]
    assert at_floor.grad.item() == 1


def test_the_gradient_of_the_clip_is_one_at_its_ends_and_zero_outside():
    z = torch.tensor([2.0, 2.5, -2.0, 1.0]).reshape(1, 1, 4).requires_grad_()
    zero, vector = torch.zeros(1, 1, 4), torch.zeros(4)
    open_gate = torch.full((1, 1, 4), 200.0)  # the sigmoid is exactly 1

    arguments = (z, open_gate, zero, torch.zeros(4, 4), vector, vector, vector, torch.zeros(1, 4))
    stabilized_recurrence(*arguments, norm="none", clip=2.0).sum().backward()

    assert z.grad.flatten().tolist() == [1, 0, 1, 1]


def test_the_gradient_of_a_clipped_decay_gate_is_zero():
    arguments = make_arguments(decay_gate)
    arguments["base_b2"] = torch.tensor([-30.0, 0.0, 0.0], dtype=torch.float64)

    found = gradients(decay_gate, arguments, {})

    assert (decay_gate(**arguments)[..., 0] == 1e-6).all()
    assert found["base_b2"][0] == 0
    assert (found["base_b2"][1:] != 0).all()


FAULTS = {  # id -> (op, argument, what is given instead, error, message)
    "rank": (
        decay_product,
        "gamma",
        torch.ones(4, 3),
        ValueError,
        "gamma: shape (4, 3) has 2 axes, expected 3: [B, T, D]",
    ),
    "length": (
        linear_recurrence,
        "b",
        torch.ones(2, 6, 3),
        ValueError,
        "b: shape (2, 6, 3) does not match a: expected (2, 5, 3)",
    ),
    "square": (
        gated_recurrence,
        "W_g",
        torch.ones(3, 4),
        ValueError,
        "W_g: shape (3, 4) does not match z: expected (3, 3)",
    ),
    "width": (
        decay_gate,
        "base_w2",
        torch.ones(3, 7),
        ValueError,
        "base_w2: shape (3, 7) does not match base_w1: expected (3, 4)",
    ),
    "empty": (
        log_decay_product,
        "log_gamma",
        torch.ones(0, 5, 3),
        ValueError,
        "log_gamma: shape (0, 5, 3) has no B, expected [B, T, D] with B >= 1",
    ),
    "integers": (
        linear_recurrence,
        "a",
        torch.ones(2, 5, 3, dtype=torch.int64),
        TypeError,
        "a: dtype int64 is not one of float64, float32, bfloat16, float16",
    ),
    "mixed": (
        stabilized_recurrence,
        "h0",
        torch.ones(2, 3, dtype=torch.float64),
        TypeError,
        "h0: dtype float64 does not match z: expected float32",
    ),
    "list": (decay_product, "initial", [[1.0]], TypeError, "initial: expected a torch.Tensor, got list"),
    "device": (
        decay_product,
        "initial",
        torch.ones(2, 3, device="meta"),
        ValueError,
        "initial: is on meta, expected cpu, where gamma is",
    ),
    "norm": (
        stabilized_recurrence,
        "norm",
        "batch",
        ValueError,
        "norm: 'batch' is not one of 'rms', 'layer', 'none'",
    ),
    "gelu": (decay_gate, "gelu", "fast", ValueError, "gelu: 'fast' is not one of 'tanh', 'erf'"),
    "eps": (stabilized_recurrence, "eps", -1.0, ValueError, "eps: -1.0 is not at least 0"),
    "clip": (stabilized_recurrence, "clip", 0.0, ValueError, "clip: 0.0 is not greater than 0"),
    "number": (stabilized_recurrence, "clip", "wide", TypeError, "clip: expected a number, got str"),
}


@pytest.mark.parametrize(("op", "argument", "given", "error", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_argument_is_named_with_what_was_given_and_what_is_accepted(op, argument, given, error, message):
    arguments = make_arguments(op, dtype=torch.float32)
    arguments[argument] = given

    with pytest.raises(error) as raised:
        op(**arguments)

    assert str(raised.value) == message


VALUES = {  # id -> (op, argument, value, message)
    "negative": (decay_product, "gamma", -0.5, "gamma[1, 3, 2] = -0.5 is outside [0, 1]"),
    "above one": (gated_recurrence, "gamma", 1.5, "gamma[1, 3, 2] = 1.5 is outside [0, 1]"),
    "not a decay": (decay_product_exact, "gamma", math.nan, "gamma[1, 3, 2] = nan is outside [0, 1]"),
    "growth": (log_decay_product, "log_gamma", 0.25, "log_gamma[1, 3, 2] = 0.25 is outside [-inf, 0]"),
    "unstable": (linear_recurrence, "a", -2.0, "a[1, 3, 2] = -2 is outside [-1, 1]"),
    "no number": (stabilized_recurrence, "gate_z", math.nan, "gate_z[1, 3, 2] = nan is not a number"),
    "no input": (decay_gate, "k", math.nan, "k[1, 3, 2] = nan is not a number"),
}


@pytest.mark.parametrize(("op", "argument", "value", "message"), VALUES.values(), ids=VALUES.keys())
def test_checked_mode_names_the_first_value_outside_the_domain(op, argument, value, message):
    arguments = make_arguments(op, dtype=torch.float32)
    arguments[argument][1, 3, 2] = value
    arguments[argument][1, 4, 0] = value

    with checked(), pytest.raises(ValueError) as raised:
        op(**arguments)

    assert str(raised.value) == message
    op(**arguments)  # outside checked mode nobody looks


@every_case
def test_checked_mode_changes_nothing_for_values_inside_the_domain(op, options):
    arguments = make_arguments(op)

    with checked():
        result = op(**arguments, **options)

    assert torch.equal(result, op(**arguments, **options))


def test_the_backend_imports_nothing_else_of_the_project_and_no_other_framework():
    program = (
        "import sys, mmrec.impls.torch_ops\n"
        "allowed = ('mmrec', 'mmrec.impls', 'mmrec.impls.torch_ops')\n"
        "ours = [m for m in sys.modules if m.startswith('mmrec') and m not in allowed]\n"
        "assert all(m.startswith('mmrec.impls.torch_ops.') for m in ours), ours\n"
        "assert not {'jax', 'mpmath', 'flint', 'hypothesis'} & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)
