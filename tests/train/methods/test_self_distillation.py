"""Students, momentum teachers, and the views that each of them gets."""

import copy
import math

import distillation_formulas
import formulas
import pytest
import torch
import torch.nn.functional as F
from tiny_methods import tiny_batch, tiny_method, tiny_recipe

from sslkernels.train.backbones import SmallResNet, SmallViT, make_backbone
from sslkernels.train.methods import DINO, IBOT, IBOTRecipe
from sslkernels.train.methods.dino import DINORecipe

CLOSE = {"rtol": 1e-3, "atol": 1e-4}
each_teacher = pytest.mark.parametrize(
    "name", ["dino", "ibot", "simdino", "moco_v2", "moco_v3", "byol"]
)
each_method = pytest.mark.parametrize("name", ["dino", "ibot", "simdino"])


@each_teacher
def test_the_student_alone_learns(name):
    method = tiny_method(name)
    method.loss(*method(*tiny_batch(name).views)).backward()
    assert all(p.grad is not None for p in method.student.parameters() if p.requires_grad)
    assert sum(p.grad.abs().sum() > 0 for p in method.student.parameters()) > 5
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


@each_teacher
def test_the_teacher_follows(name):
    method = tiny_method(name, momentum=0.9, final_momentum=1.0)
    before = copy.deepcopy(method.teacher)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    method.progress = 0.25
    method.after_step()
    momentum = 1 - 0.1 * (1 + math.cos(math.pi / 4)) / 2
    assert method.momentum == pytest.approx(momentum)
    parts = (x.parameters() for x in (method.teacher, before, method.student))
    for teacher, old, student in zip(*parts, strict=True):
        torch.testing.assert_close(teacher, momentum * old + (1 - momentum) * student)
    now = copy.deepcopy(method.teacher)
    method.progress = 1.0
    method.after_step()
    for teacher, old in zip(method.teacher.parameters(), now.parameters(), strict=True):
        assert torch.equal(teacher, old)


@each_teacher
def test_which_of_the_two_is_evaluated(name):
    method = tiny_method(name)
    kept = method.teacher if name in ("dino", "ibot", "simdino") else method.student
    assert method.backbone is kept.backbone and method.projector is kept.projector


def test_a_constant_momentum():
    method = tiny_method("moco_v2", momentum=0.8, final_momentum=0.8)
    for progress in (0.0, 0.3, 1.0):
        method.progress = progress
        assert method.momentum == pytest.approx(0.8)


@each_method
def test_local_views_are_the_students(name):
    method, batch = tiny_method(name).eval(), tiny_batch(name).views
    seen = []
    method.teacher.backbone.register_forward_hook(lambda _, x, y: seen.append(x[0].shape))
    embeddings = method(*batch)
    assert all(shape[-1] == 32 for shape in seen)
    assert [len(x) for x in embeddings[:6]] == [8] * 6
    changed = [*batch[:2], *(1 - x for x in batch[2:])]
    torch.manual_seed(1)
    again = method(*changed)
    kept = [0, 1, 4, 5] if name != "ibot" else [4, 5]  # iBOT draws new masks
    for i in kept:
        torch.testing.assert_close(embeddings[i], again[i])
    assert not torch.allclose(embeddings[2], again[2])


def parts(method, batch):
    """Unit vectors of the student's four views and the teacher's two, one batch per size."""

    def embed(network, *views):
        z = network.projector(network.backbone(torch.cat(views)))
        return F.normalize(z, dim=1).chunk(len(views))

    student = *embed(method.student, *batch[:2]), *embed(method.student, *batch[2:])
    return student, embed(method.teacher, *batch[:2])


def unit_prototypes(network):
    return F.normalize(network.prototypes, dim=1)


def apart(method):
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def test_dino_is_the_cross_entropy_of_prototypes_and_koleo():
    method, batch = tiny_method("dino", koleo=0.3), tiny_batch("dino").views
    apart(method)
    method.class_loss.center = torch.randn(1, 1, 12)
    center = method.class_loss.center.clone()
    student, teacher = parts(method, batch)
    logits = [
        [z @ unit_prototypes(network).T for z in views]
        for network, views in ((method.student, student), (method.teacher, teacher))
    ]
    expected = distillation_formulas.dino(*logits, 0.1, 0.04, center[0])
    expected = expected + 0.3 * sum(distillation_formulas.koleo(z) for z in student[:2])
    torch.testing.assert_close(method.loss(*method(*batch)), expected, **CLOSE)
    moved = 0.9 * center + 0.1 * torch.cat(logits[1]).mean(0)
    torch.testing.assert_close(method.class_loss.center, moved, **CLOSE)


def test_simdino_is_agreement_and_volume():
    method, batch = tiny_method("simdino"), tiny_batch("simdino").views
    apart(method)
    expected = formulas.simdino(*parts(method, batch), 0.5, 1.0, 0)
    torch.testing.assert_close(method.loss(*method(*batch)), expected, **CLOSE)


def test_ibot_adds_the_loss_of_masked_patches():
    method, batch = tiny_method("ibot", koleo=0.0, patches=0.7), tiny_batch("ibot").views
    apart(method)
    *images, found, taught, mask = method(*batch)
    student, teacher = unit_prototypes(method.student), unit_prototypes(method.teacher)
    expected = distillation_formulas.dino(
        [z @ student.T for z in images[:4]], [z @ teacher.T for z in images[4:]], 0.1, 0.04
    )
    expected = expected + 0.7 * distillation_formulas.ibot(
        found[mask] @ student.T, taught[mask] @ teacher.T, mask.flatten(0, 1), 0.1, 0.04
    )
    torch.testing.assert_close(method.loss(*images, found, taught, mask), expected, **CLOSE)


def test_ibot_shows_the_teacher_what_it_masks():
    method, batch = tiny_method("ibot", masked=0.25).eval(), tiny_batch("ibot").views
    *images, found, taught, mask = method(*batch)
    assert found.shape == taught.shape == (8, 2, 16, 4)
    assert mask.sum(2).tolist() == [[4, 4]] * 8
    tokens = method.teacher.backbone.tokens(batch[1])
    expected = F.normalize(method.teacher.projector(tokens[:, 1:].flatten(0, 1)), dim=1)
    torch.testing.assert_close(taught[:, 1].flatten(0, 1), expected, **CLOSE)
    tokens = method.student.backbone.tokens(batch[1], mask[:, 1])
    expected = F.normalize(method.student.projector(tokens[:, 0]), dim=1)
    torch.testing.assert_close(images[1], expected, **CLOSE)
    with pytest.raises(ValueError, match="backbone must be vit"):
        IBOT(SmallResNet(width=4), IBOTRecipe(backbone="resnet"))


def test_ibots_published_backbone_has_patches():
    backbone = make_backbone(IBOTRecipe.published["backbone"], 3, 16)
    assert backbone.feature_size == 384
    assert 21e6 < sum(p.numel() for p in backbone.parameters()) < 22e6
    with torch.no_grad():
        assert backbone.tokens(torch.rand(1, 3, 96, 96)).shape == (1, 37, 384)


def test_prototypes_stay_at_first():
    method = tiny_method("dino", frozen_epochs=1.0, epochs=4)
    for progress, is_frozen in ((0.0, True), (0.24, True), (0.26, False)):
        method.progress = progress
        method.zero_grad()
        method.loss(*method(*tiny_batch("dino").views)).backward()
        method.before_step()
        assert (method.student.prototypes.grad is None) == is_frozen


def test_temperature_of_the_teacher():
    options = {"first_teacher_temperature": 0.02, "teacher_temperature": 0.06, "epochs": 10}
    method = tiny_method("dino", temperature_warmup_epochs=4.0, **options)
    for progress, temperature in ((0.0, 0.02), (0.2, 0.04), (0.4, 0.06), (1.0, 0.06)):
        method.progress = progress
        assert method.teacher_temperature == pytest.approx(temperature)
    at_once = tiny_method("dino", temperature_warmup_epochs=0.0, **options)
    assert at_once.teacher_temperature == 0.06


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


def test_the_mask_token_learns_where_there_are_masks():
    assert not SmallViT(width=8).mask_token.requires_grad
    assert tiny_method("ibot").student.backbone.mask_token.requires_grad
    method = DINO(SmallViT(width=8), tiny_recipe("dino"))
    assert not method.student.backbone.mask_token.requires_grad


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="momentum must be at most 1"):
        DINORecipe(momentum=1.5)
    with pytest.raises(ValueError, match="final_momentum must be at most 1"):
        DINORecipe(final_momentum=1.5)
    with pytest.raises(ValueError, match="micro_batch must be 0"):
        DINORecipe(micro_batch=4)
