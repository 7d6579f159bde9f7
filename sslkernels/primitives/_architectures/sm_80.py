"""A100 and GPUs with as much shared memory: 163 KiB per block."""

from .tile import ByDepth, Tile

FORWARD: ByDepth = {
    2: {
        64: Tile(64, 128, 64, 4, 3),
        128: Tile(64, 128, 128, 4, 2),
    },
    4: {
        64: Tile(64, 128, 64, 4, 2),
        128: Tile(64, 64, 128, 4, 2),
    },
}
BACKWARD: ByDepth = {
    2: {
        64: Tile(64, 64, 64, 4, 3),
        128: Tile(128, 32, 128, 8, 3),
        256: Tile(64, 32, 256, 8, 2),
    },
    4: {
        64: Tile(64, 64, 64, 4, 2),
        128: Tile(32, 32, 128, 4, 2),
    },
}
ROWS: ByDepth = {
    2: {
        64: Tile(128, 64, 64, 4, 3),
        128: Tile(128, 64, 128, 4, 2),
    },
    4: {
        64: Tile(128, 64, 64, 4, 3),
        128: Tile(64, 64, 128, 8, 2),
    },
}
WEIGHTS = {2: Tile(128, 64, 64, 8, 3), 4: Tile(64, 64, 32, 8, 3)}
DEEP = {2: Tile(128, 64, 64, 8, 3), 4: Tile(64, 64, 32, 4, 3)}
PRODUCTS = {2: Tile(128, 128, 64, 8, 3), 4: Tile(128, 128, 32, 8, 3)}
SLICES = {2: Tile(64, 16, 64, 4, 2), 4: Tile(64, 16, 64, 4, 2)}
SLICE_GRADIENT: ByDepth = {
    2: {
        64: Tile(64, 32, 64, 4, 2),
        128: Tile(64, 64, 128, 4, 2),
        256: Tile(64, 32, 256, 4, 2),
    },
    4: {
        64: Tile(64, 32, 64, 4, 2),
        128: Tile(64, 32, 128, 4, 2),
    },
}
