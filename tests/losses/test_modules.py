"""Modules: their additions to the functions, which are state and defaults."""

import copy

import pytest
import torch
import torch.nn.functional as F

import sslkernels as ssl
from sslkernels import functional


def embeddings(count, n=12, d=8):
    return [torch.randn(n, d, requires_grad=True) for _ in range(count)]


def equal(a, b):
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_modules_are_their_functions():
    x = embeddings(4)
    labels = torch.arange(12) % 3
    equal(ssl.NTXentLoss(0.3)(*x[:2]), functional.nt_xent(*x[:2], 0.3))
    google = ssl.NTXentLoss(0.3, convention="google")
    equal(google(*x[:2]), 2 * functional.nt_xent(*x[:2], 0.3))
    equal(ssl.DCLLoss(0.3)(*x[:2]), functional.dcl(*x[:2], 0.3))
    equal(ssl.DCLWLoss(0.3, 0.4)(*x[:2]), functional.dclw(*x[:2], 0.3, 0.4))
    equal(ssl.CLIPLoss()(*x[:2], 2.0), functional.clip(*x[:2], 2.0))
    equal(ssl.SigLIPLoss()(*x[:2], 2.0, -3.0), functional.siglip(*x[:2], 2.0, -3.0))
    equal(ssl.InfoNCELoss(0.3)(*x[:3]), functional.info_nce(*x[:3], 0.3))
    v3 = functional.moco_v3(x[0], x[3], 0.3) + functional.moco_v3(x[1], x[2], 0.3)
    equal(ssl.MoCoV3Loss(0.3)(*x), v3)
    features = torch.stack(x[:2], 1)
    equal(ssl.SupConLoss()(features, labels), functional.supcon(features, labels))
    solo = ssl.SupConLoss(0.1, convention="solo_learn")(features, labels)
    equal(solo, functional.supcon(features, labels, temperature=0.1, convention="solo_learn"))
    cosine = ssl.NegativeCosineSimilarity()
    equal(cosine(*x[:2]), functional.negative_cosine_similarity(*x[:2]))
    equal(
        ssl.SimSiamLoss()(*x), (functional.simsiam(x[0], x[3]) + functional.simsiam(x[1], x[2])) / 2
    )
    equal(ssl.BYOLLoss()(*x), functional.byol(x[0], x[3]) + functional.byol(x[1], x[2]))
    sphere = functional.alignment(*x[:2], 3) + 0.25 * sum(
        functional.uniformity(z, 2) for z in x[:2]
    )
    equal(ssl.HypersphereLoss(2, 0.5, 3)(*x[:2]), sphere)


def test_covariance_modules_are_their_functions():
    x = embeddings(2)
    for convention in ("lightly", "solo_learn", "stable_pretraining"):
        options = {"lambda_param": 0.2, "convention": convention}
        equal(ssl.BarlowTwinsLoss(**options)(*x), functional.barlow_twins(*x, **options))
    weights = {"lambda_param": 3.0, "mu_param": 5.0, "nu_param": 7.0, "eps": 0.1}
    for convention in ("lightly", "solo_learn"):
        loss = ssl.VICRegLoss(**weights, convention=convention)
        equal(loss(*x), functional.vicreg(*x, **weights, convention=convention))
    equal(ssl.VIbCRegLoss(**weights)(*x), functional.vibcreg(*x, **weights))
    options = {**weights, "alpha": 0.3, "num_matches": (3, 2)}
    maps = Crops(ssl.VICRegLLoss(**options))
    equal(maps(*x), functional.vicregl(*maps.arguments(*x), **options))
    equal(ssl.SpectralContrastiveLoss(3.0)(*x), functional.spectral_contrastive(*x, 3.0))
    equal(ssl.CCALoss(0.1, 3)(*x), functional.cca(*x, 0.1, 3))


def test_defaults_are_those_of_the_references():
    x = embeddings(2)
    queue = ssl.MoCoLoss()
    assert queue.queue.bank.shape == (65536, 128) and queue.temperature == 0.07
    assert ssl.NTXentLoss().temperature == ssl.DirectCLRLoss().temperature == 0.5
    assert ssl.DCLLoss().temperature == ssl.DCLWLoss().temperature == 0.1
    assert ssl.InfoNCELoss().temperature == 0.1 and ssl.MoCoV3Loss().temperature == 1.0
    supcon = ssl.SupConLoss()
    assert supcon.temperature == supcon.base_temperature == 0.07
    assert ssl.DirectCLRLoss().loss_dim == 64
    assert ssl.HypersphereLoss().t == 1 and ssl.HypersphereLoss().alpha == 2
    equal(functional.uniformity(x[0]), functional.uniformity(x[0], 2.0))
    barlow = ssl.BarlowTwinsLoss()
    assert barlow.lambda_param == 0.005 and barlow.convention == "lightly"
    assert barlow.gather is None and ssl.BarlowTwinsLoss(0.005, True).gather is not None
    for loss, weights in (
        (ssl.VICRegLoss(), (25, 25, 1, 1e-4)),
        (ssl.VIbCRegLoss(), (25, 25, 200, 1e-4)),
        (ssl.VICRegLLoss(), (25, 25, 1, 1e-4)),
    ):
        assert (loss.lambda_param, loss.mu_param, loss.nu_param, loss.eps) == weights
    assert ssl.VICRegLLoss().alpha == 0.75 and ssl.VICRegLLoss().num_matches == (20, 4)
    assert ssl.SpectralContrastiveLoss().mu == 1
    equal(functional.barlow_twins(*x), barlow(*x))
    equal(functional.vicreg(*x), ssl.VICRegLoss()(*x))
    equal(functional.vibcreg(*x), ssl.VIbCRegLoss()(*x))


def test_directclr_sees_the_first_features():
    x = embeddings(2)
    loss = ssl.DirectCLRLoss(5, 0.3)(*x)
    equal(loss, functional.nt_xent(x[0][:, :5], x[1][:, :5], 0.3))
    gradient = torch.autograd.grad(loss, x[0])[0]
    assert gradient[:, :5].abs().min() > 0 and not gradient[:, 5:].any()
    with pytest.raises(ValueError, match="loss_dim=9 features, got 8"):
        ssl.DirectCLRLoss(9)(*x)
    with pytest.raises(ValueError, match="at least 1"):
        ssl.DirectCLRLoss(0)


def test_custom_weights_of_dcl():
    x = embeddings(2)
    doubled = ssl.DCLLoss(0.3, lambda a, b: torch.full((12,), 2.0))(*x)
    cosine = F.cosine_similarity(*x).mean()
    equal(doubled, functional.dcl(*x, 0.3) - cosine / 0.3)
    learned = ssl.DCLLoss(0.3, lambda a, b: (a - b).square().sum(1))
    assert torch.autograd.grad(learned(*x), x[0])[0].isfinite().all()
    with pytest.raises(ValueError, match=r"shape \(12,\); got a tensor \(3,\)"):
        ssl.DCLLoss(0.3, lambda a, b: torch.ones(3))(*x)


def test_memory_bank_goes_round():
    bank = ssl.MemoryBank(5, 2)
    rows = F.normalize(torch.randn(13, 2), dim=1)
    bank.enqueue(3 * rows[:3])
    equal(bank.bank[:3], rows[:3])
    bank.enqueue(rows[3:7])
    equal(bank.bank, rows[[5, 6, 2, 3, 4]])
    assert bank.bank_ptr.tolist() == [2]
    bank.enqueue(rows[7:13])  # more than its size: the newest five stay
    equal(bank.bank, rows[[10, 11, 12, 8, 9]])
    assert bank.bank_ptr.tolist() == [3]
    equal(ssl.MemoryBank(100, 4).bank.norm(dim=1), torch.ones(100))
    with pytest.raises(ValueError, match=r"\(N, 2\), got \(3, 4\)"):
        bank.enqueue(torch.ones(3, 4))
    with pytest.raises(ValueError, match="size must be .*, got 0"):
        ssl.MemoryBank(0, 4)


@pytest.mark.parametrize("make", [
    lambda: ssl.NTXentLoss(0.2, (10, 8)),
    lambda: ssl.DirectCLRLoss(8, 0.2, (10, 8)),
    lambda: ssl.MoCoLoss(8, 10, 0.2),
], ids=["NTXentLoss", "DirectCLRLoss", "MoCoLoss"])  # fmt: skip
def test_queue_is_updated_only_in_training(make):
    loss = make()
    (bank, pointer) = loss.state_dict().values()
    before, (query, key) = bank.clone(), embeddings(2)
    value = loss(query, key)
    equal(value, functional.moco(query, key.detach(), before, 0.2))
    equal(bank[:10], torch.cat([F.normalize(key, dim=1)[10:], F.normalize(key, dim=1)[2:10]]))
    assert pointer.item() == 2
    value.backward()  # the values that the loss read have not changed

    now = bank.clone()
    loss.eval()(query, key)
    loss.train()(query.detach(), key)
    with torch.no_grad():
        loss(query.detach(), key)
    assert torch.equal(bank, now)

    other = make()
    other.load_state_dict(loss.state_dict())
    equal(other(query, key), loss(query, key))


def test_moco_keys_have_no_gradient():
    query, key = embeddings(2)
    ssl.MoCoLoss(8, 10)(query, key).backward()
    assert query.grad is not None and key.grad is None
    bank = ssl.NTXentLoss(0.2, (10, 8))  # as in lightly, here they do
    bank(query, key).backward()
    assert key.grad is not None


def test_nnclr_finds_its_neighbors():
    loss = ssl.NNCLRLoss(8, 30, 0.2)
    z0, z1, p0, p1 = embeddings(4)
    before = loss.queue.bank.clone()
    near = [before[(F.normalize(z, dim=1) @ before.T).argmax(1)] for z in (z0, z1)]
    expected = (functional.nnclr(near[0], p1, 0.2) + functional.nnclr(near[1], p0, 0.2)) / 2
    value = loss(z0, z1, p0, p1)
    equal(value, expected)
    equal(loss.queue.bank[:12], F.normalize(z0, dim=1))
    value.backward()
    assert z0.grad is None and z1.grad is None and p0.grad.abs().min() > 0
    loss(z0, z0, z0.half().float(), z1)  # now it contains its own neighbours
    equal(loss.nearest(z0), F.normalize(z0, dim=1))


def test_learnable_scales():
    parameter = torch.nn.Parameter(torch.tensor(0.4))
    x = embeddings(4)
    for loss, count in (
        (ssl.NTXentLoss(parameter), 2),
        (ssl.DCLLoss(parameter), 2),
        (ssl.InfoNCELoss(parameter), 2),
        (ssl.MoCoLoss(8, 20, parameter), 2),
        (ssl.MoCoV3Loss(parameter), 4),
        (ssl.NNCLRLoss(8, 20, parameter), 4),
    ):
        assert [p is parameter for p in loss.parameters()] == [True]
        parameter.grad = None
        loss(*x[:count]).backward()
        assert parameter.grad.abs() > 0


def test_supcon_forms_agree():
    x0, x1 = embeddings(2)
    features, labels = torch.stack([x0, x1], 1), torch.arange(12) % 4
    by_label = functional.supcon(features, labels)
    equal(by_label, functional.supcon(features, mask=(labels[:, None] == labels).float()))
    flat = functional.supcon(torch.cat([x0, x1]), labels.repeat(2))
    equal(by_label, flat)
    equal(by_label, functional.supcon(features, labels.to(torch.uint8) + 9))
    alone = functional.supcon(features, base_temperature=None, temperature=0.2)
    equal(alone, functional.nt_xent(x0, x1, 0.2))
    single = functional.supcon(x0, torch.arange(12))  # no row has a positive
    assert single == 0 and torch.autograd.grad(single, x0)[0].abs().max() == 0
    for convention in ("pytorch_metric_learning", "solo_learn"):
        assert functional.supcon(x0, torch.arange(12), convention=convention) == 0


@pytest.mark.parametrize("arguments, words", [
    ({"labels": torch.arange(3)}, "12 integers"),
    ({"labels": torch.rand(12)}, "12 integers"),
    ({"mask": torch.ones(3, 3)}, r"\(12, 12\), got \(3, 3\)"),
    ({"labels": torch.arange(12), "mask": torch.ones(12, 12)}, "not both"),
    ({"mask": torch.ones(12, 12), "convention": "solo_learn"}, "takes labels"),
    ({"convention": "other"}, "convention must be one of"),
    ({"contrast_mode": "two"}, "contrast_mode must be one of"),
    ({"temperature": 0.0}, "temperature"),
])  # fmt: skip
def test_supcon_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        functional.supcon(torch.randn(12, 2, 8), **arguments)


def test_functions_refuse():
    x = torch.randn(4, 8)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        functional.supcon(torch.randn(8))
    with pytest.raises(TypeError, match="int64"):
        functional.dcl(x.long(), x.long())
    with pytest.raises(ValueError, match=r"\(K, 8\) like the queries, got \(5, 7\)"):
        functional.moco(x, x, torch.randn(5, 7))
    with pytest.raises(ValueError, match=r"paired negative_keys must be \(4, M, 8\)"):
        functional.info_nce(x, x, x, negative_mode="paired")
    with pytest.raises(ValueError, match=r"unpaired negative_keys must be \(M, 8\)"):
        functional.info_nce(x, x, x[None])
    with pytest.raises(TypeError, match="dtype"):
        functional.info_nce(x, x, x.half())
    with pytest.raises(ValueError, match="reduction must be one of mean, sum, none"):
        functional.info_nce(x, x, reduction="max")
    with pytest.raises(ValueError, match="2 rows, got 1"):
        functional.uniformity(x[:1])
    with pytest.raises(ValueError, match="alpha must be above 0"):
        functional.alignment(x, x, 0)
    with pytest.raises(ValueError, match="t must be above 0"):
        functional.uniformity(x, -1)
    with pytest.raises(ValueError, match="sigma must be above 0"):
        ssl.DCLWLoss(sigma=0)
    for scale in (torch.ones(2), torch.tensor(3)):
        with pytest.raises(ValueError, match="one element, got a tensor"):
            functional.clip(x, x, scale)
        with pytest.raises(ValueError, match="one element, got a tensor"):
            functional.siglip(x, x, 1.0, scale)
    with pytest.raises(ValueError, match="same shape"):
        functional.negative_cosine_similarity(x, x[:2])


def test_reductions():
    x = embeddings(2)
    rows = functional.info_nce(*x, reduction="none")
    assert rows.shape == (12,) and rows.dtype == torch.float32
    equal(rows.sum(), functional.info_nce(*x, reduction="sum"))
    equal(rows.mean(), functional.info_nce(*x))


def test_one_process_gathers_nothing():
    x = embeddings(2)
    for gather in ("all", "ring"):
        equal(ssl.NTXentLoss(gather=gather)(*x), ssl.NTXentLoss()(*x))
    assert "Gather(route='ring'" in repr(ssl.NTXentLoss(gather="ring"))


MODULES = {
    "NTXentLoss": (lambda: ssl.NTXentLoss(0.2), 2),
    "NTXentLoss with a bank": (lambda: ssl.NTXentLoss(0.2, (20, 8)), 2),
    "DirectCLRLoss": (lambda: ssl.DirectCLRLoss(4), 2),
    "DCLLoss": (lambda: ssl.DCLLoss(), 2),
    "DCLWLoss": (lambda: ssl.DCLWLoss(), 2),
    "MoCoLoss": (lambda: ssl.MoCoLoss(8, 20), 2),
    "MoCoV3Loss": (lambda: ssl.MoCoV3Loss(), 4),
    "NNCLRLoss": (lambda: ssl.NNCLRLoss(8, 20), 4),
    "InfoNCELoss": (lambda: ssl.InfoNCELoss(), 3),
    "SupConLoss": (lambda: ssl.SupConLoss(), 1),
    "CLIPLoss": (lambda: Scaled(ssl.CLIPLoss(), 1), 2),
    "SigLIPLoss": (lambda: Scaled(ssl.SigLIPLoss(), 2), 2),
    "BYOLLoss": (lambda: ssl.BYOLLoss(), 4),
    "SimSiamLoss": (lambda: ssl.SimSiamLoss(), 4),
    "NegativeCosineSimilarity": (lambda: ssl.NegativeCosineSimilarity(), 2),
    "HypersphereLoss": (lambda: ssl.HypersphereLoss(), 2),
    "CCALoss": (lambda: ssl.CCALoss(0.1), 2),
    "CCALoss with dimensions": (lambda: ssl.CCALoss(0.1, dimensions=3), 2),
    "BarlowTwinsLoss": (lambda: ssl.BarlowTwinsLoss(), 2),
    "VICRegLoss": (lambda: ssl.VICRegLoss(), 2),
    "VIbCRegLoss": (lambda: ssl.VIbCRegLoss(), 2),
    "VICRegLLoss": (lambda: Crops(ssl.VICRegLLoss(num_matches=(2, 1))), 2),
    "SpectralContrastiveLoss": (lambda: ssl.SpectralContrastiveLoss(3.0), 2),
    "SimDINOv2Loss": (lambda: Split(ssl.SimDINOv2Loss(8)), 2),
    "SimDINOLoss": (lambda: First(ssl.SimDINOLoss(2)), 2),
    "TiCoLoss": (lambda: ssl.TiCoLoss(), 2),
    "MMCRLoss": (lambda: Folded(ssl.MMCRLoss(0.1), 3), 2),
}


class First(torch.nn.Module):
    """The first output of a module."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, *x):
        return self.loss(*x)[0]


class Crops(First):
    """VICRegL of two large crops and a small one, with maps made from their features."""

    @staticmethod
    def arguments(*x):
        maps = [z.view(-1, 2, 2, 2) for z in x]
        grids = [(i * z).detach().sin() for i, z in enumerate(maps, 1)]
        small = [(x[0], maps[1][:, :1])], [grids[1][:, 1:]]
        return list(zip(x, maps, strict=True)), grids, *small

    def forward(self, *x):
        return self.loss(*self.arguments(*x))


class Split(First):
    """A loss with sequences of the student's and the teacher's views."""

    def forward(self, *x):
        return self.loss([x[0], x[1]], [z.detach().cos() for z in x])[0]


class Folded(torch.nn.Module):
    """A loss with several views of an image in one tensor (N, views, D)."""

    def __init__(self, loss, views):
        super().__init__()
        self.loss, self.views = loss, views

    def forward(self, *x):
        return self.loss(*(z.unflatten(0, (-1, self.views)) for z in x))


class Scaled(torch.nn.Module):
    """A loss with its learned scalars."""

    def __init__(self, loss, count):
        super().__init__()
        self.loss = loss
        self.scalars = torch.nn.ParameterList(torch.tensor(2.0) for _ in range(count))

    def forward(self, *x):
        return self.loss(*x, *self.scalars)


@pytest.mark.parametrize("name", MODULES)
def test_compile_without_graph_breaks(name):
    torch.compiler.reset()
    make, count = MODULES[name]
    loss = make()
    other = copy.deepcopy(loss)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for _ in range(2):  # the second time with a different queue
        x = embeddings(count)
        a, b = compiled(*x), loss(*x)
        equal(a, b)
        for found, expected in zip(
            *(torch.autograd.grad(y, x, allow_unused=True) for y in (a, b)), strict=True
        ):
            assert (found is None) == (expected is None)
            if found is not None:
                equal(found, expected)
    for found, expected in zip(other.buffers(), loss.buffers(), strict=True):
        equal(found, expected)
