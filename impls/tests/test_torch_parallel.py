"""Does the parallel gated recurrence say truly how it found its result, and does it end where nothing contracts?

That its results and gradients conform is judged elsewhere: it is a subject of its own.
"""

import pytest
import torch

from mmrec.impls.torch_ops import gated_recurrence
from mmrec.impls.torch_ops.parallel import checked, gated_recurrence_parallel

UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def arguments(B=2, T=128, D=8, gamma=0.05, z=1.0, weight=1.0, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    arrays = (
        z * normal(B, T, D),
        torch.full((B, T, D), gamma),
        weight * normal(D, D) / D**0.5,
        normal(D),
        normal(B, D),
    )
    return [array.to(dtype) for array in arrays]


def gradients(op, arrays, **options):
    arrays = [array.clone().requires_grad_() for array in arrays]
    result = op(*arrays, **options)
    h = result[0] if isinstance(result, tuple) else result
    return torch.autograd.grad(h.cos().sum(), arrays)


# ---- REC-PAR-2: the certificate ------------------------------------------------------------------
def test_rec_par_2_a_contracting_recurrence_takes_a_fraction_of_the_steps():
    h, report = gated_recurrence_parallel(*arguments(T=512), chunk=32)
    assert not report.fell_back
    assert report.passes <= 3
    assert report.depth < 128
    assert h.shape == (2, 512, 8)


def test_rec_par_2_no_step_has_a_larger_defect_than_the_report_says():
    """Steps that were taken err by their rounding only; the largest difference to one step is at a splice."""
    arrays = arguments(T=512, D=32, gamma=0.5)
    h, report = gated_recurrence_parallel(*arrays, chunk=32)
    z, gamma, W_g, b_g, h0 = (array.double() for array in arrays)
    before = torch.cat([h0[:, None], h[:, :-1].double()], dim=1)
    step = z * torch.sigmoid(before @ W_g.T + b_g) + gamma * before
    defects = (h - step).abs().amax(2) / h.abs().amax(2)
    taken = 8 * UNIT[torch.float32]  # the sigmoid's 4 ulp; measured 3 u
    assert report.defect > 0
    assert defects.max() <= max(report.defect, taken)


def test_rec_par_2_without_chunks_to_splice_there_is_no_defect():
    _, report = gated_recurrence_parallel(*arguments(T=16), chunk=16)
    assert (report.defect, report.passes, report.fell_back, report.depth) == (0.0, 1, False, 16)


def test_no_steps_take_no_pass():
    h, report = gated_recurrence_parallel(*arguments(T=0))
    assert h.shape == (2, 0, 8)
    assert (report.passes, report.depth) == (0, 0)


# ---- REC-PAR-3: fallback -------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", UNIT)
def test_rec_par_3_a_chaotic_recurrence_is_walked_and_wastes_three_passes(dtype):
    chaotic = arguments(T=1024, D=32, gamma=0.99, z=3.0, weight=4.0, dtype=dtype)
    h, report = gated_recurrence_parallel(*chaotic, chunk=16)
    assert report.fell_back
    assert report.depth <= 1024 + 3 * 16
    assert torch.isfinite(h).all()


def test_a_row_of_nan_costs_the_others_nothing():
    arrays = arguments(D=32)
    spoiled = [array.clone() for array in arrays]
    spoiled[0][1] = torch.nan
    h, report = gated_recurrence_parallel(*arrays, chunk=32)
    beside_nan, spoiled_report = gated_recurrence_parallel(*spoiled, chunk=32)
    assert torch.equal(beside_nan[0], h[0])
    assert beside_nan[1].isnan().all()
    assert not spoiled_report.fell_back
    assert spoiled_report.passes == report.passes


# ---- REC-PAR-4: exact mode -----------------------------------------------------------------------
@pytest.mark.parametrize("chunk", (1, 7, 64, 200))
@pytest.mark.parametrize("gamma", (0.0, 0.05, 0.9))
def test_rec_par_4_the_exact_mode_returns_the_bits_of_the_loop(chunk, gamma):
    """Rows do not show in each other: float32 products are rounded once, from float64, and 32 channels are whole vectors,
    where torch computes the last elements of an array by another sigmoid on the CPU."""
    arrays = arguments(D=32, gamma=gamma)
    h, report = gated_recurrence_parallel(*arrays, chunk=chunk, tolerance=0.0)
    assert report.defect == 0
    assert torch.equal(h, gated_recurrence(*arrays))


def test_float64_is_always_exact():
    _, report = gated_recurrence_parallel(*arguments(dtype=torch.float64), chunk=32)
    assert report.defect == 0


# ---- gradients -----------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk", (1, 10, 128))
def test_gradients_are_those_of_the_loop(chunk):
    arrays = arguments(gamma=0.5, dtype=torch.float64)
    for found, expected in zip(
        gradients(gated_recurrence_parallel, arrays, chunk=chunk), gradients(gated_recurrence, arrays), strict=True
    ):
        # Both round each step: n roundings of T steps and D terms, relative to the largest gradient.
        assert (found - expected).abs().max() <= 128 * 8 * UNIT[torch.float64] * expected.abs().max()


# ---- arguments -----------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk", (0, -1, 2.5, "many"))
def test_a_chunk_that_is_no_number_of_steps_is_refused(chunk):
    with pytest.raises(ValueError, match=r"chunk: .* is not a whole number of at least 1 step"):
        gated_recurrence_parallel(*arguments(), chunk=chunk)


@pytest.mark.parametrize("tolerance", (-1.0, 1.5, float("nan")))
def test_a_tolerance_outside_0_to_1_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        gated_recurrence_parallel(*arguments(), tolerance=tolerance)


def test_wrong_shapes_and_values_are_refused_by_name():
    z, gamma, W_g, b_g, h0 = arguments()
    with pytest.raises(ValueError, match="gamma"):
        gated_recurrence_parallel(z, gamma[:, 1:], W_g, b_g, h0)
    with checked(), pytest.raises(ValueError, match=r"gamma\[0, 0, 0\] = -1"):
        gated_recurrence_parallel(z, gamma * 0 - 1, W_g, b_g, h0)
