"""Views made by DALI: contents, positions, and requirements."""

import gc
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures import write_pictures
from PIL import Image

from sslkernels.data.dali import HAS_DALI, DALIReader, DALIViewReader
from sslkernels.data.readers import image_folder
from sslkernels.data.recipes import DINOViews, SimCLRViews, VICRegLViews, View
from sslkernels.primitives.augment_views.parameters import (
    Parameters,
    crop_boxes,
    source_coordinates,
)

needs_dali = pytest.mark.skipif(not HAS_DALI, reason="DALI is not installed here")
RAW = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}  # values 0..255
PLAIN = View(jitter=0, grayscale=0, blur=0, **RAW)
SIMCLR = SimCLRViews().views
DINO = DINOViews().views


def small(views, **changes):
    """The views with a quarter of the side."""
    return [View(**{**vars(view), "size": view.size // 4, **changes}) for view in views]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_pictures(folder, classes=2, per_class=16)
    return image_folder(folder)


def read(images, views, batch_size=16, **kwargs):
    return DALIViewReader(images, batch_size, views, threads=2, **kwargs)


@needs_dali
def test_simclr(images):
    batch = next(iter(read(images, SIMCLR, 4)))
    assert [view.shape for view in batch.views] == [(4, 3, 224, 224)] * 2
    assert all(view.dtype == torch.float32 for view in batch.views)
    assert torch.equal(batch.labels, images.labels[batch.indices])
    for view in batch.views:
        assert view.isfinite().all() and view.std() > 0.1


@needs_dali
def test_dino_from_one_decode(images):
    batch = next(iter(read(images, DINO, 2)))
    assert [view.shape[2] for view in batch.views] == [224] * 2 + [96] * 8
    assert batch.parameters.shape == (10, 2, 13)
    views = [view.numpy().tobytes() for view in batch.views]
    assert len(set(views)) == 10


@needs_dali
def test_two_views_differ_and_so_do_images(images):
    for batch in read(images, small(SIMCLR)):
        first, second = (view.flatten(1) for view in batch.views)
        assert ((first - second).abs().mean(1) > 0.05).all()
        assert len(crop_boxes(batch.parameters).flatten(0, 1).unique(dim=0)) > 30


@needs_dali
def test_threads_do_not_matter(images):
    one, two = (
        DALIViewReader(images, 16, small(DINO), threads=threads, seed=4) for threads in (1, 2)
    )
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


@needs_dali
def test_ranks_draw_their_own(images):
    a, b = (next(iter(read(images, small(SIMCLR), rank=r, world_size=2))) for r in (0, 1))
    assert not torch.equal(a.parameters, b.parameters)


@needs_dali
def test_batches_outlive_their_reader(images):
    def decoded_images():
        return DALIReader(images, 4, threads=2)

    def views():
        return read(images, small(SIMCLR), 4)

    for make in (decoded_images, views):
        reader = make()
        kept = [batch[0] for batch in reader]
        tensors = [x for images in kept for x in images if isinstance(x, torch.Tensor)]
        copies = [x.clone() for x in tensors]
        for _ in range(2):
            list(reader)
        del reader
        gc.collect()
        list(make())
        assert all(torch.equal(x, y) for x, y in zip(tensors, copies, strict=True))


@needs_dali
def test_crops_come_from_where_it_says(tmp_path):
    # Red is the row and green the column, so a view gives the position of its pixels.
    rows, columns = np.mgrid[0:120, 0:200].astype(np.uint8)
    ramp = np.stack([rows, columns, 0 * rows], 2)
    for number in range(32):
        Image.fromarray(ramp).save(tmp_path / f"{number}.png")
    views = small([PLAIN, View(**{**vars(PLAIN), "scale": (0.4, 1.0), "flip": 1.0})])
    batch = next(iter(read(image_folder(tmp_path), views, 32)))
    flips = Parameters.of(batch.parameters).flip
    assert 5 < flips[0].sum() < 27 and flips[1].all()
    for number, view in enumerate(batch.views):
        place = source_coordinates(batch.parameters[number], 56) - 0.5  # centres of pixels
        inner = slice(4, -4)  # at the border of a crop, resizing is biased inwards
        error = view[:, :2] - place.permute(0, 3, 1, 2)
        assert error[..., inner, inner].abs().max() < 0.6


@needs_dali
def test_vicregl_with_the_places_of_its_cells(images):
    batch = next(iter(read(images, small(VICRegLViews().views), 4)))
    assert [view.shape[2] for view in batch.views] == [56] * 2 + [24] * 6
    grids = [source_coordinates(x, 7 if i < 2 else 3) for i, x in enumerate(batch.parameters)]
    assert [grid.shape for grid in grids] == [(4, 7, 7, 2)] * 2 + [(4, 3, 3, 2)] * 6
    for grid, boxes in zip(grids, crop_boxes(batch.parameters), strict=True):
        inside = grid - boxes[:, None, None, :2]
        assert (inside > 0).all() and (inside < boxes[:, None, None, 2:]).all()


@needs_dali
def test_turns_come_after_flips(images):
    views = small([PLAIN, PLAIN])
    plain, turned = (next(iter(read(images, views, 32, turn=turn))) for turn in (False, True))
    turns = turned.quarter_turns
    assert (turns.flatten().bincount(minlength=4) > 5).all()
    assert plain.quarter_turns is None and Parameters.of(plain.parameters).flip.any()
    assert torch.equal(plain.parameters, turned.parameters)
    for number in range(2):
        for row, count in enumerate(turns[number].tolist()):
            expected = torch.rot90(plain.views[number][row], count, (1, 2))
            assert torch.equal(turned.views[number][row], expected)


def hsv_turn(x, turns):
    """Shift the hue of (3, h, w) float64 in 0..255, by sextants, as torchvision does."""
    x = x / 255
    high, low = x.amax(0), x.amin(0)
    spread = (high - low).clamp(min=1e-12)
    r, g, b = (high - x) / spread
    hue = torch.where(x[0] == high, b - g, torch.where(x[1] == high, 2 + r - b, 4 + g - r)) / 6
    hue = (hue + turns) % 1 * 6
    saturation = torch.where(high > 0, (high - low) / high.clamp(min=1e-12), 0)
    sextant, fraction = hue.floor().long() % 6, hue - hue.floor()
    p, q = high * (1 - saturation), high * (1 - saturation * fraction)
    t = high * (1 - saturation * (1 - fraction))
    table = torch.stack(
        [
            torch.stack(channels)
            for channels in (
                (high, t, p),
                (q, high, p),
                (p, high, t),
                (p, q, high),
                (t, p, high),
                (high, p, q),
            )
        ]
    )
    return table.gather(0, sextant.expand(1, 3, *sextant.shape))[0] * 255


def gray(x):
    return (x * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]).sum(0)


def reference_view(pixels, view, parameters):
    """One view in float64 by torchvision's definitions, rounded where bytes are stored."""
    p = Parameters.of(parameters)

    def store(x):
        return x.clamp(0, 255).round()

    top, left, height, width = crop_boxes(parameters).int().tolist()
    x = pixels[top : top + height, left : left + width].permute(2, 0, 1).double()
    x = F.interpolate(x[None], (view.size, view.size), mode=view.interpolation, antialias=True)[0]
    x = store(x.flip(2) if p.flip else x)
    adjust = [
        lambda x: p.brightness * x,
        lambda x: p.contrast * x + (1 - p.contrast) * gray(x).mean(),
        lambda x: p.saturation * x + (1 - p.saturation) * gray(x),
        lambda x: hsv_turn(x, p.hue),
    ]
    if p.grayscale == 2:
        x = store(gray(x)).expand(3, -1, -1)
    for position in range(4):
        x = store(adjust[p.operations(position)](x))
    if p.grayscale == 1:
        x = store(gray(x)).expand(3, -1, -1)
    if p.sigma > 0:
        weights = torch.exp(-(torch.arange(-11, 12).double() ** 2) / (2 * p.sigma.double() ** 2))
        weights = torch.outer(weights, weights) / weights.sum() ** 2
        padded = F.pad(x[:, None], (11,) * 4, mode="reflect")
        x = store(F.conv2d(padded, weights[None, None])[:, 0])
    x = torch.where(x >= p.solarize, 255 - x, x)
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (view.mean, view.std))
    return (x / 255 - mean) / std


@needs_dali
def test_whole_views_agree_with_the_definition(images):
    # Solarisation turns one level at the threshold into many: a view has few such pixels.
    views = small(
        [
            View(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
            View(jitter=1.0, hue=0.5, blur=0.1, solarize=0.3, interpolation="bilinear"),
            View(grayscale=0.5, grayscale_first=True, solarize=0.5, solarize_threshold=90),
        ]
    )
    batch = next(iter(read(images, views, 32, seed=1)))
    pixels = [torch.from_numpy(np.array(Image.open(images.names[i]))) for i in batch.indices]
    std = torch.tensor(View().std, dtype=torch.float64)[:, None, None]
    orders = set()
    for number, view in enumerate(views):
        for row in range(32):
            expected = reference_view(pixels[row], view, batch.parameters[number, row])
            levels = ((batch.views[number][row] - expected) * std * 255).abs()
            assert levels.mean() < 0.5
            assert (levels > 6).double().mean() < 0.01
            orders.add(batch.parameters[number, row, 5].item())
    assert len(orders) > 20  # of 24


@needs_dali
def test_normalization_is_exact_to_float32(images):
    raw, normal = (
        next(iter(read(images, small([view])))).views[0]
        for view in (PLAIN, View(jitter=0, grayscale=0, blur=0))
    )
    mean, std = (torch.tensor(x)[:, None, None] for x in (View().mean, View().std))
    assert torch.equal(raw, raw.round())
    assert ((normal * std + mean) * 255 - raw).abs().max() < 0.001


@needs_dali
def test_no_such_device(images):
    if torch.cuda.device_count() < 3:
        with pytest.raises(ValueError, match="'cuda:2' was asked for, and PyTorch sees . GPUs"):
            DALIReader(images, 4, device="cuda:2")
    with pytest.raises(ValueError, match="DALI works on cpu or cuda, got device 'meta'"):
        DALIReader(images, 4, device="meta")


@needs_dali
def test_no_views(images):
    with pytest.raises(ValueError, match="at least one View, got none"):
        DALIViewReader(images, 4, [])


def test_without_dali(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    for make in (lambda: DALIReader(images, 4), lambda: DALIViewReader(images, 4, SIMCLR)):
        with pytest.raises(ImportError, match=r"DALI is missing.*pip install nvidia-dali"):
            make()


def test_importing_the_package_needs_no_dali():
    import subprocess

    code = (
        "import sys; sys.modules['nvidia'] = sys.modules['nvidia.dali'] = None; "
        "import sslkernels.data.dali; import sslkernels.data.readers"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
