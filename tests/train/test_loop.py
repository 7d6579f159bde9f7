"""The loop on a small method whose loss is known."""

import csv
import math

import pytest
import torch
from torch import nn

from sslkernels.train import Recipe, train
from sslkernels.train.loop import COLUMNS, make_optimizer, warmup_cosine
from sslkernels.train.methods import Method


class Quadratic(Method):
    """Pulls one weight to 3, and fails or stops at a chosen call."""

    def __init__(self, fail_at=None, interrupt_at=None):
        super().__init__()
        self.backbone = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.backbone.weight)
        self.calls, self.fail_at, self.interrupt_at = 0, fail_at, interrupt_at

    def forward(self, view0, view1):
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        return view0.flatten(1), view1.flatten(1)

    def loss(self, embeddings0, embeddings1):
        loss = (self.backbone.weight - 3).square().sum()
        return loss * math.nan if self.calls == self.fail_at else loss


VIEWS = [(torch.randn(8, 1, 4, 4), torch.randn(8, 1, 4, 4)) for _ in range(5)]


def recipe(**changes):
    defaults = {"epochs": 4, "batch_size": 8, "learning_rate": 0.1, "weight_decay": 0.0}
    return Recipe(
        **(defaults | {"warmup_epochs": 1, "evaluate_every": 3, "device": "cpu"} | changes)
    )


def read_metrics(path):
    with (path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_loss_falls_and_metrics_are_written(tmp_path):
    method = Quadratic()
    history = train(method, VIEWS, recipe(), tmp_path, lambda backbone: 0.25)
    losses = [row["loss"] for row in history]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 2
    assert method.calls == 20

    rows = read_metrics(tmp_path)
    assert tuple(rows[0]) == COLUMNS
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["loss"]) for row in rows] == pytest.approx(losses, rel=1e-4)
    assert all(float(row["images_per_second"]) > 0 for row in rows)


def test_equals_plain_steps_of_the_optimizer(tmp_path):
    method, plain = Quadratic(), Quadratic()
    train(method, VIEWS, recipe(), tmp_path, lambda backbone: 0.0)
    optimizer = torch.optim.AdamW(plain.parameters(), weight_decay=0.0)
    for step in range(20):
        optimizer.param_groups[0]["lr"] = 0.1 * warmup_cosine(20, 5, step)
        plain.zero_grad()
        plain.loss(*plain(*VIEWS[0])).backward()
        optimizer.step()
    torch.testing.assert_close(method.backbone.weight, plain.backbone.weight)


def test_every_step_is_in_training_mode(tmp_path):
    modes = []
    method = Quadratic()
    method.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    method.eval()
    train(method, VIEWS, recipe(), tmp_path, lambda backbone: float(not method.eval().training))
    assert modes == [True] * 20


def test_evaluates_every_so_often_and_at_the_end(tmp_path):
    seen = []

    def evaluate(backbone):
        seen.append(backbone)
        return 0.5

    method = Quadratic()
    history = train(method, VIEWS, recipe(), tmp_path, evaluate)
    assert seen == [method.backbone] * 2
    assert [row["knn_accuracy"] for row in history] == pytest.approx(
        [math.nan, math.nan, 0.5, 0.5], nan_ok=True
    )


def test_checkpoint_restores_the_weights(tmp_path):
    method = Quadratic()
    train(method, VIEWS, recipe(), tmp_path, lambda backbone: 0.0)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["epoch"] == 4
    assert checkpoint["recipe"]["learning_rate"] == 0.1
    other = Quadratic()
    other.backbone.load_state_dict(checkpoint["backbone"])
    assert torch.equal(other.backbone.weight, method.backbone.weight)
    assert other.backbone.weight.item() != 0
    other.load_state_dict(checkpoint["method"])
    make_optimizer(other, recipe()).load_state_dict(checkpoint["optimizer"])
    assert not list(tmp_path.glob("*.unfinished"))


def test_interrupt_saves_what_there_is(tmp_path):
    method = Quadratic(interrupt_at=8)
    with pytest.raises(KeyboardInterrupt):
        train(method, VIEWS, recipe(), tmp_path, lambda backbone: 0.0)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["epoch"] == 1
    assert torch.equal(checkpoint["backbone"]["weight"], method.backbone.weight)
    assert len(read_metrics(tmp_path)) == 1


def test_non_finite_loss_stops_and_says_where(tmp_path):
    method = Quadratic(fail_at=8)
    with pytest.raises(FloatingPointError, match="loss is nan at epoch 2, step 3 of 5"):
        train(method, VIEWS, recipe(), tmp_path, lambda backbone: 0.0)
    assert method.backbone.weight.isfinite().all()
    assert method.calls == 8
    assert len(read_metrics(tmp_path)) == 1
    assert not (tmp_path / "checkpoint.pt").exists()


def test_learning_rate_rises_then_falls(tmp_path):
    history = train(Quadratic(), VIEWS, recipe(), tmp_path, lambda backbone: 0.0)
    rates = [row["learning_rate"] for row in history]
    expected = [0.1 * warmup_cosine(20, 5, step) for step in (4, 9, 14, 19)]
    assert rates == pytest.approx(expected)


def test_warmup_cosine():
    values = [warmup_cosine(100, 10, step) for step in range(101)]
    assert values[0] == pytest.approx(1 / 11)
    assert values[10] == 1 == max(values)
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[55] == pytest.approx(0.5)
    assert values[100] == pytest.approx(0, abs=1e-12)
    assert warmup_cosine(100, 0, 0) == 1


def test_only_matrices_decay():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, rest = make_optimizer(module, recipe(weight_decay=0.5)).param_groups
    assert decayed["weight_decay"] == 0.5 and rest["weight_decay"] == 0
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert [p.ndim for p in rest["params"]] == [1, 1, 1, 1]
