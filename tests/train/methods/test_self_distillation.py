"""Students, teachers that follow, and what each of them sees."""

import copy
import math

import pytest
import torch

from sslkernels.train.__main__ import METHODS, main
from sslkernels.train.backbones import SmallResNet, SmallViT
from sslkernels.train.methods import DINO, IBOT, DINORecipe, IBOTRecipe, SimDINO, SimDINORecipe

SIZES = {"hidden_size": 16, "embedding_size": 8}
SMALL = {**SIZES, "prototypes": 20}


def make(name, **options):
    torch.manual_seed(0)
    if name == "simdino":
        return SimDINO(SmallResNet(width=4), SimDINORecipe(**SIZES, **options))
    if name == "ibot":
        return IBOT(SmallViT(width=8, depth=2), IBOTRecipe(**SMALL, **options))
    return DINO(SmallResNet(width=4), DINORecipe(**SMALL, **options))


def views(local=2, n=6):
    return [*torch.rand(2, n, 1, 32, 32), *torch.rand(local, n, 1, 16, 16)]


each_method = pytest.mark.parametrize("name", ["dino", "ibot", "simdino"])


@each_method
def test_the_student_alone_learns(name):
    method = make(name, **({} if name == "simdino" else {"frozen_epochs": 0.0}))
    method.loss(*method(*views())).backward()
    for key, parameter in method.student.named_parameters():
        # the last bias of a normalisation that another follows moves nothing
        assert parameter.grad is not None, key
    assert sum(p.grad.abs().sum() > 0 for p in method.student.parameters()) > 5
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


@each_method
def test_the_teacher_follows(name):
    method = make(name, momentum=0.9)
    before = copy.deepcopy(method.teacher)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    method.after_step(0.25)
    momentum = 1 - 0.1 * (1 + math.cos(math.pi / 4)) / 2
    parts = (x.parameters() for x in (method.teacher, before, method.student))
    for teacher, old, student in zip(*parts, strict=True):
        torch.testing.assert_close(teacher, momentum * old + (1 - momentum) * student)
    now = copy.deepcopy(method.teacher)
    method.after_step(1.0)
    for teacher, old in zip(method.teacher.parameters(), now.parameters(), strict=True):
        assert torch.equal(teacher, old)


@each_method
def test_local_views_are_the_students(name):
    method = make(name).eval()
    batch = views()
    seen = []
    method.teacher.backbone.register_forward_hook(lambda _, x, y: seen.append(x[0].shape))
    embeddings = method(*batch)
    assert all(shape[-1] == 32 for shape in seen)
    assert [len(x) for x in embeddings[:6]] == [6] * 6
    changed = [*batch[:2], *(1 - x for x in batch[2:])]
    torch.manual_seed(1)
    again = method(*changed)
    kept = [0, 1, 4, 5] if name != "ibot" else [4, 5]  # iBOT's masks are drawn anew
    for i in kept:
        torch.testing.assert_close(embeddings[i], again[i])
    assert not torch.allclose(embeddings[2], again[2])


def test_prototypes_stay_at_first():
    method = make("dino", frozen_epochs=1.0, epochs=4)
    for progress, frozen in ((0.0, True), (0.24, True), (0.26, False)):
        method.progress.fill_(progress)
        method.zero_grad()
        method.loss(*method(*views())).backward()
        assert (method.student.prototypes.grad is None) == frozen


def test_temperature_of_the_teacher():
    options = {"first_teacher_temperature": 0.02, "teacher_temperature": 0.06, "epochs": 10}
    method = make("dino", temperature_warmup_epochs=4.0, **options)
    for progress, temperature in ((0.0, 0.02), (0.2, 0.04), (0.4, 0.06), (1.0, 0.06)):
        method.progress.fill_(progress)
        assert method.teacher_temperature == pytest.approx(temperature)
    assert make("dino", temperature_warmup_epochs=0.0, **options).teacher_temperature == 0.06


def test_masked_patches_are_not_seen():
    backbone = SmallViT(width=8, patch_size=8, depth=2)
    images = torch.rand(3, 1, 32, 32)
    mask = torch.zeros(3, 16, dtype=torch.bool)
    mask[:, 5] = True
    other = images.clone()
    other[:, :, 8:16, 8:16] = torch.rand(3, 1, 8, 8)  # patch 5, in the second row
    torch.testing.assert_close(backbone.tokens(images, mask), backbone.tokens(other, mask))
    assert not torch.allclose(backbone.tokens(images), backbone.tokens(other))
    assert backbone(torch.rand(2, 1, 16, 16)).shape == (2, backbone.feature_size)


def test_ibot_masks_some_of_every_image():
    method = make("ibot", masked=0.25)
    *_, student, teacher, mask = method(*views(n=5))
    assert student.shape == teacher.shape == (10, 16, 8)
    assert mask.sum(1).tolist() == [4] * 10
    with pytest.raises(ValueError, match="backbone must be vit"):
        IBOT(SmallResNet(width=4), IBOTRecipe(backbone="resnet"))


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="momentum must be at most 1"):
        DINORecipe(momentum=1.5)
    with pytest.raises(ValueError, match="micro_batch must be 0"):
        DINORecipe(micro_batch=4)


@pytest.mark.parametrize("name, backbone", [
    ("dino", "resnet"), ("dino", "vit"), ("ibot", "vit"), ("simdino", "resnet"), ("simdino", "vit"),
])  # fmt: skip
def test_command_line(name, backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ["epochs=1", "batch_size=500", "width=8", "hidden_size=16", "embedding_size=8"]
    assert main([name, "--name", "small", f"backbone={backbone}", *settings]) == 0
    checkpoint = torch.load(tmp_path / "runs/small/checkpoint.pt", weights_only=True)
    method, _ = METHODS[name]
    keys = checkpoint["method"].keys()
    assert any(key.startswith("teacher.backbone.") for key in keys)
    if name != "simdino":
        assert checkpoint["method"]["class_loss.center"].any()
        assert checkpoint["method"]["progress"] == 1
    backbone_keys = {f"teacher.backbone.{key}" for key in checkpoint["backbone"]}
    assert backbone_keys <= keys
