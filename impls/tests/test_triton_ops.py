"""Do the Triton ops compute what their formulas say, keep their contract, and compile without a GPU?

Without CUDA the kernels run in Triton's interpreter, which has to be switched on before triton is imported.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from mmrec.impls import triton_ops
from mmrec.impls.triton_ops import _gated_walk, _launch, _scan, _stabilized_walk
from mmrec.impls.triton_ops.rows import _advance, _stabilized_adjoint, _stabilized_advance, _stabilized_rows, _tiles

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FLOAT64, FLOAT32, BFLOAT16, FLOAT16 = DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
ROUNDOFF = {FLOAT64: 2.0**-53, FLOAT32: 2.0**-24, BFLOAT16: 2.0**-8, FLOAT16: 2.0**-11}
SHAPES = [(1, 1, 1), (2, 9, 3), (1, 4, 5), (2, 3, 17)]

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
every_shape = pytest.mark.parametrize("shape", SHAPES, ids="B{0[0]}-T{0[1]}-D{0[2]}".format)


# ---- the formulas in float64, differentiated by torch ------------------------------


def stack(states, like):
    return torch.stack(states, 1) if states else torch.zeros_like(like)


def product_loop(gamma, initial, floor):
    y, out = initial, []
    for t in range(gamma.shape[1]):
        y = y * torch.where(gamma[:, t] >= floor, gamma[:, t], floor)
        out.append(y)
    return stack(out, gamma)


def decay_product(gamma, initial):
    return product_loop(gamma, initial, torch.exp(torch.tensor(-50.0, dtype=FLOAT64, device=gamma.device)))


def decay_product_exact(gamma, initial):
    return product_loop(gamma, initial, torch.zeros((), dtype=FLOAT64, device=gamma.device))


def log_decay_product(log_gamma, initial):
    s, out = initial, []
    for t in range(log_gamma.shape[1]):
        s = s + log_gamma[:, t].clamp(-50.0, 0.0)
        out.append(s)
    return stack(out, log_gamma)


def linear_recurrence(a, b, h0):
    h, out = h0, []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]
        out.append(h)
    return stack(out, a)


def gated_recurrence(z, gamma, W_g, b_g, h0):
    h, out = h0, []
    for t in range(z.shape[1]):
        h = z[:, t] * torch.sigmoid(h @ W_g.T + b_g) + gamma[:, t] * h
        out.append(h)
    return stack(out, z)


def stabilized_recurrence(z, gate_z, gamma, W_h, b_h, norm_weight, norm_bias, h0, *, norm, eps=1e-6, clip=100.0):
    h, out = h0, []
    for t in range(z.shape[1]):
        g = torch.sigmoid(gate_z[:, t] + h @ W_h.T + b_h)
        u = (1 - g) * h + g * z[:, t] + gamma[:, t] * h
        if norm == "rms":
            u = u * torch.rsqrt(u.square().mean(-1, keepdim=True) + eps) * norm_weight
        elif norm == "layer":
            centred = u - u.mean(-1, keepdim=True)
            u = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps) * norm_weight + norm_bias
        h = u.clamp(-clip, clip)
        out.append(h)
    return stack(out, z)


def decay_gate(z, k, w1, b1, w2, b2, v1, c1, v2, c2, *, gelu):
    linear = torch.nn.functional.linear
    approximate = "tanh" if gelu == "tanh" else "none"

    def network(x, w1, b1, w2, b2):
        return torch.sigmoid(linear(torch.nn.functional.gelu(linear(x, w1, b1), approximate=approximate), w2, b2))

    return (network(z, w1, b1, w2, b2) * network(k, v1, c1, v2, c2)).clamp(1e-6, 1 - 1e-6)


FORMULAS = {formula.__name__: formula for formula in (
    decay_product, decay_product_exact, log_decay_product, linear_recurrence, gated_recurrence,
    stabilized_recurrence, decay_gate)}  # fmt: skip
CASES = [
    ("decay_product", {}), ("decay_product_exact", {}), ("log_decay_product", {}), ("linear_recurrence", {}),
    ("gated_recurrence", {}), ("stabilized_recurrence", {"norm": "rms"}),
    ("stabilized_recurrence", {"norm": "layer", "clip": 1.0}),
    ("stabilized_recurrence", {"norm": "none", "clip": 0.75}),
    ("decay_gate", {"gelu": "tanh"}), ("decay_gate", {"gelu": "erf"}),
]  # fmt: skip
every_case = pytest.mark.parametrize(
    ("name", "options"), CASES, ids=["-".join([name, *map(str, options.values())]) for name, options in CASES]
)
every_recurrence = pytest.mark.parametrize(("name", "options"), CASES[4:8], ids=["gated", "rms", "layer", "none"])
WIDE = 130  # channels: more than a program holds


# ---- inputs and comparison ---------------------------------------------------------


def inputs(name, B, T, D, dtype, seed=0):
    """Arguments of the op `name`, ordinary values; gates and decays in (0, 1)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return (torch.randn(*shape, generator=generator, dtype=FLOAT64) * scale).to(dtype).to(DEVICE)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=FLOAT64).to(dtype).to(DEVICE)

    sequence, state, matrix, vector = (B, T, D), (B, D), (D, D), (D,)
    if name in ("decay_product", "decay_product_exact"):
        return [uniform(*sequence), normal(*state)]
    if name == "log_decay_product":
        return [-60 * uniform(*sequence), normal(*state)]
    if name == "linear_recurrence":
        return [2 * uniform(*sequence) - 1, normal(*sequence), normal(*state)]
    if name == "gated_recurrence":
        return [normal(*sequence), uniform(*sequence), normal(*matrix, scale=D**-0.5), normal(*vector), normal(*state)]
    if name == "stabilized_recurrence":
        return [
            normal(*sequence),
            normal(*sequence),
            uniform(*sequence),
            normal(*matrix, scale=D**-0.5),
            normal(*vector),
            normal(*vector),
            normal(*vector),
            normal(*state),
        ]
    E = D + 2
    networks = [normal(*shape) for _ in range(2) for shape in ((E, D), (E,), (D, E), (D,))]
    return [normal(*sequence), normal(*sequence), *networks]


def value_and_gradients(function, arrays, grad):
    leaves = [array.detach().requires_grad_() for array in arrays]
    out = function(*leaves)
    gradients = torch.autograd.grad(out, leaves, grad, allow_unused=True)
    return [
        out.detach(),
        *(
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, gradients, strict=True)
        ),
    ]


def assert_matches_formula(name, options, arrays, steps):
    """Value and every gradient: rounded once to the storage dtype, after arithmetic in float32 or float64."""
    dtype = arrays[0].dtype
    grad = torch.randn(arrays[0].shape, generator=torch.Generator().manual_seed(1)).to(dtype).to(DEVICE)
    got = value_and_gradients(lambda *a: getattr(triton_ops, name)(*a, **options), arrays, grad)
    wide = [array.to(FLOAT64) for array in arrays]
    expected = value_and_gradients(lambda *a: FORMULAS[name](*a, **options), wide, grad.to(FLOAT64))
    arithmetic = ROUNDOFF[FLOAT64 if dtype == FLOAT64 else FLOAT32] * 64 * (steps + 1)
    for position, (result, exact) in enumerate(zip(got, expected, strict=True)):
        assert result.dtype == dtype and result.shape == exact.shape
        scale = exact.abs().max().clamp(min=1.0) if exact.numel() else 1.0
        tolerance = arithmetic * scale + 1.01 * ROUNDOFF[dtype] * exact.abs() + 2.0**-24 * (dtype == FLOAT16)
        error = (result.to(FLOAT64) - exact).abs()
        assert bool((error <= tolerance).all()), f"{name}, result {position}: error {error.max()} of {scale}"


# ---- values and gradients ----------------------------------------------------------


@every_dtype
@every_shape
@every_case
def test_value_and_every_gradient_match_the_formula(name, options, shape, dtype):
    assert_matches_formula(name, options, inputs(name, *shape, dtype), steps=shape[1])


@pytest.mark.parametrize("dtype", [FLOAT64, BFLOAT16], ids=["float64", "bfloat16"])
@pytest.mark.parametrize("name", ["decay_product", "decay_product_exact", "log_decay_product", "linear_recurrence"])
def test_states_are_handed_over_from_chunk_to_chunk(name, dtype):
    divided = _scan.division([torch.empty(2, 100, 5, dtype=dtype)], _scan.held(_scan.FORWARD, "linear", False, dtype))
    steps = 3 * divided["DISTANCE"] * divided["SEGMENTS"] * divided["ROWS"] + 3  # more chunks than one hop
    assert_matches_formula(name, {}, inputs(name, 2, steps, 5, dtype), steps=steps)


def test_forward_leaves_a_state_wherever_a_segment_of_backward_begins():
    for kind, gated in [*((kind, False) for kind in _scan.KINDS), ("linear", True)]:
        for dtype in (FLOAT64, FLOAT32, BFLOAT16, FLOAT16):
            if _scan.computes_again(kind, dtype):
                forward, backward = (_scan.held(table, kind, gated, dtype) for table in (_scan.FORWARD, _scan.BACKWARD))
                assert forward.rows % backward.rows == 0


@pytest.mark.skipif(DEVICE == "cuda", reason="compiled, every chunk has several segments")
@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT16], ids=["float64", "float16"])
@pytest.mark.parametrize("name", ["decay_product", "log_decay_product", "linear_recurrence"])
def test_states_are_handed_over_from_segment_to_segment(name, dtype, monkeypatch):
    """Interpreted, a chunk is one segment otherwise. Forward's segments are two of backward's, lanes go in two groups."""
    forward, backward = _scan.Held(6), _scan.Held(3)
    monkeypatch.setattr(_scan, "held", lambda table, *of: forward if table is _scan.FORWARD else backward)

    def division(arrays, limits, vectors=_scan.VECTOR):
        shape = {"SEGMENTS": 4, "ROWS": limits.rows, "GROUP": 3, "DISTANCE": 3, "BLOCK_D": 4, "VECTOR": 1}
        return {**shape, "num_warps": 4}

    monkeypatch.setattr(_scan, "division", division)
    assert_matches_formula(name, {}, inputs(name, 2, 101, 5, dtype), steps=101)


@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32, FLOAT16], ids=["float64", "float32", "float16"])
@every_recurrence
def test_a_recurrence_wider_than_the_registers_matches_the_formula(name, options, dtype):
    assert_matches_formula(name, options, inputs(name, 2, 3, WIDE, dtype), steps=3)


@pytest.mark.parametrize("batch", [1, 4, 5])
@every_recurrence
def test_a_program_takes_several_rows_of_a_wide_recurrence_abreast(name, options, batch):
    """One; as many as there is room for in one turn; and another turn, which has fewer. In float64, which is always walked."""
    assert_matches_formula(name, options, inputs(name, batch, 3, WIDE, FLOAT64), steps=3)


@pytest.fixture
def two_rows_are_few(monkeypatch):
    """Of a wide recurrence."""
    for module in (_advance, _stabilized_advance, _stabilized_adjoint):
        monkeypatch.setattr(module, "FEW", 2 * WIDE)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16], ids=["float32", "float16"])
@every_recurrence
def test_many_rows_of_a_wide_recurrence_match_the_formula(name, options, dtype, two_rows_are_few):
    assert_matches_formula(name, options, inputs(name, 5, 2, WIDE, dtype), steps=2)


@pytest.mark.parametrize(("name", "options"), CASES[4:6], ids=["gated", "rms"])
def test_many_rows_are_rounded_once_where_they_are_stored(name, options, two_rows_are_few):
    """Kept for the gradient in float32 or not."""
    arrays, op = inputs(name, 5, 1, WIDE, FLOAT16), getattr(triton_ops, name)
    kept = op(*(array.detach().requires_grad_() for array in arrays), **options)
    assert torch.equal(op(*arrays, **options), kept.detach())


ONE_AFTER_ANOTHER = {
    "gated_recurrence": {"gated_walk_kernel"},
    "stabilized_recurrence": {"stabilized_walk_kernel", "adjoint_walk_kernel"},
}
TOGETHER = {
    "gated_recurrence": {"advance_kernel"},
    "stabilized_recurrence": {"advance_stabilized_kernel", "advance_adjoint_kernel"},
}


@pytest.mark.parametrize("name", ONE_AFTER_ANOTHER)
def test_batch_rows_go_together_if_they_are_many_and_the_device_multiplies_them_at_once(
    name, two_rows_are_few, monkeypatch
):
    launched = set()

    def launch(kernel, *arguments, **options):
        launched.add(kernel.fn.__name__)
        _launch.launch(kernel, *arguments, **options)

    for module in (_gated_walk, _stabilized_walk, _advance, _stabilized_rows):
        monkeypatch.setattr(module, "launch", launch)

    def kernels_for(batch, dtype):
        """Forwards and backwards."""
        launched.clear()
        arrays = inputs(name, batch, 1, WIDE, dtype)
        value_and_gradients(getattr(triton_ops, name), arrays, arrays[0])
        return launched

    assert kernels_for(2, FLOAT32) == ONE_AFTER_ANOTHER[name]
    assert kernels_for(3, FLOAT32) == TOGETHER[name]
    assert kernels_for(3, FLOAT16) == TOGETHER[name]
    assert kernels_for(3, FLOAT64) == ONE_AFTER_ANOTHER[name]
    monkeypatch.setattr(_tiles, "MOST_ROWS", 2)
    assert kernels_for(3, FLOAT32) == ONE_AFTER_ANOTHER[name]


def assert_no_steps_give_nothing(name, options, channels):
    arrays = inputs(name, 2, 0, channels, FLOAT32)
    out, *gradients = value_and_gradients(lambda *a: getattr(triton_ops, name)(*a, **options), arrays, arrays[0])
    assert out.shape == (2, 0, channels)
    assert all(
        not gradient.any() and gradient.shape == array.shape for gradient, array in zip(gradients, arrays, strict=True)
    )


@every_case
def test_no_steps_give_an_empty_result_and_zero_gradients(name, options):
    assert_no_steps_give_nothing(name, options, channels=3)


@every_recurrence
def test_no_steps_of_a_wide_recurrence_give_an_empty_result_and_zero_gradients(name, options):
    assert_no_steps_give_nothing(name, options, channels=WIDE)


def assert_strides_do_not_matter(name, options, channels):
    arrays = inputs(name, 2, 4, channels, FLOAT32)
    strided = []
    for array in arrays:
        if array.dim() == 3:
            array[1] = array[0]
            strided.append(
                array[0].T.contiguous().T.expand(2, 4, channels)
            )  # time fastest, one row for the whole batch
        elif array.dim() == 2:
            strided.append(array.T.contiguous().T)
        else:
            strided.append(torch.stack([array, array], 1)[:, 0])
    before = [array.clone() for array in strided]
    grad = torch.ones((), device=DEVICE).expand(2, 4, channels)
    got = value_and_gradients(lambda *a: getattr(triton_ops, name)(*a, **options), strided, grad)
    expected = value_and_gradients(lambda *a: getattr(triton_ops, name)(*a, **options), arrays, grad.contiguous())
    # The projections of the gate are torch's, whose order of summation may follow the strides.
    close = {"rtol": 1e-5, "atol": 1e-6} if name == "decay_gate" else {"rtol": 0, "atol": 0}
    for one, other in zip(got[:1] + got[4:], expected[:1] + expected[4:], strict=True):
        torch.testing.assert_close(one, other, **(close if one.dim() == 3 else {"rtol": 1e-5, "atol": 1e-6}))
    assert all(torch.equal(array, copy) for array, copy in zip(strided, before, strict=True))


@every_case
def test_strides_do_not_change_a_bit_and_inputs_are_left_alone(name, options):
    assert_strides_do_not_matter(name, options, channels=5)


@every_recurrence
def test_strides_of_a_wide_recurrence_do_not_change_a_bit(name, options):
    assert_strides_do_not_matter(name, options, channels=WIDE)


@every_dtype
@every_case
def test_the_same_call_gives_the_same_bits_and_shares_no_memory(name, options, dtype):
    arrays = inputs(name, 2, 3, 5, dtype)
    first, second = (getattr(triton_ops, name)(*arrays, **options) for _ in range(2))
    assert torch.equal(first, second) and first.dtype == dtype
    assert all(first.data_ptr() != array.data_ptr() for array in arrays)


# ---- exact cases and edges ---------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("op", [triton_ops.decay_product, triton_ops.decay_product_exact])
def test_no_decay_returns_initial_bit_for_bit(op, dtype):
    initial = inputs("decay_product", 2, 1, 17, dtype)[1]
    out = op(torch.ones(2, 9, 17, dtype=dtype, device=DEVICE), initial)
    assert torch.equal(out, initial[:, None].expand(2, 9, 17))


def test_a_linear_recurrence_of_small_integers_is_exact():
    generator = torch.Generator().manual_seed(3)
    a = torch.randint(-1, 2, (2, 9, 5), generator=generator).float().to(DEVICE)
    b = torch.randint(-9, 10, (2, 9, 5), generator=generator).float().to(DEVICE)
    h0 = torch.ones(2, 5, device=DEVICE)
    assert torch.equal(triton_ops.linear_recurrence(a, b, h0), linear_recurrence(a, b, h0))


def test_a_zero_is_floored_by_one_product_and_kept_by_the_other():
    gamma = torch.tensor([0.5, 0.0, 0.5], dtype=FLOAT64, device=DEVICE).reshape(1, 3, 1).requires_grad_()
    initial = torch.ones(1, 1, dtype=FLOAT64, device=DEVICE)
    floored, exact = triton_ops.decay_product(gamma, initial), triton_ops.decay_product_exact(gamma, initial)
    floor = torch.exp(torch.tensor(-50.0, dtype=FLOAT64)).item()
    assert floored.flatten().tolist() == pytest.approx([0.5, 0.5 * floor, 0.25 * floor], rel=1e-15, abs=0)
    assert exact.flatten().tolist() == [0.5, 0.0, 0.0]
    (through_floor,) = torch.autograd.grad(floored.sum(), gamma)
    (through_zero,) = torch.autograd.grad(exact.sum(), gamma)
    assert through_floor.flatten()[1] == 0
    assert through_zero.flatten().tolist() == [1.0, 0.75, 0.0]


def test_the_clamp_of_a_logarithm_binds_only_outside_its_range():
    log_gamma = torch.tensor([-float("inf"), -50.0, -1.0, 0.0, 1.0], device=DEVICE).reshape(1, 5, 1).requires_grad_()
    out = triton_ops.log_decay_product(log_gamma, torch.zeros(1, 1, device=DEVICE))
    assert out.flatten().tolist() == [-50.0, -100.0, -101.0, -101.0, -101.0]
    assert torch.autograd.grad(out.sum(), log_gamma)[0].flatten().tolist() == [0.0, 4.0, 3.0, 2.0, 0.0]


@pytest.mark.parametrize("bad", [float("nan"), -0.5])
@pytest.mark.parametrize("name", ["decay_product", "decay_product_exact", "log_decay_product", "linear_recurrence"])
def test_a_nan_reaches_later_steps_of_its_channel_only(name, bad):
    arrays = inputs(name, 2, 4, 3, FLOAT32)
    clean = getattr(triton_ops, name)(*arrays)
    arrays[0][1, 2, 1] = bad if name.startswith("decay") else float("nan")
    out = getattr(triton_ops, name)(*arrays)
    expected = torch.zeros(2, 4, 3, dtype=torch.bool, device=DEVICE)
    expected[1, 2:, 1] = True
    assert torch.equal(out.isnan(), expected) and torch.equal(out[~expected], clean[~expected])


@every_recurrence
def test_a_nan_leaves_earlier_steps_and_other_rows_alone(name, options):
    arrays = inputs(name, 2, 4, 3, FLOAT32)
    clean = getattr(triton_ops, name)(*arrays, **options)
    arrays[0][1, 2, 1] = float("nan")
    out = getattr(triton_ops, name)(*arrays, **options)
    assert torch.equal(out[0], clean[0]) and torch.equal(out[1, :2], clean[1, :2]) and out[1, 3, 1].isnan()


def test_the_gate_saturates_at_its_clip_without_gradient_there():
    arrays = inputs("decay_gate", 1, 2, 3, FLOAT64)
    for sign, bound in ((1, 1 - 1e-6), (-1, 1e-6)):
        arrays[5] = arrays[9] = torch.full((3,), sign * 800.0, dtype=FLOAT64, device=DEVICE)
        grad = torch.ones(1, 2, 3, dtype=FLOAT64, device=DEVICE)
        out, *gradients = value_and_gradients(triton_ops.decay_gate, arrays, grad)
        assert bool((out == bound).all()) and not any(gradient.any() for gradient in gradients)


def test_products_stay_full_precision_whatever_the_global_setting():
    arrays = inputs("decay_gate", 2, 3, 17, FLOAT32)
    expected = triton_ops.decay_gate(*arrays)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(DEVICE, dtype=BFLOAT16):
            got = triton_ops.decay_gate(*arrays)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(got, expected)


# ---- refusals ----------------------------------------------------------------------


def zeros(*shape, dtype=FLOAT32):
    return torch.zeros(shape, dtype=dtype, device=DEVICE)


def test_every_bad_argument_is_refused_by_name():
    a, b, h0 = zeros(2, 4, 3), zeros(2, 4, 3), zeros(2, 3)
    linear, gate = triton_ops.linear_recurrence, inputs("decay_gate", 2, 4, 3, FLOAT32)
    stabilized = inputs("stabilized_recurrence", 2, 4, 3, FLOAT32)
    wrong_width = [*gate[:6], zeros(4, 3), *gate[7:]]
    refusals = [
        (ValueError, "b: shape (2, 5, 3) does not match a: expected (2, 4, 3)", lambda: linear(a, zeros(2, 5, 3), h0)),
        (ValueError, "h0: shape (2, 3, 1) has 3 dimensions: expected 2, [B, D]",
         lambda: linear(a, b, zeros(2, 3, 1))),
        (ValueError, "a: shape (2, 4, 0) has D = 0: expected D >= 1",
         lambda: linear(zeros(2, 4, 0), zeros(2, 4, 0), zeros(2, 0))),
        (TypeError, "a: got list, expected a torch.Tensor", lambda: linear([1.0], b, h0)),
        (TypeError, "a: dtype int64 is not supported: expected one of float64, float32, bfloat16, float16",
         lambda: linear(a.long(), b, h0)),
        (TypeError, "b: dtype float64 does not match a: expected float32", lambda: linear(a, b.double(), h0)),
        (ValueError, "context_w1: shape (4, 3) does not match base_w1: expected (5, 3)",
         lambda: triton_ops.decay_gate(*wrong_width)),
        (ValueError, "gelu: 'relu' is not supported: expected one of \"tanh\", \"erf\"",
         lambda: triton_ops.decay_gate(*gate, gelu="relu")),
        (ValueError, "norm: 'batch' is not supported: expected one of \"rms\", \"layer\", \"none\"",
         lambda: triton_ops.stabilized_recurrence(*stabilized, norm="batch")),
        (ValueError, "eps: -1.0 is not supported: expected a number >= 0",
         lambda: triton_ops.stabilized_recurrence(*stabilized, eps=-1.0)),
        (ValueError, "clip: 0 is not supported: expected a number > 0",
         lambda: triton_ops.stabilized_recurrence(*stabilized, clip=0)),
        (TypeError, "clip: got str, expected a number",
         lambda: triton_ops.stabilized_recurrence(*stabilized, clip="1")),
    ]  # fmt: skip
    for error, message, call in refusals:
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == message


def test_checked_mode_names_the_first_value_outside_its_domain():
    gamma, initial = torch.ones(2, 4, 3, device=DEVICE), zeros(2, 3)
    gamma[0, 1, 2], gamma[1, 0, 0] = -0.5, 2.0
    nan_state = zeros(2, 3)
    nan_state[1, 2] = float("nan")
    complaints = [
        ("gamma[0, 1, 2] = -0.5 is outside [0, 1]", lambda: triton_ops.decay_product(gamma, initial)),
        ("a[1, 0, 0] = 2 is outside [-1, 1]", lambda: triton_ops.linear_recurrence(gamma, zeros(2, 4, 3), initial)),
        ("log_gamma[0, 0, 0] = 1 is outside [-inf, 0]", lambda: triton_ops.log_decay_product(gamma, initial)),
        ("initial[1, 2] = nan is not a number", lambda: triton_ops.decay_product(gamma.clamp(0, 1), nan_state)),
    ]  # fmt: skip
    for message, call in complaints:
        call()
        with triton_ops.checked(), pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == message
        call()


def test_the_subject_lists_every_op():
    assert triton_ops.SUBJECT["ops"].keys() == FORMULAS.keys()
    assert not triton_ops.SUBJECT.get("declares")  # sums in an order of their own, in no declared depth


# ---- without the interpreter -------------------------------------------------------


def run_compiled(program, *arguments):
    """`program` in a Python whose Triton compiles; its output, read as one JSON value a line."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_cpu_tensor_without_the_interpreter_is_an_error():
    (message,) = run_compiled("""
import json, torch
from mmrec.impls.triton_ops import decay_product
try:
    decay_product(torch.ones(1, 2, 3), torch.ones(1, 3))
except RuntimeError as error:
    print(json.dumps(str(error)))
""")
    assert message.startswith("gamma: device cpu needs Triton's interpreter, which is off: set TRITON_INTERPRET=1")


COMPILE_EVERYTHING = """
import importlib, json, pkgutil, re, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mmrec.impls import triton_ops

def resources(cubin):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True).stdout
    return {name: int(value) for name, value in re.findall("(REG|STACK|LOCAL):([0-9]+)", text)}

for module in pkgutil.walk_packages(triton_ops.__path__, "mmrec.impls.triton_ops."):
    module = importlib.import_module(module.name)
    for spec in module.compile_specs() if hasattr(module, "compile_specs") else ():
        ones = {p.name: 1 for p in spec.kernel.params
                if spec.signature[p.name] == "i32" and not p.do_not_specialize and spec.storage == "fp32"}
        for shape, constants in (("any", {}), ("all ones", ones))[:1 + bool(ones)]:
            signature = spec.signature | {name: "constexpr" for name in constants}
            attrs = {path: known for path, known in spec.attrs.items() if spec.kernel.arg_names[path[0]] not in constants}
            source = ASTSource(fn=spec.kernel, signature=signature, constexprs=spec.constexprs | constants, attrs=attrs)
            kernel = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options=spec.options)
            module_name = spec.kernel.__module__.split('.')[-1]
            print(json.dumps({"kernel": f"{module_name}.{spec.kernel.__name__}", "shape": shape,
                              "storage": spec.storage, "shared": kernel.metadata.shared,
                              **resources(kernel.asm["cubin"])}))
"""


@pytest.mark.parametrize("capability", ["80", "90"])
def test_every_kernel_compiles_without_a_gpu_and_tells_its_resources(capability, record_property):
    compiled = run_compiled(COMPILE_EVERYTHING, capability)
    record_property("resources", compiled)
    assert {"fp64", "fp32", "bf16"} == {kernel["storage"] for kernel in compiled}
    written = {
        f"{path.stem}.{name}"
        for path in Path(triton_ops.__path__[0]).rglob("*.py")
        for name in re.findall(r"^def (\w+_kernel)\(", path.read_text(), re.MULTILINE)
    }
    assert {kernel["kernel"] for kernel in compiled} == written
    assert all(kernel["REG"] <= 255 for kernel in compiled)
    # The tiles of the product that many rows share fill the multiprocessor; every other kernel leaves room for more.
    assert all(kernel["shared"] <= (_tiles.SHARED if ".advance_" in kernel["kernel"] else 32768) for kernel in compiled)
