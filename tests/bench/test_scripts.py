"""The measurements besides the table: a large batch, ranks, views."""

import json

import pytest
import torch

from bench import large_batch, ring, step, views


@pytest.fixture
def results(tmp_path, monkeypatch):
    for module in (large_batch, ring, step, views):
        monkeypatch.setattr(module, "RESULTS", tmp_path)

    def read(name, dtype="float32"):
        (path,) = tmp_path.glob(f"*/{name}-{dtype}.json")
        return json.loads(path.read_text())

    return read


def test_large_batch(results, capsys):
    assert large_batch.main(["--shape", "300x16", "--device", "cpu", "--save"]) == 0
    content = results("large_batch")
    assert content["command"] == "python -m bench.large_batch --shape 300x16 --device cpu --save"
    assert 0 < content["gradient_error"] < 2e-6 and content["seconds"] > 0
    assert content["similarities_bytes"] == 4 * 600**2
    assert "600 embeddings of 16 features" in capsys.readouterr().out


def test_a_wrong_gradient_is_noticed(monkeypatch):
    right = large_batch.nt_xent
    monkeypatch.setattr(large_batch, "nt_xent", lambda *x: right(*x) * 1.001)
    assert large_batch.main(["--shape", "300x16", "--device", "cpu"]) == 1


def test_ring(results, monkeypatch, capsys):
    monkeypatch.setattr(ring, "RANKS", (2,))
    monkeypatch.setattr(ring, "LOSSES", {"clip": ring.LOSSES["clip"]})
    ring.main(["--shape", "64x16", "--save"])
    rows = results("ring")["rows"]
    assert [(row["ranks"], row["route"]) for row in rows] == [(2, "all"), (2, "ring")]
    assert all(row["share_bytes"] == 64 * 16 * 4 and row["seconds"] > 0 for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_views(results, capsys):
    before = torch.get_num_threads()
    try:
        views.main(["--images", "4", "--rounds", "1", "--save"])
    finally:
        torch.set_num_threads(before)
    content = results("views", "uint8")
    times = {row["impl"]: row["cpu_ms_per_image"] for row in content["rows"]}
    assert {"decode only", "ours", "torchvision-pil"} <= times.keys() and min(times.values()) > 0
    assert content["images"] == 4 and "torchvision-pil" in capsys.readouterr().out


def test_views_of_bytes_on_a_device():
    times = views.measure_gpu(views.cut_jpegs(2), rounds=1, device="cpu")
    assert {"ours", "torchvision-v2"} <= times.keys() and all(x > 0 for (x,) in times.values())


def test_step(results, capsys):
    step.main([*["--batch", "6", "--size", "32", "--rounds", "1", "--save"]])
    (path,) = step.RESULTS.glob("*/step-simclr-resnet.json")
    rows = json.loads(path.read_text())["rows"]
    assert [row["impl"] for row in rows] == ["before", "after"]
    assert all(row[part] > 0 for row in rows for part in step.PARTS)
    assert "augmentation" in capsys.readouterr().out
