"""Losses on the spectrum of a batch: the shapes and spectra where they could go wrong."""

import formulas
import pytest
import torch

import sslkernels as ssl
from sslkernels import functional
from sslkernels.losses.covariance.nuclear_norm import nuclear_norm


def views(n, d, dtype=torch.float64, count=2):
    base = torch.randn(n, d, dtype=torch.float64)
    noise = [0.7 * torch.randn(n, d, dtype=torch.float64) for _ in range(count)]
    return [(base + x).to(dtype).requires_grad_() for x in noise]


def assert_same(ours, expected, leaves, tolerance=1e-10):
    assert abs(ours - expected) <= tolerance * abs(expected)
    gradients = (torch.autograd.grad(x, leaves) for x in (ours, expected))
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("n, d", [(50, 8), (9, 8), (8, 8), (7, 12), (5, 40), (2, 6)])
@pytest.mark.parametrize("dimensions", [None, 1, 3])
def test_cca_of_every_shape(n, d, dimensions):
    x = views(n, d)
    # the formula's own derivative of eigh divides by gaps, so the covariances are perturbed apart
    ours = functional.cca(*x, 0.01, dimensions)
    expected = cca_by_cholesky(*x, 0.01, dimensions)
    assert_same(ours, expected, x, 1e-9)
    assert abs(ours - formulas.cca(*x, 0.01, dimensions)) <= 1e-10 * abs(ours)


def cca_by_cholesky(z_a, z_b, ridge, dimensions):
    a, b = (x - x.mean(0) for x in (z_a, z_b))
    whitened = []
    for x in (a, b):
        own = x.T @ x / (len(x) - 1) + ridge * torch.eye(x.shape[1], dtype=x.dtype)
        whitened.append(torch.linalg.solve(torch.linalg.cholesky(own), x.T))
    correlations = torch.linalg.svdvals(whitened[0] @ whitened[1].T / (len(a) - 1))
    return -correlations[:dimensions].sum()


def test_cca_of_equal_views_has_equal_correlations():
    (x,) = views(40, 6, count=1)
    assert abs(functional.cca(x, x, 1e-12) + 6) < 1e-9
    loss = functional.cca(x, x.detach().clone(), 1e-4)
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


def test_cca_of_collapsed_views_in_float32():
    """A covariance of rank 3 and of entries so large that float32 loses a ridge of 1e-4."""
    base = torch.randn(64, 3, dtype=torch.float64) @ torch.randn(3, 10, dtype=torch.float64)
    x = [(300 * (base + 0.01 * torch.randn(64, 3, dtype=torch.float64)
                 @ torch.randn(3, 10, dtype=torch.float64))).float().requires_grad_()
         for _ in range(2)]  # fmt: skip
    wide = [z.detach().double().requires_grad_() for z in x]
    loss, exact = functional.cca(*x), functional.cca(*wide)
    assert abs(loss - exact) <= 1e-6 * abs(exact)
    for a, b in zip(torch.autograd.grad(loss, x), torch.autograd.grad(exact, wide), strict=True):
        assert (a - b).norm() <= 1e-6 * b.norm()


def test_cca_module_and_refusals():
    x = views(30, 6, torch.float32)
    assert torch.equal(ssl.CCALoss(0.1, 2)(*x), functional.cca(*x, 0.1, 2))
    assert torch.equal(ssl.CCALoss()(*x), functional.cca(*x, 1e-4))
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        functional.cca(x[0][:1], x[1][:1])
    with pytest.raises(ValueError, match="at most D = 6, got 7"):
        functional.cca(*x, dimensions=7)
    with pytest.raises(ValueError, match="dimensions must be at least 1, got 0"):
        ssl.CCALoss(dimensions=0)
    with pytest.raises(ValueError, match="ridge must be above 0, got 0"):
        ssl.CCALoss(0)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (7, 7), (3, 4, 20), (3, 20, 4), (1, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nuclear_norm(shape, dtype):
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    assert_same(nuclear_norm(x).sum(), torch.linalg.svdvals(x).sum(), [x], 5 * tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nuclear_norm_where_it_has_no_gradient(dtype):
    for rank in (0, 1, 3):
        x = torch.randn(6, rank, dtype=dtype) @ torch.randn(rank, 11, dtype=dtype)
        x.requires_grad_()
        norm = nuclear_norm(x)
        (gradient,) = torch.autograd.grad(norm, x)
        torch.testing.assert_close(norm, torch.linalg.svdvals(x.double()).sum().to(dtype))
        # a partial isometry: it is one on the rows and columns of x, zero elsewhere
        expected = torch.tensor([1.0] * rank + [0.0] * (6 - rank), dtype=dtype)
        torch.testing.assert_close(torch.linalg.svdvals(gradient), expected, atol=2e-6, rtol=1e-5)


def test_mmcr_shapes_and_refusals():
    for b, k, d in ((6, 2, 16), (20, 3, 5), (1, 1, 4)):
        online, momentum = (torch.randn(b, k, d, dtype=torch.float64, requires_grad=True)
                            for _ in range(2))  # fmt: skip
        for normalize in (False, True):
            z = torch.cat([online, momentum], 1)
            z = formulas.unit(z) if normalize else z
            expected = (
                0.1 * torch.linalg.svdvals(z).sum() / b - torch.linalg.svdvals(z.mean(1)).sum()
            )
            loss = ssl.MMCRLoss(0.1, normalize=normalize)
            assert_same(loss(online, momentum), expected, [online, momentum])
    with pytest.raises(ValueError, match=r"\(B, k, D\).*got \(3, 4\) and \(3, 4\)"):
        functional.mmcr(torch.ones(3, 4), torch.ones(3, 4))
    with pytest.raises(TypeError, match="int64"):
        functional.mmcr(torch.ones(3, 4, 2).long(), torch.ones(3, 4, 2).long())
    with pytest.raises(ValueError, match="lmda must be at least 0, got -1"):
        ssl.MMCRLoss(-1)
