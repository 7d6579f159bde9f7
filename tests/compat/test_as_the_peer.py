"""Unusual inputs: if the peer returns a value, so do its stand-in and ours; else all raise."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from parity import installed, leaves_of

import sslkernels
from bench import peers

f16, f32, f64 = torch.float16, torch.float32, torch.float64


def load():
    peers.torchvision_transforms()
    import lightly.loss
    import pytorch_metric_learning.losses  # noqa: F401

    return lightly.loss


installed(load)


def r(*shape, dtype=f32, grad=True):
    return torch.randn(*shape).to(dtype).requires_grad_(grad)


def logits(*shape, count=2, dtype=f32):
    return [(0.1 * r(*shape, grad=False)).to(dtype).requires_grad_() for _ in range(count)]


def labels(count, dtype=torch.int64, classes=3):
    return torch.arange(count).remainder(classes).to(dtype)


def mask(*rows):
    return torch.tensor(rows, dtype=torch.bool)[None]


def one(x):
    return {"ref_emb": r(7, 4), "ref_labels": x}


def same_labels(count):
    """The same labels object for both."""
    x = labels(count)
    return [r(count, 4), x, one(x)]


NONE, PAIRS = mask([0, 0], [0, 0]), tuple(torch.tensor(x) for x in ([0, 3], [3, 0], [1, 2]))
LIGHTLY = [
    *((name, {}, lambda s=shape: [r(*s), r(*s)])
      for name in ("NTXentLoss", "DCLLoss", "BarlowTwinsLoss", "VICRegLoss", "TiCoLoss",
                   "NegativeCosineSimilarity", "DirectCLRLoss")
      for shape in ((0, 4), (1, 4), (6, 4, 3))),
    *((name, {}, lambda a=a, b=b: [r(6, 4, dtype=a), r(6, 4, dtype=b)])
      for name in ("NTXentLoss", "VICRegLoss", "TiCoLoss", "BarlowTwinsLoss",
                   "NegativeCosineSimilarity")
      for a, b in ((f32, f16), (f16, f32), (f32, f64))),
    ("NTXentLoss", {}, lambda: [r(6, 4), r(5, 4)]),
    ("NTXentLoss", {"memory_bank_size": (8, 4)}, lambda: [r(12, 4), r(12, 4)]),
    ("NTXentLoss", {"memory_bank_size": (8, 4)}, lambda: [r(0, 4), r(0, 4)]),
    ("NTXentLoss", {"nonsense": 1}, lambda: [r(6, 4), r(6, 4)]),
    ("HypersphereLoss", {}, lambda: [r(1, 4), r(1, 4)]),
    ("HypersphereLoss", {}, lambda: [r(6, 4), r(6, 4, dtype=f64)]),
    ("TiCoLoss", {"beta": 1.5}, lambda: [r(6, 4), r(6, 4)]),
    *(("KoLeoLoss", {"p": p, "eps": eps}, lambda n=n: [r(n, 4)])
      for n in (0, 1, 2) for p in (1, 2) for eps in (1e-8, 1e-2)),
    *(("SwaVLoss", {"sinkhorn_iterations": n}, x) for n in (0, -1) for x in (
        lambda: [logits(4, 5), logits(4, 5)], lambda: [logits(4, 5), [], logits(3, 5)],
        lambda: [logits(4, 5, dtype=f16), logits(4, 5)])),
    ("SwaVLoss", {}, lambda: [logits(4, 5, count=1), []]),
    ("SwaVLoss", {}, lambda: [logits(4, 5), logits(4, 5, dtype=f16)]),
    ("SwaVLoss", {"temperature": -0.5}, lambda: [logits(4, 5), logits(4, 5)]),
    ("CAPILoss", {"sinkhorn_iterations": 0}, lambda: logits(4, 2, 5, count=1) + [r(4, 2, 5)]),
    ("CAPILoss", {}, lambda: [*logits(4, 2, 5, count=1), r(4, 1, 5),
                              torch.zeros(4, 1, dtype=torch.int32)]),
    ("MMCRLoss", {}, lambda: [r(3, 2, 4), r(3, 2, 4, dtype=f64)]),
    ("DINOLoss", {"output_dim": 5}, lambda: [[r(4, 5, grad=False)], [r(4, 5)]]),
    ("DINOLoss", {"output_dim": 5, "center_momentum": 1.5},
     lambda: [[r(4, 5, grad=False)], [r(4, 5), r(4, 5)]]),
    ("DINOLoss", {"output_dim": 5}, lambda: [
        [r(4, 5, grad=False)], [r(4, 5), r(4, 5)], torch.tensor(0.05)]),
    ("IBOTPatchLoss", {"output_dim": 5}, lambda: [r(3, 5, grad=False), r(3, 5), NONE]),
    ("IBOTPlusPlusPatchLoss", {"output_dim": 5},
     lambda: [r(1, 4, 5, grad=False), r(1, 4, 5), NONE]),
    ("VICRegLLoss", {}, lambda: [[(r(1, 6), r(1, 2, 2, 5))] * 2, [torch.rand(1, 2, 2, 2)] * 2]),
]  # fmt: skip
TEACHERS = [  # losses whose teachers require a gradient
    ("DINOLoss", {"output_dim": 5}, lambda: [[r(4, 5)], [r(4, 5), r(4, 5)]]),
    ("IBOTPatchLoss", {"output_dim": 5}, lambda: [r(2, 5), r(2, 5), mask([1, 0], [0, 1])]),
    ("IBOTPlusPlusPatchLoss", {"output_dim": 5}, lambda: [r(1, 4, 5), r(1, 4, 5), NONE]),
]
METRIC = [
    *((name, {}, lambda n=n, k=k: [r(n, 4), labels(n, classes=k)])
      for name in ("NTXentLoss", "SupConLoss") for n in (0, 1, 2, 7) for k in (1, 3, 100)),
    *((name, {}, lambda x=x: [r(7, 4), x])
      for name in ("NTXentLoss", "SupConLoss")
      for x in (labels(7, torch.uint8), labels(7, f16), labels(7) * 0.1, labels(6), None,
                labels(7)[:, None])),
    *((name, {}, x) for name in ("NTXentLoss", "SupConLoss") for x in (
        lambda: [r(7, 4), labels(7), PAIRS], lambda: [r(7, 4), None, PAIRS],
        lambda: same_labels(7), lambda: [r(7, 4), labels(7), one(labels(7))],
        lambda: [r(7, 4), labels(7), one(None)], lambda: [r(7, 4), labels(7), one(labels(6))],
        lambda: [r(5, 4), labels(5), one(labels(7).float())],
        lambda: [r(7, 4), labels(7), {"ref_labels": labels(7, classes=2)}],
        lambda: [r(1, 4), labels(1), {"ref_emb": r(2, 4), "ref_labels": labels(2)}],
        lambda: [r(7, 4), labels(7), {"ref_emb": r(0, 4), "ref_labels": labels(0)}])),
    *(("VICRegLoss", {}, lambda a=a, b=b: [r(7, 4, dtype=a), {"ref_emb": r(7, 4, dtype=b)}])
      for a, b in ((f32, f16), (f16, f32))),
    ("VICRegLoss", {}, lambda: [r(7, 4)]),
    ("VICRegLoss", {}, lambda: [r(1, 4)]),
    ("VICRegLoss", {}, lambda: [r(7, 4), labels(7)]),
]  # fmt: skip
CASES = [("lightly", *x) for x in LIGHTLY + TEACHERS] + [
    ("pytorch_metric_learning", *x) for x in METRIC
]


def outcome(make, inputs):
    """The value after two steps and its gradients, or the class of the error."""
    torch.manual_seed(3)
    try:
        loss, x = make(), inputs()
        named = x.pop() if isinstance(x[-1], dict) else {}
        for _ in range(2):
            value = loss(*x, **named)
    except Exception as error:
        return type(error)
    leaves = leaves_of([*x, *named.values()])
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        return [torch.as_tensor(value, dtype=f32)]
    grads = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    zero = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]
    return [x.float() for x in (value.detach(), *zero)]


@pytest.fixture(scope="module")
def patches():
    names = ("lightly", "pytorch_metric_learning")
    with sslkernels.patch(names[0]) as first, sslkernels.patch(names[1]) as second:
        yield dict(zip(names, (first, second), strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer, name, arguments, inputs", CASES)
def test_same(patches, peer, name, arguments, inputs):
    ours = importlib.import_module(f"sslkernels.compat.{peer}")
    module = importlib.import_module(ours.PEER.defined_in[name])
    expected = outcome(lambda: patches[peer].own[name](**arguments), inputs)
    patched = outcome(lambda: getattr(module, name)(**arguments), inputs)
    alone = outcome(lambda: getattr(ours, name)(**arguments), inputs)
    tolerance = 2e-2 if any(x.dtype == f16 for x in tensors(inputs())) else 1e-3
    if isinstance(expected, type):
        assert issubclass(patched, expected)
        assert isinstance(alone, type)
        return
    # ours alone may refuse, and gives teachers no gradient, which only patch promises
    skips_alone = isinstance(alone, type) or (name, arguments, inputs) in TEACHERS
    for found in (patched,) if skips_alone else (patched, alone):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def tensors(x):
    """All tensors, at any depth."""
    if isinstance(x, torch.Tensor):
        return [x]
    if isinstance(x, dict):
        x = [*x.values()]
    return [z for y in x for z in tensors(y)] if isinstance(x, list | tuple) else []


def test_ours_without_a_peer():
    """Inputs that ours once refused although the peer has a value, from formulas."""
    from sslkernels.compat import lightly as ours

    x = r(1, 4)
    expected = -torch.log(torch.tensor(2e-8 + 1e-8))
    torch.testing.assert_close(ours.KoLeoLoss()(x), expected, rtol=1e-5, atol=0)
    ours.KoLeoLoss()(x).backward()
    assert not x.grad.any()
    high, low = [0.3 * r(4, 5) for _ in range(2)], [0.3 * r(4, 5)]
    plans = [torch.exp(z / 0.05) for z in high]
    plans = [4 * p / p.sum() for p in plans]
    rows = [
        -(q * F.log_softmax(z / 0.1, 1)).sum(1).mean()
        for i, q in enumerate(plans)
        for j, z in enumerate(high + low)
        if i != j
    ]
    found = ours.SwaVLoss(sinkhorn_iterations=0)(high, low)
    torch.testing.assert_close(found, (sum(rows) / 4).detach().reshape(1), check_dtype=False)
    z = r(6, 4), r(6, 4, dtype=f16)
    for loss in (ours.VICRegLoss(), ours.TiCoLoss()):
        torch.testing.assert_close(loss(*z), type(loss)()(z[0], z[1].float()))
    loss = ours.IBOTPatchLoss(5)
    loss(r(2, 5, grad=False), r(2, 5), mask([1, 0], [0, 1]))
    before = loss.center.value.clone()
    student = r(0, 5)
    value = loss(r(0, 5, grad=False), student, NONE)
    assert value == 0
    value.backward()
    assert student.grad.shape == (0, 5)
    assert torch.equal(loss.center.value, before)  # the peer's is NaN from here on


@pytest.mark.parametrize("name", ["NTXentLoss", "DCLLoss", "VICRegLoss", "TiCoLoss", "SwaVLoss",
                                  "MSNLoss", "BarlowTwinsLoss"])  # fmt: skip
def test_ranks_without_distributed(monkeypatch, name):
    """Raised immediately, as in the peer."""
    from sslkernels.compat import lightly as ours

    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    argument = "sinkhorn_gather_distributed" if name == "SwaVLoss" else "gather_distributed"
    with pytest.raises(ValueError, match="distributed"):
        getattr(ours, name)(**{argument: True})
    getattr(ours, name)()
