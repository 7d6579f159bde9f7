"""Every method through the command line, on a few small images."""

import json
import math

import pytest
import torch
from tiny_methods import TINY, tiny_recipe

from sslkernels.data import DigitSplit, PhotoSplit, load_digits, load_photos
from sslkernels.train import datasets
from sslkernels.train.__main__ import main
from sslkernels.train.methods import METHODS
from sslkernels.train.run import load_run

FILES = {"checkpoint.pt", "metrics.jsonl", "recipe.json", "results.json", "training.png"}
EVERY = 50  # one of this many digits and patches of photographs is used


@pytest.fixture(scope="module")
def few():
    digits, photos = load_digits(), load_photos()
    return {
        "load_digits": [DigitSplit(*(x[::EVERY] for x in split)) for split in digits],
        "load_photos": [PhotoSplit(*(x[::EVERY] for x in split)) for split in photos],
    }


@pytest.mark.parametrize("name", METHODS)
def test_one_epoch(name, few, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for function, splits in few.items():
        monkeypatch.setattr(datasets, function, lambda device, splits=splits: splits)
    recipe = tiny_recipe(name)
    settings = {key: value for key, value in TINY.items() if hasattr(recipe, key)}
    settings |= {"width": recipe.width, "batch_size": 40, "epochs": 1}
    if name == "w_mse":
        settings["whitened_size"] = 20
    overrides = [f"{key}={value}" for key, value in settings.items()]
    if recipe.data == "digits":
        overrides.append("reader=memory")
    assert main([name, "--name", "tiny", "device=cpu", *overrides]) == 0, capsys.readouterr().err

    folder = tmp_path / "runs" / "tiny"
    assert {path.name for path in folder.iterdir()} >= FILES
    (row,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert row["step"] == 2 and math.isfinite(row["loss"])
    assert 0 <= row["knn_accuracy"] <= 1
    results = json.loads((folder / "results.json").read_text())
    assert list(results["knn_accuracy"]) == ["raw pixels", "random encoder", "trained encoder"]
    accuracy = results.get("label_accuracy")
    assert (accuracy is None) == ("embedding_spread" in row)

    run = load_run(folder, device="cpu")
    (images, _), *_ = run.data.evaluation_batches("test")
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)["backbone"]
    for key, value in run.method.backbone.state_dict().items():
        assert torch.equal(value, saved[key])
    assert run.method.backbone(images).isfinite().all()
