"""Batch normalisation over ranks, against torch's over the whole batch."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sslkernels.distributed import SyncBatchNorm, synchronize_batch_norm

NORMS = {
    "maps": (nn.BatchNorm2d(3), (12, 3, 4, 5)),
    "rows": (nn.BatchNorm1d(3), (12, 3)),
    "average": (nn.BatchNorm2d(3, momentum=None), (12, 3, 2, 2)),
    "plain": (nn.BatchNorm2d(3, affine=False, track_running_stats=False), (12, 3, 2, 2)),
}


def problem(name):
    torch.manual_seed(0)
    norm, shape = copy.deepcopy(NORMS[name][0]), NORMS[name][1]
    if norm.affine:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    module = nn.Sequential(nn.Conv1d(3, 3, 1) if len(shape) == 3 else nn.Identity(), norm).double()
    x, weight = torch.randn(2, *shape, dtype=torch.float64)
    return module, 3 * x + 5, weight


def step(module, x, weight, scale=1.0):
    """Two passes; returns the output, the gradients and the buffers of the second."""
    for _ in range(2):
        module.zero_grad()
        x = x.detach().requires_grad_()
        out = module(x)
        (scale * (out * weight).square().sum()).backward()
    parameters = [p.grad for p in module.parameters()]
    return out.detach(), x.grad, parameters, list(module.buffers()), module.eval()(x).detach()


def work(rank, name, parts):
    module, x, weight = problem(name)
    synchronize_batch_norm(module)
    assert type(module[1]) is SyncBatchNorm
    wrapped = DistributedDataParallel(module) if list(module.parameters()) else module
    rows = [sum(parts[:rank]), sum(parts[: rank + 1])]
    return step(wrapped, x[slice(*rows)], weight[slice(*rows)], scale=len(parts))


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("gang", [2], indirect=True)
@pytest.mark.parametrize("parts", [(6, 6), (4, 8)])
def test_ranks_normalize_as_one(gang, name, parts):
    module, x, weight = problem(name)
    out, grad, parameters, buffers, evaluated = step(module, x, weight)
    found = gang.run(work, name, parts)
    torch.testing.assert_close(torch.cat([f[0] for f in found]), out)
    torch.testing.assert_close(torch.cat([f[1] for f in found]), grad * len(parts))
    torch.testing.assert_close(torch.cat([f[4] for f in found]), evaluated)
    for _, _, theirs, their_buffers, _ in found:
        for a, b in zip([*theirs, *their_buffers], [*parameters, *buffers], strict=True):
            torch.testing.assert_close(a, b)


def test_alone_it_is_batch_norm():
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    synced = copy.deepcopy(plain)
    synchronize_batch_norm(synced)
    x = torch.randn(5, 3, 4, 4)
    assert torch.equal(plain(x), synced(x))
    assert plain.state_dict().keys() == synced.state_dict().keys()
    assert torch.equal(plain[1].running_var, synced[1].running_var)


def test_modes_and_settings_are_kept():
    module = nn.Sequential(nn.BatchNorm2d(4, eps=0.1, momentum=0.3).eval())
    weight = module[0].weight
    synchronize_batch_norm(module)
    norm = module[0]
    assert (norm.eps, norm.momentum, norm.training) == (0.1, 0.3, False)
    assert norm.weight is weight
    synchronize_batch_norm(module)
    assert module[0] is norm


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"\(n, channels, …\), got shape \(4,\)"):
        SyncBatchNorm(4)(torch.zeros(4))
