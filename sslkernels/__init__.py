"""Fused, exact, memory-linear kernels for self-supervised learning.

- Losses as modules: :class:`sslkernels.NTXentLoss`, …; as functions: ``sslkernels.functional``.
- Other packages' names for them: ``sslkernels.compat``, and :func:`sslkernels.patch`.
- Primitives for losses of your own: :func:`sslkernels.pairwise_logsumexp`, …
- Training: ``sslkernels.data``, ``sslkernels.train``, ``sslkernels.metrics``, ``sslkernels.eval``;
  or ``python -m sslkernels.train simclr``.
- ``python -m sslkernels`` reports what is installed and what computes.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from . import functional
from .compat import patch, unpatch
from .distributed import Gather
from .losses import (
    BarlowTwinsLoss,
    BCSLoss,
    BYOLLoss,
    CAPILoss,
    CCALoss,
    CLIPLoss,
    DCLLoss,
    DCLWLoss,
    DINOLoss,
    DirectCLRLoss,
    HypersphereLoss,
    IBOTPatchLoss,
    InfoNCELoss,
    KoLeoLoss,
    LeJEPALoss,
    LeWMLoss,
    MemoryBank,
    MMCRLoss,
    MoCoLoss,
    MoCoV3Loss,
    MSNLoss,
    NegativeCosineSimilarity,
    NNCLRLoss,
    NTXentLoss,
    OfficialDINOLoss,
    PMSNCustomLoss,
    PMSNLoss,
    SigLIPLoss,
    SIGRegLoss,
    SimDINOLoss,
    SimDINOv2Loss,
    SimSiamLoss,
    SpectralContrastiveLoss,
    SupConLoss,
    SwaVLoss,
    TiCoLoss,
    VIbCRegLoss,
    VICRegLLoss,
    VICRegLoss,
    VISRegLoss,
    WMSELoss,
)
from .primitives import (
    Quadrature,
    RaggedImages,
    Standardized,
    augment_views,
    nearest_neighbor,
    offdiagonal_norm,
    pairwise_logsumexp,
    pairwise_softplus,
    prototype_cross_entropy,
    prototype_sinkhorn,
    random_directions,
    sinkhorn,
    sliced_epps_pulley,
    sliced_wasserstein,
    soft_cross_entropy,
    source_coordinates,
)

__all__ = [
    "BCSLoss",
    "BYOLLoss",
    "BarlowTwinsLoss",
    "CAPILoss",
    "CCALoss",
    "CLIPLoss",
    "DCLLoss",
    "DCLWLoss",
    "DINOLoss",
    "DirectCLRLoss",
    "Gather",
    "HypersphereLoss",
    "IBOTPatchLoss",
    "InfoNCELoss",
    "KoLeoLoss",
    "LeJEPALoss",
    "LeWMLoss",
    "MMCRLoss",
    "MSNLoss",
    "MemoryBank",
    "MoCoLoss",
    "MoCoV3Loss",
    "NNCLRLoss",
    "NTXentLoss",
    "NegativeCosineSimilarity",
    "OfficialDINOLoss",
    "PMSNCustomLoss",
    "PMSNLoss",
    "Quadrature",
    "RaggedImages",
    "SIGRegLoss",
    "SigLIPLoss",
    "SimDINOLoss",
    "SimDINOv2Loss",
    "SimSiamLoss",
    "SpectralContrastiveLoss",
    "Standardized",
    "SupConLoss",
    "SwaVLoss",
    "TiCoLoss",
    "VICRegLLoss",
    "VICRegLoss",
    "VISRegLoss",
    "VIbCRegLoss",
    "WMSELoss",
    "augment_views",
    "functional",
    "nearest_neighbor",
    "offdiagonal_norm",
    "pairwise_logsumexp",
    "pairwise_softplus",
    "patch",
    "prototype_cross_entropy",
    "prototype_sinkhorn",
    "random_directions",
    "sinkhorn",
    "sliced_epps_pulley",
    "sliced_wasserstein",
    "soft_cross_entropy",
    "source_coordinates",
    "unpatch",
]

if TYPE_CHECKING:
    from . import data, eval, metrics, plots, train  # noqa: F401

    __version__: str
else:

    def __getattr__(name):
        """The version, and the parts that are imported when they are first used."""
        if name == "__version__":
            return version(__name__)
        if name in ("data", "eval", "metrics", "plots", "train"):
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
