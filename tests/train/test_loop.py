"""The loop on a small method with a known loss."""

import json
import math

import pytest
import torch
from torch import nn

from sslkernels.data import ViewBatch
from sslkernels.train import Recipe, loop, train
from sslkernels.train.checkpoint import load
from sslkernels.train.log import read_metrics
from sslkernels.train.methods import Method
from sslkernels.train.optimizers import set_schedule


class Quadratic(Method):
    """Pulls one weight to 3, and fails at a chosen call."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.backbone = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.backbone.weight)
        self.calls, self.fail_at, self.seen = 0, fail_at, []

    def forward(self, view0, view1):
        self.calls += 1
        self.seen.append((self.training, round(self.progress * 20)))
        return view0.flatten(1), view1.flatten(1)

    def loss(self, embeddings0, embeddings1):
        loss = (self.backbone.weight - 3).square().sum()
        return loss * math.nan if self.calls == self.fail_at else loss

    def after_step(self):
        self.seen.append(round(self.progress * 20))


class Batches(list):
    """The same five batches in each epoch."""

    def state_dict(self):
        return {}


def batch(number):
    views = list(torch.randn(2, 8, 1, 4, 4))
    indices = torch.arange(8) + 8 * number
    return ViewBatch(views, torch.zeros(2, 8, 13), torch.zeros(8, dtype=torch.int64), indices)


BATCHES = Batches(batch(number) for number in range(5))


def recipe(**changes):
    defaults = {"epochs": 4, "batch_size": 8, "learning_rate": 0.1, "weight_decay": 0.0}
    defaults |= {"warmup_epochs": 1, "evaluate_every": 3, "log_every": 2, "device": "cpu"}
    return Recipe(**(defaults | changes))


def test_loss_falls_and_metrics_are_written(tmp_path):
    method = Quadratic()
    history = train(method, BATCHES, recipe(), tmp_path, lambda backbone: {"knn_accuracy": 0.25})
    losses = [row["loss"] for row in history]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 2
    assert method.calls == 20

    rows = read_metrics(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-4)
    assert all(row["images_per_second"] > 0 and "embedding_spread" in row for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] > 0
    steps = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]
    assert [row["epoch"] for row in steps[:4]] == [1, 1, 1, 2]
    assert sum(row["loss"] for row in steps if row["epoch"] == 1) / 3 == pytest.approx(
        losses[0], rel=0.2
    )


def test_equals_plain_steps_of_the_optimizer(tmp_path):
    method, plain = Quadratic(), Quadratic()
    train(method, BATCHES, recipe(), tmp_path)
    optimizer = torch.optim.AdamW(plain.parameters(), weight_decay=0.0)
    for step in range(20):
        set_schedule(optimizer, recipe(), step, 5)
        plain.zero_grad()
        plain.loss(*plain(*BATCHES[0].views)).backward()
        optimizer.step()
    torch.testing.assert_close(method.backbone.weight, plain.backbone.weight)


def test_clipping_bounds_the_step(tmp_path):
    method = Quadratic()
    plain = {"optimizer": "sgd", "warmup_epochs": 0.0, "epochs": 1, "clip": 0.5}
    train(method, Batches(BATCHES[:1]), recipe(**plain), tmp_path)
    assert method.backbone.weight.item() == pytest.approx(0.1 * 0.5)  # its gradient is -6


def test_every_step_is_in_training_mode_and_knows_its_place(tmp_path):
    method = Quadratic()
    train(method.eval(), BATCHES, recipe(), tmp_path, lambda backbone: bool(method.eval()) and {})
    expected = [x for step in range(20) for x in ((True, step), step + 1)]
    assert method.seen == expected


def test_evaluates_every_so_often_and_at_the_end(tmp_path):
    seen = []

    def evaluate(backbone):
        seen.append(backbone)
        return {"knn_accuracy": 0.5}

    method = Quadratic()
    history = train(method, BATCHES, recipe(), tmp_path, evaluate)
    assert seen == [method.backbone] * 2
    assert [row.get("knn_accuracy") for row in history] == [None, None, 0.5, 0.5]


def test_checkpoint_restores_the_weights(tmp_path):
    method = Quadratic()
    train(method, BATCHES, recipe(), tmp_path)
    checkpoint = load(tmp_path / "checkpoint.pt")
    assert checkpoint["step"] == 20
    assert checkpoint["recipe"]["learning_rate"] == 0.1
    other = Quadratic()
    other.backbone.load_state_dict(checkpoint["backbone"])
    assert torch.equal(other.backbone.weight, method.backbone.weight)
    assert other.backbone.weight.item() != 0
    assert not list(tmp_path.glob("*.unfinished"))


def test_non_finite_loss_stops_and_says_where(tmp_path):
    method = Quadratic(fail_at=8)
    with pytest.raises(FloatingPointError, match="loss is nan at step 8, of images 16, 17, 18"):
        train(method, BATCHES, recipe(), tmp_path)
    assert method.backbone.weight.isfinite().all()
    assert method.calls == 8
    assert len(read_metrics(tmp_path)) == 1
    assert load(tmp_path / "checkpoint.pt")["step"] == 5
    failure = load(tmp_path / "failure.pt")
    assert failure["images"].tolist() == list(range(16, 24))
    assert failure["step"] == 7
    assert torch.equal(failure["backbone"]["weight"], method.backbone.weight)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_a_loss_that_is_read_late(tmp_path, monkeypatch, optimizer):
    """As on a GPU: the same weights and rows; if the loss is not finite, no weight changes."""
    settings = recipe(optimizer=optimizer, learning_rate=0.01)
    now, late = Quadratic(), Quadratic()
    (tmp_path / "late").mkdir()
    expected = train(now, BATCHES, settings, tmp_path)
    monkeypatch.setattr(loop, "LATE", ("cpu",))
    found = train(late, BATCHES, settings, tmp_path / "late")
    torch.testing.assert_close(late.backbone.weight, now.backbone.weight)
    assert [row["step"] for row in found] == [5, 10, 15, 20]
    for key in ("loss", "learning_rate", "embedding_spread"):
        assert [row[key] for row in found] == pytest.approx(
            [row[key] for row in expected], rel=1e-5
        )
    steps = [(tmp_path / name / "steps.jsonl").read_text().splitlines() for name in ("", "late")]
    assert len(steps[0]) == len(steps[1]) == 12

    failing, known = Quadratic(fail_at=8), Quadratic(fail_at=8)
    (tmp_path / "failing").mkdir()
    with pytest.raises(FloatingPointError, match="loss is nan at step 8, of images 16, 17, 18"):
        train(failing, BATCHES, settings, tmp_path / "failing")
    monkeypatch.setattr(loop, "LATE", ())
    (tmp_path / "known").mkdir()
    with pytest.raises(FloatingPointError):
        train(known, BATCHES, settings, tmp_path / "known")
    failure = load(tmp_path / "failing" / "failure.pt")
    assert failing.calls == 9 and failure["step"] == 7
    assert failure["images"].tolist() == list(range(16, 24))
    torch.testing.assert_close(failure["backbone"]["weight"], known.backbone.weight)


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_precisions(tmp_path, precision):
    seen = set()

    class Watched(Quadratic):
        def forward(self, *views):
            embeddings = [self.backbone(view.flatten()[:8, None]) for view in views]
            seen.add(embeddings[0].dtype)
            return embeddings

    train(Watched(), BATCHES, recipe(precision=precision, epochs=1), tmp_path)
    assert seen == {getattr(torch, precision)}


def test_compiled_network_learns_the_same(tmp_path):
    plain, compiled = Quadratic(), Quadratic()
    (tmp_path / "compiled").mkdir()
    train(plain, BATCHES, recipe(epochs=1), tmp_path)
    train(compiled, BATCHES, recipe(epochs=1, compile=True), tmp_path / "compiled")
    torch.testing.assert_close(plain.backbone.weight, compiled.backbone.weight)


def test_arguments_are_checked_before_all_else(tmp_path):
    with pytest.raises(TypeError, match="method must be a Method, got a Linear"):
        train(nn.Linear(1, 1), BATCHES, recipe(), tmp_path)
    with pytest.raises(ValueError, match="batches must be one at least, got none"):
        train(Quadratic(), Batches(), recipe(), tmp_path)
    with pytest.raises(ValueError, match="folder must be one that exists, got .*none"):
        train(Quadratic(), BATCHES, recipe(), str(tmp_path / "none"))


def test_a_full_disk_is_an_os_error(tmp_path, monkeypatch):
    train(Quadratic(), BATCHES, recipe(epochs=1), tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.unfinished").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left|cannot write"):
        train(Quadratic(), BATCHES, recipe(), tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not (tmp_path / "checkpoint.unfinished").exists()
