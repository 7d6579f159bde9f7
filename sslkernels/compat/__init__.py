"""Losses of other packages by their names: change an import or call :func:`sslkernels.patch`.

``sslkernels.compat.lightly`` and its siblings are imported explicitly, and do not need the package
that they replace.
"""

from .patching import Patch, patch, unpatch

__all__ = ["Patch", "patch", "unpatch"]
