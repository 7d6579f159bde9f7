"""Evaluation of a finished run: its numbers, its table, its plots, and errors."""

import json
import shutil

import pytest
import torch
from pictures import write_pictures
from torch import nn

from sslkernels.data import load_digits
from sslkernels.eval import evaluate
from sslkernels.eval.__main__ import finished_run, main
from sslkernels.eval.depth import encode_depths, layers_of
from sslkernels.eval.pictures import mosaic, training_views
from sslkernels.eval.table import tables
from sslkernels.metrics import (
    alignment,
    encode,
    knn_accuracy,
    lidar,
    linear_probe,
    rankme,
    relative_distance,
    uniformity,
)
from sslkernels.train import datasets
from sslkernels.train.__main__ import main as train

SMALL = ["epochs=1", "batch_size=50", "width=4", "device=cpu", "precision=float32"]
PICTURES = ["training.png", "depth.png", "spectrum.png", "map.png", "views.png"]


@pytest.fixture(scope="module")
def few_digits():
    def load(device):
        return [type(split)(*(t[::10] for t in split)) for split in load_digits(device)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_digits", load)
        yield


@pytest.fixture(scope="module")
def trained(few_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train(["simclr", "--name", "run", "reader=memory", "hidden_size=24", *SMALL]) == 0
    return folder / "runs" / "run"


@pytest.fixture
def run_folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_layers_begin_at_linear_ones():
    projector = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)
    )
    layers = layers_of(projector)
    assert [len(layer) for layer in layers] == [3, 2, 1]
    assert [module for layer in layers for module in layer] == list(projector)
    assert layers_of(nn.Sequential()) == []


def test_depths_are_what_the_network_goes_through(trained):
    run = finished_run(trained)
    found, labels = encode_depths(run.method, run.data.evaluation_batches("test"), "float32")
    assert [tuple(x.shape) for x in found.values()] == [(100, 16), (100, 24), (100, 64)]
    images = torch.cat([x for x, _ in run.data.evaluation_batches("test")])
    with torch.no_grad():
        features = run.method.backbone(images)
        output = run.method.projector(features)
    torch.testing.assert_close(found["backbone"], features)
    torch.testing.assert_close(found["projector 2"], output)
    assert (found["projector 1"] >= 0).all()  # after its ReLU
    assert torch.equal(labels, torch.arange(10).repeat_interleave(10))


def test_a_projector_of_several_images_is_left_out(trained):
    run = finished_run(trained)
    run.method.projector = nn.Sequential(nn.Linear(32, 4))
    found, _ = encode_depths(run.method, run.data.evaluation_batches("test"), "float32")
    assert list(found) == ["backbone"]


def test_numbers_are_those_of_the_metrics(trained):
    run = finished_run(trained)
    lines = []
    numbers = evaluate(run, images=30, views=4, log=lines.append).numbers
    assert (numbers["method"], numbers["train_images"], numbers["test_images"]) == (
        "simclr",
        400,
        100,
    )
    assert (numbers["augmented_images"], numbers["views"]) == (30, 4)
    assert [row["depth"] for row in numbers["depths"]] == ["backbone", "projector 1", "projector 2"]
    assert "features of 4 views of each of 30 test images at most" in lines

    encoder, data = run.method.backbone, run.data
    train_features = encode(encoder, data.evaluation_batches("train"))
    test_features = encode(encoder, data.evaluation_batches("test"))
    row = numbers["depths"][0]
    assert row["features"] == 16
    assert row["knn_accuracy"] == knn_accuracy(*train_features, *test_features)
    assert row["linear_accuracy"] == linear_probe(*train_features, *test_features)
    assert row["rankme"] == pytest.approx(rankme(train_features[0]), rel=1e-6)
    assert row["uniformity"] == pytest.approx(float(uniformity(test_features[0])), rel=1e-5)
    with torch.no_grad():
        views = torch.cat(list(data.repeated_views(30, 4)))
        features = encoder(views.flatten(0, 1)).unflatten(0, (30, 4))
        assert row["lidar"] == pytest.approx(lidar(features), rel=1e-4)
        aligned = float(alignment(features[:, 0], features[:, 1]))
        assert row["alignment"] == pytest.approx(aligned, rel=1e-4)
        (single,) = data.augmented_batches(30)
        for name in ("scale", "rotation", "shift"):
            distance = relative_distance(encoder(single["plain"]), encoder(single[name]))
            assert row["relative_distance"][name] == pytest.approx(distance, rel=1e-4)
    assert evaluate(run, images=30, views=4).numbers == numbers


def test_too_few_images_or_views(trained):
    run = finished_run(trained)
    with pytest.raises(ValueError, match="images must be at least 2, got 1"):
        evaluate(run, images=1)


def test_command_line_writes_a_table_json_and_pictures(run_folder, capsys):
    assert main([str(run_folder), "--images", "20", "--views", "2"]) == 0
    output = capsys.readouterr()
    numbers = json.loads((run_folder / "evaluation.json").read_text())
    assert tables(numbers, {}).splitlines()[-1] in output.out
    results = json.loads((run_folder / "results.json").read_text())["knn_accuracy"]
    accuracies = [line.split()[-1] for line in output.out.splitlines() if line.startswith("raw")]
    assert accuracies == [f"{results['raw pixels']:.1%}"]
    assert f"{numbers['depths'][0]['knn_accuracy']:.1%}" in output.out
    for name in PICTURES:
        assert (run_folder / name).read_bytes().startswith(b"\x89PNG")
        assert f"{run_folder / name}" in output.out
    assert "… features of the test split" in output.err


def test_json(run_folder, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    (run_folder / "results.json").unlink()
    assert main([str(run_folder), "--json", "--images", "20", "--views", "2"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == json.loads((run_folder / "evaluation.json").read_text())
    assert "No pictures: plots need matplotlib" in output.err


def unfinished(folder):
    (folder / "metrics.jsonl").write_text("")


def without_checkpoint(folder):
    (folder / "checkpoint.pt").unlink()


def of_another_method(folder):
    recipe = json.loads((folder / "recipe.json").read_text())
    del recipe["temperature"], recipe["hidden_size"], recipe["embedding_size"]
    (folder / "recipe.json").write_text(json.dumps(recipe | {"method": "vicreg"}))


def of_nothing(folder):
    (folder / "recipe.json").unlink()


def missing(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (missing, "there is no run in"),
        (of_nothing, "holds no run"),
        (of_another_method, "checkpoint.pt does not fit its recipe.json: Error(s) in loading"),
        (without_checkpoint, "has not come to a checkpoint"),
        (unfinished, "is not finished: 0 of 1 epochs are done; go on with it: python -m"),
    ],
)
def test_what_is_no_finished_run_is_one_line(run_folder, capsys, break_it, message):
    break_it(run_folder)
    assert main([str(run_folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m sslkernels.eval: error: ") and message in line


def test_a_folder_that_cannot_be_written(run_folder, capsys, monkeypatch):
    (run_folder / "evaluation.json").mkdir()
    assert main([str(run_folder), "--images", "20", "--views", "2"]) == 1
    assert "cannot go on: " in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_of_images_without_classes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "photos", classes=1, per_class=40)
    options = ["data=photos/class0", "reader=pil", "image_size=16", *SMALL, "batch_size=8"]
    assert train(["simclr", "--name", "folder", *options]) == 0
    run = finished_run("runs/folder")
    assert [len(x) for x in run.data.repeated_views(3, 5)] == [3]
    (views,) = run.data.repeated_views(3, 5)
    assert views.shape == (3, 5, 3, 16, 16)
    assert not torch.allclose(views[:, 0], views[:, 1])
    (again,) = run.data.repeated_views(3, 5)
    assert torch.equal(views, again)
    assert main(["runs/folder", "--images", "4", "--views", "2"]) == 0
    numbers = json.loads((tmp_path / "runs" / "folder" / "evaluation.json").read_text())
    row = numbers["depths"][0]
    assert row["knn_accuracy"] is None and row["linear_accuracy"] is None
    assert list(row["relative_distance"]) == ["crop", "flip", "colour", "grey", "blur", "solarise"]
    assert all(value > 0 for value in row["relative_distance"].values())
    assert "–" in capsys.readouterr().out


def test_pretext_tasks_show_what_the_network_sees(few_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(["jigsaw", "--name", "j", "reader=memory", "permutations=3", *SMALL]) == 0
    run = finished_run("runs/j")
    names, shown = training_views(run)
    assert names == ["tiles"] and shown[0].shape == (50, 1, 26, 26)  # 3 · 8 and two gaps
    tiles = torch.arange(9.0)[:, None, None, None].expand(9, 2, 4, 4)
    whole = mosaic(tiles)
    assert whole.shape == (2, 14, 14)
    assert [[whole[0, y, x].item() for x in (0, 5, 10)] for y in (0, 5, 10)] == [
        [0, 1, 2], [3, 4, 5], [6, 7, 8],
    ]  # fmt: skip
    assert (whole[:, 4] == 0).all() and (whole[:, :, 9] == 0).all()
