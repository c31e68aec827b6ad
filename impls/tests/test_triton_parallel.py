"""Are the kernels of the parallel gated recurrence right on small shapes, chunk by chunk, and does the solver end?

That its results and gradients conform is judged elsewhere: it is a subject of its own.
"""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from mmrec.impls.triton_ops.parallel import gated_recurrence_parallel
from mmrec.impls.triton_ops.parallel._chunks import Mismatch, chain, freeze
from mmrec.impls.triton_ops.parallel._solver import default_chunk, is_hopeless, is_stalled
from mmrec.impls.triton_ops.parallel._splice import Splices
from mmrec.impls.triton_ops.rows import _advance, _rows
from mmrec.impls.triton_ops.rows._advance import Rows, walk
from mmrec.impls.triton_ops.rows._cell import Cell

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PART = torch.bfloat16 if DEVICE == "cuda" else torch.float16
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


def cells(dtype=torch.float32):
    """The recurrence and an adjoint of it, with the state each begins with."""
    z, gamma, W_g, b_g, h0 = arguments(dtype)
    slope = arguments(dtype, seed=1)[1] / 4
    return (Cell(z, gamma, None, W_g, b_g), h0.float()), (Cell(z, gamma, slope, W_g.T.contiguous(), b_g), h0.float())


def states_of(cell, state):
    """All states in float32, products in float64."""
    inflow, gamma = cell.inflow.float(), cell.gamma.float()
    weight, states = cell.weight.double().T, []
    for t in range(inflow.shape[1]):
        if cell.adjoint:
            inner = inflow[:, t] + state
            state = ((cell.slope[:, t].float() * inner).double() @ weight).float() + gamma[:, t] * inner
        else:
            gate = torch.sigmoid((state.double() @ weight + cell.bias.double()).float())
            state = inflow[:, t] * gate + gamma[:, t] * state
        states.append(state)
    return torch.stack(states, dim=1)


def loop(z, gamma, W_g, b_g, h0):
    return states_of(Cell(z, gamma, None, W_g, b_g), h0.float())


def assert_near(found, expected, rest=0.0):
    scale = expected.abs().max()
    assert (found.float() - expected).abs().max() <= (NEAR + rest) * scale


@pytest.mark.parametrize("few", (1, 2), ids=("together", "one after another"))
@pytest.mark.parametrize("first", (0, 5))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float16))
@pytest.mark.parametrize("adjoint", (False, True))
def test_walking_takes_every_step_from_any_on(adjoint, dtype, first, few, monkeypatch):
    monkeypatch.setattr(_advance, "FEW", few * D)
    cell, state = cells(dtype)[adjoint]
    expected, out = states_of(cell, state), torch.full(cell.shape, torch.nan, device=DEVICE)

    state = (state if first == 0 else expected[:, first - 1]).clone()
    walk(cell, state, out, first)

    assert_near(state, expected[:, -1])
    assert_near(out[:, first:], expected[:, first:])
    assert out[:, :first].isnan().all()


# The interpreter cannot multiply bfloat16; in float16 the parts of numbers of this size are as good.
@pytest.mark.parametrize("narrow", (True, False))
@pytest.mark.parametrize("parts", (1, 2, 3))
@pytest.mark.parametrize("adjoint", (False, True))
def test_advancing_all_chunks_from_the_true_states_gives_the_loop(narrow, parts, adjoint, monkeypatch):
    """The last of the three chunks has three steps. Weights are made of parts unless they are as narrow."""
    dtype = torch.float32 if parts == 1 else PART
    monkeypatch.setattr(_rows, "part_format", lambda terms, share: (dtype, parts))
    cell, state = cells(dtype if narrow else torch.float32)[adjoint]
    expected, out = states_of(cell, state), torch.full(cell.shape, torch.nan, device=DEVICE)
    starts = torch.stack([state, expected[:, CHUNK - 1], expected[:, 2 * CHUNK - 1]]).reshape(-1, D)

    rows = Rows(cell, starts, CHUNK)
    rows.advance(out, first=0, steps=CHUNK, stored=CHUNK)

    rest = CHUNK * 2.0 ** (-8 * parts) * (parts > 1)  # what the parts leave of an operand, in each step
    assert_near(out, expected, rest)
    assert_near(rows.carry[:B], expected[:, CHUNK - 1], rest)
    assert_near(rows.previous[0, :B], expected[:, CHUNK - 3], rest)
    assert_near(rows.previous[1, :B], expected[:, CHUNK - 2], rest)


@pytest.mark.parametrize("steps", (3, 4))
def test_the_operands_of_the_last_two_steps_are_what_those_began_with(steps):
    cell, state = cells()[False]
    rows = Rows(cell, state.clone(), T, parts=1)
    rows.advance(torch.empty(cell.shape, device=DEVICE), first=0, steps=steps, stored=steps)
    assert torch.equal(rows.operand().float(), rows.previous.to(rows.weight.dtype).float())


@pytest.mark.parametrize("adjoint", (False, True))
def test_frozen_chunks_chained_are_the_linear_recurrence(adjoint):
    cell, state = cells()[adjoint]
    x, before = state, [state]
    for t in range(T):
        if adjoint:
            x = cell.gamma[:, t] * (x + cell.inflow[:, t])
        else:
            x = cell.gamma[:, t] * x + cell.inflow[:, t] * torch.sigmoid(cell.bias)
        if (t + 1) % CHUNK == 0:
            before.append(x)
    assert_near(chain(*freeze(cell, CHUNK, 0, CHUNK), state), torch.stack(before))


ULP = 2.0**-23  # of numbers from 1 to 2


@pytest.mark.parametrize(
    ("z_at", "z_after", "difference", "spliced"),
    [
        (1.0, 1.0, ULP, True),  # there is room at once
        (0.0, 1.0, ULP, True),  # none at this step, since nothing of the gate arrives: the channel waits for the next
        (0.0, 0.0, ULP, False),  # none at either
        (0.0, 1.0, 64 * ULP, False),  # too much for what the others make of it
        (0.0, 0.0, 0.0, True),  # equal: no room is needed
    ],
)
def test_rec_par_2_a_channel_may_be_spliced_one_step_later(z_at, z_after, difference, spliced):
    """All channels but the first have room for half an ulp and more: logits are 0 and their terms 16 x 64."""
    channels = 16
    z = torch.ones((1, 4, channels), device=DEVICE)
    z[0, 1, 0], z[0, 2, 0] = z_at, z_after
    weight = torch.tensor([64.0, -64.0], device=DEVICE).repeat(channels, channels // 2)
    cell = Cell(z, torch.full_like(z, 0.5), None, weight, torch.zeros(channels, device=DEVICE))
    new, stored = torch.full((channels,), 1.25, device=DEVICE), torch.full((1, 4, channels), 1.25, device=DEVICE)
    stored[0, 1, 0] += difference
    stored[0, 1, 1] += ULP
    out, after = stored.clone(), torch.full((1, channels), 1.5, device=DEVICE)
    rows = Rows(cell, after, 4)
    rows.previous[:] = new
    rows.logits.zero_()
    rows.operands.fill_(1.0)

    Splices(cell, 1, tolerance=1.0).judge(rows, out, step=1)

    assert bool(rows.live[0]) is not spliced
    kept = stored[0, 1].clone()
    kept[0] = kept[0] if z_at or not difference else new[0]
    assert torch.equal(out[0, 1], kept if spliced else new)
    assert torch.equal(out[0, 2], stored[0, 2] if spliced else after[0])
    assert torch.equal(out[0, 3], stored[0, 3])


@pytest.mark.parametrize("gamma", (0.05, 0.9))
def test_rec_par_1_the_solver_gives_the_loop(gamma):
    given = arguments(steps=40, gamma=gamma)
    h, report = gated_recurrence_parallel(*given, chunk=10)
    assert report.passes > 1 or report.fell_back
    assert (h - loop(*given)).abs().max() <= 40 * D * UNIT * h.abs().max() / (1 - gamma)


@pytest.mark.parametrize(
    ("sizes", "rows", "stalled"),
    (
        ((2.8e-5, 4.5e-6), (126, 125), False),  # they still come nearer
        ((2.8e-5, 4.5e-6, 3.3e-6), (126, 125, 124), True),
        ((0.28, 0.27), (127, 126), False),  # too far apart for that
        ((3.3e-6, 3.3e-6), (124, 30), False),  # most have met
        ((9e-7, 9e-7), (124, 100), False),  # so near that some meet in every pass
    ),
)
def test_rows_that_came_near_and_come_no_nearer_are_given_up(sizes, rows, stalled):
    """As seen with gamma .97 and z of size 1, 4,096 channels; three parts of each operand changed nothing."""
    found = [Mismatch(size, 0, count) for size, count in zip(sizes, rows, strict=True)]
    assert is_stalled(found, near=2.0**-20) is stalled


def test_what_does_not_come_nearer_is_given_up_before_it_costs_what_the_loop_does():
    seen = [Mismatch(size, 1, 127) for size in (0.58, 0.44, 0.28)]  # decays of 1e-3 to .95 from 1, z of size 1
    assert is_hopeless(seen, passes_worth=29, near=2.0**-20)
    assert not is_hopeless(seen, passes_worth=100, near=2.0**-20)
    assert not is_hopeless(seen[:2], passes_worth=29, near=2.0**-20)  # two do not tell


@pytest.mark.parametrize(
    ("memory", "rows"), ((12, 512), (200, 128), (1600, 64), (32768, 128)), ids=("short", "long", "longer", "for ever")
)
def test_the_longer_the_memory_the_fewer_rows(memory, rows):
    """As many as were measured to be the fastest, of 32,768 steps with 4,096 channels on a GPU."""
    assert default_chunk(1, 32768, 512, memory) == 32768 // rows


def test_rec_par_4_the_exact_mode_splices_without_a_defect():
    _, report = gated_recurrence_parallel(*arguments(steps=60, gamma=0.0), chunk=20, tolerance=0.0)
    assert report.defect == 0


@pytest.mark.parametrize(
    "options",
    ({"chunk": 0}, {"chunk": 1.5}, {"chunk": True}, {"tolerance": -0.1}, {"tolerance": 2}, {"tolerance": "1"}),
)
def test_options_out_of_range_are_refused_by_name(options):
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))}: "):
        gated_recurrence_parallel(*arguments(), **options)


@pytest.mark.skipif(DEVICE == "cuda", reason="the interpreter's number of rows is fixed")
def test_more_chunks_than_fit_the_device_are_refused():
    with pytest.raises(ValueError, match="chunk: 1 steps make more than the 32 rows"):
        gated_recurrence_parallel(*arguments(steps=40), chunk=1)
