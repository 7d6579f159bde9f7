"""The Triton kernels; their launchers are in triton.py.

Each program makes one tile of one view. ``levels``: (views, C, size, size) bytes between launches.
"""

import triton
import triton.language as tl

from .._triton import kernel
from .triton_colors import jitter, luma


@triton.jit
def _reach(i, length, size, REACH: tl.constexpr):
    """The first and the end of the source pixels of new pixels i, and their centre.

    In integers: twice the centre, in pixels of the image times ``size``.
    """
    reach = 2 * REACH * tl.maximum(length, size)
    center = (2 * i + 1) * length
    first = tl.maximum(center - reach + size, 0) // (2 * size)
    end = tl.minimum((center + reach + size) // (2 * size), length)
    return first, end, center


@triton.jit
def _weight(at, first, end, center, length, size, REACH: tl.constexpr):
    """Pillow's filters, not normalised; the triangle in integers."""
    distance = tl.abs((2 * at + 1) * size - center).to(tl.float32)
    reach = (2 * tl.maximum(length, size)).to(tl.float32)
    if REACH == 2:
        x = tl.div_rn(distance, reach)
        near = (1.5 * x - 2.5) * x * x + 1.0
        far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
        weight = tl.where(x < 1.0, near, tl.where(x < 2.0, far, 0.0))
    else:
        weight = tl.maximum(reach - distance, 0.0)
    return tl.where((at >= first) & (at < end), weight, 0.0)


@triton.jit
def _multiples(weight, total, REACH: tl.constexpr):
    """Normalised weights in multiples of 2⁻²², as in Pillow."""
    multiple = tl.div_rn(weight * 4194304.0, total)
    multiple = tl.where(weight < 0.0, multiple - 0.5, multiple + 0.5).to(tl.int32)
    if REACH == 1:  # few such weights often sum to near a half: kept exact
        twice = 2 * total.to(tl.int64)
        rest = 8388608 * weight.to(tl.int64) + total.to(tl.int64) - twice * multiple
        multiple += (rest >= twice).to(tl.int32) - (rest < 0).to(tl.int32)
    return multiple


@triton.jit
def _level(sums):
    return tl.minimum(tl.maximum((sums + 2097152) >> 22, 0), 255)


@triton.jit
def _add_lines(high, low, weights, lines):
    """Sums of products of 22 and 8 bits, in two parts that float16 and float32 hold exactly."""
    lines = lines.to(tl.float16)
    upper = (weights + 2048) >> 12
    high = tl.dot(upper.to(tl.float16), lines, high)
    low = tl.dot((weights - (upper << 12)).to(tl.float16), lines, low)
    return high, low


@triton.jit
def _store_level(levels_ptr, channel, y, x, size, high, low, inside):
    """Store one channel of the tile, and return it as float32."""
    level = _level((high.to(tl.int32) << 12) + low.to(tl.int32))
    at = levels_ptr + (channel * size + y) * size + x
    tl.store(at, level.to(tl.uint8), mask=inside)
    return level.to(tl.float32)


@triton.jit
def _piece(rows, columns, offset, data_bytes, C: tl.constexpr):
    """For an image that is not within the data: one pixel, at its start."""
    known = (tl.minimum(rows, columns) > 0) & (tl.maximum(rows, columns) < 1 << 30)
    known &= (offset >= 0) & (offset <= data_bytes)
    area = tl.minimum(rows, 1 << 30).to(tl.int64) * tl.minimum(columns, 1 << 30).to(tl.int64)
    known &= area * C <= data_bytes - offset
    rows, columns = tl.where(known, rows, 1), tl.where(known, columns, 1)
    return rows.to(tl.int32), columns.to(tl.int32), tl.where(known, offset, 0)


@kernel(widths=("size", "pixels"))
def resize_kernel(
    data_ptr, offsets_ptr, sizes_ptr, row_ptr, levels_ptr, gray_ptr, images, size,
    data_bytes: tl.int64,
    C: tl.constexpr, REACH: tl.constexpr, SIDE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Crop, resize, flip; and the sum of the grey levels of each tile, for the contrast.

    Sums are first along axis a, then along b: a is x, or y in Pillow's other order.
    """
    tiles_a = tl.cdiv(size, SIDE)
    tiles = tiles_a * tl.cdiv(size, ROWS)
    view, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    image = view % images
    row_ptr += view.to(tl.int64) * 13
    all_rows, all_columns, offset = _piece(
        tl.load(sizes_ptr + 2 * image), tl.load(sizes_ptr + 2 * image + 1),
        tl.load(offsets_ptr + image), data_bytes, C,
    )  # fmt: skip
    top = tl.minimum(tl.maximum(tl.load(row_ptr).to(tl.int32), 0), all_rows - 1)
    left = tl.minimum(tl.maximum(tl.load(row_ptr + 1).to(tl.int32), 0), all_columns - 1)
    height = tl.minimum(tl.maximum(tl.load(row_ptr + 2).to(tl.int32), 1), all_rows - top)
    width = tl.minimum(tl.maximum(tl.load(row_ptr + 3).to(tl.int32), 1), all_columns - left)
    stride = all_columns.to(tl.int64) * C
    data_ptr += offset + top * stride + left * C

    columns_first = (height > size) & (height - size > 2 * (width - size))
    length_a = tl.where(columns_first, height, width)
    length_b = tl.where(columns_first, width, height)
    stride_a = tl.where(columns_first, stride, C)
    stride_b = tl.where(columns_first, C, stride)
    wide_a, wide_b = tl.maximum(length_a, size), tl.maximum(length_b, size)
    taps = (2 * REACH * wide_a + size - 1) // size + 1

    a = tile % tiles_a * SIDE + tl.arange(0, SIDE)
    b = tile // tiles_a * ROWS + tl.arange(0, ROWS)
    inside = (b < size)[:, None] & (a < size)[None, :]
    first_a, end_a, center_a = _reach(tl.minimum(a, size - 1), length_a, size, REACH)
    first_b, end_b, center_b = _reach(tl.minimum(b, size - 1), length_b, size, REACH)
    start, stop = tl.min(first_b, 0), tl.max(end_b, 0)
    total_a = tl.zeros((SIDE,), tl.float32)
    for tap in range(0, taps):
        total_a += _weight(first_a + tap, first_a, end_a, center_a, length_a, size, REACH)
    total_b = tl.zeros((ROWS,), tl.float32)
    for tap in range(0, (2 * REACH * wide_b + size - 1) // size + 1):
        total_b += _weight(first_b + tap, first_b, end_b, center_b, length_b, size, REACH)
    red, red_low = tl.zeros((ROWS, SIDE), tl.float32), tl.zeros((ROWS, SIDE), tl.float32)
    green, green_low = red, red
    blue, blue_low = red, red
    for source in range(start, stop, 16):
        lines = source + tl.arange(0, 16)
        red_line = tl.zeros((16, SIDE), tl.int32)
        green_line = tl.zeros((16, SIDE), tl.int32)
        blue_line = tl.zeros((16, SIDE), tl.int32)
        for tap in range(0, taps):
            at = first_a + tap
            weight = _weight(at, first_a, end_a, center_a, length_a, size, REACH)
            weight = _multiples(weight, total_a, REACH)[None, :]
            pixels = data_ptr + lines[:, None] * stride_b + at[None, :] * stride_a
            read = (lines < stop)[:, None] & (at < end_a)[None, :]
            red_line += tl.load(pixels, mask=read, other=0).to(tl.int32) * weight
            if C == 3:
                green_line += tl.load(pixels + 1, mask=read, other=0).to(tl.int32) * weight
                blue_line += tl.load(pixels + 2, mask=read, other=0).to(tl.int32) * weight
        weights = _weight(
            lines[None, :], first_b[:, None], end_b[:, None], center_b[:, None], length_b, size,
            REACH,
        )  # fmt: skip
        weights = _multiples(weights, total_b[:, None], REACH)
        red, red_low = _add_lines(red, red_low, weights, _level(red_line))
        if C == 3:
            green, green_low = _add_lines(green, green_low, weights, _level(green_line))
            blue, blue_low = _add_lines(blue, blue_low, weights, _level(blue_line))
    x = tl.where(columns_first, b[:, None], a[None, :])
    y = tl.where(columns_first, a[None, :], b[:, None])
    x = tl.where(tl.load(row_ptr + 4) > 0.0, size - 1 - x, x)
    levels_ptr += view.to(tl.int64) * C * size * size
    red = _store_level(levels_ptr, 0, y, x, size, red, red_low, inside)
    if C == 3:
        green = _store_level(levels_ptr, 1, y, x, size, green, green_low, inside)
        blue = _store_level(levels_ptr, 2, y, x, size, blue, blue_low, inside)
    else:
        green, blue = red, red
    red, green, blue = jitter(red, green, blue, row_ptr, 0.0, C, True)
    gray = tl.where(inside, luma(red, green, blue), 0.0).to(tl.int32)
    tl.store(gray_ptr + tl.program_id(0), tl.sum(tl.sum(gray, 1), 0))


@triton.jit
def _normalize(out_ptr, level, threshold, scale, shift, inside):
    level = tl.where(level >= threshold, 255.0 - level, level)
    value = level * scale + shift
    tl.store(out_ptr, value.to(out_ptr.dtype.element_ty), mask=inside)


@kernel(widths=("size", "pixels"))
def color_kernel(
    row_ptr, levels_ptr, gray_ptr, out_ptr, pixels, tiles, pixel_stride, channel_stride,
    red_scale, green_scale, blue_scale, red_shift, green_shift, blue_shift,
    C: tl.constexpr, TILES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Jitter and grey; views to be blurred are stored as levels, all others are finished."""
    blocks = tl.cdiv(pixels, BLOCK)
    view, block = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks
    row_ptr += view * 13
    tile = tl.arange(0, TILES)
    gray = tl.sum(tl.load(gray_ptr + view * tiles + tile, mask=tile < tiles, other=0), 0)
    mean = (gray // pixels + (2 * (gray % pixels) >= pixels).to(tl.int32)).to(tl.float32)
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    levels_ptr += view * C * pixels + pixel
    red = tl.load(levels_ptr, mask=inside, other=0).to(tl.float32)
    green, blue = red, red
    if C == 3:
        green = tl.load(levels_ptr + pixels, mask=inside, other=0).to(tl.float32)
        blue = tl.load(levels_ptr + 2 * pixels, mask=inside, other=0).to(tl.float32)
    red, green, blue = jitter(red, green, blue, row_ptr, mean, C, False)
    if tl.load(row_ptr + 11) > 0.0:
        tl.store(levels_ptr, red.to(tl.int32).to(tl.uint8), mask=inside)
        if C == 3:
            tl.store(levels_ptr + pixels, green.to(tl.int32).to(tl.uint8), mask=inside)
            tl.store(levels_ptr + 2 * pixels, blue.to(tl.int32).to(tl.uint8), mask=inside)
    else:
        threshold = tl.load(row_ptr + 12)
        out = out_ptr + view * C * pixels + pixel.to(tl.int64) * pixel_stride
        _normalize(out, red, threshold, red_scale, red_shift, inside)
        if C == 3:
            green_out, blue_out = out + channel_stride, out + 2 * channel_stride
            _normalize(green_out, green, threshold, green_scale, green_shift, inside)
            _normalize(blue_out, blue, threshold, blue_scale, blue_shift, inside)


@triton.jit
def _reflect(i, size):
    i = tl.abs(i)
    i = tl.where(i < size, i, 2 * (size - 1) - i)
    return tl.minimum(tl.maximum(i, 0), size - 1)  # for taps without weight


@triton.jit
def _gaussian(distance, sigma, radius):
    x = tl.div_rn(distance.to(tl.float32), sigma)
    weight = tl.exp2(x * x * -0.7213475204444817)
    return tl.where(tl.abs(distance) <= radius, weight, 0.0)


@kernel(widths=("size", "pixels"))
def blur_kernel(
    row_ptr, levels_ptr, out_ptr, size, pixel_stride, channel_stride,
    red_scale, green_scale, blue_scale, red_shift, green_shift, blue_shift,
    C: tl.constexpr, RADIUS: tl.constexpr, SIDE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The Gaussian, along rows and then along columns; then the rest. Only for blurred views."""
    tiles_x = tl.cdiv(size, SIDE)
    tiles = tiles_x * tl.cdiv(size, ROWS)
    view, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    row_ptr += view * 13
    sigma = tl.load(row_ptr + 11)
    if sigma > 0.0:
        radius = tl.minimum(
            tl.minimum(RADIUS, size - 1), tl.minimum(5.0 * sigma, 1.0 * RADIUS).to(tl.int32) + 1
        )
        taps = tl.arange(0, 32) - 16
        most = tl.minimum(RADIUS, size - 1)
        share = 1.0 / tl.sum(_gaussian(taps, sigma, most), 0)
        x = tile % tiles_x * SIDE + tl.arange(0, SIDE)
        y = tile // tiles_x * ROWS + tl.arange(0, ROWS)
        inside = (y < size)[:, None] & (x < size)[None, :]
        threshold = tl.load(row_ptr + 12)
        pixel = (y[:, None] * size + x[None, :]).to(tl.int64)
        outs = out_ptr + view * C * size * size + pixel * pixel_stride
        start = tile // tiles_x * ROWS - radius
        stop = tile // tiles_x * ROWS + ROWS + radius
        for channel in tl.static_range(C):
            plane = levels_ptr + (view * C + channel) * size * size
            blurred = tl.zeros((ROWS, SIDE), tl.float32)
            for source in range(start, stop, 16):
                lines = source + tl.arange(0, 16)
                rows = plane + _reflect(lines, size)[:, None] * size
                line = tl.zeros((16, SIDE), tl.float32)
                for tap in range(-radius, radius + 1):
                    from_x = x + tap
                    weight = (_gaussian(from_x - x, sigma, radius) * share)[None, :]
                    pixels = tl.load(rows + _reflect(from_x, size)[None, :])
                    line += pixels.to(tl.float32) * weight
                weights = _gaussian(lines[None, :] - y[:, None], sigma, radius) * share
                blurred = tl.dot(weights, line, blurred, input_precision="ieee")
            level = (blurred + 12582912.0) - 12582912.0  # rounds half to even
            if channel == 0:
                scale, shift = red_scale, red_shift
            elif channel == 1:
                scale, shift = green_scale, green_shift
            else:
                scale, shift = blue_scale, blue_shift
            _normalize(outs + channel * channel_stride, level, threshold, scale, shift, inside)
