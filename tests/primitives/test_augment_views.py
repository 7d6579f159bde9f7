"""Every implementation against torchvision on PIL images, and against each other."""

import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from covering import covering
from PIL import Image
from views_inputs import levels, natural_images, plain_parameters
from views_oracle import ADJUST, F, torchvision_view

from sslkernels import RaggedImages, _ext, augment_views, source_coordinates
from sslkernels.data import recipes
from sslkernels.primitives.augment_views.parameters import OPERATIONS, Parameters, pack_order

CPU = pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))  # fmt: skip
each_implementation = pytest.mark.parametrize("impl", ["reference", CPU])
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext.extension().instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext.extension().use_instruction_set(request.param)
    yield request.param
    _ext.extension().use_instruction_set(_ext.extension().instruction_sets()[0])


def one_view(image, parameters, size=224, interpolation="bicubic", impl="reference"):
    """(C, size, size) integer levels."""
    channels = image.shape[2]
    plain = {"mean": (0,) * channels, "std": (1,) * channels}
    options = dict(size=size, interpolation=interpolation, impl=impl, **plain)
    return levels(augment_views(image[None], parameters[None, None], **options))[0, 0]


def assert_is_torchvision(image, parameters, size=224, interpolation="bicubic", *, impl):
    ours = one_view(image, parameters, size, interpolation, impl)
    theirs = torchvision_view(image, parameters, size, interpolation).long()
    difference = (ours - theirs).abs()
    if parameters[-2] == 0:  # the blur rounds float sums, in another order
        assert difference.max() == 0
    assert difference.max() <= 1 and (difference > 0).double().mean() < 1e-3


def random_parameters(sizes, views=2, seed=0, **changes):
    """Parameters with every augmentation in some of the views."""
    view = recipes.View(**{"scale": (0.02, 1.0), "hue": 0.5, "solarize": 0.3, **changes})
    generator = torch.Generator().manual_seed(seed)
    return recipes.draw_parameters([view] * views, sizes, generator)


def assert_equals_reference(images, parameters, **options):
    options = {**PLAIN, **options}
    reference = augment_views(images, parameters, **{**options, "impl": "reference"})
    ours = augment_views(images, parameters, **{**options, "impl": "cpu"})
    assert ours.shape == reference.shape and ours.stride() == reference.stride()
    difference = (levels(ours) - levels(reference)).abs()
    assert difference.max() <= 1 and (difference > 0).double().mean() < 1e-3
    unblurred = Parameters.of(parameters).sigma == 0
    assert (difference[unblurred] == 0).all()


@each_implementation
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("box", [
    (0, 0, 300, 451), (10, 20, 224, 224), (100, 7, 37, 53), (50, 300, 201, 60), (0, 0, 30, 400),
    (299, 450, 1, 1), (20, 100, 270, 225),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("size", [224, 96])
def test_crops(impl, interpolation, box, size):
    image = natural_images()[2]
    box = dict(zip(Parameters._fields[:4], box, strict=True))
    for flip in (0, 1):
        parameters = plain_parameters(image, **box, flip=flip)
        assert_is_torchvision(image, parameters, size, interpolation, impl=impl)


@each_implementation
@pytest.mark.parametrize("name, values", [
    ("brightness", (0.0, 0.2, 0.6, 0.93, 1.1, 1.8)), ("contrast", (0.0, 0.2, 0.6, 0.93, 1.1, 1.8)),
    ("saturation", (0.0, 0.2, 0.6, 0.93, 1.1, 1.8)), ("hue", (-0.5, -0.2, -0.001, 0.07, 0.5)),
    ("grayscale", (1, 2)), ("sigma", (0.1, 0.5, 1.0, 1.7, 2.0)), ("solarize", (0, 128, 255)),
])  # fmt: skip
def test_each_operation(impl, name, values):
    for index, image in enumerate(natural_images()):
        for value in values if index == 0 else values[1:3]:
            assert_is_torchvision(image, plain_parameters(image, **{name: value}), 96, impl=impl)


@each_implementation
def test_every_order_of_the_jitter(impl):
    image = natural_images()[0][100:300, 150:350]
    for order in permutations(range(len(OPERATIONS))):
        parameters = plain_parameters(
            image, order=pack_order(order), brightness=1.5, contrast=0.5, saturation=1.6, hue=0.15
        )
        assert_is_torchvision(image, parameters, 96, impl=impl)


@each_implementation
@pytest.mark.parametrize("recipe", recipes.RECIPES, ids=lambda recipe: recipe.__name__)
def test_whole_recipes(impl, recipe):
    images = natural_images()
    sizes = torch.tensor([image.shape[:2] for image in images])
    views = recipe().views
    parameters = recipes.draw_parameters(views, sizes, torch.Generator().manual_seed(3))
    for view, rows in dict(zip(views, parameters, strict=True)).items():  # each kind once
        for image, row in zip(images, rows, strict=True):
            assert_is_torchvision(image, row, view.size, view.interpolation, impl=impl)


@each_implementation
def test_one_channel(impl):
    image = natural_images()[0][:, :, :1].contiguous()
    for changes in ({"brightness": 1.4, "contrast": 0.6}, {"sigma": 1.3}, {"grayscale": 1},
                    {"saturation": 0.3, "hue": 0.2, "solarize": 128}):  # fmt: skip
        assert_is_torchvision(image, plain_parameters(image, **changes), 96, impl=impl)


@pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")
@pytest.mark.parametrize("name, value", [("hue", 0.13), ("saturation", 1.7), ("contrast", 0.6)])
def test_every_colour(name, value):
    number = torch.arange(1 << 24)
    colours = torch.stack([number >> 16, number >> 8 & 255, number & 255], 1).to(torch.uint8)
    image = colours.view(4096, 4096, 3)
    ours = augment_views(
        image[None], plain_parameters(image, **{name: value})[None, None], size=4096,
        mean=(0, 0, 0), std=(1 / 255,) * 3, impl="cpu",
    )[0, 0]  # fmt: skip
    theirs = np.array(ADJUST[name](Image.fromarray(image.numpy()), float(np.float32(value))))
    assert torch.equal(ours.round().to(torch.uint8), torch.from_numpy(theirs).permute(2, 0, 1))


@pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")
class TestKernel:
    """The C++ kernel against the reference."""

    @pytest.mark.parametrize("size, interpolation, channels, scale", covering(
        [1, 2, 3, 12, 15, 16, 17, 33, 64],
        ["bilinear", "bicubic"],
        [1, 3],
        [(0.02, 1.0), (1.0, 1.0)],
    ), ids=str)  # fmt: skip
    def test_sizes(self, size, interpolation, channels, scale):
        shapes = [(1, 1), (1, 40), (40, 1), (5, 7), (16, 5), (17, 6), (200, 3), (3, 200), (90, 70)]
        images = RaggedImages.of([
            torch.randint(0, 256, (*shape, channels), dtype=torch.uint8) for shape in shapes
        ])  # fmt: skip
        assert_equals_reference(
            images, random_parameters(images.sizes, 4, scale=scale), size=size,
            interpolation=interpolation, mean=(0,) * channels, std=(1,) * channels,
        )  # fmt: skip

    def test_instruction_sets(self, instruction_set):
        images = RaggedImages.of(natural_images())
        parameters = random_parameters(images.sizes, 4)
        for size in (37, 96):
            assert_equals_reference(images, parameters, size=size)
        for dtype in (torch.bfloat16, torch.float16):
            options = {"size": 37, "dtype": dtype}
            ours = augment_views(images, parameters, impl="cpu", **options)
            exact = augment_views(images, parameters, impl="cpu", size=37)
            torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)

    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_threads(self, threads):
        images = RaggedImages.of(natural_images())
        parameters = random_parameters(images.sizes, 3)
        expected = augment_views(images, parameters, size=64)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            assert torch.equal(augment_views(images, parameters, size=64), expected)
        finally:
            torch.set_num_threads(before)

    def test_nothing_is_read_beyond_the_images(self):
        """For crops at the end of the memory, whatever follows it."""
        data = torch.randint(0, 256, (50 * 60 * 3 + 4096,), dtype=torch.uint8)
        changed = data.clone()
        changed[50 * 60 * 3 :] = 255 - changed[50 * 60 * 3 :]
        parameters = random_parameters(torch.tensor([[50, 60]]), 40)
        views = [
            augment_views(x[: 50 * 60 * 3].view(1, 50, 60, 3), parameters, size=32)
            for x in (data, changed)
        ]
        assert torch.equal(*views)


@each_implementation
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_normalisation_and_layout(impl, dtype, channels_last):
    image = natural_images()[1]
    parameters = plain_parameters(image, hue=0.1)[None, None].expand(2, 1, -1)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    options = {"size": 40, "mean": mean, "std": std, "dtype": dtype, "channels_last": channels_last}
    out = augment_views(image[None], parameters, impl=impl, **options)
    assert out.dtype == dtype and out.shape == (2, 1, 3, 40, 40)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert all(view.is_contiguous(memory_format=layout) for view in out)
    expected = F.normalize(torchvision_view(image, parameters[0, 0], 40).float() / 255, mean, std)
    torch.testing.assert_close(out[1, 0], expected.to(dtype))


@each_implementation
def test_a_batch_is_its_images(impl):
    images = torch.randint(0, 256, (5, 60, 50, 3), dtype=torch.uint8)
    parameters = random_parameters(torch.tensor([[60, 50]] * 5), 3)
    whole = augment_views(images, parameters, size=32, impl=impl)
    ragged = augment_views(RaggedImages.of(list(images)), parameters, size=32, impl=impl)
    strided = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(whole, ragged)
    assert torch.equal(whole, augment_views(strided, parameters, size=32, impl=impl))
    assert torch.equal(whole, augment_views(images, parameters, size=32, impl=impl))
    for n in range(5):
        alone = augment_views(images[n : n + 1], parameters[:, n : n + 1], size=32, impl=impl)
        assert torch.equal(whole[:, n : n + 1], alone)


@each_implementation
@pytest.mark.parametrize("flip", [0, 1])
def test_source_coordinates(impl, flip):
    """An image of its own coordinates gives the position of each cell of a view."""
    rows, columns = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    image = torch.stack([rows, columns, rows], -1).to(torch.uint8)
    parameters = plain_parameters(image, top=30, left=50, height=140, width=70, flip=flip)
    view = one_view(image, parameters, 210, "bilinear", impl).double()[:2]
    cells = torch.nn.functional.avg_pool2d(view, 30) + 0.5  # of a level: the pixel's centre
    found = source_coordinates(parameters, 7)
    torch.testing.assert_close(found, cells.permute(1, 2, 0).float(), rtol=0, atol=0.6)
    if flip:
        unflipped = source_coordinates(parameters, 7, flipped=False)
        torch.testing.assert_close(found, unflipped.flip(1))


def arguments(impl):
    images = RaggedImages.of([image[:60, :70] for image in natural_images()])
    parameters = random_parameters(images.sizes, 2)
    rest = [[0.5] * 3, [0.2] * 3, torch.bfloat16, True, impl]
    return *images, parameters, 16, "bicubic", *rest


@each_implementation
def test_opcheck(impl):
    torch.library.opcheck(torch.ops.sslkernels.augment_views, arguments(impl))


@each_implementation
def test_compile_without_graph_breaks(impl):
    torch.compiler.reset()

    def function(images, parameters):
        return augment_views(images, parameters, size=16, impl=impl).mean((0, 2, 3, 4))

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for n in (2, 3):
        images = torch.randint(0, 256, (n, 40, 30, 3), dtype=torch.uint8)
        parameters = random_parameters(torch.tensor([[40, 30]] * n))
        torch.testing.assert_close(compiled(images, parameters), function(images, parameters))


IMAGES = torch.zeros(2, 30, 40, 3, dtype=torch.uint8)
RAGGED = RaggedImages.of(list(IMAGES))
PARAMETERS = plain_parameters(IMAGES[0]).expand(1, 2, -1)


def ragged(**changes):
    return RaggedImages(**{**RAGGED._asdict(), **changes})


def changed(**changes):
    return plain_parameters(IMAGES[0], **changes).expand(1, 2, -1)


@pytest.mark.parametrize("arguments, error, words", [
    ({"images": [1]}, TypeError, "RaggedImages"),
    ({"images": IMAGES.float()}, TypeError, "uint8, got torch.float32"),
    ({"images": IMAGES[0]}, ValueError, r"got \(30, 40, 3\)"),
    ({"images": IMAGES[..., :2]}, ValueError, "C 1 or 3"),
    ({"images": IMAGES[:, :0]}, ValueError, "nothing empty"),
    ({"images": ragged(offsets=torch.zeros(2))}, TypeError,
     "images.offsets must be a torch.int64"),
    ({"images": ragged(sizes=torch.ones(3, 2).long())}, ValueError,
     r"images.sizes must be \(2, 2\)"),
    ({"images": ragged(offsets=torch.tensor([0, 9999]))},
     ValueError, "pieces of images.data"),
    ({"parameters": None}, TypeError, "float32 tensor"),
    ({"parameters": PARAMETERS.double()}, TypeError, "float64"),
    ({"parameters": PARAMETERS[0]}, ValueError, r"\(V, 2, 13\), got \(2, 13\)"),
    ({"parameters": PARAMETERS.to("meta")}, ValueError, "on cpu like the images"),
    ({"parameters": changed(top=1)}, ValueError, r"crops must lie in their images, got .*\[1.0"),
    ({"parameters": changed(left=-1)}, ValueError, "left in 0 … .*, got -1"),
    ({"parameters": changed(width=0)}, ValueError, "width in 1 … 1.*, got 0"),
    ({"parameters": changed(order=5e8)}, ValueError, "order in 0 … 255, got 5e"),
    ({"parameters": changed(hue=2)}, ValueError, "hue in -1 … 1, got 2"),
    ({"images": RaggedImages(RAGGED.data, torch.tensor([2**63 - 1]), torch.tensor([[9, 9]]), 3),
      "parameters": PARAMETERS[:, :1]}, ValueError, "pieces of images.data"),
    ({"images": RaggedImages(RAGGED.data, torch.tensor([0]), torch.tensor([[2**32, 2**32]]), 3),
      "parameters": changed(top=2**20)[:, :1]}, ValueError, "pieces of images.data"),
    ({"parameters": changed(hue=float("nan"))}, ValueError, "finite"),
    ({"size": 0}, ValueError, r"in 1\.\.16384, got 0"),
    ({"size": 2**20}, ValueError, r"in 1\.\.16384, got 1048576"),
    ({"size": 2.0}, TypeError, "integer"),
    ({"interpolation": "nearest"}, ValueError, "one of"),
    ({"mean": (0, 0)}, ValueError, "mean must be 3 numbers"),
    ({"std": (1, 0, 1)}, ValueError, "must not have a 0"),
    ({"dtype": torch.float64}, TypeError, "got torch.float64"),
    ({"impl": "triton"}, ValueError, "cuda tensors, got tensors on cpu"),
    ({"impl": "fast"}, ValueError, "must be one of auto"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        augment_views(**{"images": IMAGES, "parameters": PARAMETERS, "size": 8, **arguments})


@each_implementation
def test_a_blur_of_any_width(impl):
    wide = [augment_views(IMAGES, changed(sigma=sigma), size=16, impl=impl) for sigma in (1e4, 5e8)]
    torch.testing.assert_close(*wide, rtol=0, atol=0)


LITTLE_MEMORY = """
import resource, sys, torch, sslkernels
from views_inputs import plain_parameters
image = torch.zeros(1, 1, 1 << 20, 3, dtype=torch.uint8)
parameters = plain_parameters(image[0])[None, None]
sslkernels.augment_views(image[:, :, :64], plain_parameters(image[0, :, :64])[None, None], size=8)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
try:
    sslkernels.augment_views(image, parameters, size=8)
except MemoryError:
    print("MemoryError")
"""


@pytest.mark.skipif(not _ext.HAS_EXTENSION or not Path("/proc/self/statm").exists(),
                    reason="needs sslkernels._C and Linux")  # fmt: skip
def test_memory_that_runs_out_is_an_error():
    path = os.pathsep.join(map(str, (Path(__file__).parents[1], Path(__file__).parents[2])))
    run = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stdout == "MemoryError\n", run.stderr


@pytest.mark.parametrize("arguments, words", [
    ((torch.zeros(3, 12), 7), r"\(3, 12\)"), ((PARAMETERS, 0), "grid must be in 1.*, got 0"),
])  # fmt: skip
def test_bad_grids_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        source_coordinates(*arguments)
