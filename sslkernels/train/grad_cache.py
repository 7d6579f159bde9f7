"""Batches larger than the memory: the network sees micro-batches, the loss the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn


class GradCache:
    """One training step in the memory of a micro-batch (Gao et al. 2021, arXiv:2101.06983).

    The network embeds all micro-batches without a graph; one loss over all embeddings gives each
    of them a gradient; then every micro-batch runs again, with a graph, and its share of those
    gradients goes through the network. The result is the gradient of the whole batch, to rounding,
    for one more forward pass. Random numbers (dropout, augmentation inside the network) are the
    same in both passes.

    Batch normalisation is the one difference: its statistics are those of a micro-batch, not of the
    batch, and its running averages take one step per micro-batch. Layers that look at one sample at
    a time have no such difference.

    Under DistributedDataParallel gradients are exchanged once, with the last micro-batch; ranks
    must have equally many micro-batches. Under autocast, call it inside of the context.

        step = GradCache(encoder, NTXentLoss(0.1), micro_batch=256)
        optimizer.zero_grad()
        loss, embeddings = step(view0, view1)  # forward and backward
        optimizer.step()

    Args:
        encoder: ``encoder(*views)`` gives one tensor of embeddings, or several, with a row for
            each row of a view. A module, also one wrapped in DistributedDataParallel.
        loss: ``loss(*embeddings)`` gives a scalar; a module or a function.
        micro_batch: rows of a view that the encoder sees at once.
        scale: what to do with the loss before its gradient is taken, such as
            ``torch.amp.GradScaler().scale``.

    Raises:
        TypeError: ``encoder`` is no module.
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
                f"encoder must be an nn.Module that takes all views, got {type(encoder).__name__}"
            )
        if micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, got {micro_batch}")
        self.encoder, self.loss, self.micro_batch = encoder, loss, micro_batch
        self.scale = scale or (lambda loss: loss)

    def __call__(self, *views: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Add the batch's gradients to ``.grad``; return loss and embeddings, both without graph.

        Args:
            views: tensors with one length, the batch.
        """
        if not views or len({len(view) for view in views}) > 1 or len(views[0]) == 0:
            raise ValueError(
                "views must have one length, at least 1; "
                f"got lengths {', '.join(str(len(view)) for view in views) or 'of nothing'}"
            )
        batches = list(zip(*(view.split(self.micro_batch) for view in views), strict=True))
        tensors = (*views, *self.encoder.parameters())
        devices = sorted({x.get_device() for x in tensors if x.is_cuda})

        states, parts = [], []
        with torch.no_grad():
            for batch in batches:
                states.append(_random_state(devices))
                parts.append(self._embed(batch))
        torch.clear_autocast_cache()  # it would hand weights without a graph to the second pass

        embeddings = [torch.cat(part).requires_grad_() for part in zip(*parts, strict=True)]
        del parts
        loss = self.loss(*embeddings)
        buffers = [(buffer, buffer.clone()) for buffer in self.encoder.buffers()]
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
                if is_last:  # here DistributedDataParallel exchanges the loss's own, too
                    outputs += zip(parameters, gradients[len(embeddings) :], strict=True)
                outputs = [(x, g) for x, g in outputs if g is not None and x.requires_grad]
                if outputs:
                    torch.autograd.backward([x for x, _ in outputs], [g for _, g in outputs])
        with torch.no_grad():
            for buffer, value in buffers:  # the second pass is no second step of running averages
                buffer.copy_(value)
        return loss.detach(), tuple(x.detach() for x in embeddings)

    def _embed(self, batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
        embeddings = self.encoder(*batch)
        embeddings = (embeddings,) if isinstance(embeddings, Tensor) else tuple(embeddings)
        for x in embeddings:
            if x.dim() < 1 or len(x) != len(batch[0]):
                raise ValueError(
                    f"the encoder must return a row for each of its {len(batch[0])} samples, "
                    f"got shape {tuple(x.shape)}; return two views' embeddings as two tensors"
                )
        return embeddings


def _parameters(loss: Callable[..., Tensor]) -> list[nn.Parameter]:
    parameters = loss.parameters() if isinstance(loss, nn.Module) else ()
    return [p for p in parameters if p.requires_grad]


def _random_state(devices: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in devices]


@contextmanager
def _replay(state: tuple[Tensor, list[Tensor]], devices: Sequence[int]):
    """Random numbers as they were; afterwards they go on from where they are now."""
    with torch.random.fork_rng(devices):
        torch.set_rng_state(state[0])
        for device, device_state in zip(devices, state[1], strict=True):
            torch.cuda.set_rng_state(device_state, device)
        yield
