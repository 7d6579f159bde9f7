"""The differences between views made by DALI and torchvision's, for each operation.

Each line is measured by ``tests/data/test_dali_differences.py``, the crop by ``test_draw.py``;
flip, rotation, order and normalisation by ``test_dali.py``.
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One operation.

    Attributes:
        operation: its name.
        levels: the largest difference, in levels 0..255, from the exact result of torchvision's
            definition; torchvision itself, which truncates, differs by up to 1.
        here: what this package does.
        instead_of: what DALI's own operation, which is not used, would do; or "".
    """

    operation: str
    levels: float
    here: str
    instead_of: str = ""


DIFFERENCES = (
    Difference(
        "decode",
        0,
        "the pixels of PIL (docs/dali.md); JPEGs damaged amid their data may pass that PIL refuses",
    ),
    Difference("crop", 0, "the distribution of RandomResizedCrop, drawn by torch"),
    Difference("resize", 2, "antialiased bicubic or bilinear, of the crop alone, rounded"),
    Difference("flip", 0, "after the crop, before a turn"),
    Difference("turn", 0, "quarter turns move pixels, nothing is interpolated"),
    Difference("order", 0, "brightness, contrast, saturation and hue in an order of each image"),
    Difference("brightness", 1, "rounded"),
    Difference(
        "contrast",
        1,
        "about the mean grey of the image, rounded",
        "fn.brightness_contrast goes about 128: tens of levels off in dark and bright images",
    ),
    Difference("saturation", 1, "blended with the grey image, which is rounded, and rounded"),
    Difference(
        "hue",
        1,
        "turned in HSV, in float (PIL rounds hues to 256 steps), rounded; on a CPU the "
        "dearest operation",
        "fn.hue rotates in YIQ: as far off, at a hue of 0.05 to 0.1, as to leave hue alone",
    ),
    Difference("grayscale", 1, "rounded"),
    Difference("blur", 1, "a Gaussian up to 3 standard deviations, for 23 pixels, rounded"),
    Difference("solarize", 0, "values from the threshold on are inverted"),
    Difference("normalize", 0.001, "float32; DALI has no bfloat16"),
)


def explain() -> str:
    """The differences as a table in text."""
    lines = [
        "Views made inside DALI, compared with torchvision's. Largest distance from the exact",
        "result of torchvision's definition, in levels of 255, before the next operation:",
        "",
    ]
    for line in DIFFERENCES:
        lines.append(f"{line.operation:<11} {line.levels:>5g}  {line.here}")
        if line.instead_of:
            lines.append(f"{'':<19}({line.instead_of})")
    return "\n".join(lines)
