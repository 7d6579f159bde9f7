"""A plugin that uses the ``sslkernels._C`` built by ``make sanitize``."""

import importlib.util
import sys
from pathlib import Path

import torch  # noqa: F401 - before _C, as sslkernels does

(library,) = Path(__file__).parents[1].glob("build/sanitized/_C*.so")
spec = importlib.util.spec_from_file_location("sslkernels._C", library)
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
