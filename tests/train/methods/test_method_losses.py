"""The loss of each method is that of its paper, of the documented embeddings."""

import distillation_formulas
import formulas
import gaussian_formulas
import pytest
import torch
import torch.nn.functional as F
from tiny_methods import tiny_batch, tiny_method
from torch import nn

from sslkernels.data.pretext import rgb_to_lab, soft_encode
from sslkernels.primitives import random_directions
from sslkernels.train.methods import LeJEPARecipe, SimCLR, SimCLRRecipe

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def seen(network, *views):
    """The outputs of layers for several views, run as one batch."""
    layers = network if isinstance(network, tuple) else (network,)
    x = torch.cat(views)
    for layer in layers:
        x = layer(x)
    return x.chunk(len(views))


def loss_of(method, batch):
    """In training mode; batch statistics are the same when a batch is repeated."""
    torch.manual_seed(4)
    return method.loss(*method(*method.inputs(batch)))


def naive_nt_xent(embeddings, temperature):
    """Equation 1 of arXiv:2002.05709, pair by pair; row i and row i + n show one image."""
    count = len(embeddings) // 2
    similarity = F.cosine_similarity(embeddings[:, None], embeddings[None], dim=2) / temperature
    total = 0.0
    for i in range(2 * count):
        others = [similarity[i, j].exp() for j in range(2 * count) if j != i]
        total += (sum(others) / similarity[i, (i + count) % (2 * count)].exp()).log()
    return total / (2 * count)


def test_simclr_is_nt_xent_of_the_projected_views():
    torch.manual_seed(0)
    backbone = nn.Flatten()
    backbone.feature_size = 16
    method = SimCLR(backbone, SimCLRRecipe(temperature=0.3, hidden_size=32, embedding_size=4))
    view0, view1 = torch.randn(2, 6, 1, 4, 4)
    embeddings = torch.cat(method(view0, view1))
    loss = method.loss(*embeddings.chunk(2))
    assert embeddings.shape == (12, 4)
    torch.testing.assert_close(
        embeddings, method.projector(torch.cat([view0, view1]).flatten(1)), **CLOSE
    )
    torch.testing.assert_close(loss, naive_nt_xent(embeddings, 0.3), **CLOSE)


def test_directclr_has_no_projector_and_sees_the_first_features():
    method, batch = tiny_method("directclr", temperature=0.3), tiny_batch("directclr")
    assert len(method.projector) == 0
    first = torch.cat(seen(method.backbone, *batch.views))[:, :8]
    torch.testing.assert_close(loss_of(method, batch), naive_nt_xent(first, 0.3), **CLOSE)
    with pytest.raises(ValueError, match="at most the backbone's 16 features, got 17"):
        tiny_method("directclr", loss_size=17)


@pytest.mark.parametrize("name, formula", [
    ("barlow_twins", lambda a, b: formulas.barlow_twins(a, b, 0.02)),
    ("vicreg", lambda a, b: formulas.vicreg(a, b, nu=4.0)),
    ("cca", lambda a, b: formulas.cca(a, b, 0.01)),
    ("w_mse", lambda a, b: formulas.w_mse(a, b, 0.0)),
])  # fmt: skip
def test_two_views(name, formula):
    method, batch = tiny_method(name), tiny_batch(name)
    if name == "barlow_twins":
        assert method.loss.lambda_param == method_recipe(name).redundancy
        method.loss.lambda_param = 0.02
    if name == "vicreg":
        assert method.loss.nu_param == method_recipe(name).covariance
        method.loss.nu_param = 4.0
    if name == "cca":
        assert method.loss.ridge == method_recipe(name).ridge
        method.loss.ridge = 0.01
    views = seen((method.backbone, method.projector), *batch.views)
    torch.testing.assert_close(
        loss_of(method, batch), formula(*views), rtol=1e-3, atol=1e-4, check_dtype=False
    )


def method_recipe(name):
    from sslkernels.train.methods import METHODS

    return METHODS[name][1]()


def predictions(method, batch):
    z = seen((method.backbone, method.projector), *batch.views)
    return *z, *seen(method.predictor, *z)


def test_simsiam():
    method, batch = tiny_method("simsiam"), tiny_batch("simsiam")
    z0, z1, p0, p1 = predictions(method, batch)
    expected = (formulas.simsiam(p0, z1) + formulas.simsiam(p1, z0)) / 2
    torch.testing.assert_close(loss_of(method, batch), expected, **CLOSE)


def test_simsiam_stops_gradients():
    method = tiny_method("simsiam")
    z0, z1, p0, p1 = torch.randn(4, 8, 4).requires_grad_().unbind()
    loss = method.loss(z0, z1, p0, p1)
    torch.testing.assert_close(
        loss, (formulas.simsiam(p0, z1) + formulas.simsiam(p1, z0)) / 2, **CLOSE
    )
    gradients = torch.autograd.grad(loss, (z0, z1, p0, p1), allow_unused=True)
    assert [g is None for g in gradients] == [True, True, False, False]


def test_nnclr_finds_neighbours_in_its_support_set_and_fills_it():
    method, batch = tiny_method("nnclr"), tiny_batch("nnclr")
    bank = method.loss.queue.bank.clone()
    z0, z1, p0, p1 = predictions(method, batch)
    n0, n1 = (bank[(formulas.unit(z) @ bank.T).argmax(1)] for z in (z0, z1))
    expected = (formulas.nnclr(n0, p1, 0.2) + formulas.nnclr(n1, p0, 0.2)) / 2
    torch.testing.assert_close(loss_of(method, batch), expected, **CLOSE)
    torch.testing.assert_close(method.loss.queue.bank[:8], formulas.unit(z0), **CLOSE)
    assert torch.equal(method.loss.queue.bank[8:], bank[8:])


def test_moco_v2_asks_its_queue_and_fills_it_with_the_teachers():
    method, batch = tiny_method("moco_v2"), tiny_batch("moco_v2")
    differ(method)
    bank = method.loss.queue.bank.clone()
    (query,), (key,) = seen(method.student, batch.views[0]), seen(method.teacher, batch.views[1])
    expected = formulas.moco(query, key, bank, method.recipe.temperature)
    torch.testing.assert_close(loss_of(method, batch), expected, **CLOSE)
    torch.testing.assert_close(method.loss.queue.bank[:8], formulas.unit(key), **CLOSE)
    assert torch.equal(method.loss.queue.bank[8:], bank[8:])


def test_moco_v3():
    method, batch = tiny_method("moco_v3"), tiny_batch("moco_v3")
    differ(method)
    k0, k1 = seen(method.teacher, *batch.views)
    q0, q1 = seen((method.student, method.predictor), *batch.views)
    t = method.recipe.temperature
    expected = formulas.moco_v3(q0, k1, t) + formulas.moco_v3(q1, k0, t)
    torch.testing.assert_close(loss_of(method, batch), expected, **CLOSE)


def test_byol():
    method, batch = tiny_method("byol"), tiny_batch("byol")
    differ(method)
    t0, t1 = seen(method.teacher, *batch.views)
    p0, p1 = seen((method.student, method.predictor), *batch.views)
    expected = formulas.byol(p0, t1) + formulas.byol(p1, t0)
    torch.testing.assert_close(loss_of(method, batch), expected, **CLOSE)


def differ(method):
    """Make the teacher different from its student."""
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("local", [0, 2])
def test_swav(local):
    method = tiny_method("swav", local_views=local)
    batch = tiny_batch("swav", local_views=local)
    network = method.backbone, method.projector
    logits = [
        [formulas.unit(z) @ method.loss.prototypes.T for z in seen(network, *views)]
        for views in (batch.views[:2], batch.views[2:])
        if views
    ]
    low = logits[1] if local else []
    expected = distillation_formulas.swav(logits[0], low)
    torch.testing.assert_close(loss_of(method, batch), expected, **CLOSE)


def test_swav_keeps_its_prototypes_of_length_one_and_at_first_in_their_place():
    method, batch = tiny_method("swav", epochs=4, frozen_epochs=1.0), tiny_batch("swav")
    for progress, is_frozen in ((0.0, True), (0.24, True), (0.26, False)):
        method.zero_grad()
        method.progress = progress
        loss_of(method, batch).backward()
        method.before_step()
        assert (method.loss.prototypes.grad is None) == is_frozen
    with torch.no_grad():
        method.loss.prototypes.mul_(3.0)
    method.after_step()
    torch.testing.assert_close(method.loss.prototypes.norm(dim=1), torch.ones(12))


@pytest.mark.parametrize("whole, local", [(2, 0), (2, 2), (3, 1)])
def test_lejepa(whole, local):
    options = {"global_views": whole, "local_views": local, "sigreg": 0.2, "slices": 24}
    method, batch = tiny_method("lejepa", **options), tiny_batch("lejepa", **options)
    network = method.backbone, method.projector
    groups = batch.views[:whole], batch.views[whole:]
    z = torch.stack([z for views in groups if views for z in seen(network, *views)])
    for step in range(2):
        directions = random_directions(torch.tensor(step), 4, 24)
        expected = gaussian_formulas.lejepa(z, whole, directions, 0.2)
        torch.testing.assert_close(loss_of(method, batch), expected, **CLOSE)
    assert method.state_dict()["criterion.global_step"] == 2


@pytest.mark.parametrize("setting", [{"sigreg": 1.5}, {"knots": 1}, {"slices": 0}])
def test_lejepa_settings_that_cannot_be(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        LeJEPARecipe(**setting)


def test_vicregl_matches_cells_by_their_places_and_features():
    options = {"local_views": 2, "matches": 3, "matches_back": 2}
    method, batch = tiny_method("vicregl", **options), tiny_batch("vicregl", local_views=2)
    method.criterion.nu_param = 1.0
    views = []
    for group, cells in ((batch.views[:2], 4), (batch.views[2:], 2)):
        maps = method.backbone.maps(torch.cat(group))
        assert maps.shape[2:] == (cells, cells)
        rows = method.cell_projector(maps.movedim(1, -1).flatten(0, 2))
        views += zip(
            method.projector(maps.mean((2, 3))).chunk(2),
            rows.view(len(maps), cells, cells, -1).chunk(2),
            [batch.coordinates(len(views) + i, cells) for i in range(2)],
            strict=True,
        )
    expected = formulas.vicregl(views[:2], views[2:], (3, 2), alpha=0.75)
    torch.testing.assert_close(loss_of(method, batch), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["rotation", "relative_patch", "jigsaw", "supervised"])
def test_labels_are_told_by_cross_entropy(name):
    method, batch = tiny_method(name), tiny_batch(name)
    torch.manual_seed(4)
    scores, labels = method(*method.inputs(batch))
    log_probability = scores.double().log_softmax(1)
    expected = -sum(log_probability[i, label] for i, label in enumerate(labels.tolist())) / 8
    torch.testing.assert_close(method.loss(scores, labels), expected, **CLOSE, check_dtype=False)
    right = sum(int(s.argmax()) == label for s, label in zip(scores, labels.tolist(), strict=True))
    assert method.monitor(scores, labels)["label_accuracy"] == right / 8


def test_colorization_is_the_cross_entropy_of_soft_bins():
    method, batch = tiny_method("colorization"), tiny_batch("colorization")
    images = batch.views[0]
    scores, colors = method(*method.inputs(batch))
    assert scores.shape == (8, 261, 4, 4)
    mean = F.avg_pool2d(rgb_to_lab(images)[:, 1:], 8)
    torch.testing.assert_close(colors, mean, rtol=1e-4, atol=1e-3)
    indices, weights = soft_encode(mean, method.bins)
    target = torch.zeros(8, 261, 4, 4).scatter_(1, indices, weights)
    expected = -(target * scores.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(method.loss(scores, colors), expected, **CLOSE)
    right = (scores.argmax(1) == target.argmax(1)).float().mean()
    torch.testing.assert_close(method.monitor(scores, colors)["label_accuracy"], right)
