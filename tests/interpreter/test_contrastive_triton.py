"""Values of the fused losses, run by the interpreter: float32 and float16 on ragged shapes.

(Its bfloat16 arithmetic is wrong, so float32 replaces it where rows are not normalised.)
"""

import pytest
import torch
import torch.nn.functional as F
from contrastive_problems import PROBLEMS, check
from covering import covering

from sslkernels.primitives import _chunks
from sslkernels.primitives.contrastive import Contrastive, contrastive_loss, triton

each_problem = pytest.mark.parametrize("name", PROBLEMS)
pytestmark = pytest.mark.usefixtures("fused_float32")


@pytest.fixture(params=["unit rows", "rows as given"])
def rows(request, monkeypatch):
    if request.param == "rows as given":
        monkeypatch.setattr(triton, "AS_GIVEN", (torch.float32,))


@pytest.mark.parametrize("name, rows, dtype, scale, shape", covering(
    list(PROBLEMS), ["unit rows", "rows as given"], [torch.float32, torch.float16], [5.0, 90.0],
    [(70, 24), (150, 33), (40, 17)],  # the interpreter adds sequentially, less exactly if wide
), indirect=["rows"], ids=str)  # fmt: skip
def test_as_exact_as_eager(name, rows, dtype, scale, shape):
    n, d = shape
    m = n + 43 if name == "queue" else n
    check(name, n=n, m=m, d=d, scale=scale, dtype=dtype, draws=6, impl="triton")


@pytest.mark.parametrize("name, rows, dtype, most", covering(
    list(PROBLEMS), ["unit rows", "rows as given"], [torch.float32, torch.float16],
    [1, _chunks.MOST_BYTES],  # gradients in several chunks of rows, or in one
), indirect=["rows"], ids=str)  # fmt: skip
def test_wide(name, rows, dtype, most, monkeypatch):
    """Embeddings in pieces, and gradients from products."""
    monkeypatch.setattr(_chunks, "MOST_BYTES", most)
    check(
        name, n=150, m=170 if name == "queue" else 150, d=270, dtype=dtype, draws=2, impl="triton"
    )


@each_problem
@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_rows(name, n):
    if n == 1 and name in ("decoupled", "labels", "labels, some alone", "shifted positives"):
        pytest.skip("no negatives, an infinite loss; or the positive itself, no gradient")
    check(name, n=n, m=n, d=1 + n, draws=4, impl="triton")


@pytest.mark.parametrize("constant", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("name", ["two views", "both ways", "queue", "shifted positives"])
def test_only_the_wanted_gradients(name, constant):
    check(name, n=30, m=30, d=9, constant=constant, draws=1, impl="triton")


def test_a_batch_without_positives():
    _, problem = PROBLEMS["labels, some alone"]
    q = torch.randn(1, 8, requires_grad=True)
    loss = contrastive_loss(problem(q), impl="triton")
    loss.backward()
    assert loss == 0 and not q.grad.any()


@each_problem
def test_the_loss_alone_is_the_same(name):
    kind, problem = PROBLEMS[name]
    x = [torch.randn(40, 20) for _ in range(3)][: {"": 1, "queue and positive": 3}.get(kind, 2)]
    alone = contrastive_loss(problem(*x, scale=4.0), impl="triton")
    scale = torch.tensor(4.0, requires_grad=True)
    loss = contrastive_loss(problem(*x, scale=scale), impl="triton")
    torch.testing.assert_close(loss.detach(), alone)
    x = [y.requires_grad_() for y in x]
    (of_scale,) = torch.autograd.grad(loss, scale)
    everything = contrastive_loss(problem(*x, scale=scale), impl="triton")
    torch.testing.assert_close(torch.autograd.grad(everything, (scale, *x))[0], of_scale)


def test_a_query_set_beside_its_positives():
    """Explicit positives, with the other queries as negatives."""
    q, p = (torch.randn(30, 8, requires_grad=True) for _ in range(2))
    loss = contrastive_loss(Contrastive(q, positive=p, exclude=(0,), scale=5.0), impl="triton")
    z, y = F.normalize(q, dim=1), F.normalize(p, dim=1)
    scores = (5 * z @ z.T).fill_diagonal_(float("-inf"))
    expected = F.softplus(scores.logsumexp(1) - 5 * (z * y).sum(1)).mean()
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        *(torch.autograd.grad(x, (q, p)) for x in (loss, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@each_problem
def test_same_bits_again(name):
    kind, problem = PROBLEMS[name]
    x = [torch.randn(150, 20, requires_grad=True) for _ in range(3)]
    inputs = x[: {"": 1, "queue and positive": 3}.get(kind, 2)]

    def run():
        loss = contrastive_loss(problem(*inputs, scale=7.0), impl="triton")
        return [loss, *torch.autograd.grad(loss, inputs)]

    assert all(map(torch.equal, run(), run()))


@each_problem
def test_nan_in_nan_out(name):
    kind, problem = PROBLEMS[name]
    x = [torch.randn(40, 20) for _ in range(3)]
    x[0][7, 3] = float("nan")
    inputs = x[: {"": 1, "queue and positive": 3}.get(kind, 2)]
    assert contrastive_loss(problem(*inputs, scale=50.0), impl="triton").isnan()


def test_rows_of_any_layout():
    x = torch.randn(20, 60)
    q, k = x[:20, 1:31].detach().requires_grad_(), torch.randn(30, 20).T.detach().requires_grad_()
    values = []
    for a, b in ((q, k), (q.contiguous(), k.contiguous())):
        loss = contrastive_loss(Contrastive(a, key=b, exclude=(0,), columns=True), impl="triton")
        values.append([loss, *torch.autograd.grad(loss, (q, k))])
    assert all(map(torch.equal, *values))
