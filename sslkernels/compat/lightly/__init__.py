"""Losses of lightly (1.5 and 1.6): its names, arguments, defaults, results and checkpoints.

Differences, and losses of lightly that are not covered: ``sslkernels/compat/README.md``.
Keyword arguments of this package's own losses (``impl``, ``group``, …) may follow lightly's.
"""

from ..peer import Peer
from .contrastive import (
    DCLLoss,
    DCLWLoss,
    DirectCLRLoss,
    HypersphereLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    negative_mises_fisher_weights,
)
from .covariance import (
    BarlowTwinsLoss,
    MMCRLoss,
    TiCoLoss,
    VICRegLLoss,
    VICRegLoss,
    Whitening2d,
    WMSELoss,
    norm_mse_loss,
)
from .distillation import (
    CAPILoss,
    DINOLoss,
    IBOTPatchLoss,
    IBOTPlusPlusPatchLoss,
    KoLeoLoss,
    SwaVLoss,
)
from .gaussian import LeJEPALoss, LeWMLoss, SIGReg, VISRegLoss
from .masked_siamese import MSNLoss, PMSNCustomLoss, PMSNLoss
from .version import IS_BEFORE_1_6

__all__ = [
    "BarlowTwinsLoss",
    "CAPILoss",
    "DCLLoss",
    "DCLWLoss",
    "DINOLoss",
    "DirectCLRLoss",
    "HypersphereLoss",
    "IBOTPatchLoss",
    "IBOTPlusPlusPatchLoss",
    "KoLeoLoss",
    "LeJEPALoss",
    "LeWMLoss",
    "MMCRLoss",
    "MSNLoss",
    "NTXentLoss",
    "NegativeCosineSimilarity",
    "PMSNCustomLoss",
    "PMSNLoss",
    "SIGReg",
    "SwaVLoss",
    "TiCoLoss",
    "VICRegLLoss",
    "VICRegLoss",
    "VISRegLoss",
    "WMSELoss",
    "Whitening2d",
    "negative_mises_fisher_weights",
    "norm_mse_loss",
]

_MODULES = {
    "barlow_twins_loss": ["BarlowTwinsLoss"],
    "dcl_loss": ["DCLLoss", "DCLWLoss", "negative_mises_fisher_weights"],
    "dino_loss": ["DINOLoss"],
    "directclr_loss": ["DirectCLRLoss"],
    "hypersphere_loss": ["HypersphereLoss"],
    "ibot_loss": ["IBOTPatchLoss", "IBOTPlusPlusPatchLoss"],
    "koleo_loss": ["KoLeoLoss"],
    "lejepa_loss": ["LeJEPALoss", "SIGReg"],
    "lewm_loss": ["LeWMLoss"],
    "mmcr_loss": ["MMCRLoss"],
    "msn_loss": ["MSNLoss"],
    "negative_cosine_similarity": ["NegativeCosineSimilarity"],
    "ntx_ent_loss": ["NTXentLoss"],
    "pmsn_loss": ["PMSNLoss", "PMSNCustomLoss"],
    "swav_loss": ["SwaVLoss"],
    "tico_loss": ["TiCoLoss"],
    "vicreg_loss": ["VICRegLoss"],
    "vicregl_loss": ["VICRegLLoss"],
    "visreg_loss": ["VISRegLoss"],
    "wmse_loss": ["WMSELoss", "Whitening2d", "norm_mse_loss"],
}

if IS_BEFORE_1_6:
    from .contrastive import SymNegCosineSimilarityLoss

    __all__ += ["SymNegCosineSimilarityLoss"]
    _MODULES["sym_neg_cos_sim_loss"] = ["SymNegCosineSimilarityLoss"]
else:
    _MODULES["capi_loss"] = ["CAPILoss"]

PEER = Peer(
    package="lightly",
    distribution="lightly",
    releases=("1.5.0", "1.6.0"),
    defined_in={name: f"lightly.loss.{module}" for module, x in _MODULES.items() for name in x},
    since={
        "BarlowTwinsLoss": "1.5.26",  # gradients on several ranks
        "CAPILoss": "1.6.0",
        "DCLLoss": "1.5.21",  # one sum of all negatives
        "DCLWLoss": "1.5.21",
        "DINOLoss": "1.5.25",  # 1.5.21: the order of arguments; then: a single view is an error
        "DirectCLRLoss": "1.5.23",
        "IBOTPatchLoss": "1.5.21",  # its argument teacher_temp
        "IBOTPlusPlusPatchLoss": "1.5.25",  # a separate mean of visible patches
        "KoLeoLoss": "1.5.11",
        "LeJEPALoss": "1.6.0",  # both terms include global views
        "LeWMLoss": "1.6.0",
        "NTXentLoss": "1.5.16",  # its bank is a separate module
        "SIGReg": "1.5.24",  # gradients on several ranks
        "SwaVLoss": "1.5.22",  # shape (1,)
        "VICRegLLoss": "1.5.22",  # likewise
        "VISRegLoss": "1.6.0",
    },
)
