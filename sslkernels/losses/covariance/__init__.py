"""Losses on the spectrum of a batch: covariances, coding rates, canonical correlations."""

from .cca import CCALoss, cca
from .mmcr import MMCRLoss, mmcr

__all__ = ["CCALoss", "MMCRLoss", "cca", "mmcr"]
