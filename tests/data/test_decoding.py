"""The table of docs/dali.md with both readers: the same pixels, or the same refusal."""

import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import picture
from PIL import Image, ImageCms

from sslkernels.data.dali import HAS_DALI, DALIReader, DALIViewReader
from sslkernels.data.readers import PILReader, image_list
from sslkernels.data.recipes import View

PAGE = (Path(__file__).parents[2] / "docs" / "dali.md").read_text()
SECTION = PAGE.partition("## How each format is decoded")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \|$", SECTION, re.MULTILINE)[1:]
READERS = [PILReader, *([DALIReader] if HAS_DALI else [])]

RGB = picture(3, 41, 53).numpy()
GRAY, ALPHA = RGB[..., 0], 255 - RGB[..., 1]
DEEP = GRAY.astype(np.uint16) * 257 + np.arange(GRAY.size, dtype=np.uint16).reshape(GRAY.shape) % 97
BIT = GRAY > 128
COLOR, FLAT = Image.fromarray(RGB), Image.fromarray(GRAY)
PALETTE = COLOR.quantize(64)
SRGB, LAB = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")

STORED = {
    "8-bit grey": FLAT,
    "8-bit RGB": COLOR,
    "RGB and alpha": Image.fromarray(np.dstack([RGB, ALPHA])),
    "grey and alpha": Image.merge("LA", [FLAT, Image.fromarray(ALPHA)]),
    "palette": PALETTE,
    "1 bit": Image.fromarray(BIT),
    "16-bit grey": Image.fromarray(DEEP),
    "floats": FLAT.convert("F"),
    "32-bit integers": FLAT.convert("I"),
    "CMYK": COLOR.convert("CMYK"),
    "YCbCr": COLOR.convert("YCbCr"),
    "LAB": ImageCms.profileToProfile(COLOR, SRGB, LAB, outputMode="LAB"),
    "several images": COLOR,
}
LOSSLESS = ("PNG", "BMP", "TIFF", "PPM", "PGM", "PBM", "PFM")
EXPECTED = {
    "8-bit grey": np.repeat(GRAY[..., None], 3, 2),
    "8-bit RGB": RGB,
    "RGB and alpha": RGB,
    "grey and alpha": np.repeat(GRAY[..., None], 3, 2),
    "palette": np.array(PALETTE.getpalette()).reshape(-1, 3)[np.array(PALETTE)],
    "1 bit": np.repeat(255 * BIT[..., None], 3, 2),
    "16-bit grey": np.repeat(np.rint(DEEP / 257)[..., None], 3, 2),
    "16-bit RGB": RGB,
    "CMYK": np.array(COLOR.convert("CMYK").convert("RGB")),
    "several images": RGB,
}


def write_deep_rgb(path):
    """A 16-bit PNG, which PIL cannot write: upper bytes are those of RGB."""
    rows = np.stack([RGB, RGB // 3], -1).reshape(len(RGB), -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", RGB.shape[1], RGB.shape[0], 16, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(x)) + name + x + struct.pack(">I", zlib.crc32(name + x))
            for name, x in chunks
        )
    )


def write(path, kind, form):
    if kind == "16-bit RGB":
        return write_deep_rgb(path)
    options = {"WebP": {"lossless": True}}.get(form, {})
    if kind == "several images":
        options |= {"save_all": True, "append_images": [COLOR.rotate(180)]}
    form = {"PGM": "PPM", "PBM": "PPM", "PFM": "PPM"}.get(form, form)
    STORED[kind].save(path, form, **options)


def cells():
    for kinds, forms, read_as in ROWS:
        for kind in re.split(", | or ", kinds):
            for form in forms.split(", "):
                yield kind, form, read_as


def read(reader_class, paths, **options):
    """Pixels by path, and the reasons for skipped files."""
    listing = paths[0].parent / "list.txt"
    listing.write_text("".join(f"{path.name} 0\n" for path in paths))
    images = image_list(listing)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reader = reader_class(images, len(paths), threads=2, **options)
        ((ragged, _, indices),) = reader
    pixels = {}
    for offset, size, index in zip(ragged.offsets, ragged.sizes.tolist(), indices, strict=True):
        count = 3 * size[0] * size[1]
        pixels[paths[index]] = ragged.data[offset : offset + count].view(*size, 3).numpy().copy()
    reasons = [str(x.message) for x in caught if str(x.message).startswith("skipped")]
    return pixels, dict(zip(map(Path, reader.skipped), sorted(reasons), strict=True))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    paths = {}
    for kind, form, read_as in cells():
        path = folder / f"{len(paths):02d} {kind} in {form}.jpg"  # the suffix does not matter
        write(path, kind, form)
        paths[path] = kind, form, read_as
    return paths, [read(reader, list(paths)) for reader in READERS]


def test_the_table_is_walked():
    found = list(cells())
    assert len(found) == 44 and {kind for kind, _, _ in found} == {*STORED, "16-bit RGB"}


def test_pixels_are_those_of_the_table(table):
    paths, found = table
    for pixels, reasons in found:
        for path, (kind, form, read_as) in paths.items():
            if read_as == "refused":
                assert path not in pixels and "32-bit pixels" in reasons[path], path.name
            elif form in LOSSLESS and kind in EXPECTED:
                assert np.array_equal(pixels[path], EXPECTED[kind]), path.name
            else:  # lossy, or colours of another space
                near = np.abs(pixels[path].astype(int) - EXPECTED.get(kind, RGB)).mean()
                assert near < 12, path.name


@pytest.mark.skipif(not HAS_DALI, reason="DALI is not installed here")
def test_both_readers_agree(table):
    paths, ((pixels, reasons), (others, other_reasons)) = table
    assert pixels.keys() == others.keys() and reasons == other_reasons
    assert all(np.array_equal(pixels[path], others[path]) for path in pixels)


TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("turned")
    paths = {}
    for form in ("PNG", "WebP", "JPEG", "TIFF"):
        for orientation in (*TURNS, 0, 99):
            exif = Image.Exif()
            exif[0x0112] = orientation
            path = folder / f"{form}{orientation}.jpg"
            COLOR.save(path, form, exif=exif, lossless=True)
            paths[path] = form, orientation
    return paths


@pytest.mark.parametrize("reader", READERS)
def test_orientations(turned, reader):
    stored, upright = (read(reader, list(turned), upright=x)[0] for x in (False, True))
    for path, (form, orientation) in turned.items():
        turn = TURNS.get(orientation, TURNS[1])
        plain = stored[path.with_name(f"{form}1.jpg")]
        assert np.array_equal(stored[path], turn(plain) if form == "TIFF" else plain), path.name
        assert np.array_equal(upright[path], turn(plain)), path.name
        assert form == "JPEG" or np.array_equal(plain, RGB)


@pytest.mark.skipif(not HAS_DALI, reason="DALI is not installed here")
def test_views_inside_dali_are_of_the_pixels_of_the_contract(tmp_path):
    """Crops, too, are drawn for the size of the upright image, and are inside it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp = np.zeros((20, 80, 3), np.uint8) + np.arange(80, dtype=np.uint8)[:, None]
    Image.fromarray(ramp).save(tmp_path / "a.png", exif=exif)
    (tmp_path / "list.txt").write_text("a.png 0\n")
    view = View(
        size=20, scale=(1, 1), ratio=(0.25, 0.25), flip=0, jitter=0, grayscale=0, blur=0,
        mean=(0.0,) * 3, std=(1 / 255,) * 3,
    )  # fmt: skip
    images = image_list(tmp_path / "list.txt")
    (batch,) = DALIViewReader(images, 1, [view], upright=True, threads=1)
    down = torch.arange(20).float()[:, None] * 4 + 1.5  # of a ramp over 80 rows
    assert (batch.views[0] - down).abs().max() < 3


@pytest.mark.parametrize("reader", READERS)
def test_more_pixels_than_pils_limit_are_refused(tmp_path, monkeypatch, reader):
    paths = [tmp_path / f"{side}.png" for side in (30, 50)]
    for path, side in zip(paths, (30, 50), strict=True):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    (listing := tmp_path / "list.txt").write_text("30.png 0\n30.png 0\n50.png 0\n")
    with pytest.warns(UserWarning, match=r"skipped .*50.png: .*2500 pixels.*MAX_IMAGE_PIXELS"):
        list(found := reader(image_list(listing), 3, threads=1))
    assert found.skipped == [str(paths[1])]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", ["PNG", "AVIF", "TIFF", "GIF", "WebP", "BMP", "JPEG"])
def test_a_broken_file_is_a_value_error_whatever_pil_raises(tmp_path, form):
    from sslkernels.data.readers.decode import decode

    path = tmp_path / "x"
    COLOR.save(path, form)
    encoded = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        broken = np.frombuffer(encoded, np.uint8).copy()
        places = random.integers(min(len(broken), 300), size=4)
        broken[places] = random.integers(256, size=4)
        try:
            assert decode(broken.tobytes()).shape[2] == 3
        except ValueError as error:
            assert str(error)
