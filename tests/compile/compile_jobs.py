"""The compile jobs: each Triton kernel with each tile of its table, for each architecture.

By default only some of them are compiled: see ``Job.is_chosen``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

FIRST, *OTHERS = ARCHITECTURES = ("sm_90", "sm_100", "sm_80", "sm_86")
DTYPES = {2: "bf16", 4: "fp32"}
INVERSE, UNIT = {"INVERSE": True, "PARTS": True}, {"INVERSE": False, "PARTS": False}
LABELLED, UNLABELLED = {"LABELS": True}, {"LABELS": False}
BOTH, ALONE = {"BOTH": True, "SCALE": True}, {"BOTH": False, "SCALE": False}
VARIANTS = {  # the heaviest and the lightest specialisation of each kernel
    "pairwise_logsumexp.forward_kernel": [
        {"EXCLUDED": 3, "TRIANGLE": True, "ROWS": True, **INVERSE},
        {"EXCLUDED": 4, "TRIANGLE": True, "ROWS": True, **UNIT},
        {"EXCLUDED": 1, "TRIANGLE": False, "ROWS": True, **INVERSE},
        {"EXCLUDED": 1, "TRIANGLE": False, "ROWS": False, **INVERSE},
        {"EXCLUDED": 0, "TRIANGLE": False, "ROWS": False, **UNIT},
    ],
    "pairwise_logsumexp.deep_forward_kernel": [
        {"EXCLUDED": 3, "TRIANGLE": True, "COLUMNS": True, "INVERSE": True, **UNLABELLED},
        {"EXCLUDED": 1, "TRIANGLE": False, "COLUMNS": False, "INVERSE": True, **LABELLED},
        {"EXCLUDED": 0, "TRIANGLE": False, "COLUMNS": False, "INVERSE": False, **UNLABELLED},
    ],
    "pairwise_logsumexp.backward_kernel": [
        {"EXCLUDED": 4, "ROW": True, "COLUMN": True, **ALONE, **UNIT, **UNLABELLED},
        {"EXCLUDED": 3, "ROW": True, "COLUMN": True, **ALONE, **INVERSE, **UNLABELLED},
        {"EXCLUDED": 1, "ROW": True, "COLUMN": True, **BOTH, **INVERSE, **UNLABELLED},
        {"EXCLUDED": 1, "ROW": True, "COLUMN": True, **ALONE, **INVERSE, **LABELLED},
        {"EXCLUDED": 0, "ROW": True, "COLUMN": False, **ALONE, **UNIT, **UNLABELLED},
        {"EXCLUDED": 0, "ROW": False, "COLUMN": True, **ALONE, **UNIT, **UNLABELLED},
    ],
    "pairwise_logsumexp.weights_kernel": [
        {"EXCLUDED": 1, "COLUMN": True, "INVERSE": True},
        {"EXCLUDED": 4, "COLUMN": True, "INVERSE": False},
        {"EXCLUDED": 0, "COLUMN": False, "INVERSE": False},
    ],
    "contrastive.sigmoid_kernel": [
        {"EXCLUDED": 1, "BOTH": True, "GRADIENT": True, "INVERSE": True},
        {"EXCLUDED": 1, "BOTH": False, "GRADIENT": False, "INVERSE": False},
    ],
    "nearest_neighbor.nearest_kernel": [{"EXCLUDED": 4}, {"EXCLUDED": 0}],
    "pairwise_softplus.forward_kernel": [{"EXCLUDED": 4}, {"EXCLUDED": 0}],
    "pairwise_softplus.backward_kernel": [
        {"EXCLUDED": 4, "ROW": True, "GRADIENT": True},
        {"EXCLUDED": 4, "ROW": False, "GRADIENT": True},
        {"EXCLUDED": 0, "ROW": True, "GRADIENT": False},
    ],
    "pairwise_softplus.weights_kernel": [
        {"EXCLUDED": 1, "INVERSE": True, "grad_ptr": None},
        {"EXCLUDED": 4, "INVERSE": False, "loss_ptr": None},
    ],
    "offdiagonal_norm.square_sum_kernel": [{"TRIANGLE": True}, {"TRIANGLE": False}],
    "sliced_epps_pulley.sums_kernel": [
        {"KNOTS": 32, "GROUP": 16},
        {"KNOTS": 16, "GROUP": 16},
        {"KNOTS": 16, "GROUP": 16, "PRECISION": "tf32x3"},
    ],
    "sliced_epps_pulley.gradient_kernel": [
        {"KNOTS": 16, "WIDTH": 100},
        {"KNOTS": 9, "WIDTH": 100},
    ],
    "sliced_epps_pulley.weights_kernel": [
        {"KNOTS": 16},
        {"KNOTS": 16, "PRECISION": "tf32x3"},
    ],
}
BETWEEN = (136, 200, 300, 500)  # widths of embeddings without a tile of their own
UNIT_OF_3000 = 8  # divides SwAV's 3000 prototypes
TILE_OF_COLUMNS = {"ROWS": 8, "COLUMNS": 128}
RAW, STANDARDIZED = ({"RAW": raw, **TILE_OF_COLUMNS} for raw in (True, False))
FLAGS = ("UNIT_QUERY", "UNIT_KEY", "UNIT_POSITIVE", "TWO", "KEYS")
QUERIES = {"D": 128, "BM": 8, "BD": 128, **dict.fromkeys(FLAGS, True)}
SOFTMAX, SIGMOID = ({"SYMMETRIC": False, "SIGMOID": sigmoid} for sigmoid in (False, True))
COVARIANCES = {"CROSS": False, "SAMPLES": True}
COLUMNS_OF_VIEWS = {"DISTANCE": True, "ROWS": 32, "COLUMNS": 16}
ROW_KERNELS = {
    "contrastive.prepare_kernel": [
        {**QUERIES, "COPY_KEYS": True, "POSITIVE": 3, "RAW": True, "ROUNDED": False},
    ],
    "contrastive.margins_kernel": [
        {"TRIANGLE": False, "COLUMNS": True, "LABELS": False, "DECOUPLED": False, "BLOCK": 128},
        {"TRIANGLE": True, "COLUMNS": False, "LABELS": True, "DECOUPLED": True, "BLOCK": 128},
    ],
    "contrastive.weighted_kernel": [{"BM": 2, "BD": 512}],
    "contrastive.finish_kernel": [
        {**QUERIES, **SOFTMAX, "POSITIVE": 3, "COLUMNS": True, "SCALED": True},
        {**QUERIES, **SIGMOID, "POSITIVE": 2, "COLUMNS": False, "SCALED": False},
    ],
    "covariance_loss.columns_kernel": [
        {**COVARIANCES, "STANDARDIZED": True, "VARIANCE": True, **COLUMNS_OF_VIEWS},
    ],
    "covariance_loss.products_kernel": [{**COVARIANCES, "GRADIENT": True, "SIDE": 32}],
    "covariance_loss.finish_kernel": [{**COVARIANCES, **COLUMNS_OF_VIEWS}],
    "sinkhorn.center_kernel": [{"FIRST": False, "ON_DEVICE": False, "BLOCK": 512}],
    "_triton.operand_kernel": [{"ROUNDED": False, "BM": 16, "BN": 128}],
    "pairwise_logsumexp.combine_kernel": [{"TRIANGLE": True, "BLOCK": 128}],
    "pairwise_logsumexp.sides_kernel": [{"BLOCK": 1024}],
    "pairwise_logsumexp.reduce_kernel": [{"BLOCK": 4, "LENGTH": 1024}, {"BLOCK": 64, "LENGTH": 64}],
    "pairwise_logsumexp.weigh_kernel": [{"COLUMN": True, "BM": 16, "BN": 256}],
    "pairwise_softplus.reduce_kernel": [{"BLOCK": 4, "LENGTH": 1024}],
    "pairwise_softplus.weigh_kernel": [{"BLOCK": 4, "LENGTH": 512}],
    "offdiagonal_norm.deviations_kernel": [{**TILE_OF_COLUMNS, "column_stride": 1}],
    "offdiagonal_norm.dot_kernel": [
        STANDARDIZED,
        {**RAW, "a_column_stride": 1, "b_column_stride": 1},
    ],
    "offdiagonal_norm.standardize_kernel": [
        {**TILE_OF_COLUMNS, "column_stride": 1},
        {**TILE_OF_COLUMNS, "row_stride": 1},
    ],
    "offdiagonal_norm.restore_kernel": [{**STANDARDIZED, "column_stride": 1}],
    "offdiagonal_norm.gradient_kernel": [
        STANDARDIZED,
        {**STANDARDIZED, "own_column_stride": 1, "other_column_stride": 1},
        {**RAW, "own_column_stride": 1, "other_column_stride": 1},
    ],
    "offdiagonal_norm.input_gradient_kernel": [{**TILE_OF_COLUMNS, "column_stride": 1}],
    "sliced_epps_pulley.statistics_kernel": [
        {"WEIGHTS": (0.5,) * 16, "COUNTED": True, "BLOCK": 128},
    ],
    "random_directions.directions_kernel": [
        {"ROWS": rows, "COLUMNS": columns} for rows, columns in ((8, 32), (1, 256))
    ],
    "sinkhorn.rows_kernel": [
        {"COUNTED": True, "ON_DEVICE": on_device, "UNIT": UNIT_OF_3000, "BLOCK": 4096}
        for on_device in (False, True)
    ],
    "sinkhorn.columns_kernel": [
        {"COUNTED": True, "ON_DEVICE": False, "UNIT": UNIT_OF_3000, "BM": 16, "BN": 256}
    ],
    "sinkhorn.masses_kernel": [
        {"COUNTED": counted, "ON_DEVICE": False, "UNIT": unit, "BM": 16, "BN": 256}
        for counted, unit in ((True, UNIT_OF_3000), (False, 4))
    ],
    "soft_cross_entropy.combine_kernel": [
        {"ENTROPIES": True, "PROBABILITIES": False, "SAME": False, "BLOCKS": blocks}
        for blocks in (32, 4096)
    ],
}
WIDE_TILE = {"SIDE": 128, "ROWS": 16}
TILE_OF_VIEW = {1: WIDE_TILE, 3: {"SIDE": 64, "ROWS": 16}}
VIEW_KERNELS = {  # launched without contraction of products and sums
    "augment_views.resize_kernel": [
        {"C": channels, "REACH": reach, **TILE_OF_VIEW[channels]}
        for channels, reach in ((3, 2), (3, 1), (1, 2))
    ],
    "augment_views.color_kernel": [
        {"C": channels, "TILES": 64, "BLOCK": 1024, **layout}
        for channels, layout in ((3, {"pixel_stride": 1}), (3, {"channel_stride": 1}), (1, {}))
    ],
    "augment_views.blur_kernel": [
        {"C": channels, "RADIUS": 11, **WIDE_TILE, **layout}
        for channels, layout in ((3, {"pixel_stride": 1}), (3, {"channel_stride": 1}), (1, {}))
    ],
}

LOGITS = {"CENTER": True, "PROBABILITIES": False, "ON_DEVICE": False}
TEACHERS = [
    {**LOGITS, "UNIT": 8, "VIEWS": 1, "BLOCK": 4096},
    {**LOGITS, "ON_DEVICE": True, "UNIT": UNIT_OF_3000, "VIEWS": 2, "BLOCK": 2048},
    {**LOGITS, "UNIT": 8, "VIEWS": 64, "BLOCK": 64},
    {
        "CENTER": False,
        "PROBABILITIES": True,
        "ON_DEVICE": False,
        "UNIT": 1,
        "VIEWS": 2,
        "BLOCK": 2048,
    },
]
WIDE_ROW_KERNELS = {
    "soft_cross_entropy.forward_kernel": TEACHERS,
    "soft_cross_entropy.backward_kernel": [{"SAME": False, **x} for x in TEACHERS],
}


PIECES = 512  # any width of embeddings for kernels that process them in pieces
IN_PIECES = (
    "pairwise_logsumexp.deep_forward_kernel", "pairwise_logsumexp.weights_kernel",
    "pairwise_softplus.weights_kernel", "sliced_epps_pulley.sums_kernel",
    "sliced_epps_pulley.weights_kernel",
)  # fmt: skip


def tables():
    """The tiles of kernels: {architecture: {bytes: {width: tile}}}."""
    from sslkernels.primitives._tile_table import (
        BACKWARD,
        DEEP,
        FORWARD,
        PRODUCTS,
        ROWS,
        SLICE_GRADIENT,
        SLICES,
        WEIGHTS,
    )

    def by_width(table, width):
        return {
            arch: {size: {width: tile} for size, tile in tiles.items()}
            for arch, tiles in table.items()
        }

    deep, weights = by_width(DEEP, PIECES), by_width(WEIGHTS, PIECES)
    rows = {
        arch: {size: ROWS[arch][size] | deep[arch][size] for size in tiles}
        for arch, tiles in DEEP.items()
    }
    return {
        "pairwise_logsumexp.forward_kernel": FORWARD,
        "pairwise_logsumexp.deep_forward_kernel": deep,
        "pairwise_logsumexp.backward_kernel": BACKWARD,
        "pairwise_logsumexp.weights_kernel": weights,
        "nearest_neighbor.nearest_kernel": rows,
        "pairwise_softplus.forward_kernel": rows,
        "pairwise_softplus.backward_kernel": BACKWARD,
        "pairwise_softplus.weights_kernel": weights,
        "contrastive.sigmoid_kernel": BACKWARD,
        "offdiagonal_norm.square_sum_kernel": by_width(PRODUCTS, None),
        "sliced_epps_pulley.sums_kernel": {  # whole and in pieces
            arch: {size: {tile.BD: tile, PIECES: tile} for size, tile in tiles.items()}
            for arch, tiles in SLICES.items()
        },
        "sliced_epps_pulley.gradient_kernel": SLICE_GRADIENT,
        "sliced_epps_pulley.weights_kernel": by_width(SLICES, PIECES),
    }


HEAVIEST_OF_TABLES = {
    "pairwise_logsumexp.forward_kernel",
    "pairwise_logsumexp.backward_kernel",
    "nearest_neighbor.nearest_kernel",
    "offdiagonal_norm.square_sum_kernel",
}


class Job(NamedTuple):
    """One specialisation. ``place``: index of the tile in its table, else of the kernel.

    ``is_deepest``: whether the table has no tile of its dtype for wider embeddings.
    """

    name: str
    arch: str
    dtype: str
    constants: dict[str, Any]
    warps: int
    stages: int
    place: int = 0
    is_heaviest: bool = True
    is_deepest: bool = False

    def is_chosen(self, is_first_tile: bool) -> bool:
        """Whether it is compiled by default.

        For the first architecture, the heaviest variant with every tile, and the others with one
        tile of each dtype. Everything else for one of the other architectures in turn; for all of
        them the deepest tiles of a table, with the heaviest kernel that uses it.
        """
        if self.arch == FIRST:
            return self.is_heaviest or is_first_tile
        in_turn = self.arch == OTHERS[self.place % len(OTHERS)]
        is_tightest = self.is_deepest and self.name in HEAVIEST_OF_TABLES
        return self.is_heaviest and (is_tightest or in_turn)


def jobs(everything: bool) -> Iterator[Job]:
    for name, table in tables().items():
        for arch in ARCHITECTURES:
            tiles = [
                (size, depth, tile)
                for size, by_depth in table[arch].items()
                for depth, tile in by_depth.items()
            ]
            if arch == FIRST and name not in IN_PIECES:
                tiles += between(table[arch])
            for place, (size, depth, tile) in enumerate(tiles):
                for index, variant in enumerate(VARIANTS[name]):
                    *shape, warps, stages = tile
                    precision = "tf32" if size == 4 else "ieee"
                    if size == 2 and "PRECISION" in variant:
                        continue  # of float32 alone
                    constants = dict(zip(("BM", "BN", "BD"), shape, strict=True))
                    constants |= {"PRECISION": precision, **({"D": depth} if depth else {})}
                    constants |= variant
                    depths = table[arch][size].keys()
                    marks = place, index == 0, depth == max(depths)
                    job = Job(name, arch, DTYPES[size], constants, warps, stages, *marks)
                    if everything or job.is_chosen(depth == min(depths)):
                        yield job
    for place, (name, dtype, constants, warps, is_first) in enumerate(without_tiles()):
        for arch in ARCHITECTURES:
            job = Job(name, arch, dtype, constants, warps, 3, place, is_first)
            if everything or job.is_chosen(True):
                yield job


def between(by_size: dict[int, dict[int | None, Any]]) -> Iterator[tuple[int, int, Any]]:
    """Tiles with widths between those of the table, as ``operand`` pads them."""
    from sslkernels.primitives._tile_table import ceil
    from sslkernels.primitives._triton import UNIT

    for size, by_depth in by_size.items():
        for width in sorted({UNIT * ceil(d, UNIT) for d in BETWEEN} - by_depth.keys()):
            deeper = [depth for depth in by_depth if depth and depth > width]
            if deeper:
                yield size, width, by_depth[min(deeper)]


def without_tiles() -> Iterator[tuple[str, str, dict[str, Any], int, bool]]:
    """Kernels without tiles, with the number of warps, and whether it is the first variant."""
    for kernels, dtypes, warps in (
        (ROW_KERNELS, ["bf16"], 4),
        (VIEW_KERNELS, DTYPES.values(), 8),
        (WIDE_ROW_KERNELS, DTYPES.values(), 8),
    ):
        for name, variants in kernels.items():
            of_bytes = name.endswith("resize_kernel")  # to bytes, whatever the dtype
            for dtype, variant in product(["bf16"] if of_bytes else dtypes, variants):
                yield name, dtype, variant, warps, variant is variants[0]
