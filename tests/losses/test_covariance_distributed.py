"""Covariance losses on 2 and 4 ranks: both routes, any split of features, also lightly's way."""

from functools import partial

import formulas
import pytest
import torch
from covering import covering, starting_with
from gang import subgroup

from sslkernels import functional, offdiagonal_norm
from sslkernels.distributed import Gather

LOSSES = {
    "barlow_twins": functional.barlow_twins,
    "barlow_twins per rank": partial(functional.barlow_twins, sync_statistics=False),
    "vicreg": functional.vicreg,
    "vicreg of maps": lambda a, b, **options: functional.vicreg(a[:, None], b[:, None], **options),
    "vibcreg": functional.vibcreg,
    "spectral_contrastive": partial(functional.spectral_contrastive, mu=5.0),
}


def norms(a, b, columns, **options):
    """A scalar from all results of offdiagonal_norm; b is None if ``columns`` starts with "one"."""
    other = None if columns.startswith("one ") else b
    norm, diagonal = offdiagonal_norm(a, other, columns=columns.removeprefix("one "), **options)
    return norm / 100 + (diagonal.sin() * torch.arange(1, len(diagonal) + 1)).sum()


each_loss = pytest.mark.parametrize("name", list(LOSSES))
two_ranks = pytest.mark.parametrize("gang", [2], indirect=True)  # same graph as with more
NORMS = ["raw", "centered", "standardized", "one raw", "one centered", "one standardized"]
LOSSES |= {f"norm of {x}": partial(norms, columns=x) for x in NORMS}


def views(sizes, d, dtype=torch.float64):
    """The global batch, and encoders with gradients averaged as by DistributedDataParallel."""
    generator = torch.Generator().manual_seed(11)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    base = draw(sum(sizes), d)
    x = [(base + 0.7 * draw(sum(sizes), d)).to(dtype) for _ in range(2)]
    weights = [torch.eye(d) + 0.3 * draw(d, d) / d**0.5 for _ in range(2)]
    return x, [w.to(dtype).requires_grad_() for w in weights]


def step(loss, sizes, d, dtype, rank=None, **options):
    x, weights = views(sizes, d, dtype)
    if rank is not None:
        x = [z.split(sizes)[rank] for z in x]
    value = LOSSES[loss](*(z @ w for z, w in zip(x, weights, strict=True)), **options)
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    grads = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
    return [z.detach().double() for z in (value, *grads)]


def on_rank(rank, loss, sizes, d, dtype, options):
    return step(loss, sizes, d, dtype, rank, gather=Gather(**options.pop("gather", {})), **options)


def run(gang, *arguments, **options):
    """The results of every rank, and the mean."""
    found = gang.run(on_rank, *arguments, options)
    return found, [torch.stack(parts).mean(0) for parts in zip(*found, strict=True)]


def assert_equal(found, expected, tolerance):
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a - b).norm() <= tolerance * b.norm() + 1e-14, (index, a, b)


def shares(size, total):
    """Uneven: every rank after the first has a third less than its even share."""
    rest = [2 * total // (3 * size)] * (size - 1)
    return [total - sum(rest), *rest]


ROUTED = [name for name in LOSSES if name != "spectral_contrastive" and "per rank" not in name]


SHAPES = [(24, 50), (100, 7), (12, 192), (320, 20), (48, 3)]  # the last: fewer features than ranks
WAYS = covering([2, 4], ROUTED, ["sample", "feature"], SHAPES)


@pytest.mark.parametrize("name", ROUTED)
def test_equals_one_process(gang, name):
    for route, (total, d) in starting_with(WAYS, gang.size, name):
        sizes = shares(gang.size, total)
        found, mean = run(gang, name, sizes, d, torch.float64, route=route)
        assert_equal(mean, step(name, sizes, d, torch.float64, route=route), 1e-12)
        if name.startswith("norm"):
            assert all(torch.equal(values[0], found[0][0]) for values in found)


TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}  # of gradients
FOUR = ["barlow_twins", "vicreg", "vibcreg", "spectral_contrastive"]
SHAPES_AND_DTYPES = covering([2, 4], FOUR, SHAPES[:3], TOLERANCES)


@pytest.mark.parametrize("name", FOUR)
def test_float32_and_half_precision(gang, name):
    for (total, d), dtype in starting_with(SHAPES_AND_DTYPES, gang.size, name):
        sizes, tolerance = shares(gang.size, total), TOLERANCES[dtype]
        _, mean = run(gang, name, sizes, d, dtype)
        assert_equal(mean, step(name, sizes, d, dtype), tolerance)


def lightly(parts):
    """Its loss across ranks: the mean of the ranks' C, each with its own statistics."""
    products = []
    for a, b in parts:
        a, b = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (a, b))
        products.append(a.T @ b / len(a))
    c = sum(products) / len(products)
    return (c.diagonal() - 1).square().sum() + 5e-3 * formulas.offdiagonal(c).square().sum()


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0)


@pytest.mark.parametrize("d", [64, 256])
def test_barlow_twins_statistics(gang, d):
    sizes = [32] * gang.size
    expected = step("barlow_twins", sizes, d, torch.float32)
    _, mean = run(gang, "barlow_twins", sizes, d, torch.float32)
    for a, b in zip(mean[1:], expected[1:], strict=True):
        assert cosine(a, b) >= 0.99999 and abs(a.norm() / b.norm() - 1) <= 1e-5

    x, weights = views(sizes, d)
    parts = zip(*((z @ w).split(sizes) for z, w in zip(x, weights, strict=True)), strict=True)
    value = lightly(list(parts))
    own = [value.detach(), *torch.autograd.grad(value, weights)]
    for route in ("sample", "feature"):
        found, mean = run(gang, "barlow_twins per rank", sizes, d, torch.float64, route=route)
        assert_equal(mean, own, 1e-12)
        assert all(torch.equal(values[0], found[0][0]) for values in found)
    if gang.size == 4 and d == 64:
        assert cosine(own[1], expected[1]) < 0.99  # another loss


@each_loss
def test_reference_scale(gang, name):
    sizes = shares(gang.size, 40)
    _, expected = run(gang, name, sizes, 10, torch.float64)
    _, mean = run(gang, name, sizes, 10, torch.float64, gather={"grad_scale": "reference"})
    expected[1:] = [x / gang.size for x in expected[1:]]
    assert_equal(mean, expected, 1e-12)


def on_subgroup(rank, name, members, sizes):
    with subgroup(members) as group:
        if rank in members:
            gather = Gather(group=group)
            return step(name, sizes, 16, torch.float64, members.index(rank), gather=gather)


@pytest.mark.parametrize("name", FOUR)
def test_subgroup(gang, name):
    members = [0, 1] if gang.size == 2 else [1, 3]
    for sizes in ([5, 6], [30, 20]):  # by samples, by features
        found = [x for x in gang.run(on_subgroup, name, members, sizes) if x]
        mean = [torch.stack(parts).mean(0) for parts in zip(*found, strict=True)]
        assert_equal(mean, step(name, sizes, 16, torch.float64), 1e-12)


def runs_on_rank(rank, name, n, d, compiles):
    torch.compiler.reset()
    torch.manual_seed(rank)
    x = [torch.randn(n + rank, d, requires_grad=True) for _ in range(2)]
    eager = other = partial(LOSSES[name], gather=Gather())
    if compiles:
        other = torch.compile(eager, fullgraph=True, backend="aot_eager")
    values = [f(*x) for f in (eager, other)]
    return [(y.detach(), *torch.autograd.grad(y, x)) for y in values]


@each_loss
def test_bitwise_repeatable(gang, name):
    for n, d in ((6, 40), (20, 8)):  # by samples, by features
        for first, second in gang.run(runs_on_rank, name, n, d, False):
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@two_ranks
@each_loss
@pytest.mark.parametrize("n, d", [(6, 40), (20, 8)])
def test_compile_without_graph_breaks(gang, name, n, d):
    for eager, compiled in gang.run(runs_on_rank, name, n, d, True):
        for a, b in zip(eager, compiled, strict=True):
            torch.testing.assert_close(a, b)


def mismatched_on_rank(rank, name):
    x = torch.randn(4, 8 + rank)
    try:
        LOSSES[name](x, x, gather=Gather())
    except ValueError as error:
        return str(error)


@each_loss
def test_ranks_that_disagree_are_told_so(gang, name):
    columns = 18 if name in ("spectral_contrastive", "vicreg of maps") else 9  # both views at once
    for message in gang.run(mismatched_on_rank, name):
        assert "ranks must agree" in message
        assert f"got {columns - columns // 9} of torch.float32 on rank 0, {columns} of" in message
