"""Every argument of user-facing functions, with all kinds of values: it works, or raises.

The error must be a TypeError or a ValueError of one line that names the argument.
"""

import inspect
import warnings

import numpy as np
import pytest
import torch
from bad_values import problem_of, values
from pictures import write_pictures
from torch import nn

from sslkernels import data, eval, metrics, plots, train
from sslkernels.data import pretext
from sslkernels.data.readers import EpochOrder
from sslkernels.train.arguments import check_arguments
from sslkernels.train.methods import METHODS, Method

FEATURES = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 2
BYTES = torch.zeros(8, 9, 9, 3, dtype=torch.uint8)
DIGITS = data.DigitSplit(BYTES[..., 0], LABELS)
VIEW = data.View(size=8)
ROW = {"epoch": 1, "loss": 1.0, "learning_rate": 0.1}
SPLITS = {"train_features": FEATURES, "train_labels": LABELS}
SPLITS |= {"test_features": FEATURES, "test_labels": LABELS}


class Tiny(Method):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(4, 2)

    def forward(self, *views):
        raise AssertionError("bad values come as far as this")


def cases(folder):
    """Functions with valid arguments, by name; for classes, all their fields."""
    images = data.image_folder(folder)
    reader = data.PILReader(images, 2)
    share = {"images": images, "batch_size": 2, "seed": 0, "rank": 0, "world_size": 1}
    by = {"by": "pil", "device": "cpu", "upright": False}
    generator = torch.Generator()
    yield metrics.knn_accuracy, {**SPLITS, "k": 2, "temperature": 0.1, "chunk_size": 4}
    yield metrics.linear_probe, {**SPLITS, "regularization": 0.1, "iterations": 2}
    few = {"regularization": 0.1, "iterations": 2}
    yield metrics.fit_linear_probe, {"features": FEATURES, "labels": LABELS, **few}
    yield metrics.rankme, {"features": FEATURES, "epsilon": 1e-7}
    yield metrics.alpha_req, {"features": FEATURES, "first": 1, "last": 4}
    yield metrics.fit_power_law, {"eigenvalues": FEATURES[0].abs(), "first": 1, "last": 4}
    yield metrics.lidar, {"features": FEATURES[None].expand(3, 8, 4), "delta": 0.1, "epsilon": 0.1}
    yield metrics.embedding_spread, {"embeddings": FEATURES}
    yield metrics.relative_distance, {"plain": FEATURES, "augmented": FEATURES + 1}
    yield metrics.principal_components, {"features": FEATURES, "k": 2}
    yield metrics.singular_values, {"features": FEATURES}
    yield metrics.covariance_eigenvalues, {"features": FEATURES}
    yield metrics.tsne, {"features": FEATURES, "perplexity": 2.0, "steps": 2}
    batches = [(FEATURES, LABELS)]
    yield metrics.encode, {"encoder": nn.Linear(4, 2), "batches": batches, "precision": "float32"}
    yield evaluate_of, {"run": None}

    file = {"title": "a title", "path": None}
    depths = {"depths": ["a"], "accuracies": {"kNN": [0.5]}, "invariance": {}}
    yield plots.plot_depth, {**depths, **file}
    yield plots.plot_training, {"history": [ROW], "baselines": {"raw": 0.5}, **file}
    yield plots.plot_spectrum, {"features": {"backbone": FEATURES}, **file}
    points = {"features": FEATURES, "labels": LABELS, "classes": ["a", "b"]}
    yield plots.plot_embedding_map, {**points, **file}
    scale = {"names": ["a"], "mean": (0.0,), "std": (1.0,), "images": 1}
    yield plots.plot_views, {"views": [torch.rand(2, 3, 4, 4)], **scale, **file}

    yield EpochOrder, {"count": 8, "batch_size": 2, "seed": 0, "rank": 0, "world_size": 1}
    yield data.PILReader, {**share, "upright": False, "threads": 1}
    if data.HAS_DALI:
        yield data.DALIReader, {**share, "upright": False, "threads": 1, "device": "cpu"}
        more = {"upright": False, "threads": 1, "device": "cpu", "recipe": [VIEW], "turn": False}
        yield data.DALIViewReader, {**share, **more}
    yield data.MemoryReader, {**share, "images": BYTES, "labels": LABELS}
    yield data.image_reader, {**share, **by}
    yield data.view_reader, {**share, **by, "recipe": [VIEW], "augment": "fused"}
    fused = {"reader": reader, "recipe": [VIEW], "device": None}
    yield data.FusedViewReader, {**fused, "dtype": torch.float32, "impl": "auto"}
    counts = {"whole_views": 1, "local_views": 0, "batch_size": 2, "seed": 0}
    yield data.MovedDigitViews, {"digits": DIGITS, **counts, "rank": 0, "world_size": 1}
    yield reader.load_state_dict, {"state": reader.state_dict()}
    for name in ("step", "skipped", "images", "batch_size", "seed", "share"):
        yield state_of(reader, name), {name: reader.state_dict()[name]}
    yield data.View, {name: field.default for name, field in VIEW.__dataclass_fields__.items()}
    for recipe in data.recipes.RECIPES:
        yield recipe, vars(recipe())
    sizes = torch.full((8, 2), 9)
    yield data.draw_parameters, {"views": [VIEW], "sizes": sizes, "generator": generator}
    kind = {"dtype": torch.float32, "channels_last": False, "impl": "auto"}
    yield data.make_views, {"images": BYTES, "recipe": [VIEW], "generator": generator, **kind}
    digits = {"images": DIGITS.images, "generator": generator}
    yield data.move_digits, {**digits, "canvas_size": 8}
    yield data.single_moves, digits
    yield data.plain_digits, {"images": DIGITS.images}
    yield data.plain_view, {"view": VIEW}
    yield data.single_views, {"view": VIEW}
    yield data.load_views, {"state": data.SimCLRViews().state_dict()}
    yield data.image_folder, {"folder": folder}
    yield data.image_list, {"file": folder / "list.txt"}
    yield data.webdataset, {"files": []}
    yield data.load_digits, {"device": "cpu"}
    yield data.load_photos, {"device": "cpu"}
    yield data.write_digits, {"folder": folder}
    yield data.read_digits, {"folder": folder, "by": "pil", "device": "cpu"}

    pair = {"images": BYTES.movedim(3, 1), "generator": generator}
    yield pretext.rotate, {**pair, "flip": 0.5}
    yield pretext.rotate_all, {"images": pair["images"]}
    yield pretext.jigsaw_permutations, {"count": 2, "seed": 0}
    cells = {"permutations": pretext.jigsaw_permutations(2), "cell": 3, "tile": 2}
    yield pretext.jigsaw, {**pair, **cells}
    yield pretext.relative_patches, {**pair, "patch": 2, "gap": 1, "jitter": 0}
    yield pretext.drop_colors, {"patches": pair["images"], "generator": generator}
    bins = torch.rand(6, 2)
    yield pretext.rgb_to_lab, {"images": pair["images"]}
    yield pretext.soft_encode, {"ab": torch.rand(2, 2, 3, 3), "bins": bins}
    yield pretext.rebalancing_weights, {"frequencies": torch.ones(4), "uniform": 0.5}
    yield pretext.colorization, {"images": pair["images"], "bins": bins, "balance": None}

    recipe = METHODS["simclr"][1]()
    yield METHODS["simclr"][1], vars(recipe)
    run = {"method": Tiny(), "batches": reader, "recipe": recipe, "folder": folder}
    yield train_of, {**run, "evaluate": len, "resume": False, "started": len}
    yield train.load_run, {"folder": folder, "device": "cpu"}
    cache = {"encoder": nn.Linear(4, 2), "loss": torch.sum, "micro_batch": 2, "scale": None}
    yield train.GradCache, cache
    step = train.GradCache(nn.Identity(), lambda x: x.sum(), 2)
    yield step_of(step), {"views": FEATURES}


def state_of(reader, name):
    def load(**changed):
        reader.load_state_dict(reader.state_dict() | changed)

    load.__qualname__ = f"load_state_dict[{name}]"
    return load


def train_of(**arguments):
    """``train``, up to its start."""
    check_arguments(**arguments)


train_of.__qualname__ = "train"


def evaluate_of(run):
    eval.evaluate(run)


def step_of(step):
    def call(views):
        step(views)

    call.__qualname__ = "GradCache.__call__"
    return call


NAMED_OTHERWISE = {  # alternatives to an argument's name in a message
    "world_size": "ranks",
    "count": "images do not fill",
    "batch_size": "batch",
    "folder": ("images", "run"),
    "file": "list",
    **dict.fromkeys(["cell", "patch", "gap"], "pixels a side"),
    **dict.fromkeys(["by", "device"], ("folder of images", "holds no run")),  # which is as it is
    "files": "tar file",
    "digits": "images",
    "features": ("perplexity", "power law", "one per feature"),  # of too few, or of zeros
    **dict.fromkeys(["train_features", "test_features"], "one per feature"),
    "depths": "accuracies",
    "sizes": "generator must be on",
}
TOO_LONG = {  # valid, but endless
    "tsne": {"steps": lambda x: isinstance(x, int) and x > 99},
    "linear_probe": {"iterations": lambda x: isinstance(x, int) and x > 99},
    "fit_linear_probe": {"iterations": lambda x: isinstance(x, int) and x > 99},
    "jigsaw_permutations": dict.fromkeys(
        ["count", "seed"], lambda x: isinstance(x, int | np.integer) and x > 1
    ),
    "write_digits": {"folder": lambda x: isinstance(x, str)},
    "load_photos": {"device": lambda x: isinstance(x, str | torch.device)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    write_pictures(path, classes=2, per_class=2, height=24, width=24)
    (path / "list.txt").write_text("class0/000.jpg 1\n")
    return path


def name_of(function):
    return function.__qualname__


CALLS = 82 if data.HAS_DALI else 80  # of cases


def test_every_public_name_is_called(folder):
    called = {name_of(function).partition(".")[0] for function, _ in cases(folder)}
    left = {"Batch", "DigitSplit", "PhotoSplit", "ViewBatch", "Reader", "Views", "Recipe", "Run"}
    left |= {"Stopped", "PowerLaw", "PrincipalComponents", "LinearProbe", "alignment", "uniformity"}
    left |= {"color_bins", "HAS_DALI", "PHOTOGRAPHS"} | (set() if data.HAS_DALI else {"DALIReader"})
    left |= set() if data.HAS_DALI else {"DALIViewReader"}
    assert len(list(cases(folder))) == CALLS
    for module in (data, metrics, plots, pretext, train):
        assert set(module.__all__) <= called | left
    for function, good in cases(folder):
        takes = inspect.signature(function).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            assert set(takes) == set(good), name_of(function)


@pytest.mark.parametrize("number", range(CALLS))
def test_it_works_or_says_what_is_wrong(folder, tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    function, good = list(cases(folder))[number]
    name, wrong = name_of(function), []
    for argument in good:
        others = NAMED_OTHERWISE.get(argument, ())
        names = argument, *([others] if isinstance(others, str) else others)
        for value in values(good[argument]):
            if TOO_LONG.get(name, {}).get(argument, lambda _: False)(value):
                continue
            call = lambda: function(**{**good, argument: value})  # noqa: B023, E731
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # A plot's path may be anywhere.
                wrong.append(problem_of(call, value, names, FileNotFoundError))
    wrong = [x for x in wrong if x]
    assert not wrong, "\n".join([name, *wrong])
