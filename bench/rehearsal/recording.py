"""The specialisations that Triton would compile, as a file: its cache key without the source."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.compiler import ASTSource


class Specialisation(NamedTuple):
    """Pairs instead of Triton's dictionaries, which are not hashable; their order is in its key."""

    module: str
    kernel: str
    signature: tuple[tuple[str, str], ...]  # types by argument
    constants: tuple[tuple[tuple[int, ...], Any], ...]  # values by position
    attributes: tuple[tuple[tuple[int, ...], tuple[tuple[str, int], ...]], ...]
    options: tuple[tuple[str, Any], ...]  # that differ from Triton's defaults

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
        """The type of each argument, its value if constant, and its attributes."""
        constants, attributes = dict(self.constants), dict(self.attributes)
        return {
            name: (kind, constants.get((place,)), attributes.get((place,)))
            for place, (name, kind) in enumerate(self.signature)
        }

    def source(self) -> ASTSource:
        """The argument of ``triton.compile``, as in a launch."""
        kernel = getattr(import_module(self.module), self.kernel)
        attributes = {path: [list(x) for x in values] for path, values in self.attributes}
        return ASTSource(kernel, dict(self.signature), dict(self.constants), attributes)


def write(path: Path, specialisations: Iterable[Specialisation]) -> None:
    recording = {"triton": triton.__version__, "specialisations": list(specialisations)}
    path.write_text(json.dumps(recording, indent=1))


def read(path: Path) -> list[Specialisation]:
    """Raises if it was written with another Triton, which specialises differently."""
    recording = json.loads(path.read_text())
    if recording["triton"] != triton.__version__:
        raise ValueError(
            f"{path} was recorded with Triton {recording['triton']}; this is {triton.__version__}"
        )
    return [Specialisation(*map(_frozen, x)) for x in recording["specialisations"]]


def _frozen(x: Any) -> Any:
    return tuple(map(_frozen, x)) if isinstance(x, (list, tuple)) else x
