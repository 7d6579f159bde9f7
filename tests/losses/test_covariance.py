"""Covariance losses: every shape by both routes, half precision, memory, unusual batches."""

from functools import partial

import formulas
import pytest
import torch
from case import Case
from cases import CASES
from oracle import assert_as_exact_as_eager, results
from torch.profiler import profile

import sslkernels as ssl
from sslkernels import functional

ROUTED = [name for name in CASES if name.startswith(("barlow", "vicreg", "vibcreg"))]
ROUTED = [name for name in ROUTED if name not in ("vicreg of maps", "vicregl")]
SHAPES = [(16, 1024), (32, 128), (128, 96), (256, 64), (1024, 16)]  # n / D from 1/64 to 64


def compare(name, n, d, dtype, **options):
    """Loss and gradients: ours, the formula's, and the formula's in float64."""
    case = CASES[name]
    inputs = case.inputs(n, d, dtype)
    weights = [torch.ones(())]
    return tuple(
        results(lambda *x, f=f: (f(*x),), inputs, as_dtype, weights)
        for f, as_dtype in (
            (lambda *x: case.ours(*x, **options), dtype),
            (case.formula, dtype),
            (case.formula, torch.float64),
        )
    )


@pytest.mark.parametrize("name", ROUTED)
@pytest.mark.parametrize("route", ["sample", "feature"])
@pytest.mark.parametrize("n, d", SHAPES)
def test_float64(name, route, n, d):
    ours, _, exact = compare(name, n, d, torch.float64, route=route)
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).norm() <= 1e-10 * b.norm()


@pytest.mark.parametrize("name", ROUTED)
@pytest.mark.parametrize("n, d", SHAPES)
def test_float32(name, n, d):
    for route in ("feature", "auto", "sample")[: 3 if n <= d else 2]:
        draws = [compare(name, n, d, torch.float32, route=route) for _ in range(4)]
        assert_as_exact_as_eager(draws)


@pytest.mark.parametrize("name", ROUTED)
def test_sample_route_of_many_rows(name):
    """Exact to float32's precision of all of C, most of which is the diagonal."""
    ours, _, exact = compare(name, 1024, 16, torch.float32, route="sample")
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("n, d", SHAPES)
def test_spectral_contrastive(n, d):
    ours, _, exact = compare("spectral_contrastive", n, d, torch.float64)
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).norm() <= 1e-10 * b.norm()
    assert_as_exact_as_eager(
        [compare("spectral_contrastive", n, d, torch.float32) for _ in range(4)]
    )


HALF = {name: CASES[name] for name in ("barlow_twins", "vicreg", "vibcreg")}
HALF["spectral_contrastive"] = Case(
    partial(functional.spectral_contrastive, mu=1e6),
    lambda x, y: formulas.spectral_contrastive(x, y, 1e6),
)


@pytest.mark.parametrize("name", HALF)
@pytest.mark.parametrize("mean", [0.0, 20.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_large_embeddings_in_half_precision(name, mean, dtype):
    """Sums over 2,048 rows with deviation 8 exceed float16's range; those of a loss must not."""
    base = torch.randn(2048, 256)
    inputs = [(mean + 8 * (base + 0.2 * torch.randn(2048, 256))).to(dtype) for _ in range(2)]
    case, scale = HALF[name], [torch.full((), 1024.0)]  # as with loss scaling
    ours, exact = (
        results(lambda *x, f=f: (f(*x),), inputs, as_dtype, scale)
        for f, as_dtype in ((case.ours, dtype), (case.formula, torch.float64))
    )
    assert abs(ours[0] - exact[0]) <= 1e-5 * exact[0].abs()
    for a, b in zip(ours[1:], exact[1:], strict=True):  # gradients are rounded to the dtype
        assert (a - b).norm() <= torch.finfo(dtype).eps * b.norm()
    overflows = dtype == torch.float16 and (
        name == "vicreg" or (name, mean) == ("spectral_contrastive", 20)
    )
    assert case.formula(*inputs).isfinite() != overflows


def standardized(z, correction=0):
    return (z - z.mean(0)) / z.std(0, correction=correction)


def test_conventions():
    x = CASES["vicreg"].inputs(40, 12)
    equal = partial(torch.testing.assert_close, rtol=1e-4, atol=0)  # up to the epsilons
    for correction, convention, scale in (
        (0, "lightly", 1.0), (0, "solo_learn", 0.025), (1, "stable_pretraining", 1.0)
    ):  # fmt: skip
        c = standardized(x[0], correction).T @ standardized(x[1], correction) / 40
        diagonal = c.diagonal()
        on, off = (diagonal - 1).square().sum(), c.square().sum() - diagonal.square().sum()
        loss = functional.barlow_twins(*x, 0.3, convention=convention)
        equal(loss, scale * (on + 0.3 * off))
        assert torch.equal(ssl.BarlowTwinsLoss(0.3, convention=convention)(*x), loss)
    flat = [z / 10 for z in x]  # only variances matter with weights 0
    lightly, solo = (
        functional.vicreg(*flat, 0, 1, 0, convention=convention)
        for convention in ("lightly", "solo_learn")
    )
    assert torch.equal(2 * lightly, solo)
    equal(solo, sum((1 - (z.var(0) + 1e-4).sqrt()).mean() for z in flat))


@pytest.mark.parametrize("name", ROUTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n, d", [(37, 8), (8, 37)])
def test_constant_features(name, dtype, n, d):
    """The value of a constant feature does not matter, and its gradient is that of invariance."""
    inputs = CASES[name].inputs(n, d, dtype)
    found = []
    for constant in (0.0, 0.1, 1000.3):
        x = [z.clone() for z in inputs]
        for z in x:
            z[:, 2] = constant
        found.append(results(lambda *x: (CASES[name].ours(*x),), x, dtype, [torch.ones(())]))
        assert all(part.isfinite().all() for part in found[-1])
    for other in found[1:]:
        torch.testing.assert_close(other[0], found[0][0], rtol=1e-5, atol=0)
        for a, b in zip(other[1:], found[0][1:], strict=True):
            assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("name", [*ROUTED, "spectral_contrastive"])
@pytest.mark.parametrize("n, d", [(2, 5), (2, 1), (30, 1), (3, 2)])
def test_smallest_shapes(name, n, d):
    tolerances = {torch.float32: 1e-5, torch.float64: 1e-10}
    if name == "vibcreg" and n == 2:
        # Correlations of two rows are ± 1. Their gradient is a difference of large terms, and of
        # the 1e-12 added to a deviation here, where solo-learn's normalize takes the maximum.
        tolerances = {torch.float32: 1e-3, torch.float64: 1e-8}
    for dtype, tolerance in tolerances.items():
        ours, _, exact = compare(name, n, d, dtype)
        for a, b in zip(ours, exact, strict=True):
            assert (a - b).norm() <= tolerance * (1 + b.norm())


@pytest.mark.parametrize("n, d", [(256, 8), (1024, 64)])
def test_barlow_twins_of_identical_decorrelated_views(n, d):
    """The diagonal leaves only epsilon, the rest nothing."""
    x = torch.randn(n, d, dtype=torch.float64)
    x = 0.05 * n**0.5 * torch.linalg.qr(x - x.mean(0))[0]
    exact = d * (1 - 0.0025 / (0.0025 + 1e-5)) ** 2
    assert abs(functional.barlow_twins(x, x) - exact) <= 1e-10 * exact
    ours = functional.barlow_twins(x.float(), x.float())
    assert abs(ours - exact) <= 1e-3 * exact  # 1 - C_ii is 4e-3, with float32's 6e-8 of 1
    loss = functional.vicreg(x.float(), x.float(), 1.0, 0.0, 1.0)
    assert loss <= 1e-12


@pytest.mark.parametrize("make", [ssl.BarlowTwinsLoss, ssl.VICRegLoss, ssl.VIbCRegLoss])
def test_no_matrix_of_features_by_features(make):
    def largest(n, d, **options):
        x = [torch.randn(n, d, requires_grad=True) for _ in range(2)]
        with profile(profile_memory=True) as record:
            make(**options)(*x).backward()
        return max(event.cpu_memory_usage for event in record.events())

    n, d = 64, 16384
    assert n * d * 4 <= largest(n, d) <= 2 * n * d * 4 + 4 < d * d  # both gradients and the loss
    assert largest(n, 2048, impl="reference") >= 2048 * 2048 * 4  # so it would have been noticed


def crops(*sizes, n=10):
    features = [(torch.randn(n, 12), torch.randn(n, *size, 6)) for size in sizes]
    return features, [torch.rand(n, *size, 2) for size in sizes]


def test_vicregl_does_not_depend_on_the_order_of_images():
    large, small = crops((3, 3), (2, 4)), crops((2, 2))
    expected = functional.vicregl(*large, *small)
    order = torch.randperm(10)
    shuffled = [
        [tuple(z[order] for z in x) if isinstance(x, tuple) else x[order] for x in part]
        for part in (*large, *small)
    ]
    torch.testing.assert_close(functional.vicregl(*shuffled), expected)


def test_vicregl_matches_identical_maps_with_themselves():
    features, grids = crops((3, 4))
    twice = [(pooled.clone(), cells.clone()) for pooled, cells in 2 * features], 2 * grids
    invariance = {"lambda_param": 1.0, "mu_param": 0.0, "nu_param": 0.0}
    assert functional.vicregl(*twice, **invariance) == 0
    moved = [features[0], (features[0][0], features[0][1].flip(1))], 2 * grids
    assert functional.vicregl(*moved, **invariance) > 0  # their positions differ
    moved = moved[0], [grids[0], grids[0].flip(1)]
    assert functional.vicregl(*moved, **invariance) == 0


def test_refusals():
    x = torch.randn(4, 8)
    for loss in (functional.barlow_twins, functional.vicreg, functional.vibcreg,
                 functional.spectral_contrastive):  # fmt: skip
        with pytest.raises(ValueError, match="needs at least 2 rows, got 1"):
            loss(x[:1], x[:1])
        with pytest.raises(ValueError, match=r"same shape.*got \(4, 8\) and \(4, 7\)"):
            loss(x, x[:, :7])
        with pytest.raises(TypeError, match="one dtype.*torch.float32 and torch.float16"):
            loss(x, x.half())
    for make in (ssl.BarlowTwinsLoss, ssl.VICRegLoss):
        with pytest.raises(ValueError, match="convention must be one of lightly.*got 'authors'"):
            make(convention="authors")
    with pytest.raises(ValueError, match="convention must be one of lightly.*got 'authors'"):
        functional.barlow_twins(x, x, convention="authors")
    with pytest.raises(ValueError, match="route must be one of auto, sample, feature; got 'ring'"):
        functional.vicreg(x, x, route="ring")
    with pytest.raises(ValueError, match=r"vibcreg takes \(N, D\).*got \(4, 2, 4\)"):
        functional.vibcreg(x.view(4, 2, 4), x.view(4, 2, 4))
    with pytest.raises(ValueError, match="mu must be above 0, got -1"):
        ssl.SpectralContrastiveLoss(-1)(x, x)


PLACES = torch.rand(10, 3, 3, 2)


@pytest.mark.parametrize("pooled, cells, places, words", [
    ((10, 12), (10, 9, 6), PLACES, r"\(N, H, W, D'\).*got.*\(10, 9, 6\)"),
    ((9, 12), (10, 3, 3, 6), PLACES, r"got \(9, 12\), \(10, 3, 3, 6\)"),
    ((10, 12), (10, 3, 3, 6), PLACES[:, :2], r"a grid \(N, H, W, 2\).*\(10, 2, 3, 2\)"),
    ((10, 12), (10, 3, 3, 6), PLACES[..., :1], r"a grid \(N, H, W, 2\).*\(10, 3, 3, 1\)"),
    ((10, 1), (10, 3, 3, 6), PLACES,
     r"global_view_features\[1\]\[0\].*same shape \(N, D\).*\(10, 12\) and \(10, 1\)"),
    ((10, 12), (10, 3, 3, 5), PLACES, r"cells.*same shape.*\(10, 6\) and \(10, 5\)"),
    ((8, 12), (8, 3, 3, 6), PLACES[:8], r"same shape.*\(10, 12\) and \(8, 12\)"),
])  # fmt: skip
def test_vicregl_refuses_views(pooled, cells, places, words):
    features, grids = crops((3, 3))
    features.append((torch.randn(pooled), torch.randn(cells)))
    with pytest.raises(ValueError, match=words):
        functional.vicregl(features, [*grids, places])


def test_vicregl_refuses():
    features, grids = crops((3, 3), (3, 3))
    with pytest.raises(ValueError, match="two views, one of them global; got 1 global and 0 local"):
        functional.vicregl(features[:1], grids[:1])
    with pytest.raises(ValueError, match="got 0 global and 2 local"):
        functional.vicregl([], [], features, grids)
    with pytest.raises(ValueError, match="of one length, got 2 and 1"):
        functional.vicregl(features, grids[:1])
    with pytest.raises(ValueError, match="local_view.*of one length, got 2 and 0"):
        functional.vicregl(features, grids, features)
    with pytest.raises(ValueError, match="needs at least 2 rows, got 1"):
        functional.vicregl(*crops((3, 3), (3, 3), n=1))
    with pytest.raises(TypeError, match="must be a torch.Tensor, got a list"):
        functional.vicregl(features, [grids[0], [0.5]])
    for matches in ((0, 4), (20, -1), (20,)):
        with pytest.raises(ValueError, match="num_matches must be"):
            functional.vicregl(features, grids, num_matches=matches)
