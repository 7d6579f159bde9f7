"""The losses of other packages under their own names: change an import, or call :func:`patch`.

``sslkernels.compat.lightly`` and its siblings are imported by their names, and need no peer.
"""

from .patching import Patch, patch, unpatch

__all__ = ["Patch", "patch", "unpatch"]
