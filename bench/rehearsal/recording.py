"""What Triton would compile, as a file: all that its cache goes by, but the kernels' source."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.compiler import ASTSource


class Specialisation(NamedTuple):
    """Pairs where Triton has dictionaries: they have no hash, and their order is in its key."""

    module: str
    kernel: str
    signature: tuple[tuple[str, str], ...]  # types by argument
    constants: tuple[tuple[tuple[int, ...], Any], ...]  # values by position
    attributes: tuple[tuple[tuple[int, ...], tuple[tuple[str, int], ...]], ...]
    options: tuple[tuple[str, Any], ...]  # where they differ from Triton's own

    @classmethod
    def of(
        cls,
        kernel: Any,
        signature: Mapping[str, str],
        constants: Mapping[tuple[int, ...], Any],
        options: Any,
        defaults: Any,
        attributes: Mapping[tuple[int, ...], Any],
    ) -> Specialisation:
        chosen = {
            name: value for name, value in vars(options).items() if value != getattr(defaults, name)
        }
        parts = (signature, constants, attributes, chosen)
        pairs = (tuple((key, _frozen(value)) for key, value in x.items()) for x in parts)
        return cls(kernel.fn.__module__, kernel.fn.__name__, *pairs)

    def arguments(self) -> dict[str, tuple]:
        """Of each argument its type, its value if that is constant, and its attributes."""
        constants, attributes = dict(self.constants), dict(self.attributes)
        return {
            name: (kind, constants.get((place,)), attributes.get((place,)))
            for place, (name, kind) in enumerate(self.signature)
        }

    def source(self) -> ASTSource:
        """What ``triton.compile`` takes, as a launch would give it."""
        kernel = getattr(import_module(self.module), self.kernel)
        attributes = {path: [list(x) for x in values] for path, values in self.attributes}
        return ASTSource(kernel, dict(self.signature), dict(self.constants), attributes)


def write(path: Path, specialisations: Iterable[Specialisation]) -> None:
    recording = {"triton": triton.__version__, "specialisations": list(specialisations)}
    path.write_text(json.dumps(recording, indent=1))


def read(path: Path) -> list[Specialisation]:
    """Raises if another Triton wrote it, which specialises in another way."""
    recording = json.loads(path.read_text())
    if recording["triton"] != triton.__version__:
        raise ValueError(
            f"{path} was recorded with Triton {recording['triton']}; this is {triton.__version__}"
        )
    return [Specialisation(*map(_frozen, x)) for x in recording["specialisations"]]


def _frozen(x: Any) -> Any:
    return tuple(map(_frozen, x)) if isinstance(x, (list, tuple)) else x
