"""A package whose losses are replaced: where it defines them, and which versions are known."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Peer:
    """A package, and the modules that define what this one replaces.

    Attributes:
        package: the name it is imported by.
        defined_in: module of each name, such as ``{"NTXentLoss": "lightly.loss.ntx_ent_loss"}``.
        distribution: the name it is installed by; None: it is run from a checkout, and has no
            version.
        versions: (major, minor) of the releases that work.
    """

    package: str
    defined_in: dict[str, str]
    distribution: str | None = None
    versions: tuple[tuple[int, int], ...] = ()

    def check_version(self) -> None:
        """Raise ImportError if the package is not installed, ValueError if it is too old or new."""
        if self.distribution is None:
            if importlib.util.find_spec(self.package) is None:
                raise ModuleNotFoundError(
                    f"{self.package} cannot be imported: it is not installed, and its checkout is "
                    "not on sys.path"
                )
            return
        version = installed_version(self.distribution)
        if version is None:
            raise ModuleNotFoundError(
                f"{self.distribution} is not installed: there is nothing to replace"
            )
        if version not in self.versions:
            known = ", ".join(f"{major}.{minor}" for major, minor in self.versions)
            raise ValueError(
                f"{self.distribution} {importlib.metadata.version(self.distribution)} is not known "
                f"to work; these versions are: {known}"
            )

    def originals(self, replacements: ModuleType, names: list[str]) -> dict[str, object]:
        """What the package defines under these names, each checked against its replacement."""
        self.check_version()
        found = {}
        for name in names:
            module = importlib.import_module(self.defined_in[name])
            if not hasattr(module, name):
                raise ValueError(f"{module.__name__} defines no {name}: not a known version")
            original = getattr(module, name)
            _check_signatures(original, getattr(replacements, name))
            found[name] = original
        return found


def installed_version(distribution: str) -> tuple[int, int] | None:
    """(major, minor) of an installed distribution; None if it is not installed."""
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        raise ValueError(f"{distribution} has a version that cannot be read: {version!r}")
    return int(match[1]), int(match[2])


def missing_parameters(
    original: Callable[..., object], replacement: Callable[..., object]
) -> list[str]:
    """Parameters of the original that the replacement does not take in the same way."""
    pairs = [(original, replacement)]
    if inspect.isclass(original):
        pairs = [(getattr(original, x), getattr(replacement, x)) for x in ("__init__", "forward")]
    missing = []
    for theirs, ours in pairs:
        own = list(inspect.signature(ours).parameters.values())
        names = [x.name for x in own]
        takes_any = any(x.kind is x.VAR_KEYWORD for x in own)
        for place, parameter in enumerate(inspect.signature(theirs).parameters.values()):
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if parameter.kind is parameter.KEYWORD_ONLY:
                fits = parameter.name in names or takes_any
            else:
                fits = names[place : place + 1] == [parameter.name]
            if not fits:
                missing.append(parameter.name)
    return missing


def _check_signatures(original: Callable[..., object], replacement: Callable[..., object]) -> None:
    missing = missing_parameters(original, replacement)
    if missing:
        raise ValueError(
            f"{original.__module__}.{original.__qualname__} takes {', '.join(missing)}, which "
            "the replacement does not take in the same place: not a known version"
        )
