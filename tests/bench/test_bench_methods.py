"""The table of methods contains the measured values."""

import json

import pytest
import torch

from bench import methods
from sslkernels.data import DigitSplit, PhotoSplit, load_digits, load_photos
from sslkernels.train import datasets

SMALL = ["width=4", "batch_size=40"]


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    digits = [DigitSplit(*(x[::40] for x in split)) for split in load_digits()]
    photos = [PhotoSplit(*(x[::40] for x in split)) for split in load_photos()]
    monkeypatch.setattr(datasets, "load_digits", lambda device: digits)
    monkeypatch.setattr(datasets, "load_photos", lambda device: photos)


def test_results_and_the_page_made_of_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(methods, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(methods, "DOCUMENT", tmp_path / "docs" / "methods.md")
    names = "simclr,rotation,colorization,supervised"
    arguments = ["--methods", names, "--seconds", "0.2", "--seeds", "2", "--save", *SMALL]
    methods.main(arguments)
    (path,) = (tmp_path / "results").glob("*/methods-0.2s.json")
    content = json.loads(path.read_text())
    rows = content["rows"]
    expected = [(name, seed) for seed in (0, 1) for name in names.split(",")]
    assert [(row["method"], row["seed"]) for row in rows] == expected
    assert content["command"] == f"python -m bench.methods {' '.join(arguments)}"
    assert all(row["cpu_seconds"] > 0 and row["step"] == 2 * row["epochs"] for row in rows)

    page = (tmp_path / "docs" / "methods.md").read_text()
    mean = 50 * sum(row["knn_accuracy"] for row in rows[::4])
    assert f"| `simclr` | {mean:.1f} " in page and content["command"] in page
    assert f"| *raw pixels* | {100 * rows[0]['raw_pixels']:.1f} %" in page
    assert "| `colorization` | photos |" in page and "Supervision:" in page
    assert methods.tables(content) in page and page.count("## ") == 1
    methods.save(content | {"seconds": 0.1})
    methods.save(content | {"seconds": 0.1, "device": "Z 80", "torch": "9.9"})
    pages = (tmp_path / "docs" / "methods.md").read_text()
    assert pages.index("## 0.1 CPU seconds") < pages.index("## 0.2 CPU seconds, 2 seeds")
    assert pages.index("## 0.2 CPU") < pages.index("## 0.1 CPU seconds, 2 seeds, on Z 80")
    assert "with torch 9.9 by" in pages
    assert methods.tables(content) in capsys.readouterr().out


def test_more_seconds_are_more_epochs():
    short, long = (methods.run_method("simclr", 0, s, SMALL) for s in (0.1, 1.0))
    assert short["epochs"] < long["epochs"]
    assert short["random_encoder"] == long["random_encoder"]


def test_told_labels_are_counted(monkeypatch):
    row = methods.run_method("rotation", 0, 0.1, SMALL)
    assert 0 <= row["label_accuracy"] <= 1 and 0.25 <= row["chance"] < 0.6
    recipe = methods.override(methods.METHODS["rotation"][1], [*SMALL, "reader=memory"])
    data = methods.open_data(recipe, torch.device("cpu"))
    method = methods.make_method("rotation", recipe, data)
    seen = []

    def right(images, labels):
        seen.append(labels)
        return torch.eye(4)[labels], labels

    monkeypatch.setattr(method, "forward", right)
    accuracy, chance = methods.label_accuracy(method, data)
    labels = torch.cat(seen)
    assert accuracy == 1.0
    assert chance == pytest.approx(labels.bincount().max().item() / len(labels))


def test_an_unknown_method(capsys):
    with pytest.raises(SystemExit):
        methods.main(["--methods", "simclear"])
    assert "unknown method 'simclear'" in capsys.readouterr().err
