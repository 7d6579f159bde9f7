"""Two views at once against one view at a time."""

import pytest
import torch
import torch.nn.functional as F

from sslkernels import offdiagonal_norm
from sslkernels._ext import HAS_EXTENSION
from sslkernels.primitives.offdiagonal_norm import norms_of_views

each_implementation = pytest.mark.parametrize("impl", ["tiled"] + ["cpu"] * HAS_EXTENSION)
each_route = pytest.mark.parametrize("route", ["sample", "feature"])


def views(n, d, dtype):
    base = torch.randn(n, d, dtype=torch.float64)
    return [(base + 0.5 * torch.randn(n, d)).to(dtype).requires_grad_() for _ in range(2)]


def together(x, weights, **options):
    (norm_a, diagonal_a), (norm_b, diagonal_b), distance = norms_of_views(*x, **options)
    values = norm_a, norm_b, distance, weights @ diagonal_a.double(), weights @ diagonal_b.double()
    return sum(w * v.double() for w, v in zip((0.3, 0.7, 40.0, 1.0, 2.0), values, strict=True))


def apart(x, weights, **options):
    (norm_a, diagonal_a), (norm_b, diagonal_b) = (
        offdiagonal_norm(z, columns="centered", **options) for z in x
    )
    distance = F.mse_loss(x[0].double(), x[1].double(), reduction="sum")
    values = norm_a, norm_b, distance, weights @ diagonal_a.double(), weights @ diagonal_b.double()
    return sum(w * v.double() for w, v in zip((0.3, 0.7, 40.0, 1.0, 2.0), values, strict=True))


@pytest.mark.parametrize("impl, dtype, tolerance", [
    ("tiled", torch.float64, 1e-12),
    ("tiled", torch.float32, 1e-6),
    ("reference", torch.float64, 1e-12),
    *[("cpu", torch.float32, 1e-6), ("cpu", torch.bfloat16, 1e-2),
      ("cpu", torch.float16, 2e-3)] * HAS_EXTENSION,
], ids=str)  # fmt: skip
@each_route
@pytest.mark.parametrize("n, d", [(20, 90), (90, 20), (2, 3), (300, 1000)])
def test_equals_one_after_the_other(impl, dtype, tolerance, route, n, d):
    x, weights = views(n, d, dtype), torch.randn(d, dtype=torch.float64)
    ours = together(x, weights, impl=impl, route=route)
    theirs = apart(x, weights, impl=impl, route=route)
    assert abs(ours - theirs) <= tolerance * abs(theirs)
    for a, b in zip(*(torch.autograd.grad(v, x) for v in (ours, theirs)), strict=True):
        assert a.dtype == dtype
        assert (a.double() - b.double()).norm() <= tolerance * b.double().norm()


@each_implementation
@each_route
def test_one_view_may_be_constant(impl, route):
    x, weights = views(30, 50, torch.float32), torch.randn(50, dtype=torch.float64)
    both = torch.autograd.grad(together(x, weights, impl=impl, route=route), x)
    for learned in (0, 1):
        y = [z.detach().requires_grad_(i == learned) for i, z in enumerate(x)]
        together(y, weights, impl=impl, route=route).backward()
        assert torch.equal(y[learned].grad, both[learned]) and y[1 - learned].grad is None


@each_implementation
@each_route
@pytest.mark.parametrize("result", range(5))
def test_results_may_go_unused(impl, route, result):
    x = views(30, 50, torch.float32)
    grads = []
    for how in ({"impl": impl, "route": route}, {"impl": "reference"}):
        of_a, of_b, distance = norms_of_views(*x, **how)
        value = (*of_a, *of_b, distance)[result].sum()
        grads.append(torch.autograd.grad(value, x, materialize_grads=True))
    for ours, expected in zip(*grads, strict=True):
        assert (ours - expected).norm() <= 1e-5 * expected.norm()


@each_implementation
@pytest.mark.parametrize("n, d", [(6, 4), (4, 6)])
def test_opcheck(impl, n, d):
    dtype = torch.float64 if impl == "tiled" else torch.float32
    x = [z.detach() for z in views(n, d, dtype)]
    torch.library.opcheck(torch.ops.sslkernels.norms_of_views, (*x, impl, "auto"))
    results = torch.ops.sslkernels.norms_of_views(*x, impl, "auto")
    kept = [*results[1:4], *results[5:8]]
    grads = [torch.randn_like(results[i]) for i in (0, 1, 4, 5, 8)]
    for needs in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(
            torch.ops.sslkernels.norms_of_views_backward, (*x, kept, grads, needs, impl, "auto")
        )


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"same shape \(n, d\)"):
        norms_of_views(torch.randn(3, 4), torch.randn(4, 4))
    with pytest.raises(TypeError, match="one dtype"):
        norms_of_views(torch.randn(3, 4), torch.randn(3, 4).double())
    with pytest.raises(ValueError, match="route must be one of"):
        norms_of_views(torch.randn(3, 4), torch.randn(3, 4), route="shortest")
