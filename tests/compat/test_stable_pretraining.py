"""``sslkernels.compat.stable_pretraining`` against formulas, and the package's own losses."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import formulas
import pytest
import torch
import torch.nn.functional as F
from checkouts import part
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_same_signature, assert_same_steps, installed
from torch.distributed import all_reduce

from sslkernels.compat import stable_pretraining as ours

quick = settings(max_examples=15, deadline=None, derandomize=True)
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
temperatures = st.floats(0.05, 1)
weights = st.floats(0, 30)


def randn(*shape, grad=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def load():
    """Its losses and their collectives alone: the package itself has many dependencies."""
    package = importlib.util.find_spec("stable_pretraining")
    if package is None:
        raise ImportError("stable-pretraining is not installed")
    root = Path(package.origin).parent
    stubs = {f"stable_pretraining{x}": ModuleType(x) for x in ("", ".losses", ".utils")}
    stubs["stable_pretraining"].__path__ = [str(root)]
    stubs["stable_pretraining.losses"].__path__ = [str(root / "losses")]
    path = root / "utils/distributed.py"
    spec = importlib.util.spec_from_file_location("stable_pretraining_distributed", path)
    ranks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ranks)
    for name in ("all_gather", "all_reduce", "get_rank", "get_world_size"):
        setattr(stubs["stable_pretraining.utils"], name, getattr(ranks, name))
    sys.modules.update(stubs)
    methods = "stable_pretraining.methods.lejepa"
    part(root / "methods/lejepa.py", methods, {"EppsPulley", "SlicedEppsPulley"})
    try:
        modules = {name: importlib.import_module(x) for name, x in ours.PEER.defined_in.items()}
    finally:
        for name in [x for x in sys.modules if x.split(".")[0] == "stable_pretraining"]:
            del sys.modules[name]
    return SimpleNamespace(**{name: getattr(x, name) for name, x in modules.items()})


def cosine(a, b):
    return (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1).mean()


@st.composite
def pairs(draw):
    torch.manual_seed(draw(st.integers(0, 99)))
    shape = draw(st.integers(2, 16)), draw(st.integers(2, 9))
    return randn(*shape), randn(*shape)


@dtypes
@quick
@given(pairs(), temperatures, weights)
def test_formulas(dtype, inputs, temperature, weight):
    def covariance(z):
        return formulas.offdiagonal(formulas.covariance(z)).square().sum() / z.shape[1]

    def clip(a, b):
        return formulas.clip(F.normalize(a, dim=1), F.normalize(b, dim=1), 1 / temperature)

    for loss, formula in (
        (ours.BYOLLoss(), lambda a, b: 2 - 2 * cosine(a, b)),
        (ours.NegativeCosineSimilarity(), lambda a, b: -cosine(a, b)),
        (ours.NTXEntLoss(temperature), lambda a, b: formulas.nt_xent(a, b, temperature)),
        (ours.CLIPLoss(temperature), clip),
        (ours.VICRegLoss(), formulas.vicreg),
        (ours.BarlowTwinsLoss(weight), lambda a, b: formulas.barlow_twins(
            a, b, weight, correction=1, eps=0.0, outer_eps=1e-5)),
    ):  # fmt: skip
        assert_same_steps(loss, formula, [inputs], dtype)
    assert_same_steps(
        ours.VCRegLoss(weight, 2.0),
        lambda z: weight * formulas.hinges(z) / 2 + 2 * covariance(z), [inputs[:1]], dtype,
    )  # fmt: skip


@dtypes
@quick
@given(st.integers(2, 4), st.integers(1, 3), temperatures, st.booleans())
def test_distillation_by_formula(dtype, students, teachers, temperature, patches):
    def written(s, t, s_patches=None, t_patches=None):
        pairs = [(i, j) for i in range(students) for j in range(teachers) if i != j]
        log_probabilities = F.log_softmax(s / temperature, -1)
        tokens = [-(t[j] * log_probabilities[i]).sum(-1).mean() for i, j in pairs]
        loss = sum(tokens) / len(pairs) * 2
        if s_patches is None:
            return loss
        rows = t_patches * F.log_softmax(s_patches / temperature, -1)
        return loss - 3 * rows.sum(-1).mean()

    step = [randn(students, 3, 8), torch.softmax(randn(teachers, 3, 8, grad=False), -1)]
    if patches:
        step += [randn(2, 4, 8), torch.softmax(randn(2, 4, 8, grad=False), -1)]
    loss = ours.DINOv2Loss(2.0, 3.0, temperature, student_temp=temperature)
    assert_same_steps(loss, written, [step], dtype)
    assert loss.state_dict() == {}


def test_centre_starts_with_the_first_batch():
    loss, center = ours.DINOv1Loss(center_momentum=0.7), 0.0
    for step in range(3):
        logits = randn(2, 5, 8, grad=False)
        found = loss.softmax_center_teacher(logits, 0.1)
        torch.testing.assert_close(found, torch.softmax((logits - center) / 0.1, -1))
        loss.update_center(logits)
        stale = loss.softmax_center_teacher(logits, 0.1, update_centers=False)
        torch.testing.assert_close(stale, found)
        mean = logits.mean((0, 1))
        center = mean if step == 0 else 0.7 * center + 0.3 * mean


@pytest.fixture(scope="module")
def theirs():
    return installed(load)


@dtypes
@quick
@given(data=st.data())
def test_same_results(theirs, dtype, data):
    inputs, temperature = data.draw(pairs()), data.draw(temperatures)
    three = [data.draw(weights) for _ in range(3)]
    for name, arguments in (
        ("BYOLLoss", ()), ("NegativeCosineSimilarity", ()), ("NTXEntLoss", (temperature,)),
        ("CLIPLoss", (temperature,)), ("VICRegLoss", (*three, 1e-3)),
        ("BarlowTwinsLoss", three[:1]),
    ):  # fmt: skip
        pair = (getattr(x, name)(*arguments) for x in (ours, theirs))
        assert_same_steps(*pair, [inputs], dtype)
    scale = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    assert_same_steps(ours.CLIPLoss(), theirs.CLIPLoss(), [(*inputs, scale)], dtype)
    assert_same_steps(ours.VCRegLoss(*three[:2]), theirs.VCRegLoss(*three[:2]), [inputs[:1]], dtype)
    # theirs computes distillation in float32 in any case
    pair = [x.DINOv2Loss(2.0, 3.0, temperature, 0.7, temperature) for x in (ours, theirs)]
    teacher, patches = randn(2, 3, 8, grad=False), randn(6, 8, grad=False).float()
    results = []
    for loss in pair:
        plan = loss.dino_loss.sinkhorn_knopp_teacher(teacher.float(), 0.3, num_samples=6)
        centred = []
        for _ in range(3):
            centred.append(loss.dino_loss.softmax_center_teacher(teacher.float(), 0.2))
            loss.dino_loss.update_center(teacher.float())
        tokens = loss.ibot_loss.sinkhorn_knopp_teacher(patches, 0.3, 6)
        student, of_patches = inputs[0].detach().float(), patches.flip(0).requires_grad_()
        student = student[:2, :2].mean() + torch.arange(72.0).sin().view(3, 3, 8)
        student.requires_grad_()
        value = loss(student, centred[-1], of_patches, tokens)
        results.append((plan, *centred, value, *torch.autograd.grad(value, (student, of_patches))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def on_a_rank(rank):
    """Values and gradients of ours and theirs, and the centres of three steps."""
    theirs, results = load(), []
    for module in (ours, theirs):
        torch.manual_seed(rank)
        found = []
        x = randn(5, 6), randn(5, 6)
        for name in ("NTXEntLoss", "CLIPLoss", "BarlowTwinsLoss", "VICRegLoss"):
            value = getattr(module, name)()(*x)
            value.backward()
            mean = value.detach().clone()
            all_reduce(mean)
            found += [mean, *(z.grad.clone() for z in x)]
            for z in x:
                z.grad = None
        dino = module.DINOv1Loss()
        for _ in range(3):
            logits = torch.randn(2, 4, 6) + rank
            found += [dino.softmax_center_teacher(logits, 0.2),
                      dino.sinkhorn_knopp_teacher(logits[0], 0.3)]  # fmt: skip
            dino.update_center(logits)
        results.append(found)
    return results


@pytest.mark.parametrize("gang", [2], indirect=True)
def test_ranks(gang, theirs):
    for found, expected in gang.run(on_a_rank):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ours.__all__)
def test_same_signature(theirs, name):
    assert_same_signature(getattr(ours, name), getattr(theirs, name))
