"""The command line, end to end on small runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_run import few_digits

from sslkernels import NTXentLoss
from sslkernels.metrics.encode import settle_precision
from sslkernels.train import datasets, load_run
from sslkernels.train.__main__ import main
from sslkernels.train.backbones import SmallResNet
from sslkernels.train.log import read_metrics

SMALL = [
    *("epochs=2", "batch_size=100", "width=8", "evaluate_every=1"),
    *("reader=memory", "device=cpu"),
]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def few(monkeypatch):
    """A tenth of the digits."""
    monkeypatch.setattr(datasets, "load_digits", lambda device: (few_digits(10), few_digits(40)))


def losses(run_dir):
    return [row["loss"] for row in read_metrics(run_dir)]


def test_run_writes_everything_and_learns(in_folder, few, capsys):
    assert main(["simclr", "--name", "small", *SMALL]) == 0
    run_dir = in_folder / "runs" / "small"
    files = ["checkpoint.pt", "metrics.jsonl", "recipe.json", "results.json"]
    files += ["steps.jsonl", "training.png"]
    found = sorted(path.name for path in run_dir.iterdir())
    assert [name for name in found if not name.startswith("events.")] == files

    assert len(losses(run_dir)) == 2 and losses(run_dir)[1] < losses(run_dir)[0]
    recipe = json.loads((run_dir / "recipe.json").read_text())
    assert recipe["width"] == 8 and recipe["method"] == "simclr"
    accuracies = json.loads((run_dir / "results.json").read_text())["knn_accuracy"]
    assert list(accuracies) == ["raw pixels", "random encoder", "trained encoder"]
    assert 0.3 < accuracies["raw pixels"] < 0.9
    assert (run_dir / "training.png").read_bytes().startswith(b"\x89PNG")

    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    SmallResNet(width=8).load_state_dict(checkpoint["backbone"])

    output = capsys.readouterr().out
    for name, accuracy in accuracies.items():
        assert f"{name:<16} {accuracy:12.1%}" in output
    precision = recipe["precision"]  # chosen for this CPU
    assert (
        precision
        == settle_precision("auto", torch.device("cpu"))
        == checkpoint["recipe"]["precision"]
    )
    opening = (
        "simclr on digits (read by memory), 400 training and 100 test images, 4 steps an epoch"
    )
    assert f"{opening}, in {precision} on cpu" in output
    assert "runs/small/checkpoint.pt" in output
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["knn_accuracy"] == accuracies["trained encoder"] and rows[1]["rankme"] > 1


def test_a_run_can_be_loaded(in_folder, few):
    assert main(["simclr", "--name", "small", *SMALL, "epochs=1"]) == 0
    run = load_run(in_folder / "runs" / "small")
    assert (run.name, run.recipe.width, run.data.name) == ("simclr", 8, "digits")
    assert not run.method.training
    saved = torch.load(run.folder / "checkpoint.pt", weights_only=True)["method"]
    assert all(torch.equal(value, saved[key]) for key, value in run.method.state_dict().items())
    with pytest.raises(ValueError, match="holds no run"):
        load_run(in_folder)


def test_same_seed_same_losses_other_seed_other_losses(in_folder, few):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert main(["simclr", *SMALL, "epochs=1", f"seed={seed}", "--name", name]) == 0
    a, b, c = (losses(in_folder / "runs" / name) for name in "abc")
    assert a == pytest.approx(b, rel=1e-3)
    assert a != pytest.approx(c, rel=1e-5)


def test_print_config_shows_overrides_and_trains_nothing(in_folder, capsys):
    assert main(["simclr", "temperature=0.3", "--print-config"]) == 0
    lines = capsys.readouterr().out.split()
    assert "temperature=0.3" in lines and "embedding_size=64" in lines
    assert not (in_folder / "runs").exists()
    assert main(["simclr", *lines, "--print-config"]) == 0
    assert capsys.readouterr().out.split() == lines


def test_published_settings_can_be_overridden(capsys):
    assert main(["simclr", "--published", "epochs=7", "--print-config"]) == 0
    lines = capsys.readouterr().out.split()
    assert {"optimizer=lars", "backbone=torchvision:resnet50", "epochs=7"} <= set(lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simclear"], "unknown method 'simclear'; the methods are "),
        (["simclr", "epoch=3"], "unknown key 'epoch'"),
        (["simclr", "epochs=x"], "epochs must be a whole number"),
        (["simclr", "batch_size=0"], "batch_size must be above 0 and finite, got 0"),
        (["simclr", "reader=opencv"], "reader must be one of auto, dali, pil, memory; got "),
        (["simclr", "backbone=alexnet"], "torchvision:NAME, timm:NAME or module:function"),
        (["simclr", "backbone=nowhere:net", *SMALL], "needs nowhere, which is not installed"),
        (["simclr", "device=tpu"], "device must be auto, cpu, cuda"),
        (["simclr", "device=cuda:99"], "no such GPU"),
        (["simclr", "data=missing"], "there is no missing/"),
        (["simclr", "batch_size=5000", *SMALL[2:]], "4000 images do not fill a batch of 5000"),
        (["simclr", "--resume", "auto"], "--resume auto needs the --name"),
        (["simclr", "--resume", "runs/none"], "runs/none/ holds no run"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(in_folder, capsys, arguments, message):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
    assert not list(in_folder.glob("runs/[!.]*"))


def test_no_method_at_all(capsys):
    with pytest.raises(SystemExit) as exit:
        main([])
    assert exit.value.code == 2
    assert "METHOD" in capsys.readouterr().err


def test_a_traceback_where_asked(capsys):
    assert main(["simclr", "epoch=3", "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(in_folder, capsys):
    (in_folder / "runs").write_text("a file in the way")
    assert main(["simclr", "--name", "x", *SMALL]) == 1
    error = capsys.readouterr().err
    assert "cannot go on" in error and error.count("\n") == 1


def test_a_full_disk(in_folder, few, capsys, monkeypatch):
    make = Path.mkdir

    def mkdir(path, *args, **kwargs):
        make(path, *args, **kwargs)
        if path.name == "full" and not list(path.iterdir()):
            (path / "checkpoint.unfinished").symlink_to("/dev/full")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert main(["simclr", "--name", "full", *SMALL]) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1


def test_an_existing_run_is_not_overwritten(in_folder, capsys):
    (in_folder / "runs" / "mine").mkdir(parents=True)
    assert main(["simclr", "--name", "mine", *SMALL]) == 2
    assert "runs/mine exists already" in capsys.readouterr().err
    assert not list((in_folder / "runs" / "mine").iterdir())


def test_auto_begins_anew_what_was_killed_before_its_first_checkpoint(in_folder, few):
    run_dir = in_folder / "runs" / "mine"
    run_dir.mkdir(parents=True)
    (run_dir / "metrics.jsonl").write_text('{"step": 5, "loss": 1e9}\n')
    assert main(["simclr", "--name", "mine", "--resume", "auto", *SMALL, "epochs=1"]) == 0
    assert len(losses(run_dir)) == 1 and losses(run_dir)[0] < 100


def test_non_finite_loss_exits_with_status_1(in_folder, few, capsys, monkeypatch):
    def broken(self, out0, out1):
        return torch.tensor(float("inf"), requires_grad=True)

    monkeypatch.setattr(NTXentLoss, "forward", broken)
    assert main(["simclr", "--name", "broken", *SMALL]) == 1
    assert "the loss is inf at step 1, of images" in capsys.readouterr().err
    assert (in_folder / "runs" / "broken" / "failure.pt").exists()


def test_without_matplotlib_the_run_still_ends(in_folder, few, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["simclr", "--name", "plain", *SMALL, "epochs=1"]) == 0
    assert "pip install matplotlib" in capsys.readouterr().out
    assert not (in_folder / "runs" / "plain" / "training.png").exists()
    assert (in_folder / "runs" / "plain" / "checkpoint.pt").exists()


def test_bar_and_lines_on_a_terminal(in_folder, few, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["simclr", "--name", "bar", *SMALL, "epochs=1"]) == 0
    captured = capsys.readouterr()
    assert "step/s" in captured.err or "s/step" in captured.err
    assert "epoch 1/1  kNN" in captured.out and '{"epoch"' not in captured.out


def start(*arguments, launcher=()):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", *launcher, "sslkernels.train", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


@pytest.fixture
def one_thread():
    """As in the processes that it starts: partial sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_from_outside_and_resumed(in_folder, one_thread, number):
    settings = ["simclr", *SMALL, "epochs=3", "batch_size=1000", "width=4", "--resume", "auto"]
    settings += ["evaluate_every=100", "evaluation_images=200"]
    process = start(*settings, "--name", "broken")
    checkpoint = in_folder / "runs" / "broken" / "checkpoint.pt"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (128 + number if number == signal.SIGTERM else -number), output
    if number == signal.SIGTERM:
        assert "Go on with it: --resume runs/broken" in output
    assert len(read_metrics(checkpoint.parent)) < 3

    assert main([*settings, "--name", "broken"]) == 0
    if number == signal.SIGKILL:
        return  # the rest is tested once
    assert main([*settings, "--name", "whole"]) == 0
    assert losses(checkpoint.parent) == losses(in_folder / "runs" / "whole")
    weights = [
        torch.load(in_folder / "runs" / name / "checkpoint.pt", weights_only=True)["method"]
        for name in ("broken", "whole")
    ]
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())


def test_resumes_the_run_that_is_named_and_no_other(in_folder, few, capsys):
    assert main(["simclr", "--name", "small", *SMALL, "epochs=1"]) == 0
    assert main(["simclr", "--resume", "runs/small", "precision=auto"]) == 0
    assert main(["simclr", "--resume", "runs/small", "temperature=0.9"]) == 2
    assert "runs/small/ has temperature=0.2; it goes on as it began" in capsys.readouterr().err
    assert main(["vicreg", "--resume", "runs/small"]) == 2
    assert "has method simclr" in capsys.readouterr().err


def test_a_refused_resume_changes_nothing(in_folder, few, capsys):
    settings = ["--name", "small", "--resume", "auto", *SMALL]
    assert main(["simclr", *settings, "epochs=1"]) == 0
    folder = in_folder / "runs" / "small"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for arguments, words in (
        (["simclr", *settings, "epochs=1", "temperature=0.9"], "has temperature=0.2; it goes on"),
        (["moco_v2", *settings, "epochs=1"], "has method simclr; it goes on as it began"),
        (["simclr", *settings, "epochs=1", "width=4"], "has width=8; it goes on as it began"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
    load_run(folder)


def test_more_epochs_on_resuming(in_folder, few, capsys):
    settings = ["--name", "small", "--resume", "auto", *SMALL]
    assert main(["simclr", *settings, "epochs=1"]) == 0
    assert main(["simclr", *settings, "epochs=2"]) == 0
    assert "goes on to 2 epochs in place of 1" in capsys.readouterr().err
    assert main(["simclr", "--resume", "runs/small", "epochs=3"]) == 0
    assert load_run(in_folder / "runs" / "small").recipe.epochs == 3
    assert [row["epoch"] for row in read_metrics(in_folder / "runs" / "small")] == [1, 2, 3]
    assert main(["simclr", "--resume", "runs/small", "epochs=2"]) == 2
    assert "has epochs=3; it goes on as it began" in capsys.readouterr().err


def test_torchrun(in_folder):
    settings = ["simclr", *SMALL, "epochs=1", "batch_size=2000", "width=4", "precision=float32"]
    settings += ["evaluation_images=200"]
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    process = start(*settings, "--name", "ranks", launcher=launcher)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "on cpu, 2 ranks" in output and output.count("trained encoder") == 1
    assert main([*settings, "--name", "one"]) == 0
    one, ranks = (losses(in_folder / "runs" / name) for name in ("one", "ranks"))
    assert ranks == pytest.approx(one, rel=1e-5)
