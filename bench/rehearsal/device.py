"""Makes tensors on torch's meta device appear to be on cuda:0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch._dynamo  # must be imported before torch.Generator is replaced
import torch.fx.experimental._config
from torch import Tensor
from torch.overrides import TorchFunctionMode

META, CUDA = torch.device("meta"), torch.device("cuda:0")
FIRST_ADDRESS, ALIGNMENT = 1 << 32, 512  # alignment of the caching allocator

_pinned: set[int] = set()  # addresses of storages
_places: dict[int, tuple[int, int]] = {}  # of storages: address and size
_end = FIRST_ADDRESS


class Device(TorchFunctionMode):
    """Reports cuda:0 instead of meta, and does the reverse for arguments passed to torch."""

    def __torch_function__(
        self,
        func: Callable,
        types: Any,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        answer = ANSWERS.get(func)
        if answer is not None and on_device(args[0]):
            return answer(*args)
        kwargs = dict(kwargs or {})
        if isinstance(kwargs.get("device"), str):
            kwargs["device"] = torch.device(kwargs["device"])
        if kwargs.get("device") == torch.device("cuda"):
            kwargs["device"] = CUDA
        if getattr(kwargs.get("generator"), "device", None) == CUDA:
            del kwargs["generator"]
        if kwargs.pop("pin_memory", False):
            return pin(func(*args, **kwargs))
        if func in FROM_THE_HOST and kwargs.get("device") == CUDA:
            return copied(func, args, kwargs)
        if func is Tensor.cuda or func is Tensor.to and args[1:] and args[1] in ("cuda", "cuda:0"):
            args = args[0], META, *args[2:]
            func = Tensor.to
        return func(*map(inside, args), **{name: inside(value) for name, value in kwargs.items()})


def on_device(x: Any) -> bool:
    """Whether x is a tensor on the device, under either name."""
    return isinstance(x, Tensor) and x.device.type != "cpu"


def inside(x: Any) -> Any:
    """A device under its name inside torch."""
    return META if isinstance(x, torch.device) and x.type == "cuda" else x


def pin(x: Tensor) -> Tensor:
    """x, marked as pinned, so that copies may be asynchronous."""
    _pinned.add(x.untyped_storage().data_ptr())
    return x


def is_pinned(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.untyped_storage().data_ptr() in _pinned


def copied(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """Copy numbers of the host to the device, which torch does out of sight of the mode."""
    options = {name: x for name, x in kwargs.items() if name not in ("device", "requires_grad")}
    x = func(*args, **options).to(META)
    return x.requires_grad_() if kwargs.get("requires_grad") else x


def address(x: Tensor) -> int:
    """The address of x's first element: storages do not overlap, and are aligned."""
    global _end
    if x.numel() == 0:
        return 0
    storage = x.untyped_storage()
    start, size = _places.get(storage._cdata, (0, -1))
    if size < storage.nbytes():
        start, size = _end, storage.nbytes()
        _places[storage._cdata] = start, size
        _end += -(-size // ALIGNMENT) * ALIGNMENT
    return start + x.storage_offset() * x.element_size()


def is_address(x: int) -> bool:
    """Whether the number can be an address on the device; small numbers cannot."""
    return FIRST_ADDRESS <= x < _end


def install() -> None:
    """Enable the mode within the backward pass too, where torch would disable it.

    Where a mask determines the number of entries, all are taken.
    """
    torch.fx.experimental._config.meta_nonzero_assume_all_nonzero = True
    run_backward = torch.autograd._engine_run_backward

    def run_backward_on_the_device(*args: Any, **kwargs: Any) -> Any:
        with Device():
            return run_backward(*args, **kwargs)

    torch.autograd._engine_run_backward = run_backward_on_the_device


FROM_THE_HOST = (torch.tensor, torch.as_tensor)
ANSWERS: dict[Callable, Callable] = {
    Tensor.device.__get__: lambda *_: CUDA,
    Tensor.is_cuda.__get__: lambda *_: True,
    Tensor.is_meta.__get__: lambda *_: False,
    Tensor.get_device: lambda _: 0,
    Tensor.data_ptr: address,
    Tensor.tolist: lambda x: x.cpu().tolist(),
}
