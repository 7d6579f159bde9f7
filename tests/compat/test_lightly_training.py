"""lightly's models and modules train unchanged with its losses replaced."""

import copy
import sys
import warnings

import pytest
import torch
from parity import installed
from torch import nn

import sslkernels
from bench import peers
from sslkernels.compat import lightly as ours


def load():
    peers.torchvision_transforms()
    import lightly.loss
    import lightly.models.modules

    return lightly


installed(load)


def backbone():
    return nn.Sequential(nn.Conv2d(1, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten())


def simclr():
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    model = nn.Sequential(backbone(), SimCLRProjectionHead(54, 16, 12))
    criterion = NTXentLoss(temperature=0.5)
    return model, criterion, lambda x0, x1: criterion(model(x0), model(x1))


def moco():
    from lightly.loss.ntx_ent_loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import update_momentum

    model = nn.Sequential(backbone(), MoCoProjectionHead(54, 16, 12))
    teacher = copy.deepcopy(model)
    criterion = NTXentLoss(memory_bank_size=(40, 12))

    def loss(x0, x1):
        update_momentum(model, teacher, m=0.9)
        return criterion(model(x0), teacher(x1).detach())

    return model, criterion, loss


def vicreg():
    import lightly.loss
    from lightly.models.modules import BarlowTwinsProjectionHead

    model = nn.Sequential(backbone(), BarlowTwinsProjectionHead(54, 16, 12))
    criterion = lightly.loss.VICRegLoss()
    return model, criterion, lambda x0, x1: criterion(model(x0), model(x1))


def swav():
    from lightly.loss import SwaVLoss
    from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes

    prototypes = SwaVPrototypes(12, n_prototypes=10)
    model = nn.Sequential(backbone(), SwaVProjectionHead(54, 16, 12), prototypes)
    criterion = SwaVLoss()

    def loss(x0, x1):
        prototypes.normalize()
        return criterion([model(x0), model(x1)], [model(x0[..., :8, :8])])

    return model, criterion, loss


def dino():
    from lightly.loss import DINOLoss
    from lightly.models.modules import DINOProjectionHead
    from lightly.models.utils import update_momentum

    model, teacher = (
        nn.Sequential(backbone(), DINOProjectionHead(54, 16, 8, 30)) for _ in range(2)
    )
    teacher.load_state_dict(model.state_dict())
    criterion = DINOLoss(output_dim=30, warmup_teacher_temp_epochs=5)

    def loss(x0, x1):
        update_momentum(model, teacher, m=0.9)
        with torch.no_grad():
            targets = [teacher(x0), teacher(x1)]
        return criterion(targets, [model(x0), model(x1), model(x0[..., :8, :8])], epoch=2)

    return model, criterion, loss


def train(build):
    torch.manual_seed(0)
    model, criterion, loss = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(8):
        views = torch.randn(2, 16, 1, 12, 12)
        value = loss(*views)
        optimizer.zero_grad()
        value.sum().backward()
        optimizer.step()
        losses.append(value.detach().sum())
    weights = torch.cat([x.detach().flatten() for x in model.parameters()])
    return torch.stack(losses), weights, type(criterion)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("build", [simclr, moco, vicreg, swav, dino], ids=lambda x: x.__name__)
def test_same_training(build):
    losses, weights, theirs = train(build)
    with sslkernels.patch("lightly"):
        own_losses, own_weights, replaced = train(build)
    assert theirs.__module__.startswith("lightly.")
    assert issubclass(replaced, (getattr(ours, theirs.__name__)))
    assert issubclass(replaced, theirs)
    torch.testing.assert_close(own_losses, losses, rtol=1e-4, atol=1e-4)
    assert (own_weights - weights).norm() <= 1e-4 * weights.norm()
    again, _, restored = train(build)
    assert restored is theirs
    assert torch.equal(again, losses)


def test_all_of_lightly_is_restored():
    def held():
        return {
            f"{name}.{key}": value
            for name, module in list(sys.modules.items())
            if name.split(".")[0] == "lightly"
            for key, value in vars(module).items()
        }

    def insides():
        """Classes and constructors held by lightly's modules."""
        return {k: (id(x), id(getattr(x, "__init__", None))) for k, x in held().items()
                if isinstance(x, type)}  # fmt: skip

    before, classes = held(), insides()
    with sslkernels.patch("lightly") as patch:
        assert patch.left == {}
        during = held()
        changed = {x for x in before if before[x] is not during[x]}
        assert {x.rpartition(".")[2] for x in changed} == {
            "negative_mises_fisher_weights", "norm_mse_loss"
        }  # fmt: skip
        changed |= {x for x, y in insides().items() if y != classes[x]}
        assert set(patch.replaced) == {x for x in changed if "Loss" in x or x in patch.replaced}
        defined = {f"{module}.{name}" for name, module in ours.PEER.defined_in.items()}
        assert defined <= set(patch.replaced)
    assert insides() == classes
    assert all(held()[x] is y for x, y in before.items())


def test_every_class_is_of_known_releases(monkeypatch):
    """The classes that are left unpatched depend on the imported release of lightly."""
    lightly = load()
    later = {"CAPILoss", "LeJEPALoss", "LeWMLoss", "VISRegLoss"}
    changed = {
        "1.5.26": later,
        "1.5.25": {*later, "BarlowTwinsLoss"},
        "1.5.24": {*later, "BarlowTwinsLoss", "DINOLoss", "IBOTPlusPlusPatchLoss"},
        "1.5.20": {*later, "BarlowTwinsLoss", "DINOLoss", "IBOTPlusPlusPatchLoss", "DCLLoss",
                   "DCLWLoss", "DirectCLRLoss", "IBOTPatchLoss", "SIGReg", "SwaVLoss",
                   "VICRegLLoss"},
    }  # fmt: skip
    for version, names in changed.items():
        monkeypatch.setattr(lightly, "__version__", version)
        with pytest.warns(UserWarning, match="lightly's own code is kept for"):
            patch = sslkernels.patch("lightly")
        patch.undo()
        assert set(patch.left) == names
    for version in ("1.4.26", "1.6.1", "2.0.0"):
        monkeypatch.setattr(lightly, "__version__", version)
        with pytest.warns(UserWarning, match="not of"):
            assert sslkernels.patch("lightly").replaced == []
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with sslkernels.patch("lightly") as patch:
            assert patch.left == {}
