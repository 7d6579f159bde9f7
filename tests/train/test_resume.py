"""An interrupted and resumed run equals an uninterrupted one."""

import itertools
import os
import random
import signal

import numpy as np
import pytest
import torch
from pictures import write_pictures
from small_run import small_batches, small_method, small_recipe

from sslkernels.train import Stopped, train
from sslkernels.train.checkpoint import load, random_state, set_random_state
from sslkernels.train.datasets import open_data
from sslkernels.train.log import read_metrics

# With random masks, a teacher, a centre, a queue, puzzles; with none; with all kinds of schedules.
RUNS = {
    "moco_v2": ("queue_size=64",),
    "jigsaw": ("optimizer=sgd",),
    "simclr": ("optimizer=lars", "learning_rate=2", "clip=1"),
    "dino": ("weight_decay_growth=10", "prototypes=32", "local_views=1", "precision=bfloat16"),
    "ibot": ("prototypes=32", "local_views=0", "batch_size=40"),
    "lejepa": ("slices=32", "local_views=1"),
}


class Killed(Exception):
    pass


def run(name, folder, *, resume=False, after=None, do=None, **changes):
    """Train; call ``do`` after ``after`` steps of this call."""
    folder.mkdir(exist_ok=True)
    random.seed(0), np.random.seed(0)
    recipe = small_recipe(name, *RUNS[name], *(f"{k}={v}" for k, v in changes.items()))
    method = small_method(name, recipe)
    done, step = 0, method.after_step

    def after_step():
        nonlocal done
        step()
        torch.rand(1), random.random(), np.random.rand()  # must not change later draws
        done += 1
        if done == after:
            do()

    method.after_step = after_step
    train(method, small_batches(recipe), recipe, folder, lambda backbone: {}, resume=resume)
    return method


def test_folders_of_images_resume(tmp_path):
    write_pictures(tmp_path / "images", classes=2, per_class=10, height=24, width=24)
    overrides = (f"data={tmp_path}/images", "batch_size=6", "image_size=16", "reader=pil")
    recipe = small_recipe("simclr", *overrides)
    data = open_data(recipe, torch.device("cpu"))
    for name, stops in (("whole", []), ("broken", [2, 5])):
        folder = tmp_path / name
        folder.mkdir()
        resume = False
        for stop in [*stops, 0]:
            method = small_method("simclr", recipe, channels=3)
            count = itertools.count(1)
            method.after_step = lambda count=count, stop=stop: next(count) == stop and terminate()
            try:
                train(method, data.batches(), recipe, folder, resume=resume)
            except Stopped:
                resume = True
    same_run(tmp_path / "broken", tmp_path / "whole")


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def kill():
    raise Killed


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def same_run(folder, other):
    one, two = (load(path / "checkpoint.pt") for path in (folder, other))
    timed = ("seconds", "images_per_second")
    for saved in (one, two):
        saved["totals"].pop("seconds")
        saved["ended"] = {k: v for k, v in saved["ended"].items() if k not in timed}
    assert equal(one, two)
    rows = [
        [{k: v for k, v in row.items() if k not in timed} for row in read_metrics(path)]
        for path in (folder, other)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folders = {}
    for name in RUNS:
        folders[name] = tmp_path_factory.mktemp(name) / "whole"
        run(name, folders[name])
    return folders


@pytest.mark.parametrize("name, after", list(zip(RUNS, itertools.cycle([3, 5]), strict=False)))
def test_killed_and_resumed(whole, tmp_path, name, after):
    steps = 2 if name == "ibot" else 4  # an epoch
    with pytest.raises(Killed):
        run(name, tmp_path, after=steps + after % steps, do=kill)
    assert load(tmp_path / "checkpoint.pt")["step"] == steps
    run(name, tmp_path, resume=True)
    same_run(tmp_path, whole[name])


@pytest.mark.parametrize(
    "name, after", list(zip(2 * [*RUNS], itertools.cycle([1, 2, 4]), strict=False))
)
def test_terminated_and_resumed(whole, tmp_path, name, after):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stop:
        run(name, tmp_path, after=after, do=terminate)
    assert stop.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is handler
    assert load(tmp_path / "checkpoint.pt")["step"] in (after, after + 1)
    run(name, tmp_path, resume=True)
    same_run(tmp_path, whole[name])


@pytest.mark.parametrize("after", [8, 12])
def test_a_signal_at_the_end_of_an_epoch_does_not_wait_for_an_evaluation(tmp_path, after):
    """It is done after resuming, with the same random numbers."""

    def evaluate(backbone):
        evaluated.append(backbone)
        random.random(), torch.rand(1), np.random.rand()
        return {"knn_accuracy": len(evaluated) / 10}

    evaluated = []
    for name, stop in (("whole", 0), ("broken", after)):
        (folder := tmp_path / name).mkdir()
        evaluated.clear()
        random.seed(0), np.random.seed(0)
        recipe = small_recipe("simclr", "evaluate_every=1")
        method, count = small_method("simclr", recipe), itertools.count(1)
        method.after_step = lambda count=count, stop=stop: next(count) == stop and terminate()
        if not stop:
            train(method, small_batches(recipe), recipe, folder, evaluate)
            continue
        with pytest.raises(Stopped):
            train(method, small_batches(recipe), recipe, folder, evaluate)
        assert len(evaluated) == after // 4 - 1
        assert load(folder / "checkpoint.pt")["step"] == after
        method = small_method("simclr", recipe)
        train(method, small_batches(recipe), recipe, folder, evaluate, resume=True)
        assert len(evaluated) == 3
    same_run(tmp_path / "broken", tmp_path / "whole")


def test_more_epochs_on_resuming_are_said_loudly(tmp_path, capsys):
    run("simclr", tmp_path, epochs=2)
    with pytest.raises(ValueError, match="has epochs=2, asked for is 1"):
        run("simclr", tmp_path, resume=True, epochs=1)
    run("simclr", tmp_path, resume=True, epochs=4)
    assert "goes on to 4 epochs in place of 2: from here on" in capsys.readouterr().err
    rows = read_metrics(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[2]["learning_rate"] > rows[1]["learning_rate"]  # at whose end it was nearly 0
    run("simclr", tmp_path, resume=True, epochs=4)
    assert "in place of" not in capsys.readouterr().err


def test_another_method_does_not_resume(tmp_path):
    run("simclr", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    recipe = small_recipe("simclr", *RUNS["simclr"])
    started = []
    for method, words in (
        (small_method("moco_v2", small_recipe("moco_v2")), "is of SimCLR, asked for is MoCoV2"),
        (small_method("simclr", small_recipe("simclr", "width=4")), "does not fit the method"),
    ):
        with pytest.raises(ValueError, match=words):
            train(
                method, small_batches(recipe), recipe, tmp_path, resume=True,
                started=lambda: started.append(1),
            )  # fmt: skip
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert before == after and not started


def test_resumed_after_the_end_changes_nothing(whole, tmp_path):
    run("simclr", tmp_path)
    run("simclr", tmp_path, resume=True)
    same_run(tmp_path, whole["simclr"])


def test_another_recipe_does_not_resume(whole, tmp_path):
    run("simclr", tmp_path)
    with pytest.raises(ValueError, match="has temperature=0.2, asked for is 0.3"):
        run("simclr", tmp_path, resume=True, temperature=0.3)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(ValueError, match="has not come to a checkpoint"):
        run("simclr", tmp_path, resume=True)
    for content in (b"no", b""):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(ValueError, match="is no checkpoint: ."):
            run("simclr", tmp_path, resume=True)
    for other in ({"model": torch.ones(1)}, [1], torch.ones(2)):
        torch.save(other, tmp_path / "checkpoint.pt")
        with pytest.raises(ValueError, match="is no checkpoint of training: it lacks 'method'"):
            run("simclr", tmp_path, resume=True)


def test_a_checkpoint_without_all_that_goes_on(tmp_path):
    run("simclr", tmp_path)
    saved = load(tmp_path / "checkpoint.pt")
    torch.save({key: saved[key] for key in ("method", "recipe")}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="is no checkpoint of training: it lacks 'optimizer'"):
        run("simclr", tmp_path, resume=True)


def test_every_generator_returns():
    def draw():
        return random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()

    np.random.randn()  # leaves a second number for the next call
    state = random_state()
    first = draw()
    draw()
    set_random_state(state)
    assert draw() == first
