"""Losses on a batch's covariances and spectra: decorrelation without collapse."""

from .barlow_twins import BarlowTwinsLoss, barlow_twins
from .cca import CCALoss, cca
from .coding_rate import coding_rate
from .mmcr import MMCRLoss, mmcr
from .simdino import SimDINOLoss, SimDINOv2Loss, simdino
from .spectral_contrastive import SpectralContrastiveLoss, spectral_contrastive
from .tico import TiCoLoss, tico, tico_covariance
from .vicreg import VIbCRegLoss, VICRegLoss, vibcreg, vicreg
from .vicregl import VICRegLLoss, vicregl
from .w_mse import WMSELoss, w_mse, whiten

__all__ = [
    "BarlowTwinsLoss",
    "CCALoss",
    "MMCRLoss",
    "SimDINOLoss",
    "SimDINOv2Loss",
    "SpectralContrastiveLoss",
    "TiCoLoss",
    "VICRegLLoss",
    "VICRegLoss",
    "VIbCRegLoss",
    "WMSELoss",
    "barlow_twins",
    "cca",
    "coding_rate",
    "mmcr",
    "simdino",
    "spectral_contrastive",
    "tico",
    "tico_covariance",
    "vibcreg",
    "vicreg",
    "vicregl",
    "w_mse",
    "whiten",
]
