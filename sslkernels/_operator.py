"""Definition of torch operators: schema, registration and derivative."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd.function import Function
from torch.nn import Parameter
from torch.utils._pytree import _broadcast_to_and_flatten, tree_flatten, tree_unflatten

_library = torch.library.Library("sslkernels", "FRAGMENT")
RANKS = "str gather='', str group='', int ranks=0"  # the end of schemas shared by ranks


ONCE = (
    "the fused losses of sslkernels are differentiable once, in reverse mode: their gradients have "
    "no gradient. For a second derivative, as of a gradient penalty, or for torch.func.jvp, write "
    "the loss in plain torch"
)
PLAIN = {type(None), bool, int, float, str}  # argument types


def operator(schema: str, function: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Register ``function`` as ``sslkernels::<the schema's name>``, on CPU and CUDA.

    ``fake`` makes empty results of the right shapes. Sizes are read from ``shape``, not by ``len``,
    which torch.compile would take for a constant. If no mode, transform or profiler is active and
    all tensors are plain, the returned function bypasses torch's dispatcher.
    """
    _library.define(schema)
    name = schema[: schema.index("(")]
    for key in ("CPU", "CUDA"):
        _library.impl(name, function, key)
    torch.library.register_fake(f"sslkernels::{name}", fake, lib=_library)
    torch.library.register_vmap(f"sslkernels::{name}", _one_by_one(name), lib=_library)
    dispatched = getattr(torch.ops.sslkernels, name).default

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling() or _is_watched() or not _are_plain(arguments):
            return dispatched(*arguments)
        return function(*arguments)

    return call


def _one_by_one(name: str) -> Callable[..., Any]:
    """The rule of ``torch.vmap`` for an operator: one call for each member of the batch."""

    def batched(info: Any, in_dims: Any, *arguments: Any) -> Any:
        values, structure = tree_flatten(arguments)
        dims = _broadcast_to_and_flatten(in_dims, structure) or []
        results = []
        for i in range(info.batch_size):
            own = [x if at is None else x.select(at, i) for x, at in zip(values, dims, strict=True)]
            out = getattr(torch.ops.sslkernels, name)(*tree_unflatten(own, structure))
            results.append(out if isinstance(out, tuple) else (out,))
        stacked = tuple(torch.stack(x) for x in zip(*results, strict=True))
        return (stacked, (0,) * len(stacked)) if isinstance(out, tuple) else (stacked[0], 0)

    return batched


def _is_watched() -> bool:
    """Whether a mode, a transform, a trace or a profiler is active, which must see operators."""
    return bool(
        torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state()
        or torch.autograd._profiler_enabled()
    )


def is_transformed() -> bool:
    """Whether derivatives may be needed although no tensor's ``requires_grad`` is set."""
    if torch.compiler.is_compiling():
        return False
    is_forward = torch.autograd.forward_ad._current_level >= 0
    return bool(is_forward or torch._C._are_functorch_transforms_active())


def _are_plain(arguments: Sequence[Any]) -> bool:
    """Whether all tensors among them are ordinary CPU or CUDA tensors."""
    is_on = torch.is_grad_enabled()  # autograd must see tensors that require a gradient
    for x in arguments:
        kind = type(x)
        if kind is Tensor or kind is Parameter:
            if (
                _is_wrapped(x)
                or x.is_neg()
                or not (x.is_cpu or x.is_cuda)
                or (is_on and x.requires_grad)
            ):
                return False
        elif kind is list or kind is tuple:
            if type(x[0] if x else None) is not bool and not _are_plain(x):
                return False
        elif kind not in PLAIN:
            return False
    return True


def _is_wrapped(x: Tensor) -> bool:
    """Whether x is wrapped by torch.func, or by autograd's batched gradients."""
    return bool(is_functorch_wrapped_tensor(x) or is_legacy_batchedtensor(x))


class _Once(Function):
    """A Function applied without binding its signature, and never in forward mode."""

    generate_vmap_rule = True

    @classmethod
    def apply(cls, *arguments: Any) -> Any:
        """As torch's, which also binds the arguments to the signature at every call."""
        try:
            if torch._C._are_functorch_transforms_active():
                return super().apply(*arguments)
            return super(Function, cls).apply(*unwrap_dead_wrappers(arguments))  # type: ignore[misc]
        except NotImplementedError as error:
            if is_transformed():  # torch needs a forward mode
                raise RuntimeError(ONCE) from error
            raise


class Differentiable(_Once):
    """An autograd function whose second derivative is an error, never silently zero.

    A subclass defines ``forward``, ``setup_context`` and ``gradients(ctx, saved, *grads)``, which
    gets the saved tensors and must not read them from ``ctx`` again: checkpointing allows it once.
    All inputs that require a gradient must be among them, or a second derivative would not raise.
    """

    gradients: Callable[..., Any]

    def __init_subclass__(cls) -> None:
        # torch binds the arguments to this signature at every call, and would rebuild it
        vars(cls)["forward"].__func__.__signature__ = inspect.signature(cls.forward)
        setattr(cls, "backward", staticmethod(_once(cls.gradients)))  # noqa: B010


def _once(gradients: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(gradients)
    def backward(ctx: Any, *grads: Tensor) -> Any:
        saved = ctx.saved_tensors
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return gradients(ctx, saved, *grads)
        with torch.no_grad():
            results = gradients(ctx, saved, *grads)
        inputs = [x for x in (*saved, *grads) if x is not None and x.requires_grad]
        return tuple(x if x is None else _Final.apply(x, *inputs) for x in results)

    return backward


def fused_loss(
    compute: Callable[..., tuple[Tensor, Tensor]], tensors: int
) -> Callable[..., Tensor]:
    """A loss whose gradients are computed together with it; the backward pass only scales them.

    ``compute(x_1, …, *others, wanted, impl)`` becomes an operator, by its annotations. It returns
    the loss, (), and the derivatives in each of its first ``tensors`` arguments that is wanted,
    concatenated in one tensor; both float32, or float64 for float64. The loss takes the arguments
    of ``compute`` except ``wanted``, which is set for inputs that require a gradient in grad mode.
    """

    def fake(*arguments: Any) -> tuple[Tensor, Tensor]:
        x, wanted = arguments[:tensors], arguments[-2]
        first = next(y for y in x if y is not None)
        dtype = accumulation_dtype(first)
        return first.new_empty((), dtype=dtype), first.new_empty(
            sum(_sizes(x, wanted)), dtype=dtype
        )

    schema = torch.library.infer_schema(compute, mutates_args=())
    call = operator(compute.__name__ + schema, compute, fake)

    class FusedLoss(Differentiable):
        @staticmethod
        def forward(*arguments: Any) -> Any:
            return call(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.wanted = inputs[-2]
            ctx.mark_non_differentiable(output[1])
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(output[1], *inputs[:tensors])

        @staticmethod
        def gradients(ctx: Any, saved: Any, grad: Any, _: Any) -> Any:
            derivatives, *x = saved
            out: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
            if grad is None:
                return tuple(out)
            found = [i for i, want in enumerate(ctx.wanted) if want]
            sizes = [x[i].numel() for i in found]
            is_last = _is_last_use() and not _is_wrapped(grad)
            derivatives = derivatives.mul_(grad) if is_last else derivatives * grad
            lowered: dict[torch.dtype, Sequence[Tensor]] = {}
            for place, i in enumerate(found):
                dtype = x[i].dtype
                if dtype not in lowered:  # one cast for each dtype
                    lowered[dtype] = derivatives.to(dtype).split_with_sizes(sizes)
                out[i] = lowered[dtype][place].view_as(x[i])
            return tuple(out)

    def loss(*arguments: Any) -> Tensor:
        is_on = torch.is_grad_enabled()
        wanted = [is_on and x is not None and x.requires_grad for x in arguments[:tensors]]
        return FusedLoss.apply(*arguments[:-1], wanted, arguments[-1])[0]

    return loss


def _is_last_use() -> bool:
    """Whether the running backward pass frees the saved tensors, which may then be overwritten."""
    if torch.compiler.is_compiling():
        return False
    return not torch._C._autograd._get_current_graph_task_keep_graph()


def offsets(inputs: Sequence[Any], wanted: Sequence[bool]) -> tuple[Tensor, list[int]]:
    """Memory for the derivatives of such a loss, and the offset of each; -1: not wanted."""
    sizes = _sizes(inputs, wanted)
    starts = accumulate([0, *sizes[:-1]])
    out = inputs[0].new_empty(sum(sizes), dtype=torch.float32)
    return out, [at if want else -1 for at, want in zip(starts, wanted, strict=True)]


def parts(inputs: Sequence[Any], wanted: Sequence[bool]) -> tuple[Tensor, list[int]]:
    """As :func:`offsets`, with addresses; 0: not wanted."""
    out, starts = offsets(inputs, wanted)
    return out, [out.data_ptr() + 4 * at if at >= 0 else 0 for at in starts]


def _sizes(inputs: Sequence[Any], wanted: Sequence[bool]) -> list[int]:
    return [x.numel() if want else 0 for x, want in zip(inputs, wanted, strict=True)]


class _Final(_Once):
    """A gradient that has no derivative."""

    @staticmethod
    def forward(gradient: Tensor, *inputs: Any) -> Any:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(ONCE)


def full_precision(x: Tensor) -> torch.autocast:
    """Autocast off: losses compute in float32 regardless of it."""
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)


@contextmanager
def plain(q: Tensor) -> Any:
    """Disable autocast, and launch kernels on the tensor's device."""
    device = q.device.type
    is_lowered = torch.is_autocast_enabled(device)
    autocast = torch.autocast(device, enabled=False) if is_lowered else nullcontext()
    with autocast, torch.no_grad(), torch.cuda.device_of(q) if q.is_cuda else nullcontext():
        yield


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """The dtype of computation for x: float32 for up to 32 bits, else float64."""
    return torch.promote_types(x.dtype, torch.float32)


def unit_of(peak: Tensor) -> Tensor:
    """The power of two that scales a gradient into float16's range; ``peak`` is its maximum."""
    exponent = (14 - torch.frexp(peak)[1]).clamp(-100, 100)
    if peak.dtype == torch.float64:  # by its bits, since a computed power may be rounded
        return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)
    return ((exponent + 127) << 23).view(torch.float32)
