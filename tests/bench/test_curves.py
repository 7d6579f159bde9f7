"""Training with a peer's loss and with ours: what the comparison would notice."""

import pytest
import torch

from bench import curve_page, curves

pytest.importorskip("lightly")


def losses(name, **options):
    options = {"steps": 4, "dtype": torch.float64} | options
    return torch.tensor(curves.train_curve(name, 0, 1, **options).loss)


@pytest.mark.parametrize("name", curves.METHOD_NAMES)
def test_in_float64_the_curve_is_the_same(name):
    theirs, ours = losses(name, theirs=True), losses(name, theirs=False)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    assert len(set(theirs.tolist())) == 4  # the losses of four steps


@pytest.mark.parametrize("name", curves.METHOD_NAMES)
def test_a_loss_that_is_slightly_wrong_shows(name, monkeypatch):
    right = curves.lightly_objective

    def wrong(method):
        loss = right(method)
        return lambda *embeddings: loss(*embeddings) * (1 + 1e-5)

    monkeypatch.setattr(curves, "lightly_objective", wrong)
    options = {"theirs": True, "compare": True, "steps": 2}
    errors = curves.train_curve(name, 0, 1, **options).errors["ours"]
    assert min(errors["value"]) > 5e-6 and min(errors["gradient"]) > 5e-6


@pytest.mark.parametrize("name", curves.METHOD_NAMES)
def test_on_the_same_embeddings_both_are_near_float64(name):
    options = {"theirs": True, "compare": True, "steps": 3}
    errors = curves.train_curve(name, 0, 1, **options).errors
    assert max(errors["ours"]["value"]) < 1e-6 and max(errors["ours"]["gradient"]) < 1e-5
    assert max(errors["lightly"]["gradient"]) < 1e-5


def test_page_and_picture(tmp_path):
    error = {"value": [1e-8, 2e-8], "gradient": [3e-7, 1e-7]}
    run = {"loss": [4.0, 3.0], "errors": {}, "accuracy": 0.5}
    runs = dict.fromkeys(("ours", "nudged", "lightly, float64", "ours, float64"), run) | {
        "lightly": run | {"errors": {"ours": error, "lightly": error}}
    }
    found = {"curves": runs, "accuracy": {"ours": [0.5, 0.7], "lightly": [0.6, 0.6]}}
    content = {"methods": {"simclr": found}, "peer": "lightly 0", "command": "python", "epochs": 1}
    content |= {"device": "a CPU", "commit": "abc", "torch": "2"}
    curve_page.write_page(content, tmp_path)
    page = (tmp_path / "same_curve.md").read_text()
    row = "| SimCLR | 2e-08 | 2e-08 | 3e-07 | 3e-07 | 0e+00 | 60.0 ± 0.0 % | 60.0 ± 14.1 % |"
    assert row in page
    assert (tmp_path / "same_curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_what_the_results_say():
    for path in sorted(curves.RESULTS.glob("*/curves.json")):
        content = curves.json.loads(path.read_text())
        assert (curve_page.DOCUMENTS / curve_page.PAGE).read_text() == curve_page.page(content)
