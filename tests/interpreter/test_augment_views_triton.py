"""Values of the Triton kernels, run by the interpreter.

Weights of the resize come from float32 instead of float64, so that a sum near a half may round the
other way: a difference of one level, in fewer than one pixel in a thousand. Colours are exact.
"""

from itertools import permutations

import pytest
import torch
from views_inputs import levels, natural_images, plain_parameters

from sslkernels import RaggedImages, augment_views
from sslkernels.data import View, draw_parameters
from sslkernels.primitives.augment_views import triton
from sslkernels.primitives.augment_views.parameters import pack_order


def difference(images, parameters, size, interpolation="bicubic", channels=3):
    """The difference of levels between Triton and the reference."""
    options = {"size": size, "interpolation": interpolation}
    options |= {"mean": (0,) * channels, "std": (1,) * channels}
    return (
        levels(augment_views(images, parameters, impl="triton", **options))
        - levels(augment_views(images, parameters, impl="reference", **options))
    ).abs()


def small_images():
    return [image[:90, :110].contiguous() for image in natural_images()]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size, channels", [(1, 3), (17, 1), (70, 3)])
def test_crops(interpolation, size, channels):
    shapes = [(1, 1), (1, 40), (40, 1), (5, 7), (36, 30)]
    images = RaggedImages.of([
        torch.randint(0, 256, (*shape, channels), dtype=torch.uint8) for shape in shapes
    ])  # fmt: skip
    view = View(scale=(0.05, 1.0), jitter=0, grayscale=0, blur=0)
    views = 1 if size > 64 else 2  # the larger one has several tiles in each direction
    parameters = draw_parameters([view] * views, images.sizes, torch.Generator().manual_seed(0))
    found = difference(images, parameters, size, interpolation, channels)
    assert found.max() <= 1 and (found > 0).double().mean() < 1e-3


def test_colours_in_every_order():
    """For a crop that is not resized, so that nothing rounds differently."""
    image = small_images()[2][:24, :24].contiguous()
    changes = {"brightness": 1.5, "contrast": 0.5, "saturation": 1.6, "hue": -0.15}
    rows = [
        plain_parameters(image, order=pack_order(order), grayscale=index % 3, **changes)
        for index, order in enumerate(permutations(range(4)))
    ]
    parameters = torch.stack(rows)[:, None]
    assert difference(image[None], parameters, 24).max() == 0


@pytest.mark.parametrize("name, values", [
    ("brightness", (0.2, 1.7)), ("contrast", (0.2, 1.7)), ("saturation", (0.2, 1.7)),
    ("hue", (-0.5, 0.001, 0.3)), ("grayscale", (1, 2)), ("solarize", (0, 128)), ("flip", (1,)),
])  # fmt: skip
def test_each_operation(name, values):
    image = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8)
    parameters = torch.stack([plain_parameters(image, **{name: value}) for value in values])
    assert difference(image[None], parameters[:, None], 40).max() == 0


@pytest.mark.parametrize("size", [2, 9, 40])
def test_blur(size):
    image = small_images()[0][:size, :size].contiguous()
    parameters = torch.stack([
        plain_parameters(image, sigma=sigma, solarize=threshold)
        for sigma, threshold in ((0.1, 256), (0.7, 256), (2.0, 128))
    ])  # fmt: skip
    found = difference(image[None], parameters[:, None], size)
    assert (found.flatten() > 0).double().mean() < 2e-3
    assert found[:2].max() <= 1


def test_whole_views():
    images = RaggedImages.of(small_images()[:2])
    view = View(size=40, solarize=0.2)
    parameters = draw_parameters([view] * 2, images.sizes, torch.Generator().manual_seed(2))
    found = difference(images, parameters, 40)
    assert (found > 0).double().mean() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_normalisation_and_layout(dtype, channels_last):
    images = torch.randint(0, 256, (2, 30, 30, 3), dtype=torch.uint8)
    parameters = plain_parameters(images[0]).expand(1, 2, -1).clone()
    parameters[0, 1, -2] = 0.8  # blurred views take another code path
    options = {"size": 30, "dtype": dtype, "channels_last": channels_last}
    ours = augment_views(images, parameters, impl="triton", **options)
    expected = augment_views(images, parameters, impl="reference", **options)
    assert ours.stride() == expected.stride()
    torch.testing.assert_close(ours, expected)


def test_what_lies_outside_is_not_read():
    image = torch.full((20, 20, 3), 7, dtype=torch.uint8)
    data = torch.cat([torch.full((999,), 255, dtype=torch.uint8), image.flatten()])
    data = torch.cat([data, torch.full((5000,), 255, dtype=torch.uint8)])
    images = RaggedImages(data, torch.tensor([999]), torch.tensor([[20, 20]]), 3)
    from sslkernels.primitives.augment_views import triton

    parameters = plain_parameters(image, top=-5, left=10, height=60, width=90)[None, None]
    out = torch.empty(1, 1, 3, 16, 16)
    triton.augment_views(images, parameters, "bicubic", (0,) * 3, (1,) * 3, out)
    assert (levels(out) == 7).all()


@pytest.mark.parametrize("offset, size", [
    (-1, (9, 9)), (2**63 - 1, (9, 9)), (400, (9, 9)), (0, (2**32, 2**32)), (0, (2**62, 3)),
    (0, (-4, 9)), (0, (0, 9)), (0, (9, 2**31 - 1)),
])  # fmt: skip
def test_what_is_no_piece_of_the_data_is_one_pixel(offset, size):
    data = torch.randint(0, 256, (9 * 9 * 3,), dtype=torch.uint8)
    images = RaggedImages(data, torch.tensor([offset]), torch.tensor([size]), 3)
    wild = plain_parameters(torch.empty(9, 9, 3), top=2**20, height=1e30, width=-5.0, sigma=0.5)
    out = torch.empty(1, 1, 3, 8, 8)
    triton.augment_views(images, wild[None, None], "bicubic", [0.0] * 3, [1.0] * 3, out)
    expected = data[:3].view(1, 1, 3, 1, 1).expand_as(out)
    assert (levels(out) - expected).abs().max() <= 1


def test_a_blur_of_any_width():
    image = small_images()[0][:30, :30].contiguous()
    wide = [plain_parameters(image, sigma=sigma) for sigma in (1e4, 5e8, 3e38)]
    parameters = torch.stack(wide)[:, None]
    found = augment_views(image[None], parameters, size=16, impl="triton")
    assert torch.equal(found[1], found[0]) and torch.equal(found[2], found[0])
