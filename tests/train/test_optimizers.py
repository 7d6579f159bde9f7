"""LARS against its formula, and the schedules."""

import pytest
import torch
from torch import nn

from sslkernels.train import Recipe
from sslkernels.train.methods import Method
from sslkernels.train.optimizers import LARS, growth, make_optimizer, set_schedule, warmup_cosine


class Layers(nn.Sequential, Method):
    """Layers with one learning rate, except possibly the last."""

    last_rate = 1.0

    def rate(self, name):
        return self.last_rate if name.startswith("3.") else 1.0


def network():
    torch.manual_seed(0)
    return Layers(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def naive_lars(p, grads, lr, decay, trust=1e-3, momentum=0.9):
    """Parameter by parameter, in float64."""
    p, velocity = p.double(), 0.0
    for grad in grads:
        update = grad.double()
        if p.ndim > 1:
            update = update + decay * p
            if p.norm() > 0 and update.norm() > 0:
                update = update * trust * p.norm() / update.norm()
        velocity = momentum * velocity + update
        p = p - lr * velocity
    return p


def test_lars_is_its_formula():
    module = network()
    nn.init.zeros_(module[3].weight)  # a norm of 0 scales nothing
    start = [p.detach().clone() for p in module.parameters()]
    recipe = Recipe(optimizer="lars", learning_rate=3.0, weight_decay=0.1)
    optimizer = make_optimizer(module, recipe)
    assert isinstance(optimizer, LARS)
    grads = [[torch.randn_like(p) for p in module.parameters()] for _ in range(3)]
    for step in grads:
        for p, grad in zip(module.parameters(), step, strict=True):
            p.grad = grad.clone()
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(module.parameters(), step, strict=True))
    for i, p in enumerate(module.parameters()):
        expected = naive_lars(start[i], [step[i] for step in grads], 3.0, 0.1)
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_lars_leaves_what_has_no_gradient():
    module = network()
    before = module[0].weight.detach().clone()
    optimizer = LARS(module.parameters(), 1.0, weight_decay=0.1)
    module[3].weight.grad = torch.ones_like(module[3].weight)
    optimizer.step()
    assert torch.equal(module[0].weight, before)


@pytest.mark.parametrize("options", [{"lr": 0}, {"lr": 1, "momentum": 1}, {"lr": 1, "trust": 0}])
def test_lars_of_wrong_numbers(options):
    with pytest.raises(ValueError, match="lr and trust must be above 0"):
        LARS(network().parameters(), **options)


@pytest.mark.parametrize("name", ["adamw", "lars", "sgd"])
def test_only_matrices_decay(name):
    optimizer = make_optimizer(network(), Recipe(optimizer=name, weight_decay=0.5))
    decayed, rest = optimizer.param_groups
    assert decayed["weight_decay"] == 0.5 and rest["weight_decay"] == 0
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert [p.ndim for p in rest["params"]] == [1, 1, 1, 1]


def test_schedules_reach_the_optimizer():
    recipe = Recipe(
        epochs=4, learning_rate=0.1, warmup_epochs=1, weight_decay=0.2, weight_decay_growth=10
    )
    optimizer = make_optimizer(network(), recipe)
    decays = []
    for step in range(20):
        rate = set_schedule(optimizer, recipe, step, 5)
        assert rate == 0.1 * warmup_cosine(20, 5, step)
        assert [group["lr"] for group in optimizer.param_groups] == [rate] * 2
        decays.append(optimizer.param_groups[0]["weight_decay"])
        assert optimizer.param_groups[1]["weight_decay"] == 0
    assert decays[0] == pytest.approx(0.2)
    assert decays[10] == pytest.approx(1.1)
    assert decays == sorted(decays)


def test_a_part_learns_faster():
    module, recipe = network(), Recipe(learning_rate=0.1, weight_decay=0.2, warmup_epochs=0)
    module.last_rate = 10.0
    optimizer = make_optimizer(module, recipe)
    rate = set_schedule(optimizer, recipe, 3, 5)
    assert rate == 0.1 * warmup_cosine(100, 0, 3)
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    weight, bias = module[3].weight, module[3].bias
    assert found[id(weight)][0] == found[id(bias)][0] == 10 * rate
    assert found[id(module[0].weight)][0] == found[id(module[1].bias)][0] == rate
    assert found[id(bias)][1] == 0 < found[id(weight)][1] == found[id(module[0].weight)][1]


def test_growth():
    assert growth(10, 0) == 1 and growth(10, 1) == 10 and growth(1, 0.3) == 1


def test_warmup_cosine():
    values = [warmup_cosine(100, 10, step) for step in range(101)]
    assert values[0] == pytest.approx(1 / 11)
    assert values[10] == 1 == max(values)
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[55] == pytest.approx(0.5)
    assert values[100] == pytest.approx(0, abs=1e-12)
    assert warmup_cosine(100, 0, 0) == 1
