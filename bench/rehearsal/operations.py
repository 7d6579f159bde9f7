"""Checks every operation on the device: no waits, one device, and results as in the fakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .cuda import State
from .device import Device, is_pinned, on_device, pin
from .faults import Fault, Place, place

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
# the number of results, or the host's next step, depends on values; or the host checks for errors
WAITING = {
    aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default,
    aten.masked_select.default, aten._unique2.default, aten.unique_dim.default,
    aten.unique_consecutive.default, aten.bincount.default, aten.repeat_interleave.Tensor,
    aten._linalg_eigh.default, aten._linalg_svd.default, aten._linalg_check_errors.default,
}  # fmt: skip
UNORDERED = {aten.scatter_add.default, aten.scatter_add_.default}  # sums of floats by atomics
MASKABLE = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
CUDA_KERNELS = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)


class Operations(TorchDispatchMode):
    """Intercepts each operation, below autograd.

    Attributes:
        documented: functions of the package that may wait although waiting is an error.
        waited: how often each function of the package waited, whether or not it was an error.
        invented: how often the host was given a value, although none exist.
        seen: how often each operation on the device was called, including operations inside our
            operators.
    """

    def __init__(self, documented: Collection[Place] = ()) -> None:
        super().__init__()
        self.device = Device()
        self.documented = documented
        self.waited: Counter[Place] = Counter()
        self.invented = 0
        self.seen: Counter[Any] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        found = list(tensors(args)) + list(tensors(kwargs.values()))
        if not any(map(on_device, found)):
            if func is aten._pin_memory.default:
                return pin(args[0].clone())
            if func in COPIES and to_device(kwargs):
                self.wait(func, kwargs.get("non_blocking", False) and is_pinned(args[0]))
            return func(*args, **kwargs)
        self.seen[func] += 1
        if func in COPIES:
            return self.copy(func, args, kwargs)
        for x in found:
            if not on_device(x) and x.dim() > 0:
                raise Fault(f"{func} of tensors on the device and on the CPU, {tuple(x.shape)}")
        if func.namespace == "sslkernels":
            return self.run(func, args, kwargs)
        if func in WAITING:
            self.wait(func)
            self.invented += 1
            return without_values(func, args, kwargs)
        if func in UNORDERED and args[3].is_floating_point():
            raise Fault(f"{func} adds in another order each time, in {place()}")
        if func in MASKABLE and any(x.dtype == torch.bool for x in tensors(args[1])):
            self.wait(func)
            self.invented += 1
        return func(*args, **kwargs)

    def run(self, operator: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run our operator's CUDA function; its result must match the fake's."""
        with self, self.device:
            results = operator.redispatch(CUDA_KERNELS, *args, **kwargs)
        promised = operator(*args, **kwargs)
        pairs = zip(tensors([results]), tensors([promised]), strict=True)
        for index, (result, promise) in enumerate(pairs):
            if described(result) != described(promise):
                raise Fault(
                    f"{operator}, result {index}: {described(result)}; "
                    f"its fake promises {described(promise)}"
                )
        return results

    def copy(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Copy between host and device, if it is such a copy.

        Values copied to the host are ones; 1, 2, 3 … in the rows of a matrix, so that intervals are
        not empty.
        """
        if func is aten.copy_.default:
            target, source = args[:2]
            if on_device(target) != on_device(source):
                asynchronous = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
                self.wait(func, asynchronous and (is_pinned(target) or is_pinned(source)))
            return func(*args, **kwargs) if on_device(target) else target
        if kwargs.get("device") is None or kwargs["device"].type != "cpu":
            return func(*args, **kwargs)
        self.wait(func, kwargs.get("non_blocking", False))
        self.invented += 1
        x = args[0]
        ones = torch.ones(x.shape, dtype=kwargs.get("dtype") or x.dtype, device="cpu")
        return ones.cumsum(-1).to(ones.dtype) if x.dim() > 1 else ones

    def wait(self, func: Any, asynchronous: bool = False) -> None:
        """The host waits for the device to finish."""
        if asynchronous:
            return
        where = place()
        if where is not None:
            self.waited[where] += 1
        if State.capturing or not (State.may_wait() or where in self.documented):
            during = "while a graph is captured" if State.capturing else "for the device"
            raise Fault(f"{func}: the host waits {during}, in {where}")


@cache
def is_composite(func: Any) -> bool:
    """Whether it is composed of other operations, which are checked one by one."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def to_device(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("device") is not None and kwargs["device"].type != "cpu"


def without_values(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A value of the right type, for hosts that read one."""
    x = args[0]
    if func is aten._local_scalar_dense.default:
        return True if x.dtype == torch.bool else 1.0 if x.dtype.is_floating_point else 1
    if func is aten.equal.default:
        return True
    if func is aten._linalg_check_errors.default:
        return None
    return func(*args, **kwargs)


def tensors(values: Any) -> Iterator[Tensor]:
    """All tensors, including those in lists and tuples."""
    for x in values:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, (list, tuple)):
            yield from tensors(x)


def described(x: Tensor) -> tuple:
    """The properties that callers rely on; strides of dimensions of size one do not matter."""
    strides = tuple(s for s, n in zip(x.stride(), x.shape, strict=True) if n > 1 and x.numel())
    return tuple(x.shape), strides, x.dtype, x.device
