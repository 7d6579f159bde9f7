"""Tile shapes of Triton kernels, by architecture and depth: tables, no tuning at run time.

No tile spills registers: all compile within their architecture's registers and shared memory
(tests/compile). Those of sm_90 are chosen by a model of an H100 (`bench/model`).
"""

from . import sm_80, sm_86, sm_90, sm_100
from .tile import Table, Tile

ARCHITECTURES = {"sm_80": sm_80, "sm_86": sm_86, "sm_90": sm_90, "sm_100": sm_100}
# log-sum-exps: columns are resident, rows are streamed
FORWARD: Table = {name: x.FORWARD for name, x in ARCHITECTURES.items()}
# gradients, accumulated for each row
BACKWARD: Table = {name: x.BACKWARD for name, x in ARCHITECTURES.items()}
# row-wise results: rows are resident, columns are streamed
ROWS: Table = {name: x.ROWS for name, x in ARCHITECTURES.items()}
# embeddings wider than in the tables, in pieces of BD, by bytes per element
DEEP: dict[str, dict[int, Tile]] = {name: x.DEEP for name, x in ARCHITECTURES.items()}
# weights written to memory for products, any width in pieces of BD, by bytes per element
WEIGHTS: dict[str, dict[int, Tile]] = {name: x.WEIGHTS for name, x in ARCHITECTURES.items()}
# C = âᵀ b̂ that is not stored, by bytes per element; BD is a number of samples
PRODUCTS: dict[str, dict[int, Tile]] = {name: x.PRODUCTS for name, x in ARCHITECTURES.items()}
# projections on random directions, embeddings in pieces of BD, by bytes per element
SLICES: dict[str, dict[int, Tile]] = {name: x.SLICES for name, x in ARCHITECTURES.items()}
# gradients of functions of these projections, accumulated for each sample
SLICE_GRADIENT: Table = {name: x.SLICE_GRADIENT for name, x in ARCHITECTURES.items()}

__all__ = [
    "BACKWARD",
    "DEEP",
    "FORWARD",
    "PRODUCTS",
    "ROWS",
    "SLICES",
    "SLICE_GRADIENT",
    "WEIGHTS",
    "Table",
    "Tile",
]
