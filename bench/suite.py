"""The sets of shapes that are measured together."""

from __future__ import annotations

from .case import Shape

# Each loss and other packages, at the sizes of papers and their code; if these distribute a batch
# over many ranks, the share of one of them.
PEERS: dict[str, Shape] = {
    "nt_xent": (4096, 128),  # SimCLR's batch
    "dcl": (512, 128),
    "supcon": (8192, 128),
    "clip": (4096, 512),
    "siglip": (4096, 512),
    "moco": (256, 128),  # and its queue of 65,536
    "barlow_twins": (256, 8192),
    "vicreg": (256, 8192),
    "dino": (64, 65536),
    "dino_head": (64, 65536),
    "ibot_head": (512, 65536),
    "swav": (256, 3000),
    "sigreg": (256, 128),  # and 1,024 slices of 8 views
    "lejepa": (256, 128),
    "visreg": (256, 128),
}
SUITES = {"peers": PEERS}
