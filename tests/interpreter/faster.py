"""Triton's interpreter, made faster in two places, with products that round as on a device."""

import numpy as np
from triton.language import tensor
from triton.runtime import interpreter
from triton.runtime.interpreter import (
    InterpretedFunction,
    InterpreterBuilder,
    ReduceOps,
    TensorHandle,
)

has_language: set[int] = set()


def call(self: InterpretedFunction, *args, **kwargs):
    """Patches the module of a kernel function with the interpreter's language only once."""
    if id(self.fn.__globals__) not in has_language:
        has_language.add(id(self.fn.__globals__))
        interpreter._patch_lang(self.fn)
    return self.rewrite()(*args, **kwargs)


def reduce(self: ReduceOps, inputs: tuple[tensor, ...]) -> list[tensor]:
    """Combines slices, in order, instead of single numbers."""
    assert self.axis is not None and not self.keep_dims

    def part(i):
        return [self.to_tensor(x.handle.data.take(i, self.axis), x.dtype) for x in inputs]

    total = part(0)
    for i in range(1, inputs[0].shape[self.axis]):
        combined = self.combine_fn.fn(*total, *part(i))
        total = list(combined) if isinstance(combined, tuple) else [combined]
    return total


def create_dot(self: InterpreterBuilder, a, b, d, input_precision, max_num_imprecise_acc):
    """On tensor cores, the products of a tile and of its transpose are equal, whatever their
    shape; numpy's in float32 are not."""
    product = np.matmul(a.data.astype(np.float64), b.data.astype(np.float64))
    return TensorHandle(product.astype(d.data.dtype) + d.data, d.dtype.scalar)
