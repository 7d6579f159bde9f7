"""A Triton kernel that finds what it was compiled to without binding its arguments anew."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from triton import knobs
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

LARGEST = 2**31 - 1  # of the integers that Triton takes for int32


class Kernel(JITFunction):
    """Triton's, whose launches after the first are several times cheaper for the host.

    Triton binds all arguments and compares the globals of a kernel at each launch. Here the key is
    made of what :func:`sslkernels.primitives._triton.kernel` lets Triton specialise alone: dtypes,
    alignments of matrices and strides. Constants are given by name, all else by place.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._names = [x.name for x in self.params if x.is_constexpr]
        others = [(i, x) for i, x in enumerate(self.params) if not x.is_constexpr]
        pointers = {i for i, x in others if x.name.endswith("_ptr")}
        self._matrices = [
            i for i, x in others if i in pointers and not x.do_not_specialize_on_alignment
        ]
        self._vectors = sorted(pointers - set(self._matrices))
        numbers = [(i, x) for i, x in others if i not in pointers and not x.annotation_type]
        self._strides = [i for i, x in numbers if not x.do_not_specialize]
        self._sizes = [i for i, x in numbers if x.do_not_specialize]
        self._compiled: dict[Any, Any] = {}

    def run(self, *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> Any:
        device = driver.active.get_current_device()
        sizes = [arguments[i] for i in self._sizes]
        if warmup or _is_watched() or max(sizes, default=0) > LARGEST or self.pre_run_hooks:
            return super().run(*arguments, grid=grid, warmup=warmup, **constants)
        key = (
            device,
            *[_matrix(arguments[i]) for i in self._matrices],
            *[x if (x := arguments[i]) is None else x.dtype for i in self._vectors],
            *[_stride(arguments[i]) for i in self._strides],
            *constants.items(),
        )
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = super().run(*arguments, grid=grid, warmup=warmup, **constants)
            self._compiled[key] = compiled
            return compiled
        x, y, z = (*grid, 1, 1)[:3]
        compiled.run(
            x,
            y,
            z,
            driver.active.get_current_stream(device),
            compiled.function,
            compiled.packed_metadata,
            None,
            None,
            None,
            *arguments,
            *[constants[name] for name in self._names],
        )
        return compiled


def _matrix(x: Tensor | None) -> Any:
    """A pointer to a matrix as Triton tells it from others."""
    return x if x is None else (x.dtype, x.data_ptr() % 16 == 0)


def _stride(x: int) -> Any:
    return (x == 1, x % 16 == 0, x > LARGEST)


def _is_watched() -> bool:
    """Whether a profiler wants to hear of launches."""
    hooks = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    return any(hook is not None and getattr(hook, "calls", True) for hook in hooks)
