"""Losses as ``nn.Module`` and as functions, thin over the primitives."""

from .contrastive import NTXentLoss, nt_xent

__all__ = ["NTXentLoss", "nt_xent"]
