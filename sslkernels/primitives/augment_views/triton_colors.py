"""Triton: Pillow's colour operations on blocks of pixels, in integer levels held as float32.

Compiled without contraction of products and sums (triton.py), since Pillow rounds both.
"""

import triton
import triton.language as tl


@triton.jit
def whole(x):
    """Rounded towards zero."""
    return x.to(tl.int32).to(tl.float32)


@triton.jit
def clamp_level(x):
    return tl.minimum(tl.maximum(x, 0.0), 255.0)


@triton.jit
def luma(red, green, blue):
    red, green, blue = red.to(tl.int32), green.to(tl.int32), blue.to(tl.int32)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(tl.float32)


@triton.jit
def blend(other, x, factor):
    return whole(clamp_level(other + factor * (x - other)))


@triton.jit
def _channel(value, strength, start):
    """One channel of a hue, given in 85ths of a sixth of a turn from where the channel falls."""
    start = tl.where(start >= 510.0, start - 510.0, start)
    fallen = tl.minimum(tl.maximum(tl.minimum(start, 340.0 - start), 0.0), 85.0)
    return value - whole(strength * fallen * (1.0 / 21675) + 0.5)


@triton.jit
def shift_hue(red, green, blue, shift):
    """Shift the hue by some of 255 steps in integer HSV."""
    value = tl.maximum(red, tl.maximum(green, blue))
    least = tl.minimum(red, tl.minimum(green, blue))
    chroma = value - least
    start = tl.where(red == value, 0.0, tl.where(green == value, 2.0, 4.0))
    more = tl.where(red == value, blue, tl.where(green == value, red, green))
    less = tl.where(red == value, green, tl.where(green == value, blue, red))
    # start + more - less as fractions of the chroma, of which one is 1
    other = tl.where(less == least, more, less)
    part = tl.div_rn(value - other, tl.maximum(chroma, 1.0))
    sixths = tl.where(less == least, start - 1.0 + part, start + 1.0 - part)
    turns = tl.div_rn(sixths, 6.0) + tl.where(sixths < 0.0, 1.0, 0.0)
    hue = tl.where(chroma > 0.0, whole(turns * 255.0), 0.0) + shift
    hue = tl.where(hue >= 256.0, hue - 256.0, hue)
    strength = value * whole(tl.div_rn(chroma, tl.maximum(value, 1.0)) * 255.0)
    red = _channel(value, strength, 2.0 * hue + 425.0)
    green = _channel(value, strength, 2.0 * hue + 255.0)
    blue = _channel(value, strength, 2.0 * hue + 85.0)
    return red, green, blue


@triton.jit
def jitter(red, green, blue, row_ptr, mean, C: tl.constexpr, BEFORE: tl.constexpr):
    """The jitter of the view's row of parameters, in its order; BEFORE: only up to contrast."""
    order = tl.load(row_ptr + 5).to(tl.int32)
    hue = tl.load(row_ptr + 9)
    shift = (hue.to(tl.float64) * 255.0).to(tl.int32)
    shift = tl.where(shift < 0, shift + 256, shift).to(tl.float32)
    grayscale = tl.load(row_ptr + 10)
    if grayscale == 2.0:
        gray = luma(red, green, blue)
        red, green, blue = gray, gray, gray
    active = tl.full((), 1, tl.int32)
    for position in range(4):
        operation = order >> (2 * position) & 3
        if BEFORE:
            active = active & (operation != 1).to(tl.int32)
        if active != 0:
            if operation == 3:
                shifted = (hue != 0.0) & (C == 3)  # grey images have no hue
                if shifted:
                    red, green, blue = shift_hue(red, green, blue, shift)
            else:
                factor = tl.load(row_ptr + 6 + operation)
                other = tl.where(operation == 2, luma(red, green, blue), 0.0)
                other = tl.where(operation == 1, mean, other)
                red, green, blue = (
                    blend(other, red, factor),
                    blend(other, green, factor),
                    blend(other, blue, factor),
                )
    late = (not BEFORE) & (grayscale == 1.0)
    if late:
        gray = luma(red, green, blue)
        red, green, blue = gray, gray, gray
    return red, green, blue
