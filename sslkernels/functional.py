"""The losses as functions: ``sslkernels.functional.nt_xent(out0, out1, temperature)``."""

from .losses import (
    alignment,
    byol,
    clip,
    dcl,
    dclw,
    info_nce,
    moco,
    moco_v3,
    negative_cosine_similarity,
    nnclr,
    nt_xent,
    siglip,
    simsiam,
    supcon,
    uniformity,
)

__all__ = [
    "alignment",
    "byol",
    "clip",
    "dcl",
    "dclw",
    "info_nce",
    "moco",
    "moco_v3",
    "negative_cosine_similarity",
    "nnclr",
    "nt_xent",
    "siglip",
    "simsiam",
    "supcon",
    "uniformity",
]
