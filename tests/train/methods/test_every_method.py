"""Requirements of every method."""

from dataclasses import asdict, fields

import pytest
import torch
from tiny_methods import sgd, step, tiny_batch, tiny_method, tiny_recipe
from torch import nn

from sslkernels.data import View
from sslkernels.metrics.encode import evaluation_mode
from sslkernels.train import GradCache
from sslkernels.train.methods import METHODS
from sslkernels.train.recipe import override

each_method = pytest.mark.parametrize("name", METHODS)


@each_method
def test_a_step(name):
    method, batch = tiny_method(name, **frozen_nowhere(name)), tiny_batch(name)
    before = {key: value.clone() for key, value in method.named_parameters()}
    optimizer = sgd(method)
    embeddings = method(*method.inputs(batch))
    assert all(len(x) == 8 for x in embeddings)
    assert step(method, optimizer, batch).isfinite()
    for key, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        if parameter.requires_grad and parameter.ndim == 4:
            assert parameter.grad.abs().sum() > 0 and not torch.equal(parameter, before[key]), key
    spread_or_accuracy = method.monitor(*(x.detach() for x in embeddings))
    assert all(value.ndim == 0 and value.isfinite() for value in spread_or_accuracy.values())
    assert spread_or_accuracy.keys() & {"embedding_spread", "label_accuracy"}


def frozen_nowhere(name):
    return {"frozen_epochs": 0.0} if hasattr(METHODS[name][1], "frozen_epochs") else {}


@each_method
def test_backbone_and_projector_are_one_after_the_other(name):
    method = tiny_method(name)
    assert isinstance(method.projector, nn.Sequential)
    images = tiny_batch(name).views[0]
    with evaluation_mode(method), torch.no_grad():
        features = method.backbone(images)
        assert features.shape == (8, method.backbone.feature_size)
        for layer in method.projector:
            features = layer(features)
    assert len(features) == 8


@each_method
def test_what_is_saved_is_all_there_is(name):
    """Two methods with the same state continue alike: it includes queues, centres and teachers."""
    first, second = tiny_method(name), tiny_method(name, seed=9)
    optimizer = sgd(first)
    for seed in range(2):
        step(first, optimizer, tiny_batch(name, seed=seed))
    second.load_state_dict(first.state_dict())
    second.progress = first.progress
    for method in (first, second):
        method.train()
        torch.manual_seed(3)
        optimizer = sgd(method)
        method.losses = [step(method, optimizer, tiny_batch(name, seed=s)) for s in (2, 3)]
    assert first.losses == second.losses
    for (key, a), (_, b) in zip(
        first.state_dict().items(), second.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), key


@each_method
def test_evaluation_changes_nothing(name):
    method = tiny_method(name).eval()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with torch.no_grad():
        method.loss(*method(*method.inputs(tiny_batch(name))))
    for key, value in method.state_dict().items():
        assert torch.equal(value, before[key]), key


@each_method
def test_micro_batches_give_the_same_gradient_or_are_refused(name):
    try:
        tiny_recipe(name, micro_batch=4)
    except ValueError as error:
        assert "micro_batch must be 0" in str(error) and "a smaller batch_size" in str(error)
        return
    # SwAV's unit vectors are float32. Gradients left by cancellation are compared with the largest.
    dtype, tolerance = (torch.float32, 1e-5) if name == "swav" else (torch.float64, 1e-10)
    whole, parts = (tiny_method(name).eval().to(dtype) for _ in range(2))  # fixed statistics
    batch = tiny_batch(name)
    batch = batch._replace(views=[view.to(dtype) for view in batch.views])
    torch.manual_seed(2)
    loss = whole.loss(*whole(*whole.inputs(batch)))
    loss.backward()
    torch.manual_seed(2)
    found, _ = GradCache(parts, parts.loss, 3)(*parts.inputs(batch))
    torch.testing.assert_close(found, loss.detach())
    largest = max(p.grad.abs().max() for p in whole.parameters() if p.grad is not None)
    for (key, a), (_, b) in zip(parts.named_parameters(), whole.named_parameters(), strict=True):
        if b.grad is None:
            assert a.grad is None, key
        else:
            assert (a.grad - b.grad).abs().max() <= tolerance * largest, key


@pytest.mark.parametrize("name", ["moco_v2", "nnclr"])
def test_micro_batches_fill_the_queue_once(name):
    method, batch = tiny_method(name), tiny_batch(name)
    GradCache(method, method.loss, 3)(*method.inputs(batch))
    assert method.loss.queue.bank_ptr == 8


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_predictors_learn_faster(name):
    method = tiny_method(name, predictor_rate=7.0)
    rates = {key: method.rate(key) for key, _ in method.named_parameters()}
    assert {rate for key, rate in rates.items() if key.startswith("predictor.")} == {7.0}
    assert {rate for key, rate in rates.items() if not key.startswith("predictor.")} == {1.0}


@each_method
def test_published_settings_are_settings(name):
    recipe_class = METHODS[name][1]
    assert recipe_class.published.keys() <= {field.name for field in fields(recipe_class)}
    recipe = override(recipe_class, [], published=True)
    given = asdict(recipe)
    for key, value in recipe_class.published.items():
        assert given[key] == value and type(value) is type(getattr(recipe_class(), key)), key


@each_method
def test_views_of_folders(name):
    recipe = METHODS[name][1]()
    views = recipe.views()
    assert all(isinstance(view, View) for view in views)
    assert len(views) == recipe.global_views + recipe.local_views
    sizes = [recipe.image_size] * recipe.global_views + [recipe.local_size] * recipe.local_views
    assert [view.size for view in views] == sizes
