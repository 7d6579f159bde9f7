"""Centres, prototypes and neighbours on 2 and 4 ranks against one process."""

import pytest
import torch
from gang import subgroup

import sslkernels as ssl
from sslkernels import functional
from sslkernels.distributed import Gather

SIZES = [5, 3, 4, 6]


def batch(step, total):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(views, total, 20, generator=generator, dtype=torch.float64)
            for views in (2, 3)]  # fmt: skip


def share(x, rank):
    start = sum(SIZES[:rank])
    return x[:, start : start + SIZES[rank]]


def centers_on_rank(rank, size, mode):
    """After every step, and in a checkpoint while an update may be pending."""
    dino = ssl.DINOLoss(20, center_mode=mode).double()
    ibot = ssl.IBOTPatchLoss(20, center_mode=mode).double()
    losses = []
    for step in range(3):
        teachers, students = batch(step, sum(SIZES[:size]))
        if rank is not None:
            teachers, students = share(teachers, rank), share(students, rank)
        losses.append(dino(teachers, students))
        mask = torch.ones(teachers.shape[1], 1, dtype=torch.bool)
        losses.append(ibot(teachers[0], students[0], mask))
    return torch.stack(losses), dino.state_dict()["center"], ibot.state_dict()["center"]


def test_center_of_all_ranks(gang):
    for mode in ("mean", "sinkhorn"):
        expected = centers_on_rank(None, gang.size, mode)
        found = gang.run(centers_on_rank, gang.size, mode)
        losses = torch.stack([rank[0] for rank in found]).mean(0)
        torch.testing.assert_close(losses, expected[0])
        for _, *centers in found:
            torch.testing.assert_close(centers, list(expected[1:]))
            assert mode == "sinkhorn" or all(center.any() for center in centers)


def update_on_rank(rank):
    loss = ssl.DINOLoss(20)
    loss(*batch(0, 4))
    before = loss.center.clone()
    loss.apply_center_update()
    return before.any().item(), loss.center.any().item()


def test_update_travels_until_it_is_needed(gang):
    assert gang.run(update_on_rank) == [(False, True)] * gang.size


def compiled_on_rank(rank):
    torch.compiler.reset()
    outcomes = []
    for compile in (lambda x: x, lambda x: torch.compile(x, fullgraph=True, backend="aot_eager")):
        loss = ssl.DINOLoss(20).double()
        step = compile(loss)
        losses = [step(*(share(x, rank) for x in batch(i, 18))) for i in range(2)]
        loss.apply_center_update()
        outcomes.append((*losses, loss.center))
    return outcomes


@pytest.mark.parametrize("gang", [2], indirect=True)  # same graph as with more
def test_compiled(gang):
    for eager, compiled in gang.run(compiled_on_rank):
        torch.testing.assert_close(compiled, eager)


def subgroup_on_rank(rank):
    with subgroup([0, 1]) as group:
        if rank < 2:
            loss = ssl.DINOLoss(20, group=group).double()
            loss(*(share(x, rank) for x in batch(0, 8)))
            return loss.state_dict()["center"]


def test_subgroup(gang):
    loss = ssl.DINOLoss(20).double()
    loss(*batch(0, 8))
    for center in gang.run(subgroup_on_rank)[:2]:
        torch.testing.assert_close(center, loss.center)


def msn_on_rank(rank, size):
    anchors, targets = batch(0, sum(SIZES[:size]))
    prototypes = batch(1, 30)[0][0].requires_grad_()
    gather = None
    if rank is not None:
        anchors, targets = share(anchors, rank), share(targets, rank)
        gather = Gather()
    loss = functional.msn(anchors.flatten(0, 1), targets[0], prototypes, gather=gather)
    return loss.detach(), *torch.autograd.grad(loss, prototypes)


def test_prototypes_of_msn(gang):
    expected = msn_on_rank(None, gang.size)
    found = gang.run(msn_on_rank, gang.size)
    for a, b in zip(zip(*found, strict=True), expected, strict=True):
        torch.testing.assert_close(torch.stack(a).mean(0), b)
