"""Are the kernels of the parallel stabilized recurrence right on small shapes, chunk by chunk, and does the solver end?

That its results and gradients conform is judged elsewhere: it is a subject of its own.
"""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from mmrec.impls.torch_ops.parallel import _stabilized_cells as plain
from mmrec.impls.torch_ops.stabilized_recurrence import Stabilizer as PlainStabilizer
from mmrec.impls.triton_ops._stabilized_mixing import mixing_of
from mmrec.impls.triton_ops.parallel import stabilized_recurrence_parallel
from mmrec.impls.triton_ops.parallel._stabilized_splice import AdjointSplices, Splices
from mmrec.impls.triton_ops.rows import _rows, _stabilized_adjoint, _stabilized_advance
from mmrec.impls.triton_ops.rows._stabilized_adjoint import BackwardRows, walk_backward
from mmrec.impls.triton_ops.rows._stabilized_advance import ForwardRows, walk_forward
from mmrec.impls.triton_ops.rows._stabilized_cell import Backward, Forward, Stabilizer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PART = torch.bfloat16 if DEVICE == "cuda" else torch.float16
B, T, D, CHUNK = 2, 11, 20, 4
UNIT = 2.0**-24
NEAR = (T * D) * UNIT  # T steps of D terms each; a step here amplifies what is left of the last by no more than it adds
EPS = 1e-6
NORMS = ("rms", "layer", "none")
STABILIZERS = [(norm, clip) for norm in NORMS for clip in (100.0, 1.0)]
every_stabilizer = pytest.mark.parametrize(("norm", "clip"), STABILIZERS)


def arguments(steps=T, gamma=0.3, width=D, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    streams = (3 * normal(B, steps, width), normal(B, steps, width), torch.full((B, steps, width), gamma))
    W, vectors = normal(width, width) / (2 * width**0.5), (normal(width), 1 + 0.3 * normal(width), normal(width))
    return [array.to(dtype).to(DEVICE) for array in (*streams, W, *vectors, normal(B, width))]


class Loop:
    """All states and mixes in float64, step by step, and what the loss sum(states * grad) wants of each mix."""

    def __init__(self, arrays, norm, clip):
        z, gate_z, gamma, W, b, weight, shift, h = (array.double().requires_grad_() for array in arrays)
        leaves = (z, gate_z, gamma, W, b, weight, shift, h)
        states, self.mixes = [], []
        for t in range(z.shape[1]):
            gate = torch.sigmoid(gate_z[:, t] + h @ W.T + b)
            u = (1 - gate) * h + gate * z[:, t] + gamma[:, t] * h
            self.mixes.append(u)
            u = u - u.mean(1, keepdim=True) if norm == "layer" else u
            h = u if norm == "none" else u * (u.square().mean(1, keepdim=True) + EPS).rsqrt() * weight
            h = (h + shift if norm == "layer" else h).clamp(-clip, clip)
            states.append(h)
        self.states = torch.stack(states, 1)
        self.grad = torch.randn(self.states.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
        loss = (self.states * self.grad.double()).sum()
        wanted = torch.autograd.grad(loss, self.mixes, retain_graph=True)
        self.dmixed = torch.stack(wanted, 1).float()
        self.gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        self.states = self.states.detach().float()


def forward_cell(arrays, norm, clip):
    z, gate_z, gamma, W, b, weight, shift, _ = arrays
    return Forward(z, gate_z, gamma, W, b, Stabilizer(weight, shift, norm, EPS, clip))


def backward_cell(arrays, loop, norm, clip):
    z, gate_z, gamma, W, b, weight, shift, h0 = arrays
    before = torch.cat([h0[:, None].float(), loop.states[:, :-1]], dim=1)
    mixing = mixing_of(z, gate_z, gamma, W, b, before, norm, EPS)
    return Backward(loop.grad, gamma, mixing, W.T.contiguous(), Stabilizer(weight, shift, norm, EPS, clip))


def assert_near(found, expected, rest=0.0):
    assert (found.float() - expected).abs().max() <= (NEAR + rest) * expected.abs().max()


# The interpreter cannot multiply bfloat16; in float16 the parts of numbers of this size are as good.
@pytest.mark.parametrize("parts", (1, 2, 3))
@every_stabilizer
def test_advancing_all_chunks_from_the_true_states_gives_the_loop(norm, clip, parts, monkeypatch):
    """Two tiles of channels, whose sums meet. The last of the three chunks has three steps."""
    monkeypatch.setattr(_rows, "part_format", lambda terms, share: (torch.float32 if parts == 1 else PART, parts))
    arrays = arguments()
    loop, cell = Loop(arrays, norm, clip), forward_cell(arrays, norm, clip)
    out = torch.full(cell.shape, torch.nan, device=DEVICE)
    starts = torch.stack([arrays[-1], loop.states[:, CHUNK - 1], loop.states[:, 2 * CHUNK - 1]]).reshape(-1, D)

    rows = ForwardRows(cell, starts, CHUNK)
    rows.advance(out, first=0, steps=CHUNK, stored=CHUNK)

    rest = CHUNK * 2.0 ** (-8 * parts) * (parts > 1)  # what the parts leave of an operand, in each step
    assert_near(out, loop.states, rest)
    assert_near(rows.carry[:B], loop.states[:, CHUNK - 1], rest)
    assert_near(rows.previous[0, :B], loop.states[:, CHUNK - 2], rest)
    assert_near(rows.operand()[0, :B], rows.previous[0, :B], 2.0**-8 * (parts > 1))


@every_stabilizer
def test_advancing_all_chunks_of_the_adjoint_gives_what_the_loss_wants_of_every_mix(norm, clip):
    arrays = arguments()
    loop = Loop(arrays, norm, clip)
    cell, out = backward_cell(arrays, loop, norm, clip), torch.full((B, T, D), torch.nan, device=DEVICE)
    of_steps = loop.dmixed.flip(1)
    starts = torch.stack([0 * arrays[-1], of_steps[:, CHUNK - 1], of_steps[:, 2 * CHUNK - 1]]).reshape(-1, D)

    rows = BackwardRows(cell, starts, CHUNK)
    rows.advance(out, first=0, steps=CHUNK, stored=CHUNK)

    assert_near(out, loop.dmixed)
    assert_near(rows.carry[:B], of_steps[:, CHUNK - 1])


@pytest.mark.parametrize("few", (1, 2), ids=("together", "one after another"))
@pytest.mark.parametrize("first", (0, 5))
@every_stabilizer
def test_walking_takes_every_step_from_any_on(norm, clip, first, few, monkeypatch):
    for module in (_stabilized_advance, _stabilized_adjoint):
        monkeypatch.setattr(module, "FEW", few * D)
    arrays = arguments()
    loop = Loop(arrays, norm, clip)
    forwards, backwards = (torch.full((B, T, D), torch.nan, device=DEVICE) for _ in range(2))

    state = arrays[-1] if first == 0 else loop.states[:, first - 1]
    walk_forward(forward_cell(arrays, norm, clip), state.clone().contiguous(), forwards, first)
    state = 0 * arrays[-1] if first == 0 else loop.dmixed[:, T - first]
    walk_backward(backward_cell(arrays, loop, norm, clip), state.contiguous(), backwards, first)

    assert_near(forwards[:, first:], loop.states[:, first:])
    assert_near(backwards[:, : T - first], loop.dmixed[:, : T - first])
    assert forwards[:, :first].isnan().all()
    assert backwards[:, T - first :].isnan().all()


# ---- REC-PAR-2: splices --------------------------------------------------------------------------


def judged(rows, splices, out, stored, t):
    """Which rows are spliced where each finds its stored state at time t, step 1; and what then stands in `out`."""
    out[:, t] = stored
    rows.live.fill_(1)
    splices.judge(rows, out, step=1)
    return rows.live == 0, out[:, t]


def one_channel_moved(new, room, share):
    """Batch row d has its channel d moved by this share of the room."""
    return new + torch.diag_embed(share * room.diagonal()).to(new.dtype)


def assert_judged_by(room, rows, splices, new, t):
    out = torch.zeros((D, 3, D), device=DEVICE)
    resolved = room.diagonal() > 32 * UNIT * new.diagonal().abs()  # a tenth of the room is some units of float32
    assert resolved.any()
    within = one_channel_moved(new, room, 0.9)
    spliced, kept = judged(rows, splices, out, within, t)
    assert spliced[resolved].all()
    assert torch.equal(kept[resolved], within[resolved])
    spliced, kept = judged(rows, splices, out, one_channel_moved(new, room, 1.2), t)
    assert not spliced[resolved].any()
    assert torch.equal(kept[resolved], new[resolved])
    spliced, _ = judged(rows, splices, out, new + 4 * room.max() + new.abs().max() * 8 * UNIT, t)
    assert not spliced.any()


def through_norm(room, standard, scale, norm):
    if norm == "layer":
        room = room + room.mean(1, keepdim=True)
    size = standard.abs()
    return room if norm == "none" else scale * (room + size * (size * room).mean(1, keepdim=True))


def batch_of_equal_rows(norm, clip):
    """Arguments with D batch rows that are all the same. The state's share of the logits sums large terms, so that there is room;
    gate_z takes it off, or all gates would be shut or open."""
    z, gate_z, gamma, W, b, weight, shift, h0 = arguments(steps=3)
    z, gate_z, gamma, h = (array[:1].expand(D, *array.shape[1:]).clone() for array in (z, gate_z, gamma, h0))
    arrays = [z, gate_z, gamma, 64 * W, b, weight, shift, h]
    for t in range(3):
        gate_z[:, t] -= h @ arrays[3].T
        h = Loop(arrays, norm, clip).states[:, t]
    return arrays


@every_stabilizer
def test_rec_par_2_a_row_is_spliced_where_every_channel_is_within_its_room(norm, clip):
    """Which is a quarter of what the order of the logits' sum may do, and the rounding that a fused product did not do."""
    arrays = batch_of_equal_rows(norm, clip)
    cell, out = forward_cell(arrays, norm, clip), torch.empty((D, 3, D), device=DEVICE)
    rows = ForwardRows(cell, arrays[-1].clone(), 3)
    rows.advance(out, first=0, steps=2, stored=2)
    h, new = rows.previous[0].double(), rows.carry
    z, gate_z, gamma, W, b, weight, shift, _ = (array.double() for array in arrays)
    gate = torch.sigmoid(gate_z[:, 1] + h @ W.T + b)
    terms = D * UNIT * (1 - 2.0**-6) * (h.abs() @ W.abs().T)
    room = (gate * (1 - gate) * terms).clamp_max(1) / 4 * (h.abs() + z[:, 1].abs())
    product = gamma[:, 1] * h
    room = room + UNIT * product.abs() * (product.float().double() != product)
    form = Stabilizer(weight, shift, norm, EPS, clip)
    mixed = (1 - gate) * h + gate * z[:, 1] + product
    room = through_norm(room, *form.standardize(mixed), norm) * (1 if norm == "none" else weight.abs())
    room = room * (new.abs() < clip)

    assert_judged_by(room, rows, Splices(cell, D, tolerance=1.0), new, 1)

    weights = PlainStabilizer(arrays[5], arrays[6], norm, EPS, clip)
    of_torch = plain.Forward(*(x.transpose(0, 1) for x in arrays[:3]), W, b, weights)
    everyone, h = slice(None), rows.previous[0]
    _, granted = of_torch.defect(1, everyone, h, h.double() @ W.T + b, new)
    assert (room <= granted).all()


@every_stabilizer
def test_rec_par_2_so_is_a_row_of_the_adjoint(norm, clip):
    arrays = batch_of_equal_rows(norm, clip)
    loop = Loop(arrays, norm, clip)
    loop.grad = loop.grad[:1].expand(D, -1, -1).contiguous()
    cell, out = backward_cell(arrays, loop, norm, clip), torch.empty((D, 3, D), device=DEVICE)
    rows = BackwardRows(cell, 0 * arrays[-1], 3)
    rows.advance(out, first=0, steps=2, stored=2)
    later, new, form = rows.previous[0].double(), rows.carry, cell.stabilizer
    kept = (1 - cell.mixing.gates + cell.gamma)[:, 2].double()
    terms = (cell.mixing.slopes[:, 2] * later).abs() @ cell.weight.double().abs().T
    product = kept * later
    room = D * UNIT * (1 - 2.0**-6) * terms / 4 + UNIT * product.abs() * (product.float().double() != product)
    standard, scale = cell.mixing.standards[:, 1], cell.mixing.scales[:, 1:2]
    pull = form.pull(standard)
    room = through_norm(room * pull.abs(), standard, scale, norm)

    assert_judged_by(room, rows, AdjointSplices(cell, D, tolerance=1.0), new, 1)

    backwards = [array.transpose(0, 1).flip(0) for array in (loop.grad, *cell.mixing[:3])]
    grad, gates, slopes, standards = backwards
    kept = (1 - gates + cell.gamma.transpose(0, 1)).roll(1, 0)  # of the step that is stepped back through before
    scales = cell.mixing.scales.T.flip(0)[..., None]
    of_torch = plain.Backward(
        grad, kept, slopes.roll(1, 0), arrays[3].double(), form.pull(standards), standards, scales,
        PlainStabilizer(arrays[5], arrays[6], norm, EPS, clip),
    )  # fmt: skip
    _, granted = of_torch.defect(1, slice(None), later.float(), later.float() * slopes[0], new)
    assert (room <= granted).all()


# ---- the solver ----------------------------------------------------------------------------------


@every_stabilizer
def test_rec_par_1_the_solver_gives_the_loop_and_its_gradients(norm, clip):
    arrays = arguments(steps=24, gamma=0.05)
    loop = Loop(arrays, norm, clip)
    leaves = [array.clone().requires_grad_() for array in arrays]
    h, report = stabilized_recurrence_parallel(*leaves, norm=norm, clip=clip, chunk=8)
    assert report.passes > 1 or report.fell_back
    assert_near(h.detach(), loop.states)
    for found, expected in zip(torch.autograd.grad(h, leaves, loop.grad), loop.gradients, strict=True):
        assert_near(found, torch.zeros_like(found) if expected is None else expected.float())


def test_rec_par_3_what_does_not_contract_is_walked():
    arrays = arguments(steps=40, gamma=0.99)
    arrays[0], arrays[3] = arrays[0] / 30, arrays[3] * 8
    _, report = stabilized_recurrence_parallel(*arrays, chunk=4)
    assert report.fell_back
    assert report.depth <= 40 + 3 * 4


@pytest.mark.parametrize("norm", NORMS)
def test_rec_par_4_the_exact_mode_splices_without_a_defect(norm):
    _, report = stabilized_recurrence_parallel(*arguments(steps=40), norm=norm, chunk=20, tolerance=0.0)
    assert report.defect == 0


@pytest.mark.parametrize(
    "option", ({"chunk": 0}, {"chunk": 1.5}, {"tolerance": 2}, {"norm": "batch"}, {"eps": -1.0}, {"clip": -1.0})
)
def test_options_out_of_range_are_refused_by_name(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        stabilized_recurrence_parallel(*arguments(), **option)
