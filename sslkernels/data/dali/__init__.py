"""DALI: images decoded on the CPU or by nvJPEG, and whole recipes of views made inside it.

Importing this needs no DALI; making a reader does.
"""

from .available import HAS_DALI
from .reader import DALIReader
from .views import DALIViewReader

__all__ = ["HAS_DALI", "DALIReader", "DALIViewReader"]
