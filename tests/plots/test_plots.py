"""Plots: their lines, texts and pixels, and that they are written."""

import sys
from contextlib import contextmanager

import pytest
import torch

from sslkernels import plots
from sslkernels.metrics import rankme, singular_values
from sslkernels.plots import style
from sslkernels.plots.panels import Line, Panel, plot_panels


@pytest.fixture
def drawn(monkeypatch):
    """Figures, kept after being written."""
    figures = []
    original = style.picture

    @contextmanager
    def keep(path, title, size):
        with original(path, title, size) as figure:
            figure.set_dpi(40)  # fast to draw
            yield figure
        figures.append(figure)

    for module in ("depth", "embedding_map", "panels", "spectrum", "training", "views"):
        monkeypatch.setattr(sys.modules[f"sslkernels.plots.{module}"], "picture", keep)
    return figures


def texts(axes):
    return [text.get_text() for text in axes.texts]


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_training_curves(drawn, tmp_path):
    history = [
        {"epoch": 1, "loss": 5.0, "learning_rate": 1e-3, "rankme": 7.5},
        {"epoch": 2, "loss": 4.0, "learning_rate": 5e-4, "knn_accuracy": 0.6},
    ]
    plots.plot_training(history, {"raw pixels": 0.71}, "a run", tmp_path / "t.png")
    (figure,) = drawn
    accuracy, loss, rank, rate = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes[1:]] == [
        "training loss", "RankMe", "learning rate",
    ]  # fmt: skip
    assert list(loss.lines[0].get_ydata()) == [5, 4]
    assert list(rate.lines[0].get_ydata()) == [1e-3, 5e-4]
    assert list(rank.lines[0].get_ydata()) == [7.5]
    assert "raw pixels 71.0%" in texts(accuracy) and "kNN 60.0%" in texts(accuracy)
    assert is_png(tmp_path / "t.png") and figure._suptitle.get_text() == "a run"


def test_training_curves_of_nothing_and_of_labels_alone(drawn, tmp_path):
    plots.plot_training([], {}, "nothing", tmp_path / "a.png")
    row = {"epoch": 1, "loss": 1.0, "learning_rate": 1e-3, "label_accuracy": 0.25}
    plots.plot_training([row], {}, "labels", tmp_path / "b.png")
    assert texts(drawn[0].axes[0]) == ["no labels"]
    assert texts(drawn[1].axes[0]) == ["labels of the task 25.0%"]


def test_depth(drawn, tmp_path):
    accuracies = {"kNN": [0.9, 0.8, 0.7], "linear probe": [0.95, 0.85, 0.7]}
    distances = {"shift": [0.3, 0.2, float("nan")]}
    depths = ["backbone", "projector 1", "projector 2"]
    plots.plot_depth(depths, accuracies, distances, "by depth", tmp_path / "d.png")
    left, right = drawn[0].axes
    assert [list(line.get_ydata()) for line in left.lines] == [[90, 80, 70], [95, 85, 70]]
    assert sorted(texts(left)) == ["kNN 70.0%", "linear probe 70.0%"]
    assert list(right.lines[0].get_ydata())[:2] == [0.3, 0.2]
    plots.plot_depth(depths, {}, distances, "no labels", tmp_path / "e.png")
    assert len(drawn[1].axes) == 1 and is_png(tmp_path / "e.png")


def test_labels_at_the_ends_of_lines_do_not_overlap(drawn, tmp_path):
    lines = [Line(f"line {i}", [1, 2], [0, 0.5 + i / 1000], [0, 0], i) for i in range(5)]
    plot_panels([Panel("near", "x", lines)], "labels", tmp_path / "p.png")
    renderer = drawn[0].canvas.get_renderer()
    boxes = sorted(t.get_window_extent(renderer).y0 for t in drawn[0].axes[0].texts)
    height = drawn[0].axes[0].texts[0].get_window_extent(renderer).height
    assert min(b - a for a, b in zip(boxes, boxes[1:], strict=False)) > 0.9 * height


def test_panels(drawn, tmp_path):
    lines = [Line("a", [1, 10], [0.5, 0.6], [0.1, 0.2]), Line("b", [1, 10], [0.3, 0.2], [0, 0], 1)]
    levels = {"chance": 0.1}
    shares = Panel("share", "size", lines, is_log=True, levels=levels)
    numbers = Panel("number", "epoch", lines, is_share=False, ticks=["x", "y"], from_zero=True)
    plot_panels([shares, numbers], "two", tmp_path / "p.png")
    left, right = drawn[0].axes
    assert list(left.lines[0].get_ydata()) == [50, 60] and left.get_xscale() == "log"
    band = left.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((40, 80))
    assert "chance" in texts(left) and left.lines[-1].get_ydata()[0] == 10
    assert list(right.lines[1].get_ydata()) == [0.3, 0.2] and right.get_ylim()[0] == 0


def test_spectrum(drawn, tmp_path):
    features = {"backbone": torch.randn(100, 30), "projector 1": torch.randn(100, 4)}
    plots.plot_spectrum(features, "spectrum", tmp_path / "s.png")
    left, right = drawn[0].axes
    values = singular_values(features["backbone"])
    assert list(left.lines[0].get_ydata()) == pytest.approx((values / values[0]).tolist())
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels[0] == f"backbone, d = 30: RankMe {rankme(features['backbone']):.1f}"
    # a power law for 30 dimensions, none for 4
    assert len(right.lines) == 3
    assert right.get_legend().get_texts()[1].get_text() == "projector 1"


def test_map_has_each_point_once_and_names_classes(drawn, tmp_path):
    labels = torch.arange(90) % 12
    features = torch.randn(90, 5)
    names = [f"class {i}" for i in range(12)]
    plots.plot_embedding_map(features, labels, names, "map", tmp_path / "m.png")
    (axes,) = drawn[0].axes
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == 90
    # the ten most frequent: 90 = 12 · 7 + 6, so the first six, and of the rest the first four
    assert texts(axes) == names[:10]
    plots.plot_embedding_map(features, None, (), "no labels", tmp_path / "n.png")
    assert len(drawn[1].axes[0].collections[0].get_offsets()) == 90


def test_views_are_as_normalised_and_of_their_size(drawn, tmp_path):
    pixels = torch.rand(3, 3, 8, 8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    normalised = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    small = torch.rand(3, 1, 4, 4)
    plots.plot_views([normalised], "views", tmp_path / "v.png", mean=mean, std=std, images=2)
    plots.plot_views([small, torch.rand(3, 1, 8, 8)], "two", tmp_path / "w.png")
    shown = [axes.images[0].get_array() for axes in drawn[0].axes]
    assert len(shown) == 2
    assert torch.tensor(shown[1]).permute(2, 0, 1) == pytest.approx(pixels[1], abs=1e-5)
    assert [axes.images[0].get_array().shape for axes in drawn[1].axes] == [(4, 4)] * 3 + [
        (8, 8)
    ] * 3
    # as many pixels across: a small view is drawn small
    assert len({axes.get_xlim()[1] - axes.get_xlim()[0] for axes in drawn[1].axes}) == 1


def test_standardised_tiles_are_stretched(drawn, tmp_path):
    tiles = torch.linspace(-2, 3, 64).view(1, 1, 8, 8)
    plots.plot_views([tiles], "tiles", tmp_path / "t.png")
    shown = torch.tensor(drawn[0].axes[0].images[0].get_array())
    assert (
        shown.min() == 0
        and shown.max() == 1
        and float(shown.median()) == pytest.approx(0.5, abs=0.02)
    )


@pytest.mark.parametrize("views", [[], [torch.rand(2, 5)], [torch.rand(2, 4, 8, 8)]])
def test_what_is_no_image(tmp_path, views):
    with pytest.raises(ValueError, match=r"views must be \(n, C, size, size\)"):
        plots.plot_views(views, "no", tmp_path / "x.png")


def test_a_notebook_shows_what_is_returned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    features, row = torch.randn(20, 4), {"epoch": 1, "loss": 1.0, "learning_rate": 0.1}
    figures = [
        plots.plot_training([row], {}, "t"),
        plots.plot_depth(["a", "b"], {"kNN": torch.tensor([0.5, 0.25])}, {}, "t"),
        plots.plot_spectrum({"a": features}, "t"),
        plots.plot_embedding_map(features, torch.zeros(20, dtype=torch.int32), ["a"], "t"),
        plots.plot_views([torch.rand(2, 3, 4, 4)], "t"),
        plot_panels([Panel("p", "x", [Line("a", [1, 2], [0, 1], [0, 0])])], "t"),
    ]
    for figure in figures:
        assert figure._repr_png_().startswith(b"\x89PNG") and figure._suptitle.get_text() == "t"
    assert not list(tmp_path.iterdir())
    assert plots.plot_views([torch.rand(2, 3, 4, 4)], "t", "v.pdf").axes
    assert (tmp_path / "v.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    "draw, words",
    [
        (lambda x: plots.plot_embedding_map(x, [0] * 20, ["a"], "t"), "labels must be a tensor"),
        (lambda x: plots.plot_embedding_map(x, x[:, 0].int().abs(), [], "t"), "classes must name"),
        (lambda x: plots.plot_views(x, "t"), "views must be a list of tensors, got a tensor"),
        (lambda x: plots.plot_views([x[None, None]] * 2, "t", names=["a"]), "names must be 2 str"),
        (lambda x: plots.plot_views([x[None, None]], "t", "v.wrong"), "path must end in .png"),
        (lambda x: plots.plot_depth(["a"], {"kNN": [1, 2]}, {}, "t"), "'kNN'.* must be 1 numbers"),
        (lambda x: plots.plot_training([{"loss": 1.0}], {}, "t"), "rows of history must have an"),
    ],
)
def test_what_cannot_be_drawn(draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw(torch.randn(20, 4))


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib"):
        plots.plot_training([], {}, "x", tmp_path / "x.png")
