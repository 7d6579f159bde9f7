"""Several ranks train like one process with the global batch."""

import itertools

import pytest
import torch
from small_run import small_batches, small_method, small_recipe

from sslkernels.train import train
from sslkernels.train.checkpoint import load

RUNS = {
    "simclr": (),
    "vicreg": ("expander_size=32", "learning_rate=0.0002"),  # for a loss ten times as large
    "byol": (),
    "swav": ("prototypes=32",),
    "dino": ("prototypes=32", "local_views=1", "koleo=0.3", "frozen_epochs=0.5"),
    "lejepa": ("slices=32", "local_views=1"),
}
# Steps so small that the rounding of one does not grow in the next; Adam would divide it.
PLAIN = ("optimizer=sgd", "learning_rate=0.002", "warmup_epochs=0", "epochs=2")

pytestmark = pytest.mark.parametrize("gang", [2], indirect=True)


def work(rank, name, overrides, folder, world_size, resume=False):
    recipe = small_recipe(name, *PLAIN, *RUNS[name], *overrides)
    method = small_method(name, recipe)
    folder.mkdir(exist_ok=True)
    batches = small_batches(recipe, rank, world_size)
    rows = train(method, batches, recipe, folder, lambda backbone: {}, resume=resume)
    return [row["loss"] for row in rows], method.state_dict()


@pytest.mark.parametrize("name", RUNS)
def test_ranks_equal_one_process(gang, tmp_path, name):
    losses, weights = work(0, name, (), tmp_path / "one", 1)
    found = gang.run(work, name, (), tmp_path / "ranks", gang.size)
    for _, theirs in found:
        for key, value in weights.items():
            torch.testing.assert_close(theirs[key], value, rtol=1e-5, atol=1e-5, msg=key)
    assert found[0][0] == pytest.approx(losses, rel=1e-5)
    assert len((tmp_path / "ranks" / "metrics.jsonl").read_text().splitlines()) == 2
    assert len(load(tmp_path / "ranks" / "checkpoint.pt")["ranks"]) == gang.size


def test_without_synchronized_norms_they_differ(gang, tmp_path):
    _, weights = work(0, "simclr", (), tmp_path / "one", 1)
    found = gang.run(work, "simclr", ("sync_batch_norm=false",), tmp_path / "ranks", gang.size)
    weight = "projector.0.weight"
    assert not torch.allclose(found[0][1][weight], weights[weight], rtol=1e-5, atol=1e-5)
    assert torch.equal(found[0][1][weight], found[1][1][weight])


def test_ranks_with_micro_batches_are_one(gang, tmp_path):
    found = gang.run(work, "simclr", ("micro_batch=4",), tmp_path / "ranks", gang.size)
    for key, value in found[0][1].items():
        if "running" not in key:
            assert torch.equal(found[1][1][key], value)


def test_ranks_resume(gang, tmp_path):
    whole = gang.run(work, "dino", (), tmp_path / "whole", gang.size)
    gang.run(interrupted, "dino", tmp_path / "broken", gang.size)
    again = gang.run(work, "dino", (), tmp_path / "broken", gang.size, True)
    for rank in range(gang.size):
        assert all(torch.equal(again[rank][1][k], v) for k, v in whole[rank][1].items())


def interrupted(rank, name, folder, world_size):
    """Training in which one rank of several gets a signal to stop, between two steps."""
    from sslkernels.train import Stopped, loop

    def over_ranks(loss, number):
        nonlocal calls
        calls += 1
        return agree(loss, 15 if calls == 3 and rank == world_size - 1 else number)

    agree, calls = loop._over_ranks, 0
    loop._over_ranks = over_ranks
    try:
        work(rank, name, (), folder, world_size)
    except Stopped as stop:
        assert stop.signal == 15
    else:
        raise AssertionError("was not stopped")
    finally:
        loop._over_ranks = agree


def test_what_is_not_finite_on_one_rank_stops_all_before_their_step(gang, tmp_path):
    found = gang.run(spoiled, tmp_path / "ranks", gang.size)
    for words, is_finite in found:
        assert "is nan at step 3" in words and is_finite
    failure = load(tmp_path / "ranks" / "failure.pt")
    assert failure["step"] == 2
    assert all(x.isfinite().all() for x in failure["method"].values())


def spoiled(rank, folder, world_size):
    """Training in which the last rank's gradient is NaN in the third step."""
    recipe = small_recipe("simclr", *PLAIN)
    method = small_method("simclr", recipe)
    folder.mkdir(exist_ok=True)
    last = [p for p in method.parameters() if p.requires_grad][-1]
    steps = itertools.count(1)

    def hook(grad):
        return grad * float("nan") if next(steps) == 3 and rank == world_size - 1 else grad

    last.register_hook(hook)
    try:
        train(method, small_batches(recipe, rank, world_size), recipe, folder)
    except FloatingPointError as error:
        return str(error), all(x.isfinite().all() for x in method.state_dict().values())
    raise AssertionError("was not stopped")
