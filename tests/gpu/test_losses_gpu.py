"""The losses on a device: exactness, waits, graphs, compilation, queues and cached gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from cases import CASES
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph, float32_products
from oracle import assert_as_exact_as_eager, repeated, results
from torch import nn

import sslkernels as ssl
from sslkernels.primitives.same_label import same_label_logsumexp, same_label_sum
from sslkernels.train import GradCache

pytestmark = pytest.mark.gpu

D = 64
each_loss = pytest.mark.parametrize("name", CASES)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def labels_of(n):
    return torch.arange(n, device="cuda") % 10 * 1_000_003 - 5


@each_loss
@pytest.mark.parametrize("dtype, n, precision", [
    (torch.float32, 67, "ieee"),
    (torch.float32, 1028, "ieee"),
    (torch.float32, 1028, "tf32"),  # sizes with which eager torch uses TF32 as well
    (torch.bfloat16, 67, "ieee"),
    (torch.bfloat16, 1028, "ieee"),
    (torch.float16, 67, "ieee"),
    (torch.float16, 1028, "ieee"),
], ids=str)  # fmt: skip
def test_as_exact_as_eager(name, dtype, n, precision):
    case, labels = CASES[name], labels_of(n)
    constant = range(case.embeddings - case.constant, case.embeddings)

    def draw():
        inputs = case.inputs(n, D, dtype)
        return tuple(
            results(lambda *x, f=f: (f(list(x), labels),), inputs, as_dtype, [torch.ones(())],
                    constant=constant)
            for f, as_dtype in (
                (case.compute, dtype), (case.expect, dtype), (case.expect, torch.float64)
            )
        )  # fmt: skip

    with torch.device("cuda"), float32_products(precision):  # where formulas create constants
        assert_as_exact_as_eager(repeated(draw, 16))


def step_of(name, n, dtype):
    """Loss and gradients, all on the device from the start."""
    case, labels = CASES[name], labels_of(n)
    inputs = [x.cuda().requires_grad_() for x in case.inputs(n, D, dtype)]

    def step():
        loss = case.compute(inputs, labels)
        grads = torch.autograd.grad(loss, inputs, allow_unused=True)
        return [loss, *(grad for grad in grads if grad is not None)]

    return step


# these document a synchronisation, or decompose a matrix
WAITING = {"supcon solo_learn", "cca", "cca of some dimensions", "mmcr", "w_mse"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in WAITING])
@each_dtype
def test_no_wait_for_the_device(name, dtype):
    assert_no_wait(step_of(name, 300, dtype))


@each_loss
@each_dtype
def test_bitwise_repeatable(name, dtype):
    assert_repeats(step_of(name, 1500, dtype))


@pytest.mark.parametrize("name", ["nt_xent", "dclw", "moco", "clip", "siglip"])
@each_dtype
def test_graph_capture(name, dtype):
    assert_repeats_as_graph(step_of(name, 300, dtype))


@pytest.mark.parametrize("name", ["nt_xent", "dclw", "supcon", "clip"])
def test_compiles(name):
    torch.compiler.reset()
    case, labels = CASES[name], labels_of(200)
    inputs = [x.cuda().requires_grad_() for x in case.inputs(200, D, torch.float32)]

    def function(*inputs):
        return case.compute(list(inputs), labels)

    compiled = torch.compile(function, fullgraph=True)
    values = [f(*inputs) for f in (compiled, function)]
    torch.testing.assert_close(*values)
    for a, b in zip(*(torch.autograd.grad(value, inputs) for value in values), strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("make, count", [
    (lambda: ssl.MoCoLoss(D, 100, 0.2), 2),
    (lambda: ssl.NNCLRLoss(D, 100, 0.2), 4),
    (lambda: ssl.NTXentLoss(0.2, (100, D)), 2),
], ids=["MoCoLoss", "NNCLRLoss", "NTXentLoss"])  # fmt: skip
def test_queues(make, count):
    host = make()
    device = copy.deepcopy(host).cuda()
    for _ in range(3):  # the third batch wraps around
        inputs = [torch.randn(48, D, requires_grad=True) for _ in range(count)]
        copies = [x.detach().cuda().requires_grad_() for x in inputs]
        found, expected = device(*copies), host(*inputs)
        torch.testing.assert_close(found.cpu(), expected)
        grads = torch.autograd.grad(found, copies, allow_unused=True)
        for a, b in zip(grads, torch.autograd.grad(expected, inputs, allow_unused=True),
                        strict=True):  # fmt: skip
            assert (a is None) == (b is None)
            assert a is None or (a.cpu() - b).norm() <= 1e-5 * b.norm()
    for a, b in zip(device.buffers(), host.buffers(), strict=True):
        torch.testing.assert_close(a.cpu(), b)
    assert_no_wait(lambda: torch.autograd.grad(device(*copies), copies, allow_unused=True))


class TwoViews(nn.Module):
    """Embeds two views with one network with dropout."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(32, 64), nn.GELU(), nn.Dropout(0.3), nn.Linear(64, 16, bias=False)
        )

    def forward(self, view0, view1):
        return self.network(torch.cat([view0, view1])).chunk(2)


def test_cached_gradients_with_dropout():
    encoder, loss = TwoViews().cuda(), ssl.NTXentLoss(nn.Parameter(torch.tensor(0.2))).cuda()
    plain, plain_loss = copy.deepcopy(encoder), copy.deepcopy(loss)
    views = [torch.randn(100, 32, device="cuda") for _ in range(2)]

    torch.manual_seed(1)
    value, embeddings = GradCache(encoder, loss, 33)(*views)
    after = torch.rand(1, device="cuda")
    torch.manual_seed(1)
    parts = [plain(*batch) for batch in zip(*(view.split(33) for view in views), strict=True)]
    expected = [torch.cat(part) for part in zip(*parts, strict=True)]
    assert torch.equal(after, torch.rand(1, device="cuda"))  # as after one pass

    for a, b in zip(embeddings, expected, strict=True):
        assert torch.equal(a, b)
    plain_value = plain_loss(*expected)
    plain_value.backward()
    torch.testing.assert_close(value, plain_value.detach())
    for a, b in zip([*encoder.parameters(), *loss.parameters()],
                    [*plain.parameters(), *plain_loss.parameters()], strict=True):  # fmt: skip
        assert (a.grad - b.grad).norm() <= 1e-5 * b.grad.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sums_and_log_sum_exps_over_a_label(dtype):
    n = 1500  # more than a tile
    labels = torch.randint(7, (n,), device="cuda") * 10**15

    def ours(z, scale):
        return same_label_sum(z, labels)[0], same_label_logsumexp(z, scale, labels)

    def by_matrix(z, scale):
        same = labels[:, None] == labels[None, :]
        scores = (scale * (z @ z.T)).masked_fill(~same, float("-inf"))
        return same.to(z.dtype) @ z, scores.fill_diagonal_(float("-inf")).logsumexp(1)

    def draw():
        z = F.normalize(torch.randn(n, 32, device="cuda", dtype=torch.float64), dim=1).to(dtype)
        weights = [torch.randn(*shape, device="cuda", dtype=torch.float64)
                   for shape in ((n, 32), (n,))]  # fmt: skip
        return tuple(
            results(f, [z, torch.tensor(5.0, device="cuda")], as_dtype, weights)
            for f, as_dtype in ((ours, dtype), (by_matrix, dtype), (by_matrix, torch.float64))
        )

    assert_as_exact_as_eager(repeated(draw, 4))
