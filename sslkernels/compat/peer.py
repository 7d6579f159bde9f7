"""A package whose losses are replaced: the modules that define them, and the known releases."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

Release = tuple[int, int, int]

_said: set[str] = set()


@dataclass(frozen=True)
class Peer:
    """A package, and the modules that define the losses to replace.

    Attributes:
        package: the name it is imported by.
        defined_in: the module of each name, such as
            ``{"NTXentLoss": "lightly.loss.ntx_ent_loss"}``.
        distribution: the name it is installed by; None: it is run from a checkout, and has no
            version.
        releases: the oldest and the newest known release.
        since: for names whose value, gradient or signature has changed: the first release with the
            present one.
    """

    package: str
    defined_in: dict[str, str]
    distribution: str | None = None
    releases: tuple[str, str] = ("0", "0")
    since: dict[str, str] = field(default_factory=dict)

    def find(
        self, replacements: ModuleType, names: list[str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The package's objects with these names whose results match the replacements'; and for
        the other names, the reason.

        Raises:
            ImportError: the package cannot be imported.
        """
        version = self._version(self._import())
        found, left = {}, {}
        for name in names:
            reason = self._of_another_release(name, version)
            try:
                module = importlib.import_module(self.defined_in[name])
                original = getattr(module, name)
            except AttributeError:
                reason = f"{self.defined_in[name]} defines no {name}"
            except Exception as error:  # broken for everyone, so nothing to replace
                place = self.defined_in[name]
                is_missing = getattr(error, "name", None) == place
                problem = str(error).partition("\n")[0]
                fails = f"importing {place} fails: {problem}"
                reason = f"there is no {place}" if is_missing else fails
            else:
                reason = reason or _other_parameters(original, getattr(replacements, name))
            if reason:
                left[name] = reason
            else:
                found[name] = original
        return found, left

    def own(self, name: str) -> Any:
        """The package's class or function of this name; None if there is none, or no package."""
        try:
            return getattr(importlib.import_module(self.defined_in[name]), name)
        except (ImportError, KeyError, AttributeError):
            return None

    def _import(self) -> ModuleType:
        if self.package not in sys.modules and importlib.util.find_spec(self.package) is None:
            raise ModuleNotFoundError(
                f"{self.distribution or self.package} is not installed, and a checkout of it is "
                "not on sys.path: there is nothing to replace",
                name=self.package,
            )
        return importlib.import_module(self.package)

    def _version(self, package: ModuleType) -> str | None:
        """The imported package's version, which may not be the installed one; None: unknown."""
        try:
            return getattr(package, "__version__", None) or importlib.metadata.version(
                self.distribution or self.package
            )
        except importlib.metadata.PackageNotFoundError:
            return None

    def _of_another_release(self, name: str, version: str | None) -> str:
        """Why this version's results for a name are not known; empty if they are."""
        if self.distribution is None:
            return ""
        oldest, newest = self.since.get(name, self.releases[0]), self.releases[1]
        found = release(version or "")
        if found is None:
            return f"a {self.distribution} of unknown version"
        if release(oldest) <= found <= release(newest):  # type: ignore[operator]
            return ""
        return f"its values are known of {self.distribution} {oldest} to {newest}, not of {version}"


def release(version: str) -> Release | None:
    """The first three numbers of a version; None if it cannot be parsed."""
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    return None if match is None else tuple(int(x or 0) for x in match.groups())  # type: ignore[return-value]


def installed_release(distribution: str) -> Release | None:
    """The release of an installed distribution; None if not installed or not parseable."""
    try:
        return release(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return None


def missing_parameters(
    original: Callable[..., object], replacement: Callable[..., object]
) -> list[str]:
    """Parameters of the original that the replacement does not accept in the same way."""
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


def _other_parameters(original: Callable[..., object], replacement: Callable[..., object]) -> str:
    missing = missing_parameters(original, replacement)
    return f"it takes {', '.join(missing)}, which is not known here" if missing else ""


def promoted(*tensors: Tensor) -> list[Tensor]:
    """All in torch's promoted dtype: other packages mix dtypes that this package would refuse."""
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in tensors))
    return [x.to(dtype) for x in tensors]


def leave_gradients(loss: object, *targets: Tensor) -> None:
    """Refuse targets that require a gradient, if the peer's own loss can compute it."""
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in targets)
    if wanted and "_own" in vars(loss):
        raise ValueError("the teacher requires a gradient, and none is computed here")


def whole(labels: Tensor) -> Tensor:
    """Labels of any dtype as integers, equal where the labels are, on all ranks alike."""
    if not labels.is_floating_point():
        return labels
    return (labels.double() + 0.0).view(torch.int64)  # -0 equals 0, but has other bits


class OrPeers:
    """Constructs the peer's class, if installed, for arguments that are not supported here."""

    peer: ClassVar[Peer]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            arguments = inspect.signature(cls.__init__).bind(None, *args, **kwargs).arguments
        except TypeError:  # __init__ will raise it
            arguments = {}
        reason = cls._not_done(arguments)
        own = cls.peer.own(cls.__name__) if reason else None
        if own is None:
            return super().__new__(cls)
        say(f"{cls.__name__}()", reason)
        return own(*args, **kwargs)

    @classmethod
    def _not_done(cls, arguments: dict[str, Any]) -> str:
        """The unsupported constructor arguments; empty if all are supported."""
        raise NotImplementedError


def say(name: str, reason: object) -> None:
    """Warn, once, that something is left to the peer."""
    if name not in _said:
        _said.add(name)
        warnings.warn(f"{name} is left to the package's own code: {reason}", stacklevel=4)


def say_again() -> None:
    """Forget which warnings were given."""
    _said.clear()


class ShowsArguments:
    """A module whose ``repr`` shows all constructor arguments that are not the default."""

    def extra_repr(self) -> str:
        shown = {}
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            value = getattr(self, name, parameter.default)
            if not isinstance(value, nn.Module) and not _alike(value, parameter.default):
                shown[name] = value
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def _alike(a: object, b: object) -> bool:
    return a is b or type(a) in (int, float, bool, str, tuple, type(None)) and a == b
