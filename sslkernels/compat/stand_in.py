"""Instances of a peer's class that are computed here; calls refused here are left to the peer."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import nn

from .peer import say

_UPDATE = "apply_center_update"  # applied before state is copied


class StandIn:
    """Base of classes that derive from both ours and the peer's.

    Such an instance keeps an instance of the peer's class: it provides the peer's attributes, and
    handles the calls that ours refuses, with the current state. Once an attribute is set that our
    class does not have, the instance becomes one of the peer's class alone.
    """

    _ours: type
    _original: type
    _buffers: dict
    _modules: dict

    def __init__(self) -> None:
        nn.Module.__init__(self)  # type: ignore[arg-type]  # not the peer's

    def __getattr__(self, name: str) -> Any:
        own = vars(self).get("_own")
        try:
            return nn.Module.__getattr__(self, name)  # type: ignore[arg-type]
        except AttributeError:
            if own is None or name.startswith("__"):
                raise
            return getattr(own, name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(self).get("_own")
        if own is not None and hasattr(own, name) and not self._knows(name):
            _carry(self, own)  # type: ignore[arg-type]
            _become(self, self._original, vars(own))
            say(f"{type(self).__name__}.{name}", "it has been set, and is not known here")
        nn.Module.__setattr__(self, name, value)  # type: ignore[arg-type]

    def _knows(self, name: str) -> bool:
        kept = (vars(self), self._buffers, self._modules)
        return hasattr(self._ours, name) or any(name in x for x in kept)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        if "_ours" not in vars(type(self)):  # a user's subclass
            return super().__reduce_ex__(protocol)  # type: ignore[return-value]
        return _empty, (self._ours, self._original), self.__getstate__()


@functools.cache
def stand_in(ours: type, original: type) -> type:
    """A class derived from ours and the peer's, whose methods try ours first."""
    methods = {
        name: _first(method, getattr(original, name), f"{original.__name__}.{name}")
        for name, method in inspect.getmembers_static(ours, lambda x: isinstance(x, FunctionType))
        if hasattr(original, name) and (name == "forward" or _is_its_own(name))
    }
    known = {"_ours": ours, "_original": original}
    namespace = {"__module__": ours.__module__, "__doc__": ours.__doc__, **known, **methods}
    return type(original.__name__, (ours, StandIn, original), namespace)


def replace_class(original: type, ours: type) -> Callable[[], None]:
    """Let ours compute instances of a class, but not of its subclasses; return the undo function.

    The class itself stays in place, so ``isinstance``, ``super(Name, self)``, pickles and earlier
    imports keep working. An instance is first constructed by the peer's ``__init__``, so that it
    raises, warns and draws random numbers as usual.
    """
    theirs: Any = original.__init__  # type: ignore[misc]
    had_one = "__init__" in vars(original)
    new = stand_in(ours, original)

    @functools.wraps(theirs)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is not original:
            theirs(self, *args, **kwargs)
            return
        own: Any = object.__new__(original)
        before = torch.get_rng_state()
        theirs(own, *args, **kwargs)
        after = torch.get_rng_state()
        refusal = _made(self, new, lambda: ours.__init__(self, *args, **kwargs), before)  # type: ignore[misc]
        if refusal is None:
            _carry(self, own)  # type: ignore[arg-type]  # share large state such as a bank
            vars(self)["_own"] = own
        else:
            _made(self, original, lambda: theirs(self, *args, **kwargs), before)
            say(f"{original.__name__}()", refusal)
        torch.set_rng_state(after)

    __init__.replaces = original  # type: ignore[attr-defined]
    original.__init__ = __init__  # type: ignore[misc]

    def undo() -> None:
        if had_one:
            original.__init__ = theirs  # type: ignore[misc]
        else:
            del original.__init__  # type: ignore[misc]

    return undo


def is_replaced(original: Any) -> bool:
    """Whether :func:`replace_class` or :func:`replacing_function` has replaced it."""
    if isinstance(original, type):
        return getattr(vars(original).get("__init__"), "replaces", None) is original
    return hasattr(original, "replaces")


def replacing_function(original: Callable, ours: Callable) -> Callable:
    """A function that calls ours, and the peer's if ours raises."""

    @functools.wraps(ours)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            return ours(*args, **kwargs)
        except Exception as error:
            refusal = error
        return _do_instead(original, args, kwargs, original.__name__, refusal)

    function.replaces = original  # type: ignore[attr-defined]
    return function


def _first(ours: Callable, theirs: Callable, name: str) -> Callable:
    @functools.wraps(ours)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return ours(self, *args, **kwargs)
        except Exception as error:
            refusal = error
        own = vars(self).get("_own")
        if own is None:  # under construction
            raise refusal
        _carry(self, own)
        result = _do_instead(theirs, (own, *args), kwargs, name, refusal)
        _carry(own, self)
        return result

    return method


def _do_instead(theirs: Callable, args: tuple, kwargs: dict, name: str, refusal: Exception) -> Any:
    try:
        result = theirs(*args, **kwargs)
    except Exception as error:
        error.add_note(f"(sslkernels says: {refusal})")
        raise
    say(name, refusal)
    return result


def _carry(source: nn.Module, target: nn.Module) -> None:
    """Copy one module's state to another: the buffers and attributes that both have."""
    if source is target:
        return
    getattr(source, _UPDATE, lambda: None)()
    attributes = {k: v for k, v in vars(source).items() if not k.startswith("_")}
    for name, value in {**attributes, **source._buffers}.items():
        if name in vars(target) or name in target._buffers:
            setattr(target, name, value)
    for name, child in source._modules.items():
        twin = target._modules.get(name)
        if child is not None and twin is not None:
            _carry(child, twin)


def _made(instance: Any, cls: type, make: Callable, state: torch.Tensor) -> Exception | None:
    """Construct an instance, from a state of the random generator; return the error, if any."""
    torch.set_rng_state(state)
    _become(instance, cls, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's constructor has warned
        try:
            make()
        except Exception as error:
            return error
    return None


def _become(instance: Any, cls: type, attributes: dict[str, Any]) -> None:
    """Turn an instance into one of another class, with these attributes alone."""
    vars(instance).clear()
    instance.__class__ = cls
    vars(instance).update(attributes)


def _empty(ours: type, original: type) -> Any:
    return object.__new__(stand_in(ours, original))


def _is_its_own(name: str) -> bool:
    return not name.startswith("_") and not hasattr(nn.Module, name) and name != _UPDATE
