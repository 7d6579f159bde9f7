"""Tile shapes of Triton kernels, by architecture and depth: tables, no tuning at run time.

No tile of an entry spills: all compile within their architecture's registers and shared memory
(tests/compile). Those of sm_90 are chosen by a model of an H100 (`bench/model`).
"""

from . import sm_80, sm_86, sm_90, sm_100
from .tile import Table, Tile

ARCHITECTURES = {"sm_80": sm_80, "sm_86": sm_86, "sm_90": sm_90, "sm_100": sm_100}
# of log-sum-exps: columns stay, rows stream
FORWARD: Table = {name: x.FORWARD for name, x in ARCHITECTURES.items()}
# of gradients, which hold one for each row
BACKWARD: Table = {name: x.BACKWARD for name, x in ARCHITECTURES.items()}
# of what each row finds: rows stay, columns stream
ROWS: Table = {name: x.ROWS for name, x in ARCHITECTURES.items()}
# of wider embeddings than the tables have, in pieces of BD, by bytes per element
DEEP: dict[str, dict[int, Tile]] = {name: x.DEEP for name, x in ARCHITECTURES.items()}
# of weights that are written for products, of any width in pieces of BD, by bytes per element
WEIGHTS: dict[str, dict[int, Tile]] = {name: x.WEIGHTS for name, x in ARCHITECTURES.items()}
# of C = âᵀ b̂ that never leaves the chip, by bytes per element; BD is a number of samples
PRODUCTS: dict[str, dict[int, Tile]] = {name: x.PRODUCTS for name, x in ARCHITECTURES.items()}
# of projections on random directions, of embeddings in pieces of BD, by bytes per element
SLICES: dict[str, dict[int, Tile]] = {name: x.SLICES for name, x in ARCHITECTURES.items()}
# of the gradient of functions of these, which is held for each sample
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
