import pytest
import torch

from sslkernels.primitives.same_label import same_label_logsumexp, same_label_sum

ops = torch.ops.sslkernels


def make(n, d, labels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, dtype=torch.float64, generator=generator)
    z = torch.nn.functional.normalize(z, dim=1)
    return z, torch.randint(-labels, labels + 1, (n,), generator=generator) * 10**15


def dense(z, scale, labels):
    same = labels[:, None] == labels[None, :]
    scores = (scale * z @ z.T).masked_fill(~same, float("-inf")).fill_diagonal_(float("-inf"))
    return torch.logsumexp(scores, 1)


@pytest.mark.parametrize("n, labels", [(1, 1), (2, 1), (100, 1), (700, 0), (1300, 5), (2600, 0)])
def test_against_the_matrix(n, labels):
    z, y = make(n, 6, labels)
    same = (y[:, None] == y[None, :]).double()
    sums, counts = same_label_sum(z, y)
    torch.testing.assert_close(sums, same @ z)
    assert torch.equal(counts, same.sum(1)) and not counts.requires_grad

    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    z.requires_grad_()
    found, expected = same_label_logsumexp(z, scale, y), dense(z, scale, y)
    torch.testing.assert_close(found, expected)
    if expected.isfinite().all():
        weights = torch.randn(n, dtype=torch.float64)
        grads = (
            torch.autograd.grad((rows * weights).sum(), (z, scale)) for rows in (found, expected)
        )
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b)


def test_rows_alone_pass_no_gradient():
    z, y = make(5, 3, 1)
    y = torch.tensor([4, 4, 7, 8, 4])
    z.requires_grad_()
    rows = same_label_logsumexp(z, torch.tensor(2.0, dtype=torch.float64), y)
    assert rows.isneginf().tolist() == [False, False, True, True, False]
    gradient = torch.autograd.grad(rows.sum(), z)[0]
    assert gradient.isfinite().all() and not gradient[2:4].any()


def test_gradcheck():
    z, y = make(9, 3, 1)
    y[:2] = y[2]
    y = torch.cat([y, y])
    z = torch.cat([z, z + 0.1]).requires_grad_()
    scale = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, scale: same_label_logsumexp(z, scale, y), (z, scale))
    assert torch.autograd.gradcheck(lambda z: same_label_sum(z, y)[0], (z,))


def test_opcheck():
    z, y = make(12, 4, 1)
    z, scale = z.float(), torch.tensor(2.0)
    torch.library.opcheck(ops.same_label_sum, (z, y))
    torch.library.opcheck(ops.same_label_logsumexp, (z, scale, y))
    rows = ops.same_label_logsumexp(z, scale, y)
    arguments = (z, scale, y, rows, torch.randn(12))
    torch.library.opcheck(ops.same_label_logsumexp_backward, arguments)


def test_autocast_keeps_float32():
    z, y = make(30, 8, 2)
    z, scale = z.float(), torch.tensor(2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = same_label_logsumexp(z, scale, y)
    assert torch.equal(inside, same_label_logsumexp(z, scale, y))
