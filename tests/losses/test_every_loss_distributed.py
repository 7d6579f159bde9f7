"""Every loss on 2 and 4 ranks against one process with the global batch.

A matrix for each kind of embedding stands for the network; its gradients are averaged over ranks,
as DistributedDataParallel does.
"""

import pytest
import torch
import torch.distributed as dist
from cases import CASES
from covering import covering, starting_with
from gang import subgroup

import sslkernels
from sslkernels.distributed import Gather

GATHERING = [name for name, case in CASES.items() if case.gathers]
routes = pytest.mark.parametrize("route", ["all", "ring"])
two_ranks = pytest.mark.parametrize("gang", [2], indirect=True)  # same graph as with more


def step(name, route, sizes, dtype, rank=None, group=None, grad_scale="mean"):
    """Loss and gradients of one rank's share; of everything in one process if rank is None."""
    case = CASES[name]
    torch.manual_seed(1)
    total = sum(sizes)
    (*inputs,) = case.inputs(total, 16, torch.float64)
    embeddings, scalars = case.split(inputs)
    labels = torch.arange(total) * 7 % 5 - 2
    encoders = [torch.eye(16, dtype=torch.float64) + 0.1 * torch.randn(16, 16, dtype=torch.float64)
                for _ in embeddings]  # fmt: skip
    parameters = [x.to(dtype).requires_grad_() for x in encoders + scalars]
    gather = None
    if rank is not None:
        start = sum(sizes[:rank])
        embeddings = [x[start : start + sizes[rank]] for x in embeddings]
        labels = labels[start : start + sizes[rank]]
        gather = Gather(route, group, grad_scale)
    encoded = [x.to(dtype) @ w for x, w in zip(embeddings, parameters, strict=False)]
    loss = case.compute(encoded + parameters[len(encoded) :], labels, gather)
    assert loss.dtype == dtype
    grads = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return [x.detach().double() for x in (loss, *grads)]


def on_rank(rank, name, route, sizes, dtype, grad_scale="mean"):
    return step(name, route, sizes, dtype, rank, None, grad_scale)


def mean_of(results):
    return [torch.stack(parts).mean(0) for parts in zip(*results, strict=True)]


def assert_equal(found, expected, tolerance):
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a - b).norm() <= tolerance * b.norm() + 1e-14, (index, a, b)


def shares(size, even=True):
    return [12] * size if even else [12, 7, 9, 8][:size]


WAYS = covering([2, 4], GATHERING, ["all", "ring"], [torch.float32, torch.float64], [True, False])


@pytest.mark.parametrize("name", GATHERING)
def test_equals_one_process(gang, name):
    for route, dtype, even in starting_with(WAYS, gang.size, name):
        sizes, tolerance = shares(gang.size, even), 1e-5 if dtype == torch.float32 else 1e-12
        expected = step(name, None, sizes, dtype)
        found = mean_of(gang.run(on_rank, name, route, sizes, dtype))
        assert_equal(found, expected, tolerance)


@pytest.mark.parametrize("name", [name for name in CASES if name not in GATHERING])
def test_mean_over_pairs_needs_no_gathering(gang, name):
    if CASES[name].labels:
        pytest.skip("a mask knows one rank's images only")
    sizes = shares(gang.size)
    found = mean_of(gang.run(on_rank, name, "all", sizes, torch.float64))
    assert_equal(found, step(name, None, sizes, torch.float64), 1e-12)


@pytest.mark.parametrize("name", ["nt_xent", "clip", "siglip", "supcon"])
@routes
def test_reference_scale_divides_what_embeddings_get(gang, name, route):
    sizes = shares(gang.size)
    expected = step(name, None, sizes, torch.float64)
    found = mean_of(gang.run(on_rank, name, route, sizes, torch.float64, "reference"))
    first_scalar = 1 + CASES[name].embeddings
    expected[1:first_scalar] = [x / gang.size for x in expected[1:first_scalar]]
    assert_equal(found, expected, 1e-12)


def on_subgroup(rank, name, route, members, sizes):
    with subgroup(members) as group:
        if rank in members:
            return step(name, route, sizes, torch.float64, members.index(rank), group)


@pytest.mark.parametrize("name", ["nt_xent", "clip", "supcon", "dclw", "uniformity"])
@routes
def test_subgroup(gang, name, route):
    members = [gang.size - 1, 0] if gang.size == 2 else [1, 3]
    members, sizes = sorted(members), [6, 9]
    found = mean_of([x for x in gang.run(on_subgroup, name, route, members, sizes) if x])
    assert_equal(found, step(name, None, sizes, torch.float64), 1e-12)


def module_on_rank(rank, route):
    torch.manual_seed(rank)
    loss = sslkernels.MoCoLoss(8, 10, gather=route)
    dist.broadcast(loss.queue.bank, 0)
    for _ in range(3):
        keys = torch.randn(3 + rank, 8)
        loss(torch.randn(3 + rank, 8, requires_grad=True), keys)
    return loss.queue.bank, loss.queue.bank_ptr


def test_queues_stay_alike(gang):
    banks = gang.run(module_on_rank, "all")
    for bank, pointer in banks:
        assert torch.equal(bank, banks[0][0])
        assert pointer.item() == 3 * sum(range(3, 3 + gang.size)) % 10


def compiled_on_rank(rank, route):
    torch.manual_seed(rank)
    torch.compiler.reset()
    out = [torch.randn(6 + rank, 8, requires_grad=True) for _ in range(2)]
    found = []
    for loss in (sslkernels.NTXentLoss(0.2, gather=route), sslkernels.SupConLoss(gather=route)):
        arguments = out if isinstance(loss, sslkernels.NTXentLoss) else [torch.stack(out, 1)]
        eager = loss(*arguments)
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(*arguments)
        found.append((eager, compiled))
        grads = [torch.autograd.grad(x, out) for x in (eager, compiled)]
        found += zip(*grads, strict=True)
    return [(a.detach(), b.detach()) for a, b in found]


def compiled_queue_on_rank(rank, route):
    torch.compiler.reset()
    torch.manual_seed(rank)
    banks = []
    batches = [[torch.randn(3 + rank, 8, requires_grad=True) for _ in range(2)] for _ in range(3)]
    for compile in (lambda x: x, lambda x: torch.compile(x, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(5)
        loss = sslkernels.MoCoLoss(8, 10, gather=route)
        step = compile(loss)
        for batch in batches:
            step(*batch).backward()
        banks.append(loss.queue.bank)
    return banks


@two_ranks
def test_compiled_queue(gang):
    for eager, compiled in gang.run(compiled_queue_on_rank, "all"):
        torch.testing.assert_close(compiled, eager)


@two_ranks
@routes
def test_compile_without_graph_breaks(gang, route):
    for rank in gang.run(compiled_on_rank, route):
        for eager, compiled in rank:
            torch.testing.assert_close(compiled, eager)


def mismatched_on_rank(rank, columns):
    x = torch.randn(4, columns[rank])
    try:
        sslkernels.NTXentLoss(gather_distributed=True)(x, x)
    except ValueError as error:
        return str(error)


def test_ranks_that_disagree_are_told_so(gang):
    columns = list(range(8, 8 + gang.size))
    for message in gang.run(mismatched_on_rank, columns):
        assert "rank 0" in message and "8 of torch.float32" in message


def bitwise_on_rank(rank, route):
    torch.manual_seed(rank)
    x = [torch.randn(50, 8, requires_grad=True) for _ in range(2)]
    runs = []
    for _ in range(2):
        loss = sslkernels.functional.clip(*x, 3.0, gather=Gather(route))
        runs.append((loss.detach(), *torch.autograd.grad(loss, x)))
    return all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@routes
def test_bitwise_repeatable(gang, route):
    assert all(gang.run(bitwise_on_rank, route))
