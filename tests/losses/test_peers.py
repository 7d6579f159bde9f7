"""Against the packages from which the losses take their names, if they are installed."""

import pytest
import torch

import sslkernels as ssl
from bench import peers
from sslkernels import functional


def assert_same(ours, theirs, leaves, tolerance=1e-5):
    assert abs(ours - theirs) <= tolerance * abs(theirs)
    grads = (torch.autograd.grad(loss, leaves) for loss in (ours, theirs))
    for a, b in zip(*grads, strict=True):
        assert (a - b).norm() <= tolerance * b.norm()


def peer(load, *arguments):
    try:
        return load(*arguments)
    except ImportError as error:
        pytest.skip(str(error))


def views(n=200, d=64):
    base = torch.randn(n, d)
    return [(base + 0.5 * torch.randn(n, d)).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize("name, arguments", [
    ("NTXentLoss", {"temperature": 0.1}),
    ("NTXentLoss", {"temperature": 0.5}),
    ("DCLLoss", {}),
    ("DCLLoss", {"temperature": 0.5}),
    ("DCLWLoss", {"sigma": 0.3}),
    ("DirectCLRLoss", {"loss_dim": 20}),
    ("HypersphereLoss", {}),
    ("HypersphereLoss", {"t": 2.0, "lam": 0.5, "alpha": 3.0}),
    ("NegativeCosineSimilarity", {}),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_lightly(name, arguments):
    theirs = peer(peers.lightly_loss, name)(**arguments)
    out = views()
    assert_same(getattr(ssl, name)(**arguments)(*out), theirs(*out), out)


def test_lightly_memory_bank():
    theirs = peer(peers.lightly_loss, "NTXentLoss")(0.2, (64, 16))
    ours = ssl.NTXentLoss(0.2, (64, 16))
    ours.memory_bank.load_state_dict(dict(theirs.memory_bank.named_buffers()))
    for _ in range(3):
        out = views(16, 16)
        assert_same(ours(*out), theirs(*out), out)


@pytest.mark.parametrize("n, d", [(16, 1024), (64, 256), (256, 64), (1024, 16), (256, 2048)])
@pytest.mark.parametrize("name", ["BarlowTwinsLoss", "VICRegLoss"])
def test_lightly_covariance(name, n, d):
    theirs = peer(peers.lightly_loss, name)()
    x = views(n, d)
    assert_same(getattr(ssl, name)()(*x), theirs(*x), x)


@pytest.mark.parametrize("name, arguments", [
    ("BarlowTwinsLoss", {"lambda_param": 0.3}),
    ("VICRegLoss", {"lambda_param": 2.0, "mu_param": 7.0, "nu_param": 3.0, "eps": 0.1}),
    ("VICRegLoss", {"lambda_param": 0.0, "nu_param": 0.0}),
])  # fmt: skip
def test_lightly_covariance_arguments(name, arguments):
    theirs = peer(peers.lightly_loss, name)(**arguments)
    x = [(0.7 * z).detach().requires_grad_() for z in views(80, 32)]  # some below unit deviation
    assert_same(getattr(ssl, name)(**arguments)(*x), theirs(*x), x)


@pytest.mark.parametrize("shape", [(64, 5, 32), (16, 3, 40), (20, 2, 3, 8)])
def test_lightly_vicreg_of_maps(shape):
    theirs = peer(peers.lightly_loss, "VICRegLoss")()
    x = [torch.randn(shape, requires_grad=True) for _ in range(2)]
    assert_same(ssl.VICRegLoss()(*x), theirs(*x), x)


def crops(n, sizes, d=24, cells=16):
    """Pooled features and maps, one view per size, and the grids."""
    features = [(torch.randn(n, d, requires_grad=True),
                 torch.randn(n, h, w, cells, requires_grad=True)) for h, w in sizes]  # fmt: skip
    return features, [torch.rand(n, h, w, 2) for h, w in sizes]


@pytest.mark.parametrize("small", [[], [(2, 3)], [(3, 3), (2, 1)]])
@pytest.mark.parametrize("arguments", [
    {},  # 20 matches: more than these maps have cells
    {"alpha": 0.5, "num_matches": (5, 2)},
    {"lambda_param": 2.0, "mu_param": 7.0, "nu_param": 3.0, "eps": 0.1, "num_matches": (1, 1)},
])  # fmt: skip
def test_lightly_vicregl(small, arguments):
    theirs, ours = (
        peer(peers.lightly_loss, "VICRegLLoss")(**arguments),
        ssl.VICRegLLoss(**arguments),
    )
    views = crops(12, [(4, 4), (3, 4)])
    views += crops(12, small) if small else ()
    leaves = [x for features in views[::2] for pair in features for x in pair]
    assert_same(ours(*views), theirs(*views).squeeze(), leaves)


@pytest.mark.parametrize("views, d", [(1, 128), (2, 24), (4, 16)])
def test_lightly_mmcr(views, d):
    theirs = peer(peers.lightly_loss, "MMCRLoss")
    x = [torch.randn(30, views, d, requires_grad=True) for _ in range(2)]
    for arguments in ({}, {"lmda": 0.5}):
        assert_same(ssl.MMCRLoss(**arguments)(*x), theirs(**arguments)(*x), x)


@pytest.mark.parametrize("arguments", [
    {},
    {"momentum": 0.2, "eps": 0.1, "w_iter": 3},
    {"num_samples": 4, "track_running_stats": False},
])  # fmt: skip
def test_lightly_w_mse(arguments):
    arguments = {"embedding_dim": 8, "w_size": 32, **arguments}
    theirs = peer(peers.lightly_loss, "WMSELoss")(**arguments)
    ours = ssl.WMSELoss(**arguments)
    tracks = arguments.get("track_running_stats", True)
    for training in (True, True, False):
        x = torch.randn(96 * theirs.num_samples, 8) * torch.linspace(0.5, 2, 8) + 1
        x.requires_grad_()
        losses = []
        for loss in (ours, theirs):
            torch.manual_seed(7)
            losses.append(loss.train(training)(x))
        assert_same(*losses, [x])
        for name, buffer in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], buffer)
    assert len(ours.state_dict()) == (2 if tracks else 0)
    theirs.load_state_dict(ours.state_dict())  # and vice versa
    ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("arguments", [{}, {"beta": 0.5, "rho": 2.0}])
def test_lightly_tico(arguments):
    losses = ssl.TiCoLoss(**arguments), peer(peers.lightly_loss, "TiCoLoss")(**arguments)
    for update in (True, False, True, True):
        x = views(40, 16)
        assert_same(*(loss(*x, update) for loss in losses), x)
        torch.testing.assert_close(losses[0].C, losses[1].C)


def test_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    x = torch.randn(90, 32, requires_grad=True)
    labels = torch.arange(90) // 4 % 10
    labels[-1] = 99  # a row without positives
    ours = functional.supcon(x, labels, temperature=0.1, convention="pytorch_metric_learning")
    assert_same(ours, losses.SupConLoss(0.1)(x, labels), [x])

    out = views(60, 32)
    theirs = losses.SelfSupervisedLoss(losses.NTXentLoss(0.1))(*out)
    assert_same(ssl.NTXentLoss(0.1)(*out), theirs, out)


@pytest.mark.parametrize("negatives", [None, (30, 16), (20, 5, 16)])
def test_info_nce(negatives):
    package = pytest.importorskip("info_nce")
    out = views(20, 16)
    if negatives:
        out.append(torch.randn(negatives, requires_grad=True))
    mode = {"negative_mode": "paired" if negatives and len(negatives) == 3 else "unpaired"}
    for reduction in ("mean", "sum"):
        ours = ssl.InfoNCELoss(0.2, reduction, **mode)(*out)
        assert_same(ours, package.InfoNCE(0.2, reduction, **mode)(*out), out)


def test_open_clip():
    loss = peer(peers.open_clip_losses)
    features = [torch.nn.functional.normalize(x.detach(), dim=1).requires_grad_() for x in views()]
    scale = torch.tensor(5.0, requires_grad=True)
    bias = torch.tensor(-10.0, requires_grad=True)
    leaves = [*features, scale]
    assert_same(ssl.CLIPLoss()(*features, scale), loss.ClipLoss()(*features, scale), leaves)
    leaves.append(bias)
    theirs = loss.SigLipLoss()(*features, scale, bias)
    assert_same(ssl.SigLIPLoss()(*features, scale, bias), theirs, leaves)


def logits(count, rows=24, width=300):
    return [torch.randn(rows, width, requires_grad=True) for _ in range(count)]


def test_lightly_dino():
    theirs = peer(peers.lightly_loss, "DINOLoss")(300, 0.03, 0.06, 2, student_temp=0.2)
    ours = ssl.DINOLoss(300, 0.03, 0.06, 2, student_temp=0.2)
    for epoch in range(3):
        teachers, students = logits(2), logits(6)
        found, expected = (x(teachers, students, epoch=epoch) for x in (ours, theirs))
        assert_same(found, expected, students)
        assert (ours.center - theirs.center).norm() <= 1e-5 * theirs.center.norm()


def test_lightly_ibot():
    theirs, ours = peer(peers.lightly_loss, "IBOTPatchLoss")(300), ssl.IBOTPatchLoss(300)
    for _ in range(3):
        mask = torch.rand(6, 5, 5) < 0.4
        teacher, student = logits(2, int(mask.sum()))
        assert_same(ours(teacher, student, mask), theirs(teacher, student, mask), [student])
        center = theirs.center.center
        assert (ours.center - center).norm() <= 1e-5 * center.norm()


def test_lightly_koleo():
    theirs = peer(peers.lightly_loss, "KoLeoLoss")()
    x = logits(1, 100, 16)
    assert_same(ssl.KoLeoLoss()(*x), theirs(*x), x)
    opposites = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    torch.testing.assert_close(ssl.KoLeoLoss()(opposites), theirs(opposites))


@pytest.mark.parametrize("queue", [False, True])
def test_lightly_swav(queue):
    theirs = peer(peers.lightly_loss, "SwaVLoss")()
    # above 4.4 lightly's Sinkhorn-Knopp overflows
    crops = [(0.3 * x).detach().requires_grad_() for x in logits(5)]
    queue = [0.3 * torch.randn(50, 300) for _ in range(2)] if queue else None
    high, low = crops[:2], crops[2:]
    assert_same(ssl.SwaVLoss()(high, low, queue), theirs(high, low, queue)[0], crops)


@pytest.mark.parametrize("name, arguments", [
    ("MSNLoss", {}),
    ("MSNLoss", {"sinkhorn_iterations": 0, "temperature": 0.2}),
    ("MSNLoss", {"regularization_weight": 0}),
    ("PMSNLoss", {"power_law_exponent": 0.5}),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_lightly_msn(name, arguments):
    theirs = peer(peers.lightly_loss, name)(**arguments)
    anchors, targets, prototypes = logits(1, 48, 16)[0], *logits(2, 24, 16)
    inputs = anchors, targets, prototypes
    found, expected = getattr(ssl, name)(**arguments)(*inputs), theirs(*inputs)
    assert_same(found, expected, [anchors, prototypes])


@pytest.mark.parametrize("some", [False, True])
def test_lightly_capi(some):
    theirs = peer(peers.lightly_loss, "CAPILoss")()
    teacher = torch.randn(16, 9, 50)
    student = torch.randn(16, 4 if some else 9, 50, requires_grad=True)
    index = torch.randint(9, (16, 4)) if some else None
    found, expected = (x(teacher, student, index) for x in (ssl.CAPILoss(), theirs))
    assert_same(found, expected, [student])
