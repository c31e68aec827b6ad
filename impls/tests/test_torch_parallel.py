"""Do the parallel recurrences say truly how they found their result, and do they end where nothing contracts?

That results and gradients conform is judged elsewhere: they are a subject of their own.
"""

import pytest
import torch

from mmrec.impls.torch_ops import gated_recurrence, stabilized_recurrence
from mmrec.impls.torch_ops.parallel import checked, gated_recurrence_parallel, stabilized_recurrence_parallel

UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
OPS = {
    "gated": (gated_recurrence, gated_recurrence_parallel),
    "stabilized": (stabilized_recurrence, stabilized_recurrence_parallel),
}
CONTRACTING = {"gated": 1.0, "stabilized": 3.0}  # the size of z with which much is forgotten in a step (REC-PAR-5)
NORMS = ("rms", "layer", "none")
every_op = pytest.mark.parametrize("op", OPS)


def arguments(op, B=2, T=128, D=8, gamma=0.05, z=None, weight=1.0, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    z = (z or CONTRACTING[op]) * normal(B, T, D)
    decay, W, b, h0 = torch.full((B, T, D), gamma), weight * normal(D, D) / D**0.5, normal(D), normal(B, D)
    arrays = (z, decay, W, b, h0)
    if op == "stabilized":
        arrays = (z, normal(B, T, D), decay, W, b, 1 + 0.3 * normal(D), 0.3 * normal(D), h0)
    return [array.to(dtype) for array in arrays]


def gradients(op, arrays, **options):
    arrays = [array.clone().requires_grad_() for array in arrays]
    result = op(*arrays, **options)
    h = result[0] if isinstance(result, tuple) else result
    return torch.autograd.grad(h.cos().sum(), arrays)


# ---- REC-PAR-2: the certificate ------------------------------------------------------------------
@every_op
def test_rec_par_2_a_contracting_recurrence_takes_a_fraction_of_the_steps(op):
    h, report = OPS[op][1](*arguments(op, T=512), chunk=32)
    assert not report.fell_back
    assert report.passes <= 3
    assert report.depth < 128
    assert h.shape == (2, 512, 8)


@every_op
def test_rec_par_2_no_step_has_a_larger_defect_than_the_report_says(op):
    """Steps that were taken err by their rounding only; the largest difference to one step is at a splice."""
    loop, parallel = OPS[op]
    arrays = arguments(op, T=512, D=32, gamma=0.5)
    h, report = parallel(*arrays, chunk=32)
    *inputs, h0 = (array.double() for array in arrays)
    before = torch.cat([h0[:, None], h[:, :-1].double()], dim=1).flatten(0, 1)
    inputs = [array.flatten(0, 1)[:, None] if array.ndim == 3 else array for array in inputs]
    step = loop(*inputs, before).reshape(h.shape)  # one step in float64 from each state that was returned
    defects = (h - step).abs().amax(2) / h.abs().amax(2)
    taken = 8 * UNIT[torch.float32]  # the sigmoid's 4 ulp; measured 3 u
    assert report.defect > 0
    assert defects.max() <= max(report.defect, taken)


@every_op
def test_rec_par_2_without_chunks_to_splice_there_is_no_defect(op):
    _, report = OPS[op][1](*arguments(op, T=16), chunk=16)
    assert (report.defect, report.passes, report.fell_back, report.depth) == (0.0, 1, False, 16)


@every_op
def test_no_steps_take_no_pass(op):
    h, report = OPS[op][1](*arguments(op, T=0))
    assert h.shape == (2, 0, 8)
    assert (report.passes, report.depth) == (0, 0)


# ---- REC-PAR-3: fallback -------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", UNIT)
@every_op
def test_rec_par_3_a_chaotic_recurrence_is_walked_and_wastes_three_passes(op, dtype):
    chaotic = arguments(op, T=1024, D=32, gamma=0.99, z={"gated": 3.0, "stabilized": 0.1}[op], weight=4.0, dtype=dtype)
    h, report = OPS[op][1](*chaotic, chunk=16)
    assert report.fell_back
    assert report.depth <= 1024 + 3 * 16
    assert torch.isfinite(h).all()


@every_op
def test_a_row_of_nan_costs_the_others_nothing(op):
    arrays = arguments(op, D=32)
    spoiled = [array.clone() for array in arrays]
    spoiled[0][1] = torch.nan
    h, report = OPS[op][1](*arrays, chunk=32)
    beside_nan, spoiled_report = OPS[op][1](*spoiled, chunk=32)
    assert torch.equal(beside_nan[0], h[0])
    assert beside_nan[1].isnan().all()
    assert not spoiled_report.fell_back
    assert spoiled_report.passes == report.passes


# ---- REC-PAR-4: exact mode -----------------------------------------------------------------------
@pytest.mark.parametrize("chunk", (1, 7, 64, 200))
@pytest.mark.parametrize("gamma", (0.0, 0.05, 0.9))
@every_op
def test_rec_par_4_the_exact_mode_returns_the_bits_of_the_loop(op, chunk, gamma):
    """Rows do not show in each other: float32 products and means are rounded once, from float64, and 32 channels are whole
    vectors, where torch computes the last elements of an array by another sigmoid on the CPU."""
    arrays = arguments(op, D=32, gamma=gamma)
    h, report = OPS[op][1](*arrays, chunk=chunk, tolerance=0.0)
    assert report.defect == 0
    assert torch.equal(h, OPS[op][0](*arrays))


@pytest.mark.parametrize("clip", (100.0, 1.5))
@pytest.mark.parametrize("norm", NORMS)
def test_rec_par_4_with_every_norm_and_a_clip_that_binds(norm, clip):
    arrays = arguments("stabilized", D=32)
    h, report = stabilized_recurrence_parallel(*arrays, norm=norm, clip=clip, chunk=32, tolerance=0.0)
    assert report.defect == 0
    assert torch.equal(h, stabilized_recurrence(*arrays, norm=norm, clip=clip))


@every_op
def test_float64_is_always_exact(op):
    _, report = OPS[op][1](*arguments(op, dtype=torch.float64), chunk=32)
    assert report.defect == 0


# ---- gradients -----------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk", (1, 10, 128))
@pytest.mark.parametrize(
    ("op", "options"), [("gated", {})] + [("stabilized", {"norm": norm, "clip": 1.5}) for norm in NORMS]
)
def test_gradients_are_those_of_the_loop(op, options, chunk):
    loop, parallel = OPS[op]
    arrays = arguments(op, gamma=0.5, dtype=torch.float64)
    of_solver, of_loop = gradients(parallel, arrays, chunk=chunk, **options), gradients(loop, arrays, **options)
    for found, expected in zip(of_solver, of_loop, strict=True):
        # Both round each step: n roundings of T steps and D terms, relative to the largest gradient.
        assert (found - expected).abs().max() <= 128 * 8 * UNIT[torch.float64] * expected.abs().max()


# ---- arguments -----------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk", (0, -1, 2.5, "many", True))
@every_op
def test_a_chunk_that_is_no_number_of_steps_is_refused(op, chunk):
    with pytest.raises(ValueError, match=r"chunk: .* is not a whole number of at least 1 step"):
        OPS[op][1](*arguments(op), chunk=chunk)


@pytest.mark.parametrize("tolerance", (-1.0, 1.5, float("nan")))
@every_op
def test_a_tolerance_outside_0_to_1_is_refused(op, tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        OPS[op][1](*arguments(op), tolerance=tolerance)


@every_op
def test_wrong_shapes_and_values_are_refused_by_name(op):
    arrays = arguments(op)
    at = {"gated": 1, "stabilized": 2}[op]  # gamma
    with pytest.raises(ValueError, match="gamma"):
        OPS[op][1](*arrays[:at], arrays[at][:, 1:], *arrays[at + 1 :])
    with checked(), pytest.raises(ValueError, match=r"gamma\[0, 0, 0\] = -1"):
        OPS[op][1](*arrays[:at], arrays[at] * 0 - 1, *arrays[at + 1 :])


@pytest.mark.parametrize("option", ({"norm": "batch"}, {"eps": -1.0}, {"clip": 0.0}))
def test_options_of_the_stabilized_recurrence_are_refused_by_name(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        stabilized_recurrence_parallel(*arguments("stabilized"), **option)
