"""Losses on the spectrum of a batch: covariances, coding rates, canonical correlations."""

from .cca import CCALoss, cca
from .coding_rate import coding_rate
from .mmcr import MMCRLoss, mmcr
from .simdino import SimDINOLoss, SimDINOv2Loss, simdino
from .tico import TiCoLoss, tico, tico_covariance
from .w_mse import WMSELoss, w_mse, whiten

__all__ = [
    "CCALoss",
    "MMCRLoss",
    "SimDINOLoss",
    "SimDINOv2Loss",
    "TiCoLoss",
    "WMSELoss",
    "cca",
    "coding_rate",
    "mmcr",
    "simdino",
    "tico",
    "tico_covariance",
    "w_mse",
    "whiten",
]
