"""Does the Triton decay gate keep float32 where tensor cores multiply, and is the fused scan the two ops it stands for?

What is tested here is below the op's contract: parts of numbers, products of parts, and the networks in bfloat16, which
the op itself computes in float32 where its kernels are interpreted.
"""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import triton
import triton.language as tl

from mmrec.impls import triton_ops
from mmrec.impls.triton_ops import _decay_gate_scan, _gate_networks, _launch, _matmul, _parts

BIASES_2 = (6, 10)  # places of the gradients of base_b2 and context_b2, behind the value
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
U = 2.0**-24  # roundoff of float32
LEFT_OUT = {2: 2.0**-17, 3: 0.0}  # of a number by its parts


@triton.jit
def store_parts_kernel(x_ptr, out_ptr, N, K, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """x [N, K] -> out [N, PARTS K], a row a program."""
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * K + column, mask=column < K, other=0.0)
    _parts.store_parts(out_ptr + row * K * PARTS + column, x, K, PARTS, column < K)


def in_parts(x, parts):
    out = torch.empty(x.shape[0], parts * x.shape[1], dtype=torch.bfloat16, device=DEVICE)
    block = triton.next_power_of_2(x.shape[1])
    _launch.launch(store_parts_kernel, (x.shape[0],), x.device, x, out, *x.shape, PARTS=parts, BLOCK=block)
    return out


def normal(*shape, dtype=torch.float32, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).to(DEVICE)


def roundoff(terms):
    """What a sum of so many products in float32 may lose, relative to the sum of their sizes."""
    return terms * U / (1 - terms * U)


# ---- parts -------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_sum_to_the_number_with_the_smallest_first(parts):
    x = normal(3, 70) * torch.logspace(-30, 30, 70, device=DEVICE)
    x[0, :4] = torch.tensor([0.0, 1.0, 1 - 2.0**-24, -(1 + 2.0**-8 + 2.0**-16)])
    summed = in_parts(x, parts).to(torch.float64).reshape(3, parts, 70)

    assert bool((summed.sum(1) - x).abs().le(LEFT_OUT[parts] * x.abs().double()).all())
    assert bool((summed[:, :-1].abs() <= 2.0**-8 * summed[:, 1:].abs()).all())


def test_nan_stays_nan_in_parts():
    assert bool(in_parts(torch.full((1, 4), float("nan"), device=DEVICE), 3).isnan().any(1).all())


def test_only_long_sums_of_bfloat16_take_two_parts():
    assert [_parts.parts_needed(torch.bfloat16, terms) for terms in (1, 255, 256)] == [3, 3, 2]
    assert roundoff(_parts.TWO_SUFFICE_FROM) / 2 >= LEFT_OUT[2]
    assert all(_parts.parts_needed(dtype, 1) == 1 for dtype in (torch.float64, torch.float32, torch.float16))


@pytest.mark.parametrize("parts", [2, 3])
def test_products_of_parts_lose_no_more_than_float32(parts):
    x, other, right = normal(20, 300), normal(20, 50, seed=1), normal(300, 40, dtype=torch.bfloat16, seed=2)
    wide, wide_other, wide_right = (matrix.to(torch.float64) for matrix in (x, other, right))
    left, stacked = in_parts(x, parts)[None], _matmul.repeated([right], parts, torch.bfloat16)
    [got] = _matmul.product(left, stacked)
    assert torch.equal(_matmul.repeated_transposed([right.T], parts, torch.bfloat16), stacked)
    [total] = _matmul.transposed_product(left, in_parts(other, parts)[None], 300, 50)

    assert got.dtype == total.dtype == torch.float32
    exact, allowed = wide @ wide_right, (LEFT_OUT[parts] + roundoff(300)) * (wide.abs() @ wide_right.abs())
    assert bool(((got - exact).abs() <= allowed).all())
    [rounded] = _matmul.rounded_product(left, stacked, torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    assert bool(((rounded - exact).abs() <= allowed + 2.0**-8 * (exact.abs() + allowed)).all())
    # Of both operands, and as much again by the product that is left out.
    allowed = (4.01 * LEFT_OUT[parts] + roundoff(20 + parts**2)) * (wide.abs().T @ wide_other.abs())
    assert bool(((total - wide.T @ wide_other).abs() <= allowed).all())


def test_settings_of_16_bit_products_are_left_as_they_were():
    setting = torch.backends.cuda.matmul
    names = [
        "allow_bf16_reduced_precision_reduction",
        "allow_fp16_reduced_precision_reduction",
        "allow_fp16_accumulation",
    ]
    before = [getattr(setting, name) for name in names]
    setting.allow_fp16_accumulation = True
    try:
        with _matmul.full_precision(torch.device(DEVICE)):
            assert not any(getattr(setting, name) for name in names)
        assert [getattr(setting, name) for name in names] == [*before[:2], True]
    finally:
        setting.allow_fp16_accumulation = before[2]


# ---- the networks in bfloat16 ------------------------------------------------------


def arguments(B, T, D, E, dtype, seed=0):
    shapes = [(B, T, D)] * 2 + [(E, D), (E,), (D, E), (D,)] * 2
    return [normal(*shape, dtype=dtype, seed=seed + i) * shape[-1] ** (-0.5 * (len(shape) == 2))
            for i, shape in enumerate(shapes)]  # fmt: skip


def formula(z, k, w1, b1, w2, b2, v1, c1, v2, c2, form="tanh"):
    def network(x, w1, b1, w2, b2):
        hidden = torch.nn.functional.gelu(x @ w1.T + b1, approximate="tanh" if form == "tanh" else "none")
        return torch.sigmoid(hidden @ w2.T + b2)

    return (network(z, w1, b1, w2, b2) * network(k, v1, c1, v2, c2)).clamp(1e-6, 1 - 1e-6)


@pytest.mark.parametrize("form", ["tanh", "erf"])
@pytest.mark.parametrize(("D", "E"), [(5, 7), (33, 300)], ids=["three parts", "two parts"])
def test_logits_of_bfloat16_networks_are_float32_numbers(D, E, form):
    given = arguments(2, 3, D, E, torch.bfloat16)
    nets = _gate_networks.Networks.of(given)
    hidden, _, logits = _gate_networks.logits_of(nets, form)
    assert hidden.dtype == logits.dtype == torch.float32

    for i in range(2):
        x, w1, w2 = (pair[i].to(torch.float64) for pair in (nets.inputs, nets.w1, nets.w2))
        exact = x @ w1.T
        before = roundoff(D) * (x.abs() @ w1.abs().T)
        assert bool(((hidden[i] - exact).abs() <= before).all())
        enters = exact + nets.b1[i]
        activation = torch.nn.functional.gelu(enters, approximate="tanh" if form == "tanh" else "none")
        # The bias rounds once. A gelu is nowhere steeper than 1.13; its last operations err by 32 u of x at most.
        after = 1.13 * (before + U * enters.abs()) + 32 * U * enters.abs() + LEFT_OUT[_parts.parts_needed(
            torch.bfloat16, E)] * activation.abs()  # fmt: skip
        allowed = after @ w2.abs().T + roundoff(E) * (activation.abs() @ w2.abs().T)
        assert bool(((logits[i] - activation @ w2.T).abs() <= allowed).all())


@pytest.mark.parametrize("D", [5, 128])
def test_decays_of_logits_are_within_a_few_roundings(D):
    nets = _gate_networks.Networks.of(arguments(2, 3, D, 7, torch.bfloat16))
    logits, decays = 8 * normal(2, 6, D, seed=50), torch.empty(2, 3, D, device=DEVICE)
    _gate_networks.decays_of(nets, logits, decays)

    enters = [entering.to(torch.float64) + bias for entering, bias in zip(logits, nets.b2, strict=True)]
    exact = (torch.sigmoid(enters[0]) * torch.sigmoid(enters[1])).clamp(1e-6, 1 - 1e-6)
    # Adding the bias and the exponential err by some u of the logit; two sums, a product and a quotient follow.
    allowed = (16 + 3 * (enters[0].abs() + enters[1].abs())) * U * exact
    assert bool(((decays.view(6, D) - exact).abs() <= allowed).all())


@pytest.mark.parametrize(("T", "D", "E"), [(3, 5, 7), (512, 256, 256)], ids=["three parts", "two parts"])
def test_gradients_of_bfloat16_networks_round_once(T, D, E):
    given = arguments(2, T, D, E, torch.bfloat16)
    grad = normal(2, T, D, dtype=torch.bfloat16, seed=20)
    nets = _gate_networks.Networks.of(given)
    kept = _gate_networks.logits_of(nets, "tanh")
    got = _gate_networks.networks_adjoint(nets, kept, *_gate_networks.logits_adjoint(nets, kept.logits, grad), "tanh")
    leaves = [array.to(torch.float64).requires_grad_() for array in given]
    expected = torch.autograd.grad(formula(*leaves), leaves, grad.to(torch.float64))
    for result, exact in zip(got, expected, strict=True):
        assert result.dtype == torch.bfloat16 and result.numel() == exact.numel()
        # Half a gap of bfloat16, and three products and their sums on the way, of numbers of that size.
        allowed = 2.0**-8 * exact.abs() + 3 * roundoff(2 * T + D + E + 64) * exact.abs().max()
        assert bool(((result.view_as(exact) - exact).abs() <= allowed).all())


# ---- gate and scan in one ----------------------------------------------------------


def gate_and_scan(*given, form="tanh"):
    gamma, (b, h) = formula(*given[:10], form=form), given[10:]
    out = []
    for t in range(b.shape[1]):
        h = gamma[:, t] * h + b[:, t]
        out.append(h)
    return torch.stack(out, 1)


def value_and_gradients(function, given, grad):
    leaves = [array.detach().requires_grad_() for array in given]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]


def scan_arguments(T, dtype):
    return [*arguments(2, T, 5, 7, dtype), normal(2, T, 5, dtype=dtype, seed=30), normal(2, 5, dtype=dtype, seed=31)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16],
                         ids=["float64", "float32", "bfloat16", "float16"])  # fmt: skip
@pytest.mark.parametrize("form", ["tanh", "erf"])
def test_gate_and_scan_match_the_formula_with_unrounded_decays(form, dtype):
    given, grad = scan_arguments(70, dtype), normal(2, 70, 5, dtype=dtype, seed=40)
    got = value_and_gradients(lambda *a: triton_ops.decay_gate_scan(*a, gelu=form), given, grad)
    expected = value_and_gradients(lambda *a: gate_and_scan(*a, form=form), [a.to(torch.float64) for a in given], grad)
    storage, arithmetic = torch.finfo(dtype).eps / 2, 2.0**-53 if dtype == torch.float64 else U
    for result, exact in zip(got, expected, strict=True):
        assert result.dtype == dtype and result.shape == exact.shape
        # Half a gap, and as many roundings as steps, of numbers of that size; float16 ends at 2^-24.
        scale = exact.abs().max().clamp(min=1.0)
        allowed = 1.01 * storage * exact.abs() + 64 * 70 * arithmetic * scale + 2.0**-25 * (dtype == torch.float16)
        assert bool(((result - exact).abs() <= allowed).all())


@pytest.mark.skipif(DEVICE == "cuda", reason="compiled, the two scans divide time differently")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_gate_and_scan_are_the_two_ops_bit_for_bit(dtype):
    given, grad = scan_arguments(21, dtype), normal(2, 21, 5, dtype=dtype, seed=40)

    def one_by_one(*a):
        return triton_ops.linear_recurrence(triton_ops.decay_gate(*a[:10]), *a[10:])

    fused, apart = (value_and_gradients(f, given, grad) for f in (triton_ops.decay_gate_scan, one_by_one))
    for position, (one, other) in enumerate(zip(fused, apart, strict=True)):
        if position in BIASES_2:  # 42 terms, summed over chunks of time or over tiles: 41 roundings either way
            assert (one - other).abs().max() <= 41 * torch.finfo(dtype).eps * other.abs().max()
        else:
            assert torch.equal(one, other)


def test_gate_and_scan_of_bfloat16_write_the_gradients_of_logits_in_parts():
    given, grad = scan_arguments(21, torch.bfloat16), normal(2, 21, 5, dtype=torch.bfloat16, seed=40)
    # Not through the op, which widens bfloat16 where it is interpreted, and whose stores truncate there.
    got = value_and_gradients(
        lambda *a: _decay_gate_scan._DecayGateScan.apply("tanh", True, *a[10:], *a[:10]), given, grad
    )
    alone = _decay_gate_scan._DecayGateScan.apply("tanh", False, *given[10:], *given[:10])  # where no gradient follows
    expected = value_and_gradients(gate_and_scan, [a.to(torch.float64) for a in given], grad)
    for result, exact in zip([*got, alone], [*expected, expected[0]], strict=True):
        assert result.dtype == torch.bfloat16
        allowed = (2.0**-7 if DEVICE == "cpu" else 2.0**-8) * exact.abs() + 64 * 21 * U * exact.abs().max()
        assert bool(((result - exact).abs() <= allowed).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_no_gradient_passes_a_decay_where_the_clip_binds(dtype):
    given, grad = scan_arguments(19, dtype), normal(2, 19, 5, dtype=dtype, seed=40)
    for b2, values in ((5, (-300.0, 300.0)), (9, (0.0, 300.0))):  # the smallest decay, and the largest
        given[b2] = torch.cat([torch.tensor(values, dtype=dtype, device=DEVICE), given[b2][2:]])
    result, *gradients = value_and_gradients(triton_ops.decay_gate_scan, given, grad)
    assert bool(result.isfinite().all())
    for b2 in BIASES_2:
        assert not gradients[b2 - 1][:2].any() and bool(gradients[b2 - 1][2:].all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_a_last_state_that_overflows_spoils_no_gradient(dtype):
    """Beyond the end a kernel goes on from it."""
    given, grad = scan_arguments(19, dtype), normal(2, 19, 5, dtype=dtype, seed=40)
    gradients = []
    for last in (0.0, float("inf")):
        given[10] = given[10].clone()
        given[10][:, -1] = last
        gradients.append(value_and_gradients(triton_ops.decay_gate_scan, given, grad)[1:])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_gate_and_scan_take_any_strides_and_no_steps():
    given, grad = scan_arguments(4, torch.float32), normal(2, 4, 5, seed=40)
    strided = [array.T.contiguous().T if array.dim() == 2 else array for array in given]
    strided[10] = given[10].transpose(1, 2).contiguous().transpose(1, 2)
    pair = [value_and_gradients(triton_ops.decay_gate_scan, a, grad) for a in (given, strided)]
    # Products of other strides may sum in another order: at most 8 terms, four products in a row, two roundings a term.
    assert all((one - other).abs().max() <= 64 * U * other.abs().max() for one, other in zip(*pair, strict=True))

    nothing = value_and_gradients(triton_ops.decay_gate_scan, scan_arguments(0, torch.float32), normal(2, 0, 5))
    assert nothing[0].shape == (2, 0, 5) and not any(gradient.any() for gradient in nothing[1:])


def test_gate_and_scan_refuse_bad_arguments_by_name():
    given = scan_arguments(4, torch.float32)
    with pytest.raises(ValueError, match=r"^h0: shape \(2, 4\) does not match z: expected \(2, 5\)$"):
        triton_ops.decay_gate_scan(*given[:11], given[11][:, :4])
    with pytest.raises(ValueError, match=r"^gelu: 'relu' is not supported"):
        triton_ops.decay_gate_scan(*given, gelu="relu")
    with triton_ops.checked(), pytest.raises(ValueError, match=r"^b\[0, 0, 0\] = nan is not a number$"):
        given[10][0, 0, 0] = float("nan")
        triton_ops.decay_gate_scan(*given)
