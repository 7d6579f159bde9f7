"""Views of images in files: made by augment_views from decoded images, or by DALI."""

import pytest
import torch
from pictures import write_pictures

from sslkernels.data import (
    HAS_DALI,
    DALIViewReader,
    FusedViewReader,
    MemoryReader,
    SimCLRViews,
    View,
    image_folder,
    view_reader,
)
from sslkernels.primitives.augment_views.parameters import Parameters

needs_dali = pytest.mark.skipif(not HAS_DALI, reason="DALI is not installed here")
DOORS = [
    pytest.param({"by": "pil"}, id="pil"),
    pytest.param({"by": "dali"}, id="dali", marks=needs_dali),
    pytest.param({"augment": "dali"}, id="inside-dali", marks=needs_dali),
]
SMALL = [View(size=32), View(size=24, hue=0.0, blur=1.0)]


def read(images, *args, **kwargs):
    reader = view_reader(images, *args, **kwargs)
    if isinstance(reader, FusedViewReader):
        reader.impl = "reference"
    return reader


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_pictures(folder, classes=2, per_class=8)
    return image_folder(folder)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_views_with_their_origin(images, door):
    batches = list(read(images, 4, SMALL, **door))
    assert len(batches) == 4
    for batch in batches:
        assert [tuple(view.shape) for view in batch.views] == [(4, 3, 32, 32), (4, 3, 24, 24)]
        assert batch.parameters.shape == (2, 4, 13)
        assert torch.equal(batch.labels, images.labels[batch.indices])
    assert sorted(torch.cat([batch.indices for batch in batches]).tolist()) == list(range(16))


@pytest.mark.parametrize("door", DOORS)
def test_resuming_is_exact(images, door):
    whole = read(images, 4, SMALL, seed=3, **door)
    expected = [batch for _ in range(2) for batch in whole]
    first = read(images, 4, SMALL, seed=3, **door)
    for _, _batch in zip(range(3), first, strict=False):
        state = first.state_dict()
    second = read(images, 4, SMALL, seed=3, **door)
    second.load_state_dict(state)
    rest = [batch for _ in range(2) for batch in second]
    assert len(rest) == 5
    for batch, wanted in zip(rest, expected[3:], strict=True):
        assert torch.equal(batch.parameters, wanted.parameters)
        assert all(torch.equal(x, y) for x, y in zip(batch.views, wanted.views, strict=True))


@needs_dali
def test_all_doors_draw_the_same_views(images):
    pil, decoded, inside = (
        next(iter(read(images, 16, SMALL, seed=5, **door.values[0]))) for door in DOORS
    )
    assert torch.equal(pil.parameters, decoded.parameters)
    assert torch.equal(pil.parameters, inside.parameters)
    std = torch.tensor(View().std)[:, None, None]
    for a, b, c in zip(pil.views, decoded.views, inside.views, strict=True):
        assert torch.equal(a, b)
        assert ((a - c) * std * 255).abs().mean() < 3  # Pillow truncates, and rounds hues


def test_views_of_images_in_memory():
    pixels = torch.randint(256, (8, 20, 20, 3), dtype=torch.uint8)
    memory = MemoryReader(pixels, torch.arange(8), 4)
    reader = FusedViewReader(memory, SMALL, dtype=torch.bfloat16, impl="reference")
    for batch in reader:
        assert batch.views[0].dtype == torch.bfloat16
        assert torch.equal(batch.labels, batch.indices)
        assert (Parameters.of(batch.parameters).height <= 20).all()
    assert reader.skipped == []


def test_recipes_and_modes(images):
    reader = read(images, 4, SimCLRViews(size=16), by="pil")
    assert isinstance(reader, FusedViewReader)
    assert next(iter(reader)).views[1].shape == (4, 3, 16, 16)
    if HAS_DALI:
        inside = view_reader(images, 4, SimCLRViews(size=16), augment="dali")
        assert isinstance(inside, DALIViewReader)
    for wrong, words in (
        ({"augment": "kornia"}, "augment must be one of fused, dali; got 'kornia'"),
        ({"augment": "dali", "by": "pil"}, "by must be auto or dali where DALI makes the views"),
    ):
        with pytest.raises(ValueError, match=words):
            view_reader(images, 4, SMALL, **wrong)
