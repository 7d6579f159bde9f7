"""Replaces another package's losses, under their own names, by those of this package."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterable
from typing import Any

from .peer import say_again
from .stand_in import is_replaced, replace_class, replacing_function

Pair = tuple[Any, Any]

PEERS = (
    "dino",
    "dinov2",
    "lejepa",
    "lightly",
    "open_clip",
    "pytorch_metric_learning",
    "solo_learn",
    "stable_pretraining",
)

_active: list[Patch] = []


class Patch:
    """The result of :func:`sslkernels.patch`; as a context manager it undoes the patch on exit.

    Attributes:
        peer: the package whose losses were replaced.
        replaced: full names, such as ``"lightly.loss.ntx_ent_loss.NTXentLoss"``, of every module
            attribute that holds a replaced loss.
        left: the names that were not replaced, with the reason.
        own: the package's original classes and functions by name.
    """

    def __init__(
        self, peer: str, package: str, pairs: dict[str, Pair], left: dict[str, str]
    ) -> None:
        self.peer, self.left = peer, left
        self.own = {name: _own(name, original) for name, (original, _) in pairs.items()}
        pairs = {k: x for k, x in pairs.items() if not is_replaced(x[0])}
        classes = [x for x in pairs.values() if isinstance(x[0], type)]
        functions = [
            (original, replacing_function(original, ours))
            for original, ours in pairs.values()
            if not isinstance(original, type)
        ]
        self._package, self._functions = package, functions
        self._undo = [replace_class(*x) for x in classes]
        self.replaced = sorted(
            _swap(package, [(x, x) for x, _ in classes]) + _swap(package, functions)
        )
        _active.append(self)

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def undo(self) -> None:
        """Restore the originals in all modules of the package that hold the replacements by now.

        Instances created in between are not changed. A second call does nothing. Patches of one
        package may be undone in any order.
        """
        if self in _active:
            _active.remove(self)
            for undo in self._undo:
                undo()
            _swap(self._package, [(new, old) for old, new in self._functions])

    def __repr__(self) -> str:
        return f"Patch({self.peer!r}: {len(self.replaced)} names replaced, left={self.left})"


def patch(peer: str, *, only: Iterable[str] | None = None) -> Patch:
    """Let ``sslkernels.compat`` compute a package's losses, until undone.

    Its classes keep their identity, also for ``isinstance``: instances of these classes, but not of
    subclasses, are computed here, whenever and wherever the class was imported. Functions are
    replaced in every module of the package that holds them; names that other code imported earlier
    keep the package's functions, so patch before importing them.

    Some cases are left to the package's own code, with a single warning each: classes of a release
    whose values are not known, or with unknown parameters; and instances or calls with arguments
    that this package would refuse.

    Patching what is patched already replaces nothing, and undoing that undoes nothing.

    Args:
        peer: ``"lightly"``, ``"open_clip"``, ``"pytorch_metric_learning"``, ``"solo_learn"``,
            ``"stable_pretraining"``, ``"lejepa"``, ``"dinov2"`` or ``"dino"`` (its
            ``main_dino.py``).
        only: names to replace, such as ``["NTXentLoss"]``; None: all that
            ``sslkernels.compat.<peer>`` has.

    Returns:
        A :class:`sslkernels.compat.Patch` with the names that were replaced (``replaced``) and
        those that were not (``left``). Use it in a ``with`` statement, or call its ``undo``, or
        :func:`sslkernels.unpatch`.

    Raises:
        ImportError: the package is not installed.
        ValueError: an unknown peer or name.
    """
    replacements = _compat_module(peer)
    known = replacements.PEER.defined_in
    names = list(known) if only is None else list(only)
    if isinstance(only, str) or not set(names) <= set(known):
        raise ValueError(
            f"only must be a list of names among {', '.join(sorted(known))}; got {only!r}"
        )
    found, left = replacements.PEER.find(replacements, names)
    say_again()
    if left:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in left.items())
        warnings.warn(f"{peer}'s own code is kept for {reasons}", stacklevel=2)
    pairs = {name: (original, getattr(replacements, name)) for name, original in found.items()}
    return Patch(peer, replacements.PEER.package, pairs, left)


def unpatch(peer: str | None = None) -> list[str]:
    """Undo every patch of a package, or of all packages; return the names that were restored.

    Raises:
        ValueError: an unknown peer.
    """
    if peer is not None:
        _check_peer(peer)
    restored = []
    for active in [x for x in _active if peer in (None, x.peer)]:
        active.undo()
        restored += active.replaced
    return restored


def _own(name: str, original: Any) -> Any:
    """The original; for a class, a subclass of it, which :func:`replace_class` does not affect."""
    if isinstance(original, type):
        return type(name, (original,), {"__module__": original.__module__})
    return getattr(original, "replaces", original)


def _swap(package: str, pairs: list[Pair]) -> list[str]:
    """Replace old by new in all modules of a package; return the full names of the attributes."""
    new_of = {id(old): new for old, new in pairs}
    swapped = []
    for name, module in list(sys.modules.items()):
        if module is None or (name != package and not name.startswith(f"{package}.")):
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in new_of:
                setattr(module, attribute, new_of[id(value)])
                swapped.append(f"{name}.{attribute}")
    return swapped


def _compat_module(peer: str):
    _check_peer(peer)
    return importlib.import_module(f"{__package__}.{peer}")


def _check_peer(peer: str) -> None:
    if peer not in PEERS:
        raise ValueError(f"peer must be one of {', '.join(PEERS)}; got {peer!r}")
