"""Are the kernels of the parallel gated recurrence right on small shapes, chunk by chunk, and does the solver end?

That its results and gradients conform is judged elsewhere: it is a subject of its own.
"""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from mmrec.impls.triton_ops.parallel import gated_recurrence_parallel
from mmrec.impls.triton_ops.parallel._advance import advance
from mmrec.impls.triton_ops.parallel._chunks import chain, freeze
from mmrec.impls.triton_ops.parallel._walk import walk

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
B, T, D, CHUNK = 2, 11, 20, 4
UNIT = 2.0**-24
NEAR = (T * D) * UNIT  # T steps of D terms each, relative to states of size 1 to 4; nothing here amplifies


def arguments(dtype=torch.float32, steps=T, gamma=None, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    decay = torch.rand((B, steps, D), generator=generator) if gamma is None else torch.full((B, steps, D), gamma)
    arrays = (normal(B, steps, D), decay, normal(D, D) / (2 * D**0.5), normal(D), normal(B, D))
    return [array.to(dtype).to(DEVICE) for array in arrays]


def loop(z, gamma, W_g, b_g, h0):
    """The states in float32; the product reads them in the storage dtype, as the kernels do."""
    h, states = h0.float(), []
    for t in range(z.shape[1]):
        logits = (h.to(z.dtype).double() @ W_g.double().T + b_g.double()).float()
        h = z[:, t].float() * torch.sigmoid(logits) + gamma[:, t].float() * h
        states.append(h)
    return torch.stack(states, dim=1)


def assert_near(found, expected, unit=0.0):
    scale = expected.abs().max()
    assert (found.float() - expected).abs().max() <= (NEAR + unit) * scale


@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, 0.0), (torch.float16, 2.0**-10)])
def test_walking_takes_every_step(dtype, unit):
    given = arguments(dtype)
    expected, state, out = loop(*given), given[4].float(), torch.full_like(given[0], torch.nan)

    walk(*given[:4], state, out, first=0, steps=T)

    assert_near(state, expected[:, -1], unit)
    assert_near(out, expected, unit)


@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, 0.0), (torch.float16, 2.0**-10)])
def test_advancing_all_chunks_from_the_true_states_gives_the_loop(dtype, unit):
    """The last of the three chunks has three steps."""
    given = arguments(dtype)
    expected, out = loop(*given), torch.full_like(given[0], torch.nan)
    starts = torch.stack([given[4].float(), expected[:, CHUNK - 1], expected[:, 2 * CHUNK - 1]]).reshape(-1, D)
    previous = torch.empty_like(starts)

    advance(*given[:4], starts, previous, out, CHUNK, first=0, steps=CHUNK, stored=CHUNK)

    assert_near(out, expected, unit)
    assert_near(starts[:B], expected[:, CHUNK - 1], unit)
    assert_near(previous[:B], expected[:, CHUNK - 2], unit)


def test_frozen_chunks_chained_are_the_linear_recurrence():
    z, gamma, _, b_g, h0 = arguments()
    h, before = h0, [h0]
    for t in range(T):
        h = gamma[:, t] * h + z[:, t] * torch.sigmoid(b_g)
        if (t + 1) % CHUNK == 0:
            before.append(h)
    assert_near(chain(*freeze(z, gamma, b_g, CHUNK, 3), h0), torch.stack(before))


@pytest.mark.parametrize("gamma", (0.05, 0.9))
def test_rec_par_1_the_solver_gives_the_loop(gamma):
    given = arguments(steps=40, gamma=gamma)
    h, report = gated_recurrence_parallel(*given, chunk=10)
    assert report.passes > 1 or report.fell_back
    assert (h - loop(*given)).abs().max() <= 40 * D * UNIT * h.abs().max() / (1 - gamma)


def test_rec_par_4_the_exact_mode_splices_without_a_defect():
    _, report = gated_recurrence_parallel(*arguments(steps=60, gamma=0.0), chunk=20, tolerance=0.0)
    assert report.defect == 0


@pytest.mark.parametrize("options", ({"chunk": 0}, {"chunk": 1.5}, {"tolerance": -0.1}, {"tolerance": 2}))
def test_options_out_of_range_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        gated_recurrence_parallel(*arguments(), **options)


@pytest.mark.skipif(DEVICE == "cuda", reason="the interpreter's number of rows is fixed")
def test_more_chunks_than_fit_the_device_are_refused():
    with pytest.raises(ValueError, match="chunk: 1 steps make more than the 32 rows"):
        gated_recurrence_parallel(*arguments(steps=40), chunk=1)
