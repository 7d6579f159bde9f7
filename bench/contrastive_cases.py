"""The benchmark cases of the contrastive losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .case import Case, Shape, grid, two_views

CLASSES = 10  # of supcon
QUEUE = 65536  # negatives of moco
BIAS = -10.0  # of siglip, at the start of its training
CHUNK = 2**24  # scores of the oracle at a time


@dataclass(frozen=True)
class Pairs:
    """Scores of n rows with m columns of d features, and their work."""

    n: int
    m: int
    d: int
    is_symmetric: bool = False  # the columns are the rows
    has_constant_columns: bool = False  # columns without gradient

    def entries(self) -> int:
        return self.n * self.m

    def flops(self, device: str) -> dict[str, int]:
        """FLOPs of matrix products: the scores, and in the backward pass one product per side."""
        forward, backward = self._products(device)
        count = self.entries() * self.d
        return {"fwd": forward * count, "bwd": backward * count}

    def exps(self, device: str) -> dict[str, int]:
        scores = self.entries() // 2 if self.is_symmetric else self.entries()
        return {"fwd": scores, "bwd": scores * self._score_passes(device)}

    def bytes(self, dtype: torch.dtype) -> dict[str, int]:
        """Every operand read and every gradient written once, and a float32 for each row."""
        sides = [self.n] if self.is_symmetric else [self.n, self.m]
        operands = sum(sides) * self.d * dtype.itemsize
        constant = self.m * self.d * dtype.itemsize if self.has_constant_columns else 0
        rows = 4 * self.n
        return {"fwd": operands + rows, "bwd": 2 * operands - constant + rows}

    def describe(self, device: str) -> str:
        forward, backward = self._products(device)
        kind = ", symmetric" if self.is_symmetric else ""
        return f"FLOPs fwd {forward}·nmd, bwd {backward}·nmd{kind}"

    def _products(self, device: str) -> tuple[int, int]:
        """FLOPs of the forward and the backward pass, in n · m · d."""
        each = 1 if self.is_symmetric else 2
        return each, each * (self._score_passes(device) + self._sides())

    def _score_passes(self, device: str) -> int:
        """How often the backward pass computes each score: on a GPU, once for every side."""
        return self._sides() if device == "cuda" else 1

    def _sides(self) -> int:
        return 1 if self.has_constant_columns else 2


@dataclass(frozen=True, kw_only=True)
class RowCase(Case):
    """``row_losses(inputs, temperature, rows)`` are terms whose mean over all rows is the loss."""

    row_losses: Callable[[list[Tensor], float, slice], Tensor]

    def backward(self, inputs: list[Tensor], temperature: float) -> Tensor:
        work = self.work(tuple(inputs[0].shape))
        loss = inputs[0].new_zeros(())
        step = max(1, CHUNK // work.m)
        for start in range(0, work.n, step):
            part = self.row_losses(inputs, temperature, slice(start, start + step)).sum() / work.n
            part.backward()
            loss += part.detach()
        return loss


def _labelled(shape: Shape, dtype: torch.dtype, device: str, temperature: float) -> list[Tensor]:
    n, d = shape
    generator = torch.Generator().manual_seed(0)
    labels = torch.randperm(n, generator=generator) % CLASSES
    centres = torch.randn(CLASSES, d, generator=generator)
    features = centres[labels] + torch.randn(n, d, generator=generator)
    return [features.to(device, dtype).requires_grad_(), labels.to(device)]


def _image_text(shape: Shape, dtype: torch.dtype, device: str, temperature: float) -> list[Tensor]:
    features = two_views(shape, torch.promote_types(dtype, torch.float32), device)
    features = [F.normalize(x.detach(), dim=1).to(dtype) for x in features]
    scale = torch.tensor(1 / temperature, device=device)
    return [x.requires_grad_() for x in (*features, scale)]


def _image_text_bias(
    shape: Shape, dtype: torch.dtype, device: str, temperature: float
) -> list[Tensor]:
    bias = torch.tensor(BIAS, device=device, requires_grad=True)
    return [*_image_text(shape, dtype, device, temperature), bias]


def _query_key_queue(
    shape: Shape, dtype: torch.dtype, device: str, temperature: float
) -> list[Tensor]:
    query, key = two_views(shape, dtype, device)
    queue = torch.randn(QUEUE, shape[1], generator=torch.Generator().manual_seed(1))
    return [query, key.detach(), F.normalize(queue, dim=1).to(device, dtype)]


def _self_scores(inputs: list[Tensor], temperature: float, rows: slice) -> Tensor:
    """Some rows of the similarities of all views with each other, without the diagonal."""
    z = F.normalize(torch.cat(inputs), dim=1)
    scores = z[rows] @ z.T / temperature
    scores.diagonal(rows.start).fill_(float("-inf"))
    return scores


def _partners(inputs: list[Tensor], rows: slice) -> Tensor:
    n = len(inputs[0])
    return torch.arange(2 * n, device=inputs[0].device).roll(n)[rows]


def _nt_xent_rows(inputs: list[Tensor], temperature: float, rows: slice) -> Tensor:
    scores = _self_scores(inputs, temperature, rows)
    return F.cross_entropy(scores, _partners(inputs, rows), reduction="none")


def _dcl_rows(inputs: list[Tensor], temperature: float, rows: slice) -> Tensor:
    scores = _self_scores(inputs, temperature, rows)
    partners = _partners(inputs, rows)[:, None]
    positives = scores.gather(1, partners)[:, 0]
    return scores.scatter(1, partners, float("-inf")).logsumexp(1) - positives


def _supcon_rows(inputs: list[Tensor], temperature: float, rows: slice) -> Tensor:
    features, labels = inputs
    scores = _self_scores([features], temperature, rows)
    same = labels[rows, None] == labels
    same.diagonal(rows.start).fill_(False)
    positives = scores.masked_fill(~same, 0.0).sum(1) / same.sum(1)
    return (scores.logsumexp(1) - positives).masked_fill(~same.any(1), 0.0)


def _clip_rows(inputs: list[Tensor], temperature: float, rows: slice) -> Tensor:
    image, text, scale = inputs
    target = torch.arange(len(image), device=image.device)[rows]
    both = (
        F.cross_entropy(scale * a[rows] @ b.T, target, reduction="none")
        for a, b in ((image, text), (text, image))
    )
    return sum(both) / 2


def _siglip_rows(inputs: list[Tensor], temperature: float, rows: slice) -> Tensor:
    image, text, scale, bias = inputs
    scores = scale * image[rows] @ text.T + bias
    return F.softplus(scores).sum(1) - scores.diagonal(rows.start)


def _moco_rows(inputs: list[Tensor], temperature: float, rows: slice) -> Tensor:
    query, key, queue = inputs
    query, key = (F.normalize(x[rows], dim=1) for x in (query, key))
    positives = (query * key).sum(1, keepdim=True)
    scores = torch.cat([positives, query @ queue.T], 1) / temperature
    return scores.logsumexp(1) - scores[:, 0]


def _views_with_views(shape: Shape) -> Pairs:
    n, d = shape
    return Pairs(2 * n, 2 * n, d, is_symmetric=True)


def _rows_with_rows(shape: Shape) -> Pairs:
    n, d = shape
    return Pairs(n, n, d, is_symmetric=True)


def _images_with_texts(shape: Shape) -> Pairs:
    n, d = shape
    return Pairs(n, n, d)


def _queries_with_queue(shape: Shape) -> Pairs:
    n, d = shape
    return Pairs(n, QUEUE, d, has_constant_columns=True)


CASES = {
    "nt_xent": RowCase(
        shape_meaning="N pairs x D features; n = m = 2N",
        shapes={
            "cpu": ((1024, 128), (4096, 128), (4096, 512), (32768, 128)),
            "cuda": (*grid((4096, 16384, 65536), 128, 512), (16384, 2048)),
            "quick": ((512, 128),),
        },
        make_inputs=two_views,
        row_losses=_nt_xent_rows,
        work=_views_with_views,
    ),
    "dcl": RowCase(
        shape_meaning="N pairs x D features; n = m = 2N",
        shapes={
            "cpu": ((1024, 128), (4096, 128)),
            "cuda": grid((4096, 16384, 65536), 128),
            "quick": ((512, 128),),
        },
        make_inputs=two_views,
        row_losses=_dcl_rows,
        work=_views_with_views,
    ),
    "supcon": RowCase(
        shape_meaning=f"N rows of {CLASSES} classes x D features; n = m = N",
        shapes={
            "cpu": ((512, 128), (2048, 128), (8192, 128)),
            "cuda": grid((8192, 32768, 131072), 128),
            "quick": ((512, 128),),
        },
        make_inputs=_labelled,
        row_losses=_supcon_rows,
        work=_rows_with_rows,
    ),
    "clip": RowCase(
        shape_meaning="N images with N texts x D features, normalised; n = m = N",
        shapes={
            "cpu": ((1024, 512), (4096, 512)),
            "cuda": grid((4096, 16384, 65536), 512),
            "quick": ((512, 128),),
        },
        make_inputs=_image_text,
        row_losses=_clip_rows,
        work=_images_with_texts,
    ),
    "siglip": RowCase(
        shape_meaning=f"N images with N texts x D features, normalised, bias {BIAS:g}; n = m = N",
        shapes={
            "cpu": ((1024, 512), (4096, 512)),
            "cuda": grid((4096, 16384, 65536), 512),
            "quick": ((512, 128),),
        },
        make_inputs=_image_text_bias,
        row_losses=_siglip_rows,
        work=_images_with_texts,
    ),
    "moco": RowCase(
        shape_meaning=f"N queries and {QUEUE} keys in the queue x D features; n = N, m = {QUEUE}",
        shapes={
            "cpu": ((256, 128), (1024, 128)),
            "cuda": grid((256, 1024, 4096), 128),
            "quick": ((64, 128),),
        },
        make_inputs=_query_key_queue,
        row_losses=_moco_rows,
        work=_queries_with_queue,
    ),
}
