"""Batches larger than memory: the network runs on micro-batches, the loss on the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import FLOATS, check_dense, check_integers, shown
from .buffers import Buffers


class GradCache:
    """One training step in the memory of a micro-batch (Gao et al. 2021, arXiv:2101.06983).

    The network embeds all micro-batches without a graph; one loss over all embeddings gives their
    gradients; then every micro-batch runs again, with a graph, and its part of those gradients is
    backpropagated through the network. The result is the gradient of the whole batch, to rounding,
    for one more forward pass. Random numbers (dropout, augmentation inside the network) are the
    same in both passes.

    The only difference is batch normalisation: its statistics are those of a micro-batch, not of
    the batch, and its running averages are updated once per micro-batch. Layers that process each
    sample separately have no such difference.

    Under DistributedDataParallel gradients are exchanged once, with the last micro-batch; all ranks
    must have the same number of micro-batches. Under autocast, call it inside the context::

        step = GradCache(encoder, NTXentLoss(0.1), micro_batch=256)
        optimizer.zero_grad()
        loss, embeddings = step(view0, view1)  # forward and backward
        optimizer.step()

    Networks that take and return mappings, such as Hugging Face's, get them by position or
    keyword::

        loss, embeddings = step(**tokenizer(texts, return_tensors="pt"))

    Args:
        encoder: ``encoder(*views, **inputs)`` returns one tensor of embeddings, or several, or a
            mapping of them, with a row for each row of a view. A module, possibly wrapped in
            DistributedDataParallel.
        loss: ``loss(*embeddings)`` returns a scalar; a module or a function.
        micro_batch: rows of a view in one forward pass of the encoder.
        scale: applied to the loss before the backward pass, such as
            ``torch.amp.GradScaler().scale``.

    Raises:
        TypeError: ``encoder`` is not a module, ``loss`` or ``scale`` not a function,
            ``micro_batch`` not an integer; when called, views or embeddings that are not tensors.
        ValueError: ``micro_batch`` below 1; when called, views of different lengths, or embeddings
            without a row for each row of a view.
    """

    def __init__(
        self,
        encoder: nn.Module,
        loss: Callable[..., Tensor],
        micro_batch: int,
        *,
        scale: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not isinstance(encoder, nn.Module):
            raise TypeError(
                f"encoder must be an nn.Module that takes all views, got {shown(encoder)}"
            )
        if not callable(loss):
            raise TypeError(f"loss must be a module or a function, got {shown(loss)}")
        if scale is not None and not callable(scale):
            raise TypeError(f"scale must be a function of the loss, got {shown(scale)}")
        check_integers(1, micro_batch=micro_batch)
        self.encoder, self.loss, self.micro_batch = encoder, loss, micro_batch
        self.scale = scale or (lambda loss: loss)

    def __call__(self, *views: Any, **inputs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Add the batch's gradients to ``.grad``; return loss and embeddings, both detached.

        Args:
            views, inputs: tensors with the same length, the batch size, or mappings, lists or
                tuples of them.
        """
        tensors = list(_tensors((views, inputs)))
        lengths = [len(x) if x.ndim else 0 for x in tensors]
        if not tensors or len(set(lengths)) > 1 or lengths[0] == 0:
            raise ValueError(
                "views must have one length, at least 1; "
                f"got lengths {', '.join(map(str, lengths)) or 'of nothing'}"
            )
        batches = [
            _rows((views, inputs), slice(start, start + self.micro_batch))
            for start in range(0, lengths[0], self.micro_batch)
        ]
        tensors += self.encoder.parameters()
        devices = sorted({x.get_device() for x in tensors if x.is_cuda})

        states, parts = [], []
        with torch.no_grad():
            for batch in batches:
                states.append(_random_state(devices))
                parts.append(self._embed(batch))
        torch.clear_autocast_cache()  # it holds weights without a graph

        embeddings = [torch.cat(part).requires_grad_() for part in zip(*parts, strict=True)]
        del parts
        loss = self.loss(*embeddings)
        buffers = Buffers(self.encoder)
        parameters = _parameters(self.loss)
        gradients = torch.autograd.grad(
            self.scale(loss), [*embeddings, *parameters], allow_unused=True
        )
        shares = [
            [None] * len(batches) if gradient is None else gradient.split(self.micro_batch)
            for gradient in gradients[: len(embeddings)]
        ]
        for index, (batch, state) in enumerate(zip(batches, states, strict=True)):
            is_last = index == len(batches) - 1
            no_sync = getattr(self.encoder, "no_sync", nullcontext)
            with nullcontext() if is_last else no_sync(), _replay(state, devices):
                outputs = list(zip(self._embed(batch), (s[index] for s in shares), strict=True))
                if is_last:  # DistributedDataParallel exchanges the loss's gradients too
                    outputs += zip(parameters, gradients[len(embeddings) :], strict=True)
                outputs = [(x, g) for x, g in outputs if g is not None and x.requires_grad]
                if outputs:
                    torch.autograd.backward([x for x, _ in outputs], [g for _, g in outputs])
        buffers.restore()  # running averages are updated once only
        return loss.detach(), tuple(x.detach() for x in embeddings)

    def _embed(self, batch: tuple[Sequence[Any], Mapping[str, Any]]) -> tuple[Tensor, ...]:
        views, inputs = batch
        count = len(next(_tensors(batch)))
        found: Any = self.encoder(*views, **inputs)
        if isinstance(found, Mapping):
            found = [x for x in found.values() if x is not None]
        embeddings = (found,) if isinstance(found, Tensor) else tuple(found)
        for x in embeddings:
            if not isinstance(x, Tensor):
                raise TypeError(f"the encoder must return tensors, got {shown(x)} among them")
            if x.dtype not in FLOATS:
                raise TypeError(f"the encoder must make floats of views, got {x.dtype}")
            if x.dim() < 1 or len(x) != count:
                raise ValueError(
                    f"the encoder must return a row for each of its {count} samples, "
                    f"got shape {tuple(x.shape)}; return two views' embeddings as two tensors"
                )
        return embeddings


def _tensors(views: Any) -> Iterator[Tensor]:
    """All tensors in nested mappings, lists and tuples."""
    if isinstance(views, Tensor):
        check_dense(views=views)
        yield views
    elif isinstance(views, Mapping | list | tuple):
        for x in views.values() if isinstance(views, Mapping) else views:
            yield from _tensors(x)
    elif views is not None:
        raise TypeError(f"views must be tensors, or mappings or lists of them, got {shown(views)}")


def _rows(views: Any, rows: slice) -> Any:
    """The same structure, with the given rows of each tensor."""
    if isinstance(views, Tensor):
        return views[rows]
    if isinstance(views, Mapping):
        return {key: _rows(x, rows) for key, x in views.items()}
    if views is None:
        return None
    parts = [_rows(x, rows) for x in views]
    return type(views)(*parts) if hasattr(views, "_fields") else type(views)(parts)


def _parameters(loss: Callable[..., Tensor]) -> list[nn.Parameter]:
    parameters = loss.parameters() if isinstance(loss, nn.Module) else ()
    return [p for p in parameters if p.requires_grad]


def _random_state(devices: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in devices]


@contextmanager
def _replay(state: tuple[Tensor, list[Tensor]], devices: Sequence[int]):
    """Replay random numbers; afterwards, the generators continue from their present state."""
    with torch.random.fork_rng(devices):
        torch.set_rng_state(state[0])
        for device, device_state in zip(devices, state[1], strict=True):
            torch.cuda.set_rng_state(device_state, device)
        yield
