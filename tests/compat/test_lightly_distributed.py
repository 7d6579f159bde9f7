"""``gather_distributed`` of lightly's losses and of ours, on ranks with other rows each."""

import pytest
import torch
import torch.distributed as dist
from parity import installed

from bench import peers
from sslkernels.compat import lightly as ours


def load():
    peers.torchvision_transforms()
    import lightly.loss

    return lightly.loss


installed(load)

# Of as many ranks as differ: each has to import lightly.
pytestmark = pytest.mark.parametrize("gang", [4], indirect=True)
CASES = [
    ("NTXentLoss", {}, 2),
    ("NTXentLoss", {"memory_bank_size": (20, 6)}, 2),
    ("DCLLoss", {}, 2),
    ("DCLWLoss", {}, 2),
    ("DirectCLRLoss", {"loss_dim": 4}, 2),
    ("BarlowTwinsLoss", {}, 2),
    ("VICRegLoss", {}, 2),
    ("TiCoLoss", {}, 2),
    ("MSNLoss", {}, 3),
    ("PMSNLoss", {}, 3),
]


CAPI = ["CAPILoss"] if "CAPILoss" in ours.PEER.defined_in else []  # not in lightly 1.5


def on_a_rank(rank, name, arguments, inputs):
    """Value, gradients, and the mean value, of ours and theirs, of two steps."""
    results = []
    load()
    for module in (vars(ours), ours.PEER.find(ours, [name])[0]):
        torch.manual_seed(5)
        loss = module[name](**arguments, gather_distributed=True).double()
        torch.manual_seed(rank)
        found = []
        for _ in range(2):
            x = [torch.randn(5, 6, dtype=torch.float64, requires_grad=True) for _ in range(inputs)]
            value = loss(*x)
            value.backward()
            mean = value.detach().clone()
            dist.all_reduce(mean)
            found += [mean, *(z.grad for z in x if z.grad is not None)]
        results.append(found)
    return results


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, arguments, inputs", CASES)
def test_same_on_every_rank(gang, name, arguments, inputs):
    for found, expected in gang.run(on_a_rank, name, arguments, inputs):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


def distilled_on_a_rank(rank):
    """The same of losses whose teachers' statistics are those of all ranks."""
    load()
    names = ["SwaVLoss", "DINOLoss", "IBOTPatchLoss", *CAPI]
    results = []
    for module in (vars(ours), ours.PEER.find(ours, names)[0]):
        torch.manual_seed(rank)
        found = []
        swav = module["SwaVLoss"](sinkhorn_gather_distributed=True)
        dino, ibot = module["DINOLoss"](7).double(), module["IBOTPatchLoss"](7).double()
        for _ in range(2):
            teacher, student = torch.randn(2, 4, 7, dtype=torch.float64).unbind()
            student.requires_grad_()
            mask = torch.ones(2, 2, 1, dtype=torch.bool)
            values = [
                swav([0.3 * teacher, 0.3 * student], []),
                dino([teacher], [teacher, student]),
                ibot(teacher, student, mask),
            ]
            if CAPI:
                capi = module["CAPILoss"](0.3, gather_distributed=True)
                values.append(capi(teacher.view(2, 2, 7), student.view(2, 2, 7)))
            for value in values:
                found += [value.detach(), *torch.autograd.grad(value.sum(), student)]
        results.append(found)
    return results


def test_same_statistics_on_every_rank(gang):
    for found, expected in gang.run(distilled_on_a_rank):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
