"""The log of a run, and its outputs."""

import json
import sys
import types

import pytest

from sslkernels.train.log import Log, read_metrics

ROW = {"epoch": 1, "step": 4, "loss": 1 / 3, "learning_rate": 0.1, "seconds": 2.0}
ROW |= {"images_per_second": 1234.5}


def test_lines_on_disk_and_on_the_output(tmp_path, capsys):
    with Log(tmp_path, steps=8, epochs=2, done=0, is_silent=False) as log:
        log.steps({"epoch": 1, "step": 2, "loss": 0.5})
        log.epoch(dict(ROW))
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == ROW | {"loss": 0.333333}
    assert read_metrics(tmp_path) == [json.loads(line)]
    assert json.loads((tmp_path / "steps.jsonl").read_text())["step"] == 2


def test_another_rank_is_silent(tmp_path, capsys):
    with Log(tmp_path, steps=8, epochs=2, done=0, is_silent=True) as log:
        log.step(0.5)
        log.epoch(dict(ROW))
    assert log.history == [ROW]
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().out


def test_what_a_resumed_run_repeats_is_told_once(tmp_path):
    with Log(tmp_path, steps=12, epochs=3, done=0, is_silent=False) as log:
        for epoch in (1, 2):
            log.steps({"epoch": epoch, "step": 4 * epoch - 1})
            log.epoch(ROW | {"epoch": epoch, "step": 4 * epoch})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "st')  # cut off by the interruption
    with Log(tmp_path, steps=12, epochs=3, done=4, is_silent=False) as log:
        assert [row["epoch"] for row in log.history] == [1]
        log.epoch(ROW | {"epoch": 2, "step": 8, "loss": 9.0})
    assert [row["loss"] for row in read_metrics(tmp_path)] == [0.333333, 9.0]
    steps = (tmp_path / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in steps] == [3]


@pytest.mark.parametrize("name", ["rankme", "knn_accuracy"])
def test_a_terminal_shows_evaluations_above_the_bar(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sslkernels.train.log._progress_bar", lambda *_: Bar())
    with Log(tmp_path, steps=8, epochs=2, done=0, is_silent=False) as log:
        log.epoch(dict(ROW))
        log.epoch(ROW | {"epoch": 2, name: 0.75})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch 2/2  ")


class Bar:
    write, close = staticmethod(print), staticmethod(lambda: None)


@pytest.fixture
def board(monkeypatch):
    """A fake of TensorBoard's writer that records its calls."""
    calls = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            calls.append((str(folder), purge_step))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def close(self):
            calls.append("closed")

    module = types.ModuleType("tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return calls


def test_tensorboard_gets_the_same_numbers(tmp_path, board):
    with Log(tmp_path, steps=8, epochs=2, done=3, is_silent=False) as log:
        log.steps({"step": 4, "loss": 0.5})
        log.epoch(dict(ROW))
    assert board[0] == (str(tmp_path), 4) and board[-1] == "closed"
    assert ("steps/loss", 0.5, 4) in board
    assert {("metrics/loss", 1 / 3, 4), ("metrics/seconds", 2.0, 4)} <= set(board[1:-1])


def test_without_tensorboard_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with Log(tmp_path, steps=8, epochs=2, done=0, is_silent=False) as log:
        log.epoch(dict(ROW))
    assert len(read_metrics(tmp_path)) == 1
