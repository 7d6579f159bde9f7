"""The losses as functions: ``sslkernels.functional.nt_xent(out0, out1, temperature)``."""

from .losses import nt_xent

__all__ = ["nt_xent"]
