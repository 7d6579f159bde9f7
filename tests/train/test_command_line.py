"""The command line, end to end on a small run."""

import csv
import json
import sys

import pytest
import torch

from sslkernels import NTXentLoss
from sslkernels.data import HAS_DALI, load_digits
from sslkernels.train import __main__ as command_line
from sslkernels.train.__main__ import main
from sslkernels.train.backbones import SmallResNet

SMALL = [
    *("epochs=2", "batch_size=100", "width=8", "evaluate_every=1"),
    *("reader=memory", "device=cpu"),
]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def few_digits(monkeypatch):
    def load(device):
        return [type(split)(*(t[::4] for t in split)) for split in load_digits(device)]

    monkeypatch.setattr(command_line, "load_digits", load)


def read_losses(run_dir):
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_run_writes_everything_and_learns(in_folder, few_digits, capsys):
    assert main(["simclr", "--name", "small", *SMALL]) == 0
    run_dir = in_folder / "runs" / "small"
    files = ["checkpoint.pt", "metrics.csv", "recipe.json", "results.json", "training.png"]
    assert sorted(path.name for path in run_dir.iterdir()) == files

    losses = read_losses(run_dir)
    assert len(losses) == 2 and losses[1] < losses[0]
    assert json.loads((run_dir / "recipe.json").read_text())["width"] == 8
    accuracies = json.loads((run_dir / "results.json").read_text())["knn_accuracy"]
    assert list(accuracies) == ["raw pixels", "random encoder", "trained encoder"]
    assert 0.3 < accuracies["raw pixels"] < 0.8
    assert (run_dir / "training.png").read_bytes().startswith(b"\x89PNG")

    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    SmallResNet(width=8).load_state_dict(checkpoint["backbone"])

    output = capsys.readouterr().out
    for name, accuracy in accuracies.items():
        assert f"{name:<16} {accuracy:12.1%}" in output
    assert "runs/small/checkpoint.pt" in output
    assert "\nepoch 2/2 " in output


def test_same_seed_same_losses_other_seed_other_losses(in_folder, few_digits):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert main(["simclr", *SMALL, "epochs=1", f"seed={seed}", "--name", name]) == 0
    a, b, c = (read_losses(in_folder / "runs" / name) for name in "abc")
    assert a == pytest.approx(b, rel=1e-3)
    assert a != pytest.approx(c, rel=1e-5)


@pytest.mark.parametrize("reader", ["auto", "pil", "dali", "memory"])
def test_every_reader_has_the_same_digits(in_folder, capsys, reader):
    if reader == "dali" and not HAS_DALI:
        pytest.skip("DALI is not installed here")
    for read, loaded in zip(
        command_line.load_splits(reader, torch.device("cpu")), load_digits(), strict=True
    ):
        assert torch.equal(read.images, loaded.images)
        assert torch.equal(read.labels, loaded.labels)
    used = {"auto": "dali" if HAS_DALI else "pil"}.get(reader, reader)
    assert f"digits read by: {used}\n" in capsys.readouterr().out
    assert (in_folder / "runs" / ".digits").exists() == (reader != "memory")


def test_print_config_shows_overrides_and_trains_nothing(in_folder, capsys):
    assert main(["simclr", "temperature=0.3", "--print-config"]) == 0
    lines = capsys.readouterr().out.split()
    assert "temperature=0.3" in lines and "embedding_size=64" in lines
    assert not (in_folder / "runs").exists()
    assert main(["simclr", *lines, "--print-config"]) == 0
    assert capsys.readouterr().out.split() == lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simclear"], "unknown method 'simclear'; the methods are simclr"),
        (["simclr", "epoch=3"], "unknown key 'epoch'"),
        (["simclr", "epochs=x"], "epochs must be a whole number"),
        (["simclr", "batch_size=0"], "batch_size must be above 0 and finite, got 0"),
        (["simclr", "reader=opencv"], "reader must be auto, dali, pil, memory, got 'opencv'"),
        (["simclr", "device=tpu"], "device must be auto, cpu, cuda"),
        (["simclr", "device=cuda:99"], "no such GPU"),
        ([], "METHOD"),
    ],
)
def test_wrong_usage_exits_with_status_2(in_folder, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
    assert not (in_folder / "runs").exists()


def test_an_existing_run_is_not_overwritten(in_folder, capsys):
    (in_folder / "runs" / "mine").mkdir(parents=True)
    with pytest.raises(SystemExit) as exit:
        main(["simclr", "--name", "mine", *SMALL])
    assert exit.value.code == 2
    assert "runs/mine exists already" in capsys.readouterr().err
    assert not list((in_folder / "runs" / "mine").iterdir())


def test_non_finite_loss_exits_with_status_1(in_folder, few_digits, capsys, monkeypatch):
    def broken(self, out0, out1):
        return torch.tensor(float("inf"), requires_grad=True)

    monkeypatch.setattr(NTXentLoss, "forward", broken)
    assert main(["simclr", "--name", "broken", *SMALL]) == 1
    assert "the loss is inf at epoch 1, step 1" in capsys.readouterr().err


def test_without_matplotlib_the_run_still_ends(in_folder, few_digits, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["simclr", "--name", "plain", *SMALL, "epochs=1"]) == 0
    assert "pip install sslkernels[train]" in capsys.readouterr().out
    assert not (in_folder / "runs" / "plain" / "training.png").exists()
    assert (in_folder / "runs" / "plain" / "checkpoint.pt").exists()


def test_progress_bar_on_a_terminal(in_folder, few_digits, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["simclr", "--name", "bar", *SMALL, "epochs=1"]) == 0
    captured = capsys.readouterr()
    assert "step/s" in captured.err or "s/step" in captured.err
    assert "epoch 1/1" in captured.out
