"""The decoding rules of all readers: the pixels of an image file.

``docs/dali.md`` lists them in a table, which a test checks with both readers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

PLAIN_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "WEBP")  # in which DALI's pixels equal PIL's …
PLAIN_MODES = ("L", "RGB", "RGBA")  # … in these modes, at 8 bits


def decode(encoded: bytes | np.ndarray, *, upright: bool = False) -> np.ndarray:
    """Decode one image to (height, width, 3) uint8 RGB.

    Alpha is dropped, grey is repeated, 16-bit grey is divided by 257 and rounded, and the first of
    several images in a file is used.

    Args:
        encoded: the bytes of the file.
        upright: apply EXIF's orientation. (A TIFF's orientation is part of its format, and always
            applied.)

    Raises:
        ValueError: the file cannot be decoded, or not completely, its pixels are floats or 32-bit
            integers, or there are more than twice ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    with _opened(encoded) as image:
        return _pixels(image, upright)


def for_dali(encoded: np.ndarray, *, upright: bool = False) -> tuple[np.ndarray, tuple[int, int]]:
    """A file that DALI decodes to the pixels of ``decode``, and their height and width.

    If both are known to agree, this is ``encoded`` itself; else the result of ``decode`` as an
    uncompressed file.
    """
    with _opened(encoded) as image:
        if _is_plain(image, encoded) and not (upright and _orientation(image) != 1):
            return encoded, (image.height, image.width)
        pixels = _pixels(image, upright)
    height, width = pixels.shape[:2]
    header = np.frombuffer(b"P6 %d %d 255\n" % (width, height), np.uint8)
    return np.concatenate([header, pixels.reshape(-1)]), (height, width)


def _is_plain(image: Any, encoded: np.ndarray) -> bool:
    is_deep = image.format == "PNG" and encoded[24] == 16  # PIL opens 16-bit colour as 8-bit RGB
    is_animated = image.format != "MPO" and getattr(image, "is_animated", False)
    known = image.format in PLAIN_FORMATS and image.mode in PLAIN_MODES
    return known and not is_deep and not is_animated


def _pixels(image: Any, upright: bool) -> np.ndarray:
    from PIL import ImageOps

    form, mode = image.format, image.mode
    if upright and _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if mode.startswith("I;16") or (mode == "I" and form in ("PNG", "PPM")):
        gray = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(gray.astype(np.uint8)[..., None], 3, 2)
    if mode in ("I", "F"):
        raise ValueError(f"{form} of 32-bit pixels: nothing says which of them is white")
    return np.array(image.convert("RGB"))


def _orientation(image: Any) -> int:
    """EXIF's orientation: 1 is as stored, 2 to 8 are rotated or mirrored, others are ignored."""
    found = image.getexif().get(0x0112, 1)
    return found if found in range(2, 9) else 1


@contextmanager
def _opened(encoded: bytes | np.ndarray) -> Iterator[Any]:
    pil = import_pil()
    try:
        with pil.open(io.BytesIO(encoded)) as image:  # type: ignore[arg-type]
            yield image
    except pil.UnidentifiedImageError:
        raise ValueError("this is no image, by its first bytes") from None
    except pil.DecompressionBombError as error:
        raise ValueError(f"{error}; PIL.Image.MAX_IMAGE_PIXELS is half of the limit") from None
    except Exception as error:  # PIL's plugins raise many kinds on broken files
        raise ValueError(str(error) or type(error).__name__) from error


def import_pil() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("reading image files needs PIL; `pip install pillow` brings it") from None
    return Image
