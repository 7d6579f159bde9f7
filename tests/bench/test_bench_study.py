"""A study's results are written with a description of the machine."""

import json

import pytest

from bench import study
from sslkernels.plots.panels import Panel
from sslkernels.study import Study
from sslkernels.study.study import line


def test_results_and_picture(tmp_path, monkeypatch):
    made_up = Study(
        question="Is it so?",
        settings=[{"size": 0.2}, {"size": 0.5}],
        epochs=2,
        trial=lambda setting, seed, epochs: {"share": setting["size"] + seed / 10},
        columns={"share": "a share"},
        panels=lambda rows: [Panel("p", "size", [line(rows, "size", "share", "it")])],
    )
    monkeypatch.setitem(study.STUDIES, "made-up", made_up)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study, "DOCUMENTS", tmp_path)
    study.main(["made-up", "--seeds", "3"])
    (path,) = (tmp_path / "results").glob("*/study-made-up.json")
    content = json.loads(path.read_text())
    assert content["command"] == "python -m bench.study made-up --seeds 3"
    assert (content["study"], content["epochs"], len(content["trials"])) == ("made-up", 2, 6)
    first, second = content["rows"]
    assert (first["size"], first["seeds"], second["size"]) == (0.2, 3, 0.5)
    assert second["mean"]["share"] == pytest.approx(0.6)
    assert second["std"]["share"] == pytest.approx(0.1)
    assert content["commit"] and content["cpu"]
    assert (tmp_path / "study-made-up.png").read_bytes().startswith(b"\x89PNG")
