"""On 2 and 4 ranks against one process with all rows."""

import pytest
import torch
from covering import covering, starting_with

from sslkernels import prototype_sinkhorn, sinkhorn
from sslkernels.distributed import Gather, ranks_of, stack_ranks

D, PROTOTYPES = 6, 700


def step(kind, sizes, impl, dtype, counts=None, rank=None, compiled=False):
    """The centre on one rank; for all rows if rank is None."""
    torch.manual_seed(1)
    features = torch.randn(sum(sizes), D, dtype=torch.float64)
    prototypes = torch.randn(PROTOTYPES, D, dtype=torch.float64)
    parts, gather, rows = list(features.split(sizes)), None, None
    if counts is not None:
        parts = [part[:count] for part, count in zip(parts, counts, strict=True)]
    if rank is None:
        x = torch.cat(parts)
    else:
        x, gather = features.split(sizes)[rank], Gather()
        if counts is not None:
            x, rows = x.clone(), torch.tensor(counts[rank])
            x[rows:] = float("nan")

    def function(x, rows):
        options = {"rows": rows, "gather": gather, "impl": impl}
        if kind == "features":
            return prototype_sinkhorn(x, prototypes.to(dtype), 0.8, 3, **options)
        return sinkhorn(x, 0.8, 3, **options)

    if kind != "features":
        x = x @ prototypes.T
    if kind == "groups":
        x = torch.stack([x, 2 * x, -x])
    if compiled:
        torch.compiler.reset()
        function = torch.compile(function, fullgraph=True, backend="aot_eager")
    return function(x.to(dtype), rows)


def on_rank(rank, *arguments, compiled=False):
    return step(*arguments, rank=rank, compiled=compiled)


def compiled_on_rank(rank, *arguments):
    return on_rank(rank, *arguments, compiled=True)


def assert_equals_one_process(found, expected, tolerance):
    for center in found:
        assert torch.equal(center, found[0]), "ranks differ"
        torch.testing.assert_close(center.double(), expected, rtol=tolerance, atol=tolerance)


KINDS = ["logits", "groups", "features"]
each_kind = pytest.mark.parametrize("kind", KINDS)
two_ranks = pytest.mark.parametrize("gang", [2], indirect=True)  # same graph as with more


WAYS = covering([2, 4], KINDS, [
    ("tiled", torch.float64, 1e-12), ("auto", torch.float32, 3e-6), ("tiled", torch.float32, 3e-6),
], [True, False])  # fmt: skip


@each_kind
def test_equals_one_process(gang, kind):
    for (impl, dtype, tolerance), even in starting_with(WAYS, gang.size, kind):
        sizes = [90] * gang.size if even else [120, 7, 901, 1][: gang.size]
        expected = step(kind, sizes, "tiled", torch.float64)
        found = gang.run(on_rank, kind, sizes, impl, dtype)
        assert_equals_one_process(found, expected, tolerance)


@each_kind
def test_ranks_with_few_rows_or_none(gang, kind):
    sizes, counts = [20] * gang.size, [13, 0, 20, 1][: gang.size]
    expected = step(kind, sizes, "tiled", torch.float64, counts)
    found = gang.run(on_rank, kind, sizes, "auto", torch.float32, counts)
    assert_equals_one_process(found, expected, 3e-6)
    nothing = gang.run(on_rank, kind, sizes, "auto", torch.float32, [0] * gang.size)
    assert all((center == 0).all() for center in nothing)


@two_ranks
@each_kind
def test_compiles(gang, kind):
    arguments = kind, [120, 7, 31, 1][: gang.size], "auto", torch.float32
    expected = gang.run(on_rank, *arguments)
    for center in gang.run(compiled_on_rank, *arguments):
        torch.testing.assert_close(center, expected[0])


def stacked(rank, compiled):
    def function(x):
        return stack_ranks(2 * x, ranks_of(Gather()))

    if compiled:
        function = torch.compile(function, fullgraph=True, backend="aot_eager")
    return function(torch.full((2, 3), float(rank)))


@two_ranks
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_what_every_rank_holds(gang, compiled):
    expected = torch.stack([torch.full((2, 3), 2.0 * rank) for rank in range(gang.size)])
    for found in gang.run(stacked, compiled):
        assert torch.equal(found, expected)


def refuses(rank):
    with pytest.raises(ValueError, match="for one process"):
        sinkhorn(torch.ones(3, 4), gather=Gather(), impl="reference")


def test_reference_is_for_one_process(gang):
    gang.run(refuses)
