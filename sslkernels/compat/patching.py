"""Puts the losses of this package where another package defines and re-exports its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable

PEERS = (
    "dino",
    "dinov2",
    "lightly",
    "open_clip",
    "pytorch_metric_learning",
    "solo_learn",
    "stable_pretraining",
)

_active: list[Patch] = []


class Patch:
    """What :func:`patch` replaced; as a context manager it puts it back.

    Attributes:
        peer: whose losses were replaced.
        replaced: full names, such as ``"lightly.loss.ntx_ent_loss.NTXentLoss"``, of every place
            where something was.
    """

    def __init__(self, peer: str, package: str, pairs: list[tuple[object, object]]) -> None:
        self.peer = peer
        self._package, self._pairs = package, pairs
        self.replaced = _swap(package, pairs)
        _active.append(self)

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def undo(self) -> None:
        """Put the originals back, wherever in the package the replacements are by now.

        Does nothing the second time. Patches of one package may be undone in any order.
        """
        if self in _active:
            _active.remove(self)
            _swap(self._package, [(new, old) for old, new in self._pairs])

    def __repr__(self) -> str:
        return f"Patch({self.peer!r}, replaced={self.replaced})"


def patch(peer: str, *, only: Iterable[str] | None = None) -> Patch:
    """Replace a package's losses by those of ``sslkernels.compat``, until undone.

    Classes and functions are replaced in every module of the package that holds them, so that
    ``from lightly.loss import NTXentLoss`` gives this package's, and so does the module that
    defines it. Names that other code imported before keep what they were: patch before importing
    them. (Such a class, if it calls ``super(Name, self)``, cannot be constructed meanwhile.)

    To patch what is patched already replaces nothing again, and its undoing undoes nothing.

    Args:
        peer: ``"lightly"``, ``"open_clip"``, ``"pytorch_metric_learning"``, ``"solo_learn"``,
            ``"stable_pretraining"``, ``"dinov2"`` or ``"dino"`` (its ``main_dino.py``).
        only: names to replace, such as ``["NTXentLoss"]``; None: all that
            ``sslkernels.compat.<peer>`` has.

    Returns:
        What was replaced, :attr:`Patch.replaced`; use it in a ``with`` statement, or call its
        ``undo``, or :func:`unpatch`.

    Raises:
        ImportError: the package is not installed.
        ValueError: an unknown peer or name, or a version of the package that is not known to work.
    """
    replacements = _compat_module(peer)
    known = replacements.PEER.defined_in
    names = list(known) if only is None else list(only)
    if isinstance(only, str) or not set(names) <= set(known):
        raise ValueError(
            f"only must be a list of names among {', '.join(sorted(known))}; got {only!r}"
        )
    pairs = []
    for name, original in replacements.PEER.originals(replacements, names).items():
        replacement = getattr(replacements, name)
        if original is not replacement:
            pairs.append((original, replacement))
    return Patch(peer, replacements.PEER.package, pairs)


def unpatch(peer: str | None = None) -> list[str]:
    """Undo every patch of a package, or of all; return the names that hold originals again.

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


def _swap(package: str, pairs: list[tuple[object, object]]) -> list[str]:
    """Put new for old in all modules of a package; the full names of the places."""
    new_of = {id(old): new for old, new in pairs}
    swapped = []
    for name, module in list(sys.modules.items()):
        if module is None or (name != package and not name.startswith(f"{package}.")):
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in new_of:
                setattr(module, attribute, new_of[id(value)])
                swapped.append(f"{name}.{attribute}")
    return sorted(swapped)


def _compat_module(peer: str):
    _check_peer(peer)
    return importlib.import_module(f"{__package__}.{peer}")


def _check_peer(peer: str) -> None:
    if peer not in PEERS:
        raise ValueError(f"peer must be one of {', '.join(PEERS)}; got {peer!r}")
