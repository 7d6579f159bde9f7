"""``gather_distributed`` of lightly's losses and ours, on ranks with different numbers of rows."""

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

# Only two ranks, because each has to import lightly.
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
    """Value, gradients, and mean value over ranks, of ours and theirs, for two steps."""
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
    """The same for losses with teacher statistics over all ranks."""
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


def patches_on_a_rank(rank, steps):
    """Centre and loss after each step, of ours and theirs, with some masked patches."""
    load()
    results = []
    for module in (vars(ours), ours.PEER.find(ours, ["IBOTPatchLoss"])[0]):
        torch.manual_seed(rank)
        loss, found = module["IBOTPatchLoss"](7).double(), []
        for counts in steps:
            mask = torch.arange(40).view(4, 2, 5) < counts[rank]
            teacher = torch.randn(counts[rank], 7, dtype=torch.float64) + rank
            value = loss(teacher, torch.randn(counts[rank], 7, dtype=torch.float64), mask)
            found += [value, loss.center.value.clone()]
        results.append(found)
    return results


def test_ranks_with_other_numbers_of_patches(gang):
    """The centre moves towards the mean of the ranks' means, not the mean over all patches."""
    for found, expected in gang.run(patches_on_a_rank, [(10, 30, 1, 40)] * 3):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


def test_a_rank_without_a_patch(gang):
    """Its loss is 0, it is left out of the mean, and it gets the others' centre."""
    results = gang.run(patches_on_a_rank, [(10, 30, 0, 40), (0, 0, 0, 0), (3, 0, 2, 1)])
    centers = [[x[1], x[3], x[5]] for x, _ in results]
    assert results[2][0][0] == 0
    assert all(x[0][2] == 0 for x in results)
    for center in centers:
        assert all(x.isfinite().all() for x in center)
        torch.testing.assert_close(center, centers[0])
    assert torch.equal(centers[0][0], centers[0][1])


def test_same_statistics_on_every_rank(gang):
    for found, expected in gang.run(distilled_on_a_rank):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def slices_on_a_rank(rank):
    """Values, their means and gradients of ours and theirs, which has float32 knots."""
    load()
    names = ["SIGReg", "LeJEPALoss", "LeWMLoss", "VISRegLoss"]
    results = []
    for module in (vars(ours), ours.PEER.find(ours, names)[0]):
        torch.manual_seed(rank)
        views = [torch.randn(n, 5, 6, requires_grad=True) for n in (3, 2)]
        x = {"local_proj": views[0], "global_proj": views[1]}
        clips = [torch.randn(5, n, 6, requires_grad=True) for n in (2, 2, 3)]
        y = dict(zip(("predicted", "target", "embeddings"), clips, strict=True))
        options = {"gather_distributed": True}
        found = []
        for value, inputs in (
            (module["SIGReg"](num_vectors=40, **options)(views[0]), views[:1]),
            (module["LeJEPALoss"](sigreg_num_vectors=40, **options)(**x), views),
            (module["LeWMLoss"](sigreg_num_vectors=40, **options)(**y), [clips[0], clips[2]]),
            (module["VISRegLoss"](num_slices=40, **options)(**x), views),
        ):
            gradients = torch.autograd.grad(value, inputs)
            mean = value.detach().clone()
            dist.all_reduce(mean)
            found += [mean, *gradients]
        results.append(found)
    return results


@pytest.mark.skipif(ours.version.IS_BEFORE_1_6, reason="lightly 1.5 has others")
def test_slices(gang):
    for found, expected in gang.run(slices_on_a_rank):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
