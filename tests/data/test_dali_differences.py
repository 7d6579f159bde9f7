"""Every line of ``--explain``, measured against torchvision's definitions."""

import colorsys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures import decoded, picture, write_pictures
from PIL import Image

from sslkernels.data.dali import HAS_DALI
from sslkernels.data.dali.__main__ import main
from sslkernels.data.dali.differences import DIFFERENCES

COUNT = 4
LEVELS = {line.operation: line.levels for line in DIFFERENCES}
needs_dali = pytest.mark.skipif(not HAS_DALI, reason="DALI is not installed here")
if HAS_DALI:
    from nvidia.dali import fn, pipeline_def, types

    from sslkernels.data.dali import color


@pytest.fixture(scope="module")
def pixels():
    """(4, 90, 70, 3) uint8: two pictures, a dark and a bright one."""
    images = torch.stack([picture(seed, 90, 70) for seed in range(COUNT)])
    images[2], images[3] = images[2] // 3, 170 + images[3] // 3
    return images.numpy()


def run(operation, pixels):
    def graph():
        return operation(
            fn.external_source(lambda: list(pixels), dtype=types.UINT8, ndim=3, layout="HWC")
        )

    pipeline = pipeline_def(
        graph, batch_size=len(pixels), num_threads=1, device_id=None, prefetch_queue_depth=1
    )()
    pipeline.build()
    return np.array(pipeline.run()[0].as_tensor())


def distance(actual, expected):
    return np.abs(actual.astype(float) - expected)


def assert_within_levels(operation, actual, expected):
    assert distance(actual, expected).max() <= LEVELS[operation]


def gray(pixels):
    return pixels @ np.array([0.299, 0.587, 0.114])


def turn_hues(pixels, turns):
    turned = np.empty(pixels.shape)
    for place in np.ndindex(pixels.shape[:-1]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixels[place] / 255))
        turned[place] = colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)
    return turned * 255


def clip(values):
    return np.clip(values, 0, 255)


@needs_dali
@pytest.mark.parametrize("factor", [0.2, 0.7, 1.3, 1.8])
def test_brightness_contrast_and_saturation(pixels, factor):
    mean = gray(pixels).mean((1, 2))[:, None, None, None]
    expected = {
        "brightness": clip(factor * pixels.astype(float)),
        "contrast": clip(factor * pixels + (1 - factor) * mean),
        "saturation": clip(factor * pixels + (1 - factor) * gray(pixels)[..., None]),
    }
    for name, values in expected.items():
        operation = getattr(color, name)
        assert_within_levels(name, run(lambda x: operation(x, factor), pixels), values)  # noqa: B023


@needs_dali
def test_the_contrast_that_is_not_used(pixels):
    mean = gray(pixels).mean((1, 2))[:, None, None, None]
    theirs = run(lambda x: fn.brightness_contrast(x, contrast=0.5), pixels)
    assert (distance(theirs, clip(0.5 * pixels + 0.5 * mean))[2:].mean((1, 2, 3)) > 20).all()


@needs_dali
@pytest.mark.parametrize("turns", [-0.5, -0.2, 0.05, 0.1])
def test_hue(pixels, turns):
    few = np.ascontiguousarray(pixels[:, ::4, ::4])
    assert_within_levels("hue", run(lambda x: color.hue(x, turns), few), turn_hues(few, turns))


@needs_dali
def test_hues_of_gray_pixels_and_of_pure_colors():
    values = [0, 1, 127, 128, 254, 255]
    cube = np.array([[[r, g, b] for g in values for b in values] for r in values], np.uint8)[None]
    for turns in (-0.4, 0.0, 1 / 6, 0.5):
        actual = run(lambda x: color.hue(x, turns), cube)  # noqa: B023
        assert_within_levels("hue", actual, turn_hues(cube, turns))


@needs_dali
def test_the_hue_that_is_not_used(pixels):
    few = np.ascontiguousarray(pixels[:2, ::4, ::4])
    exact = turn_hues(few, 0.05)
    theirs = distance(run(lambda x: fn.hue(x, hue=0.05 * 360), few), exact).mean()
    assert theirs > 0.8 * distance(few, exact).mean() > 1


@needs_dali
def test_grayscale_and_solarize(pixels):
    expected = np.repeat(gray(pixels)[..., None], 3, 3)
    assert_within_levels("grayscale", run(color.grayscale, pixels), expected)
    for threshold in (100, 128):
        inverted = np.where(pixels >= threshold, 255 - pixels, pixels)
        actual = run(lambda x: color.solarize(x, threshold), pixels)  # noqa: B023
        assert_within_levels("solarize", actual, inverted)


@needs_dali
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_blur(pixels, sigma):
    weights = torch.exp(-(torch.arange(-11, 12).double() ** 2) / (2 * sigma**2))
    weights = torch.outer(weights, weights) / weights.sum() ** 2
    x = torch.from_numpy(pixels).double().permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    exact = F.conv2d(F.pad(x, (11,) * 4, mode="reflect"), weights[None, None])
    exact = exact.view(COUNT, 3, 90, 70).permute(0, 2, 3, 1).numpy()
    actual = run(lambda x: fn.gaussian_blur(x, sigma=sigma), pixels)
    assert_within_levels("blur", actual, exact)


@needs_dali
@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_resize(pixels, interpolation, size):
    from sslkernels.data.dali.graph import INTERPOLATIONS

    actual = run(
        lambda x: fn.resize(
            x, size=(size, size), interp_type=INTERPOLATIONS[interpolation], antialias=True
        ),
        pixels,
    )
    exact = F.interpolate(
        torch.from_numpy(pixels).double().permute(0, 3, 1, 2),
        (size, size),
        mode=interpolation,
        antialias=True,
    )
    assert_within_levels("resize", actual, clip(exact.permute(0, 2, 3, 1).numpy()))
    method = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR}[interpolation]
    of_pil = [np.array(Image.fromarray(x).resize((size, size), method)) for x in pixels]
    assert distance(actual, np.stack(of_pil)).max() <= 2


@needs_dali
def test_decode(tmp_path):
    from sslkernels.data.dali.graph import decode

    paths = [
        *write_pictures(tmp_path / "jpg", classes=1, per_class=2),
        *write_pictures(tmp_path / "png", classes=1, per_class=2, suffix=".png"),
    ]
    Image.open(paths[0]).convert("L").save(paths[0], quality=90)
    exif = Image.Exif()
    exif[274] = 6  # orientation: rotated by 90°
    Image.open(paths[1]).save(paths[1], quality=90, exif=exif)
    for path in paths:

        def graph(path=path):
            encoded = np.frombuffer(path.read_bytes(), np.uint8)
            return decode(fn.external_source(lambda: [encoded], dtype=types.UINT8, ndim=1), "cpu")

        pipeline = pipeline_def(
            graph, batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1
        )()
        assert_within_levels("decode", np.array(pipeline.run()[0].as_tensor())[0], decoded(path))


def test_explain_prints_every_line(capsys):
    main(["--explain"])
    output = capsys.readouterr().out
    for line in DIFFERENCES:
        assert f"{line.operation:<11} {line.levels:>5g}  {line.here}\n" in output + "\n"
        assert line.instead_of in output
    main([])
    assert "--explain" in capsys.readouterr().out
