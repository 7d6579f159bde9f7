"""The losses on slices as modules: their directions, the step counter, ranks."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch.utils.checkpoint import checkpoint

import sslkernels as ssl
from sslkernels import functional, random_directions


def r(*shape, dtype=torch.float32):
    return torch.randn(*shape).to(dtype).requires_grad_()


def views(n=30, d=8):
    return r(2, n, d), r(3, n, d)


MODULES = {
    "SIGRegLoss": (lambda **x: ssl.SIGRegLoss(32, **x), lambda: (r(2, 30, 8),)),
    "LeJEPALoss": (lambda **x: ssl.LeJEPALoss(num_slices=32, **x), views),
    "LeWMLoss": (
        lambda **x: ssl.LeWMLoss(num_slices=32, **x),
        lambda: (r(30, 2, 8), r(30, 2, 8), r(30, 3, 8)),
    ),
    "BCSLoss": (lambda **x: ssl.BCSLoss(32, **x), lambda: (r(30, 8), r(30, 8))),
    "VISRegLoss": (lambda **x: ssl.VISRegLoss(num_slices=32, **x), views),
}
each_module = pytest.mark.parametrize("name", MODULES)


def drawn(step, seed=0, dtype=torch.float32, slices=32):
    return random_directions(torch.tensor(step), 8, slices, seed=seed, dtype=dtype)


@each_module
def test_other_directions_at_every_step_of_training(name):
    make, inputs = MODULES[name]
    loss, x = make(seed=3), inputs()
    found = [loss(*x) for _ in range(3)]
    assert loss.global_step == 3
    for step, value in enumerate(found):
        assert torch.equal(value, loss(*x, directions=drawn(step, 3)))
    assert loss.global_step == 3 and len({value.item() for value in found}) == 3
    loss.eval()
    assert torch.equal(loss(*x), loss(*x)) and loss.global_step == 3


@each_module
def test_goes_on_from_a_checkpoint(name):
    make, inputs = MODULES[name]
    loss, x = make(), inputs()
    loss(*x)
    other = make()
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert list(loss.state_dict()) == ["global_step"]
    assert torch.equal(loss(*x), other(*x))
    assert other.global_step == 2


def test_modules_are_their_functions():
    z, (whole, local) = r(2, 30, 8), views()
    a = drawn(0)
    sigreg = ssl.SIGRegLoss(32, 9, 4.0, reduction="sum", clip_value=0.7)
    options = {"reduction": "sum", "clip_value": 0.7}
    assert torch.equal(sigreg(z), functional.sigreg(z, a, 9, 4.0, **options))
    lejepa = ssl.LeJEPALoss(0.3, num_slices=32, convention="stable_pretraining")
    expected = functional.lejepa(whole, local, a, 0.3, convention="stable_pretraining")
    assert torch.equal(lejepa(whole, local), expected)
    alone = functional.lejepa(whole, None, a, 0.05)
    assert torch.equal(ssl.LeJEPALoss(num_slices=32)(whole), alone)
    lewm = ssl.LeWMLoss(0.7, True, num_slices=32, knots=5)
    x = MODULES["LeWMLoss"][1]()
    assert torch.equal(lewm(*x), functional.lewm(*x, a, 0.7, True, 5))
    bcs, pair = ssl.BCSLoss(32, 3.0), (z[0], z[1])
    assert torch.equal(bcs(*pair), functional.bcs(*pair, a, 3.0))
    visreg = ssl.VISRegLoss(0.6, 32, 2.0, 3.0, 4.0, eps=0.1)
    expected = functional.visreg(whole, local, a, 0.6, 2.0, 3.0, 4.0, 0.1)
    assert torch.equal(visreg(whole, local), expected)


def test_defaults_are_those_of_the_references():
    sigreg, lejepa, lewm = ssl.SIGRegLoss(), ssl.LeJEPALoss(), ssl.LeWMLoss()
    for loss in (sigreg, lejepa, lewm):
        assert (loss.num_slices, loss.knots, loss.t_max) == (1024, 17, 3.0)
    assert (lejepa.lambda_param, lewm.lambda_param) == (0.05, 0.1)
    assert (ssl.BCSLoss().num_slices, ssl.BCSLoss().lambda_param) == (256, 10.0)
    visreg = ssl.VISRegLoss()
    assert (visreg.lambda_param, visreg.num_slices, visreg.eps) == (0.9, 4096, 1e-4)


def test_gaussian_embeddings_are_at_the_floor_and_others_above():
    """For normal samples, the expected statistic: ∫ (1 − e^(−t²)) e^(−t²/2) dt, for any N."""
    floor = (2 * torch.pi) ** 0.5 * (1 - 3**-0.5)
    for n in (100, 1000):
        z = torch.randn(100, n, 16)
        assert ssl.SIGRegLoss(64)(z).item() == pytest.approx(floor, rel=0.1)
        assert ssl.SIGRegLoss(64)(2 * z) > 5 * floor
        assert ssl.SIGRegLoss(64)(torch.zeros(2, n, 16)) > 0.2 * n


def test_descent_makes_embeddings_gaussian():
    torch.manual_seed(0)
    z = (torch.rand(1, 256, 8) * 0.1 + 1).requires_grad_()
    loss, optimizer = ssl.SIGRegLoss(64), torch.optim.Adam([z], 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss(z).backward()
        optimizer.step()
    covariance = torch.cov(z.detach()[0].T)
    assert z.detach().mean((0, 1)).abs().max() < 0.15
    assert (covariance - torch.eye(8)).abs().max() < 0.3


def test_checkpointing_wants_directions():
    """Otherwise the step would have advanced when the loss is recomputed."""
    loss, z = ssl.SIGRegLoss(32), r(2, 30, 8)
    with pytest.raises(RuntimeError, match="give it directions"):
        checkpoint(loss, z, use_reentrant=False).backward()
    directions = drawn(0)
    expected = torch.autograd.grad(loss(z, directions), z)[0]
    checkpoint(loss, z, directions, use_reentrant=False).backward()
    assert torch.equal(z.grad, expected)
    loss.eval()  # where the step does not advance
    z.grad = None
    checkpoint(loss, z, use_reentrant=False).backward()
    assert torch.equal(z.grad, torch.autograd.grad(loss(z), z)[0])


def test_compiled_modules_count_and_take_other_batches():
    torch.compiler.reset()
    loss = ssl.LeJEPALoss(num_slices=32)
    twin = copy.deepcopy(loss)
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (20, 31):
        x = views(n)
        torch.testing.assert_close(compiled(*x), twin(*x))
    assert loss.global_step == 2


def on_a_rank(rank, name, size):
    """The loss and gradients of a rank's rows of a batch known to all ranks, in training."""
    make, inputs = MODULES[name]
    torch.manual_seed(0)
    x = [y.detach().double() for y in inputs()]
    dim = 0 if name in ("LeWMLoss", "BCSLoss") else 1
    own = [y.tensor_split(size, dim)[rank].requires_grad_() for y in x]
    whole = [y.requires_grad_() for y in x]
    ours, alone = make(gather_distributed=True), make()
    ours(*own), alone(*whole)  # to other directions
    value, expected = ours(*own), alone(*whole)
    mean = value.detach().clone()
    dist.all_reduce(mean)
    wanted = [0, 2] if name == "LeWMLoss" else range(len(x))
    gradients = torch.autograd.grad(value, [own[i] for i in wanted])
    exact = torch.autograd.grad(expected, [whole[i] for i in wanted])
    pairs = [
        (a / size, b.tensor_split(size, dim)[rank]) for a, b in zip(gradients, exact, strict=True)
    ]
    return [(mean / size, expected.detach()), *pairs]


@each_module
def test_ranks_draw_alike_and_have_the_gradient_of_the_whole(gang, name):
    for results in gang.run(on_a_rank, name, gang.size):
        for found, expected in results:
            assert (found - expected).norm() <= 1e-12 * expected.norm()
