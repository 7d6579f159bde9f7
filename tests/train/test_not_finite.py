"""NaN in a loss, a gradient, a teacher or a buffer: no persistent state is affected."""

import math

import pytest
import torch
from small_run import small_batches, small_method, small_recipe
from torch import nn

from sslkernels.train import loop, train
from sslkernels.train.buffers import Buffers, FiniteBuffers
from sslkernels.train.checkpoint import load
from sslkernels.train.step import gradient_norm

STEPS = 4  # per epoch
WHEN = {"amid an epoch": 6, "at its end": 8}


def tensors(state):
    if isinstance(state, torch.Tensor):
        yield state
    for x in state.values() if isinstance(state, dict) else []:
        yield from tensors(x)


def is_finite(saved):
    parts = [saved["method"], saved["optimizer"]["state"], saved["scaler"]]
    return all(x.isfinite().all() for part in parts for x in tensors(part))


def plant(method, where, step):
    """NaN at the given step, counted from 1, in the given part of the loop."""
    count = 0
    forward, loss = method.forward, method.loss

    def counted(*views):
        nonlocal count
        count += 1
        return forward(*views)

    def first_row(module, inputs, output):
        if count == step:
            spoiled = output.clone()
            spoiled[0] = math.nan
            return spoiled

    def count_up(*_):
        method.seen += math.inf if count == step else 1.0

    method.forward = counted
    if where == "loss":

        class Loss(nn.Module):
            def forward(self, *embeddings):
                return loss(*embeddings) * (math.nan if count == step else 1)

        method.loss = Loss()  # its own parameters stay, for there are none
    elif where == "gradient":
        weight = next(p for p in method.parameters() if p.requires_grad)
        weight.register_hook(lambda grad: grad.clone().index_fill_(0, torch.tensor(0), math.nan)
                             if count == step else None)  # fmt: skip
    elif where == "teacher's row":
        method.teacher.register_forward_hook(first_row)
    elif where == "teacher's first layer":  # from where it enters batch normalisation
        layer = next(x for x in method.teacher.modules() if isinstance(x, nn.Conv2d))
        layer.register_forward_hook(first_row)
    else:  # a running mean that the loss does not use
        method.register_buffer("seen", torch.zeros(2), persistent=True)
        method.register_forward_hook(count_up)


PLANTS = [
    ("simclr", "loss", "loss is nan"),
    ("simclr", "gradient", "norm of the gradients is nan"),
    ("simclr", "buffer", "largest buffer is inf"),
    ("moco_v2", "teacher's row", "(loss|largest buffer) is nan"),
    ("moco_v2", "teacher's first layer", "(loss|largest buffer) is nan"),
    ("byol", "teacher's first layer", "loss is nan"),
]


@pytest.mark.parametrize("name, where, words", PLANTS, ids=lambda x: x.partition(" is")[0])
@pytest.mark.parametrize(
    "when, is_late", [("amid an epoch", True), ("at its end", False), ("at its end", True)]
)
def test_a_step_that_is_not_finite(tmp_path, monkeypatch, name, where, words, when, is_late):
    monkeypatch.setattr(loop, "LATE", ("cpu",) if is_late else ())
    step = WHEN[when]
    recipe = small_recipe(name, "queue_size=64") if name == "moco_v2" else small_recipe(name)
    method, batches = small_method(name, recipe), small_batches(recipe)
    images = [batch.indices.tolist() for _ in range(2) for batch in batches]
    batches = small_batches(recipe)
    plant(method, where, step)
    first = ", ".join(map(str, images[step - 1][:8]))
    with pytest.raises(FloatingPointError, match=f"{words} at step {step}, of images {first}, …"):
        train(method, batches, recipe, tmp_path)
    failure = load(tmp_path / "failure.pt")
    assert failure["step"] == step - 1 and failure["images"].tolist() == images[step - 1]
    assert is_finite(failure)
    saved = load(tmp_path / "checkpoint.pt")
    assert saved["step"] == STEPS and is_finite(saved)
    if (
        is_late and step == 6 and where in ("gradient", "teacher's row")
    ):  # of the same keys as the whole run
        again = small_method(name, recipe)
        history = train(again, small_batches(recipe), recipe, tmp_path, resume=True)
        assert [row["step"] for row in history] == [4, 8, 12]
        assert is_finite(load(tmp_path / "checkpoint.pt"))


@pytest.mark.parametrize("is_late", [False, True], ids=["now", "late"])
def test_the_failure_holds_what_was_before_the_step(tmp_path, monkeypatch, is_late):
    """Weights, buffers and optimiser state equal those of a run that ends there."""
    monkeypatch.setattr(loop, "LATE", ("cpu",) if is_late else ())
    recipe = small_recipe("simclr", "optimizer=sgd")
    method = small_method("simclr", recipe)
    plant(method, "gradient", 9)
    with pytest.raises(FloatingPointError):
        train(method, small_batches(recipe), recipe, tmp_path)
    failure, saved = load(tmp_path / "failure.pt"), load(tmp_path / "checkpoint.pt")
    assert saved["step"] == failure["step"] == 8
    for key, value in saved["method"].items():
        assert torch.equal(failure["method"][key], value), key
        assert torch.equal(method.state_dict()[key], value), key
    for a, b in zip(tensors(failure["optimizer"]["state"]), tensors(saved["optimizer"]["state"]),
                    strict=True):  # fmt: skip
        assert torch.equal(a, b)


def test_weights_that_are_not_finite_are_no_checkpoint(tmp_path):
    recipe = small_recipe("simclr", "epochs=2")
    method, steps = small_method("simclr", recipe), 0

    def after_step():
        nonlocal steps
        steps += 1
        if steps == 8:
            next(method.parameters()).data.fill_(math.inf)

    method.after_step = after_step
    with pytest.raises(FloatingPointError, match="norm of the weights is not finite after step 8"):
        train(method, small_batches(recipe), recipe, tmp_path)
    assert load(tmp_path / "checkpoint.pt")["step"] == 4


def test_a_scaler_lowers_its_scale_and_no_longer_than_there_is_one():
    weight = nn.Parameter(torch.ones(2))
    method = nn.ParameterList([weight])
    method.before_step = lambda: None
    optimizer = torch.optim.SGD([weight], 0.1)
    for scale, expected in ((65536.0, True), (2.0, True), (1.0, False), (0.5, False)):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(torch.zeros(()))
        weight.grad = torch.tensor([1.0, math.nan])
        assert bool(gradient_norm(method, optimizer, scaler).isfinite()) == expected
        weight.grad = torch.tensor([3.0, 4.0]) * scale
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(torch.zeros(()))
        assert gradient_norm(method, optimizer, scaler) == 5


def test_gradients_that_float16_can_never_hold_end_training(tmp_path):
    recipe = small_recipe("simclr", "precision=float16", "epochs=30")
    method = small_method("simclr", recipe)
    weight = next(method.parameters())
    weight.register_hook(lambda grad: grad * math.nan)
    before = weight.detach().clone()
    with pytest.raises(FloatingPointError, match="norm of the gradients is nan at step 17"):
        train(method, small_batches(recipe), recipe, tmp_path)
    assert torch.equal(weight, before)  # 16 times the scale was halved


def test_buffers_return_whoever_wrote_or_replaced_them():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False))
    module.register_buffer("center", torch.ones(2), persistent=False)
    expected = {key: value.clone() for key, value in module.named_buffers()}
    center, before = module.center, Buffers(module)
    module(torch.randn(8, 3))
    module.center = torch.full((5,), math.nan)
    module[1].running_mean = torch.zeros(3)
    before.restore()
    found = dict(module.named_buffers())
    assert found.keys() == expected.keys() and module.center is center
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_buffers_that_never_were_finite_are_not_watched():
    module = nn.Module()
    module.register_buffer("mask", torch.full((2, 2), -math.inf))
    module.register_buffer("count", torch.zeros(2, dtype=torch.int64))
    assert FiniteBuffers(module).largest(torch.ones(1)) == 0
    module.register_buffer("queue", torch.eye(2).half())
    watch = FiniteBuffers(module)
    assert watch.largest(torch.ones(1)) == 1
    module.queue = torch.tensor([1.0, math.nan])
    assert not watch.largest(torch.ones(1)).isfinite()
