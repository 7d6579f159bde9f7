"""Two places where Triton's interpreter takes most of its time, made faster."""

from triton.language import tensor
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction, ReduceOps

has_language: set[int] = set()


def call(self: InterpretedFunction, *args, **kwargs):
    """A function of kernels: its module gets the interpreter's language once, not at each call."""
    if id(self.fn.__globals__) not in has_language:
        has_language.add(id(self.fn.__globals__))
        interpreter._patch_lang(self.fn)
    return self.rewrite()(*args, **kwargs)


def reduce(self: ReduceOps, inputs: tuple[tensor, ...]) -> list[tensor]:
    """Combines slices, in order, where the interpreter combines single numbers."""
    assert self.axis is not None and not self.keep_dims

    def part(i):
        return [self.to_tensor(x.handle.data.take(i, self.axis), x.dtype) for x in inputs]

    total = part(0)
    for i in range(1, inputs[0].shape[self.axis]):
        combined = self.combine_fn.fn(*total, *part(i))
        total = list(combined) if isinstance(combined, tuple) else [combined]
    return total
