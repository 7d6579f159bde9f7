"""Studies: their arithmetic, their output, and a tiny trial of each."""

import csv
import json

import pytest
import torch
from torch import nn

from sslkernels import NTXentLoss
from sslkernels.data import MovedDigitViews, load_digits, plain_digits
from sslkernels.plots.panels import Panel, plot_panels
from sslkernels.study import STUDIES, Study, run_study
from sslkernels.study import __main__ as command_line
from sslkernels.study.augmentation import WeaklyMovedDigits
from sslkernels.study.batch import InParts
from sslkernels.study.collapse import (
    _BYOL,
    _SIMSIAM,
    VARIATIONS,
    BYOLWithoutTeacher,
    PlainSimSiam,
    SimSiamWithoutStopGradient,
    told_apart,
)
from sslkernels.study.projector import _accuracies_of_place
from sslkernels.study.study import line, summarize
from sslkernels.study.trial import SETTINGS, Trial
from sslkernels.train import datasets
from sslkernels.train.backbones import SmallResNet
from sslkernels.train.methods import SimCLRRecipe
from sslkernels.train.methods.two_views import TwoViews


@pytest.fixture
def few_digits(monkeypatch):
    def load(device):
        return [type(split)(*(t[::28] for t in split)) for split in load_digits(device)]

    monkeypatch.setattr(datasets, "load_digits", load)


def made_up(setting, seed, epochs):
    value = setting["size"] + seed / 10
    return {"share": value, "number": 100 * value, "curve": [value, 2 * value][:epochs]}


MADE_UP = Study(
    question="Is it so?",
    settings=[{"size": 0.2}, {"size": 0.5}],
    epochs=2,
    trial=made_up,
    columns={"share": "a share", "number": "a number", "absent": "not there"},
    panels=lambda rows: [Panel("p", "size", [line(rows, "size", "share", "it")])],
    numbers=frozenset({"number"}),
)


def test_rows_are_means_and_standard_deviations_over_seeds():
    row = summarize({"size": 1}, [{"a": 1.0, "c": [0.0, 4.0]}, {"a": 2.0, "c": [1.0, 8.0]}])
    assert (row.mean, row.seeds) == ({"a": 1.5, "c": [0.5, 6.0]}, 2)
    assert row.std["a"] == pytest.approx(0.5**0.5) and row.std["c"] == pytest.approx(
        [0.5**0.5, 8**0.5]
    )
    assert summarize({}, [{"a": 1.0}]).std == {"a": 0.0}


def test_a_study_writes_all_it_finds(tmp_path):
    lines = []
    folder = tmp_path / "runs" / "study-made-up"
    rows = run_study(MADE_UP, "made-up", folder, seeds=3, epochs=2, log=lines.append)
    assert [row.mean["share"] for row in rows] == pytest.approx([0.3, 0.6])
    assert [row.std["share"] for row in rows] == pytest.approx([0.1, 0.1])
    text = "\n".join(lines)
    assert lines[0].startswith("[1/6] size 0.2, seed 0: a share 20.0%, a number 20.000; ")
    assert lines[5].startswith("[6/6] size 0.5, seed 2: a share 70.0%, a number 70.000; 0 s left")
    assert "30.0 ± 10.0 %" in text and "60.000 ± 10.000" in text and "Is it so?" in text
    with (folder / "table.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(second["share"]) == pytest.approx(0.6) and float(second["share_std"]) == 0.1
    assert (first["size"], first["seeds"], first["absent"]) == ("0.2", "3", "")
    trials = json.loads((folder / "trials.json").read_text())
    assert (trials["question"], trials["epochs"]) == ("Is it so?", 2)
    assert trials["trials"][4] == {
        "size": 0.5,
        "seed": 1,
        "share": 0.6,
        "number": 60.0,
        "curve": [0.6, 1.2],
    }
    assert (folder / "study.png").read_bytes().startswith(b"\x89PNG")


def test_one_seed_has_no_deviation(tmp_path):
    lines = []
    run_study(MADE_UP, "made-up", tmp_path, seeds=1, epochs=1, log=lines.append)
    assert "±" not in "\n".join(lines) and "1 seed, 1 epoch each" in "\n".join(lines)


@pytest.mark.parametrize("name", STUDIES)
def test_a_tiny_trial_of_each_study_and_its_picture(name, few_digits, tmp_path, monkeypatch):
    for key, value in {"width": 4, "precision": "float32"}.items():
        monkeypatch.setitem(SETTINGS, key, value)
    study = STUDIES[name]
    setting = study.settings[-1 if name == "collapse" else 0]
    measures = study.trial(setting, 0, 1)
    assert set(study.columns) - {"told_apart"} <= set(measures)
    for key, value in measures.items():
        for number in value if isinstance(value, list) else [value]:
            assert (
                0 <= number < (float("inf") if key in study.numbers or "curve" in key else 1.0001)
            )
    rows = [summarize(setting, [measures]) for setting in study.settings]
    panels = study.panels(rows)
    assert all(panel.lines for panel in panels)
    plot_panels(panels, study.question, tmp_path / "study.png")


def test_trials_leave_nothing_and_print_nothing(few_digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SETTINGS, "width", 4)
    study = STUDIES["projector"]
    first = study.trial(study.settings[0], 1, 1)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
    assert study.trial(study.settings[0], 1, 1) == first
    assert study.trial(study.settings[0], 2, 1) != first


def test_pixels_know_where_a_digit_stands(few_digits):
    recipe = SimCLRRecipe(**SETTINGS)
    pixels = TwoViews(SmallResNet(width=4), [1], nn.Identity())
    pixels.backbone = nn.Flatten()
    pixels.projector = nn.Sequential(nn.Linear(1024, 1))
    nn.init.zeros_(pixels.projector[0].weight)
    data = datasets.open_data(recipe, torch.device("cpu"))
    known, unknown = _accuracies_of_place(Trial(pixels, [], data, recipe))
    assert known > 0.75 and unknown < 0.5


def gradients(method):
    """Whether embeddings z, and predictions p, get a gradient."""
    z0, z1, p0, p1 = (torch.randn(6, 8, requires_grad=True) for _ in range(4))
    method.loss(z0, z1, p0, p1).backward()
    return z0.grad is not None, p0.grad is not None


def test_only_without_stop_gradient_do_embeddings_move():
    backbone = SmallResNet(width=4)
    assert gradients(PlainSimSiam(backbone, _SIMSIAM)) == (False, True)
    assert gradients(SimSiamWithoutStopGradient(backbone, _SIMSIAM)) == (True, True)
    view = torch.randn(6, 1, 16, 16)
    byol = BYOLWithoutTeacher(backbone, _BYOL)
    *predictions, z0, z1 = byol(view, view)
    assert z0.requires_grad and z1.requires_grad
    assert byol.loss(*predictions, z0, z1).item() >= 0
    assert byol.loss(z1, z0, z0, z1).item() == pytest.approx(0, abs=1e-5)


def test_variations_take_away_what_they_say():
    for (method, variation), (kind, recipe) in VARIATIONS.items():
        network = kind(SmallResNet(width=4), recipe)
        assert isinstance(getattr(network, "predictor", None), nn.Identity) == (
            variation == "no predictor"
        )
        if method == "DINO":
            assert (recipe.center_momentum == 1) == (variation == "no centring")
            assert (recipe.teacher_temperature == 0.1) == (variation == "no sharpening")
            assert recipe.koleo == 0


def test_a_loss_in_parts_is_that_of_smaller_batches():
    loss, out = NTXentLoss(0.2), torch.randn(2, 12, 5)
    parts = [loss(*out[:, start : start + 4]) for start in (0, 4, 8)]
    assert InParts(loss, 4)(*out).item() == pytest.approx(sum(parts).item() / 3)
    assert InParts(loss, 12)(*out).item() == pytest.approx(loss(*out).item())


def test_told_apart_counts_prototypes():
    assert float(told_apart(torch.eye(5))) == pytest.approx(5)
    assert float(told_apart(torch.eye(5)[[0, 0, 1, 1]])) == pytest.approx(2)
    assert float(told_apart(torch.eye(5)[[2, 2, 2]])) == pytest.approx(1)
    assert float(told_apart(torch.full((4, 5), 0.2))) == pytest.approx(1)


def test_weak_moves():
    digits = load_digits()[0]
    digits = type(digits)(digits.images[::100], digits.labels[::100])
    (still,) = WeaklyMovedDigits(digits, 40, 3, strength=0.0)
    assert torch.equal(still.views[0], plain_digits(digits.images[still.indices]))
    assert torch.equal(still.views[0], still.views[1])
    (full,), (usual,) = WeaklyMovedDigits(digits, 40, 3, 1.0), MovedDigitViews(digits, 40, seed=3)
    assert torch.equal(full.indices, usual.indices) and torch.equal(full.views[1], usual.views[1])


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(command_line.STUDIES, "made-up", MADE_UP)
    assert command_line.main(["made-up", "--quick", "--seeds", "2"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Is it so? 4 runs of 2 epochs.") and "[4/4]" in output
    assert (tmp_path / "runs" / "study-made-up" / "table.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["projektor"], "unknown study 'projektor'; the studies are projector, batch, dimension"),
        (["projector", "--seeds", "0"], "must be a whole number above 0, got '0'"),
        (["projector", "--epochs", "x"], "must be a whole number above 0, got 'x'"),
        ([], "NAME"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    try:
        status = command_line.main(arguments)
    except SystemExit as exit:
        status = exit.code
    assert status == 2 and message in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")
    monkeypatch.setitem(command_line.STUDIES, "made-up", MADE_UP)
    assert command_line.main(["made-up"]) == 1
    assert "cannot go on: " in capsys.readouterr().err
