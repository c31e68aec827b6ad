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

    rows = Rows(cell, starts, CHUNK, kept=3)
    rows.advance(out, first=0, steps=CHUNK, stored=CHUNK)

    rest = CHUNK * 2.0 ** (-8 * parts) * (parts > 1)  # what the parts leave of an operand, in each step
    assert_near(out, expected, rest)
    assert_near(rows.carry[:B], expected[:, CHUNK - 1], rest)
    for kept, before in enumerate(range(CHUNK - 1 - rows.kept, CHUNK - 1)):
        assert_near(rows.previous[kept, :B], expected[:, before], rest)


@pytest.mark.parametrize("steps", (3, 4))
@pytest.mark.parametrize("adjoint", (False, True))
def test_the_operands_of_the_last_steps_are_what_those_multiplied(adjoint, steps):
    cell, state = cells()[adjoint]
    rows = Rows(cell, state.clone(), T, kept=3, parts=1)
    rows.advance(torch.empty(cell.shape, device=DEVICE), first=2, steps=steps, stored=steps)

    expected = rows.previous
    if adjoint:
        last = slice(2 + steps - rows.kept, 2 + steps)
        inflow, slope = (array[:, last].transpose(0, 1).float() for array in (cell.inflow, cell.slope))
        expected = slope * (inflow + rows.previous)
    assert torch.equal(rows.operand().float(), expected.to(rows.weight.dtype).float())


@pytest.mark.parametrize("adjoint", (False, True))
def test_the_rate_is_that_of_the_channel_that_remembers_longest(adjoint):
    cell, _ = cells()[adjoint]
    gammas, weights = cell.gamma.square().mean((0, 1)), cell.weight.square().sum() / D
    gate = torch.sigmoid(cell.bias)
    slope = cell.slope if adjoint else cell.inflow * gate * (1 - gate)
    states = ((cell.inflow * gate).square().mean((0, 1)) / (1 - gammas)).mean() * (not adjoint)
    growth = gammas.max() + slope.square().mean() * weights / (1 + states * weights).sqrt()
    assert cell.rate() == pytest.approx(growth.log().item() / 2, rel=1e-4)
    assert torch.allclose(cell.norms, cell.weight.norm(dim=1))


@pytest.mark.parametrize("skipped", (0, 3))
@pytest.mark.parametrize("adjoint", (False, True))
def test_frozen_chunks_chained_are_the_linear_recurrence(adjoint, skipped):
    cell, state = cells()[adjoint]
    x, before = state, [state]
    for t in range(T):
        if adjoint:
            x = cell.gamma[:, t] * (x + cell.inflow[:, t])
        else:
            x = cell.gamma[:, t] * x + cell.inflow[:, t] * torch.sigmoid(cell.bias)
        if (t + 1) % CHUNK == 0:
            before.append(x)
    (_, factor), (_, value) = freeze(cell, CHUNK, skipped)
    assert_near(chain(factor, value, state), torch.stack(before))


ULP = 2.0**-23  # of numbers from 1 to 2


@pytest.mark.parametrize(
    ("first", "second", "difference", "gone_over"),
    [
        ((1, 1, 1), (1, 1, 1), ULP, (1, 1)),  # there is room at once
        (
            (0, 1, 1),
            (1, 1, 1),
            ULP,
            (2, 1),
        ),  # none at this step, since nothing of the gate arrives: it waits for the next
        ((0, 0, 1), (1, 1, 1), ULP, (3, 1)),  # or the one after
        ((0, 0, 0), (1, 1, 1), ULP, None),  # none at any
        ((1, 1, 1), (1, 1, 1), 64 * ULP, (1, 1)),  # both at once, and nothing differs afterwards
        ((0, 1, 1), (1, 1, 1), 64 * ULP, (2, 2)),  # too much for what the others make of it: they wait for each other
        ((0, 1, 1), (1, 0, 0), 64 * ULP, None),  # in vain
        ((0, 0, 0), (0, 0, 0), 0.0, (1, 1)),  # equal: no room is needed
    ],
)
def test_rec_par_2_a_channel_may_be_spliced_some_steps_later(first, second, difference, gone_over):
    """Channels have room for some 500 ulps where z is 1: logits are 0, their terms 16 x 64 x 1.25. Differences of more than 8
    ulps are too much for a step of which some states are new and some stored. Only two channels differ."""
    channels = 16
    z = torch.ones((1, 5, channels), device=DEVICE)
    z[0, 1:4, :2] = torch.tensor([first, second], device=DEVICE, dtype=torch.float32).T
    weight = torch.tensor([64.0, -64.0], device=DEVICE).repeat(channels, channels // 2)
    cell = Cell(z, torch.full_like(z, 0.5), None, weight, torch.zeros(channels, device=DEVICE))
    new, stored = torch.full((channels,), 1.25, device=DEVICE), torch.full((1, 5, channels), 1.25, device=DEVICE)
    stored[0, 1:4, :2] += difference
    out = stored.clone()
    rows = Rows(cell, new[None].clone(), 5, kept=3)
    rows.previous[:], rows.reached = new, 4
    rows.logits.zero_()

    Splices(cell, 1, tolerance=1.0).judge(rows, out, step=1)

    assert bool(rows.live[0]) is (gone_over is None)
    for step in (1, 2, 3):
        expected = new.clone()
        for channel, over in enumerate(gone_over or ()):
            expected[channel] = stored[0, step, channel] if step >= over else new[channel]
        assert torch.equal(out[0, step], expected)
    assert torch.equal(out[0, 4], stored[0, 4])


def test_rec_par_2_no_step_is_one_of_two_splices():
    """A quarter of what is granted to a step is granted to a splice, and another to what it makes of the other channels."""
    z = torch.ones((1, 12, D), device=DEVICE)
    cell = Cell(z, torch.full_like(z, 0.5), None, torch.eye(D, device=DEVICE), torch.zeros(D, device=DEVICE))
    out, rows = torch.ones((1, 12, D), device=DEVICE), Rows(cell, torch.ones((1, D), device=DEVICE), 12, kept=3)
    rows.previous.fill_(1.0)
    rows.logits.zero_()
    splices = Splices(cell, 1, tolerance=1.0)

    def spliced(step):
        rows.reached = step + 3
        rows.live.fill_(1)
        splices.judge(rows, out, step)
        return rows.live.item() == 0

    assert spliced(4)
    assert not any(map(spliced, (2, 3, 4)))  # the last of these was run again as a whole
    assert spliced(5)
    assert spliced(1) and not spliced(6) and spliced(8)  # before it, and behind it
    splices.forget(torch.ones_like(rows.live))
    assert spliced(6)


@pytest.mark.parametrize(
    ("name", "spliced"),
    (
        ("as it is", True),
        ("a sign of zero", False),
        ("nothing is added", False),
        ("infinite", False),
        ("infinite, backwards", False),
        ("tiny", False),
        ("heavy", False),
    ),
)
def test_rec_par_2_what_may_not_stand(name, spliced):
    """One of two channels differs from what is stored, by less than the rounding of gamma times 1.25."""
    z, gamma = torch.ones((1, 6, 2), device=DEVICE), torch.full((1, 6, 2), 0.9, device=DEVICE)
    weight, tolerance, state, stored = torch.zeros((2, 2), device=DEVICE), 1.0, 0.75, 0.75 + UNIT
    slope = torch.ones_like(z) if name == "infinite, backwards" else None
    if name == "a sign of zero":
        state, stored, tolerance = 0.0, -0.0, 0.0  # the exact mode tells them apart
    if name == "nothing is added":
        z.zero_()  # one rounding only, which the step has used
    if name == "infinite":
        stored = torch.inf
    if name == "infinite, backwards":  # all that is granted is infinite, too
        state, stored, weight = torch.inf, 1.0, torch.full_like(weight, 0.25)
    if name == "heavy":  # no step is linear in logits that change by hundreds
        stored, weight = 0.76, torch.full_like(weight, 2.0**34)
    if name == "tiny":  # the square of the difference underflows; what is made of it does not
        state, stored, weight = 1e-23, 0.0, torch.full_like(weight, 1e19)
        z[:, :, 0] = 0.0
    cell = Cell(z, gamma, slope, weight, torch.zeros(2, device=DEVICE))
    out, rows = torch.ones((1, 6, 2), device=DEVICE), Rows(cell, torch.ones((1, 2), device=DEVICE), 6, kept=3)
    rows.previous[:], rows.previous[0, :, 0], rows.reached = 1.0, 1.25, 4
    rows.logits.zero_()
    rows.previous[1:, :, 0], rows.carry[:, 0], out[0, 1:4, 0] = state, state, stored
    Splices(cell, 1, tolerance).judge(rows, out, step=1)
    assert (rows.live.item() == 0) is spliced


@pytest.mark.parametrize("adjoint", (False, True))
def test_rec_par_2_no_step_of_what_is_spliced_uses_more_than_its_room(adjoint):
    """Half of what the sum is granted, and one unit of gamma x; held against float64, for differences of all sizes."""
    cell, state = cells()[adjoint]
    generator = torch.Generator().manual_seed(2)
    judged, all_spliced, mixed = 3, 0, 0
    for exponent in range(-24, -10):
        apart = torch.randn(state.shape, generator=generator).to(DEVICE) * 2.0**exponent
        stored = states_of(cell, state + apart)
        out, rows = stored.clone(), Rows(cell, state.clone(), T, kept=6)
        rows.advance(out, first=0, steps=judged + rows.kept, stored=judged)
        Splices(cell, B, tolerance=1.0).judge(rows, out, step=judged)

        spliced = rows.live == 0
        all_spliced += int(spliced.sum())
        for t in range(judged, judged + rows.kept + 1):
            inflow, gamma, before = cell.inflow[:, t].double(), cell.gamma[:, t].double(), out[:, t - 1].double()
            weight, bias = cell.weight.double().T, cell.bias.double()
            if adjoint:
                before = inflow + before
                operand = cell.slope[:, t].double() * before
                exact, slope = operand @ weight + gamma * before, 1.0
            else:
                operand, gate = before, torch.sigmoid(before @ weight + bias)
                exact, slope = inflow * gate + gamma * before, (inflow * gate * (1 - gate)).abs()
            room = D / 2 * UNIT * slope * (operand.abs() @ weight.abs())
            rounded = 8 * UNIT * (exact.abs() + (gamma * before).abs() + slope)  # of the step as it was taken
            off = (out[:, t].double() - exact).abs()
            assert (off <= room + rounded)[spliced].all()
        mixed += int(((out[:, judged] != stored[:, judged]).any(1) & spliced).sum())
    assert 0 < all_spliced < B * 14
    assert mixed  # of some rows a channel waited


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
        ((3.3e-6, 3.3e-6), (124, 100), False),  # some meet in every pass
    ),
)
def test_rows_that_came_near_and_come_no_nearer_are_given_up(sizes, rows, stalled):
    """As was seen with gamma .97 and z of size 1, 4,096 channels, while a splice had to be one of two steps."""
    assert is_stalled([Mismatch(size, 0, count) for size, count in zip(sizes, rows, strict=True)]) is stalled


def test_what_does_not_come_nearer_is_given_up_before_it_costs_what_the_loop_does():
    seen = [Mismatch(size, 1, 127) for size in (0.58, 0.44, 0.28)]  # decays of 1e-3 to .95 from 1, z of size 1
    assert is_hopeless(seen, passes_worth=29, near=2.0**-20, promising=True)
    assert not is_hopeless(seen, passes_worth=100, near=2.0**-20, promising=True)
    assert not is_hopeless(seen[:2], passes_worth=29, near=2.0**-20, promising=True)  # two do not tell
    assert is_hopeless(seen[:2], passes_worth=29, near=2.0**-20, promising=False)


@pytest.mark.parametrize(
    ("memory", "rows"), ((7, 512), (120, 128), (990, 64), (32768, 128)), ids=("short", "long", "longer", "for ever")
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
