"""DALI: images decoded on the CPU or by nvJPEG, and complete recipes of views.

Importing this does not need DALI; constructing a reader does.
"""

from .available import HAS_DALI
from .reader import DALIReader
from .views import DALIViewReader

__all__ = ["HAS_DALI", "DALIReader", "DALIViewReader"]
