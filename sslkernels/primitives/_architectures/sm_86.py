"""GPUs with 99 KiB of shared memory for a block: RTX 30 and 40, A10, L4, L40."""

from .tile import ByDepth, Tile

FORWARD: ByDepth = {
    2: {
        64: Tile(128, 64, 64, 4, 3),
        128: Tile(128, 64, 128, 4, 2),
        256: Tile(64, 64, 256, 4, 2),
        512: Tile(128, 64, 64, 8, 2),
    },
    4: {
        64: Tile(128, 64, 64, 4, 2),
        128: Tile(64, 64, 128, 4, 2),
        256: Tile(64, 32, 64, 4, 3),
    },
}
BACKWARD: ByDepth = {
    2: {
        64: Tile(128, 64, 64, 8, 2),
        128: Tile(128, 64, 128, 8, 2),
        256: Tile(64, 32, 256, 8, 2),
        512: Tile(32, 32, 512, 8, 2),
    },
    4: {
        64: Tile(128, 32, 64, 8, 2),
        128: Tile(32, 32, 128, 4, 2),
        256: Tile(32, 32, 256, 8, 1),
    },
}
NEAREST = FORWARD
PRODUCTS = {2: Tile(128, 128, 64, 8, 3), 4: Tile(128, 128, 32, 8, 3)}
