"""Losses of packages that are used from checkouts, without importing the rest.

``SSLKERNELS_PEERS`` names a folder with ``solo-learn/``, ``dinov2/``, ``dino/`` and ``lejepa/``.
"""

import ast
import importlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from sslkernels.compat import dino, dinov2, lejepa, solo_learn

FOLDERS = {solo_learn: "solo-learn", dinov2: "dinov2", dino: "dino", lejepa: "lejepa"}


def checkout(ours):
    """The folder of a package's checkout; skips if there is none."""
    root = os.environ.get("SSLKERNELS_PEERS")
    if root is None or not Path(root, FOLDERS[ours]).is_dir():
        pytest.skip(f"needs a checkout: SSLKERNELS_PEERS with {FOLDERS[ours]}/ in it")
    return Path(root, FOLDERS[ours])


@contextmanager
def imported(ours):
    """Temporarily import the modules that define its losses, from its checkout."""
    root, package = checkout(ours), ours.PEER.package
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        if ours is solo_learn:
            for name in ("solo", "solo.losses", "solo.utils"):
                _package(root, name)
            part(
                root / "solo/utils/misc.py", "solo.utils.misc",
                {"GatherLayer", "gather", "get_rank", "concat_all_gather_no_grad"},
            )  # fmt: skip
        elif ours is dino:
            part(root / "main_dino.py", "main_dino", {"DINOLoss"})
        for module in ours.PEER.defined_in.values():
            importlib.import_module(module)
        yield
    finally:
        sys.path.remove(str(root))
        for name in set(sys.modules) - before:
            if name.split(".")[0] == package:
                del sys.modules[name]


def originals(ours):
    """The peer's classes and functions by name."""
    with imported(ours):
        return {
            name: getattr(sys.modules[module], name)
            for name, module in ours.PEER.defined_in.items()
        }


def _package(root, name):
    """A package whose __init__ is not run, because it imports too much."""
    module = sys.modules[name] = ModuleType(name)
    module.__path__ = [str(root.joinpath(*name.split(".")))]


def part(path, name, names):
    """A module with only these definitions, and the imports that they use."""
    module = sys.modules[name] = ModuleType(name)
    body = ast.parse(path.read_text()).body
    wanted = [x for x in body if getattr(x, "name", None) in names]
    used = {y.id for x in wanted for y in ast.walk(x) if isinstance(y, ast.Name)}
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [x for x in node.names if (x.asname or x.name.split(".")[0]) in used]
            if not node.names:
                continue
        elif node not in wanted:
            continue
        exec(compile(ast.Module([node], []), str(path), "exec"), vars(module))
