"""The losses by fused Triton kernels: four launches, five with gradients; three for sigmoid.

Gradients of wide embeddings take more: see `.._chunks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._operator import offsets, plain
from .._chunks import splits
from .._tile_table import BACKWARD, WEIGHTS, ceil, in_pieces, is_deep, power_of_two
from .._triton import RowKernel, fuses, is_whole, padded, precision, vectors
from ..pairwise_logsumexp import triton as pairwise_logsumexp
from ..pairwise_logsumexp.triton_backward import backward_kernel
from ..pairwise_softplus import triton as pairwise_softplus
from .problem import Contrastive
from .triton_kernels import margins_kernel, sigmoid_kernel, weighted_kernel
from .triton_rows import GIVEN, KEY, NONE, SELF, finish_kernel, prepare_kernel

TILE = 1024  # elements, in kernels that process rows one by one
AS_GIVEN = (torch.bfloat16,)  # dtypes whose rows are multiplied without normalisation
LARGEST_WEIGHT = 2.0**13  # in float16, to keep small ones; two sides may add up


def takes(p: Contrastive) -> bool:
    """Whether the kernels over pairs support it."""
    return fuses(p.query, p.exclude) and (p.labels is None or not is_deep(BACKWARD, p.query))


def contrastive(p: Contrastive, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
    with plain(p.query):
        task = _Task(p, wanted)
        return task.finish(task.sigmoid() if p.form == "sigmoid" else task.softmax())


class _Sums(NamedTuple):
    """Results of the kernels over pairs; None if not computed."""

    loss: Tensor  # sums to the loss of all queries, without sigmoid's positives
    grad: Tensor | None = None  # derivatives by the log-sum-exps
    gradient: Tensor | None = None  # (splits, height, width)
    weighted: Tensor | None = None  # (splits, height)
    sigma: Tensor | None = None  # (splits, height)
    counted: Tensor | None = None


class _Task:
    """A loss, its rows as the kernels over pairs read them, and the numbers of its launches."""

    def __init__(self, p: Contrastive, wanted: Sequence[bool]) -> None:
        self.p, self.wanted = p, wanted
        q = p.query
        self.first, d = q.shape
        self.n = self.first if p.other is None else self.first + p.other.shape[0]
        self.m = self.n if p.key is None else p.key.shape[0]
        self.unit = LARGEST_WEIGHT if q.dtype == torch.float16 else 1.0
        self.offset = p.offset % self.m
        if p.labels is not None:
            self.positive = NONE
        elif p.positive is not None:
            self.positive = GIVEN
        else:
            self.positive = SELF if p.key is None else KEY
        self.block_d = max(16, power_of_two(d))
        self.block_rows = max(1, TILE // self.block_d)
        self._prepare(d)

    def _prepare(self, d: int) -> None:
        p, n, m = self.p, self.n, self.m
        matrices = (p.query, p.other, p.key, p.positive)
        self.matrices = [x if x is None or x.stride(1) == 1 else x.contiguous() for x in matrices]
        key = self.matrices[2]
        is_raw, is_rounded = p.query.dtype in AS_GIVEN, precision(p.query) == "tf32"
        self.both = key is not None and self.wanted[2]
        is_taken = key is not None and is_whole(key) and (is_raw or not p.unit_key)
        copies_keys = key is not None and (self.both or is_rounded or not is_taken)
        self.has_inverse = is_raw and (p.unit_query or p.unit_key)
        programs = ceil(n, self.block_rows)
        programs += 0 if key is None else ceil(m, self.block_rows)
        self.rows = n if key is None else n + m
        self.x = p.query.new_empty((self.rows if copies_keys else n, padded(d)))
        self.q = self.x[:n] if copies_keys else self.x
        self.k = self.x if key is None else self.x[n:] if copies_keys else key
        sizes = [self.rows, n, programs, 2]
        (floats,) = vectors(p.query, 1, sum(sizes))
        self.inverse, self.similarity, self.largest, self.scalars = floats.split_with_sizes(sizes)
        scale, bias = (x if isinstance(x, Tensor) else None for x in (p.scale, p.bias))
        prepare_kernel[(programs,)](
            *self.matrices,
            scale,
            bias,
            self.x,
            self.inverse,
            self.largest,
            self.similarity,
            self.scalars,
            1.0 if scale is not None else float(p.scale),
            0.0 if bias is not None else float(p.bias),
            self.first,
            n,
            m,
            self.offset,
            *self._strides(),
            self.x.shape[1],
            KEYS=key is not None,
            COPY_KEYS=copies_keys,
            RAW=is_raw,
            ROUNDED=is_rounded,
            **self._constants(),
        )

    def _strides(self) -> list[int]:
        return [0 if x is None else x.stride(0) for x in self.matrices]

    def _constants(self) -> dict[str, int]:
        p = self.p
        return {
            "D": p.query.shape[1],
            "TWO": p.other is not None,
            "POSITIVE": self.positive.value,
            "UNIT_QUERY": p.unit_query,
            "UNIT_KEY": p.unit_key,
            "UNIT_POSITIVE": p.unit_positive,
            "BM": self.block_rows,
            "BD": self.block_d,
            "num_warps": 4,
        }

    def softmax(self) -> _Sums:
        p, n, m, x = self.p, self.n, self.m, self.x
        is_triangle = p.key is None and p.labels is None
        none, inverses = self.scalars, self._inverses() if self.has_inverse else None
        sums = pairwise_logsumexp.partial_sums(
            self.q,
            self.k,
            none,
            self.largest,
            p.exclude,
            p.columns,
            is_triangle,
            inverses,
            p.labels,
        )
        weights = None if p.weights is None else p.weights.to(torch.float32).contiguous()
        losses = n + m if p.columns else n
        height = n + m if self.both else losses
        loss, lse, grad, factor, share, counted = vectors(x, 6, height)
        block = 128
        margins_kernel[(ceil(n, block) + ceil(height - n, block),)](
            *sums.rows,
            *sums.columns,
            *sums.same,
            self.similarity,
            weights,
            self.scalars,
            loss,
            lse,
            grad,
            factor,
            share,
            counted,
            n,
            m,
            sums.block,
            sums.columns.shape[1],
            sums.rows.shape[1],
            self.offset,
            0.5 if p.columns else 1.0,
            self.unit,
            TRIANGLE=is_triangle,
            COLUMNS=p.columns,
            LABELS=p.labels is not None,
            DECOUPLED=p.form == "decoupled",
            BLOCK=block,
            num_warps=4,
        )
        count = counted[:n].sum() if p.skip_alone else None
        self.weights = weights
        if not any(self.wanted):
            return _Sums(loss[:losses], grad, counted=count)
        if is_deep(BACKWARD, self.q):
            has_columns = p.key is None or p.columns
            column = slice(n if p.columns else 0, None)
            row_side, column_side = (lse[:n], grad[:n]), (lse[column], grad[column])
            gradient, *parts = self._deep_gradient()
            pairwise_logsumexp.deep_gradients(
                self.q, self.k, none, inverses, p.exclude, row_side,
                column_side if has_columns else None, *parts,
            )  # fmt: skip
            return _Sums(loss[:losses], grad, gradient, self._weighted(gradient), counted=count)
        kernel, gradient, weighted = self._backward(backward_kernel)
        columns = slice(n, None) if p.columns and not self.both else slice(None)
        labels = none if p.labels is None else p.labels
        kernel(
            [
                none, self.largest, *self._inverses(self.both), labels, labels,
                lse, grad, lse[columns], grad[columns], factor, factor[columns], share, share,
                gradient, weighted,
            ],
            [len(self.largest), kernel.columns, 0],
            ROW=True,
            COLUMN=p.key is None or p.columns or self.both,
            PARTS=True,
            BOTH=self.both,
            INVERSE=self.has_inverse,
            LABELS=p.labels is not None,
            SCALE=self.wanted[4],
        )  # fmt: skip
        return _Sums(loss[:losses], grad, gradient, weighted, counted=count)

    def sigmoid(self) -> _Sums:
        self.weights = None
        has_gradient, bias = any(self.wanted), self.scalars[1:]
        if is_deep(BACKWARD, self.q):
            inverses = self._inverses() if self.has_inverse else None
            size = (splits(self.q, in_pieces(WEIGHTS, self.q), self.m), self.n)
            loss, sigma = self.x.new_empty((2, *size), dtype=torch.float32)
            gradient, *parts = self._deep_gradient() if has_gradient else (None, None, None)
            pairwise_softplus.deep_gradients(
                self.q, self.k, self.scalars, bias, inverses, self.p.exclude, None, self.unit,
                loss, sigma, *parts,
            )  # fmt: skip
            if gradient is None:
                return _Sums(loss.view(-1))
            return _Sums(loss.view(-1), None, gradient, self._weighted(gradient), sigma)
        kernel, gradient, weighted = self._backward(sigmoid_kernel, has_gradient)
        loss = self.x.new_empty((kernel.splits, self.n), dtype=torch.float32)
        sigma = torch.empty_like(weighted)
        kernel(
            [self.scalars, *self._inverses(self.both), loss, sigma, weighted, gradient],
            [kernel.columns, 0, self.unit],
            BOTH=self.both,
            INVERSE=self.has_inverse,
            GRADIENT=has_gradient,
        )
        if not has_gradient:
            return _Sums(loss.view(-1))
        return _Sums(loss.view(-1), None, gradient, weighted, sigma)

    def _deep_gradient(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The gradient of all rows, and the parts of queries and keys: (1, height, width)."""
        height = self.n + self.m if self.both else self.n
        gradient = self.x.new_empty((1, height, self.x.shape[1]), dtype=torch.float32)
        return gradient, gradient[0, : self.n], gradient[0, self.n :] if self.both else None

    def _weighted(self, gradient: Tensor) -> Tensor | None:
        """Σ_j w_ij s_ij / scale of each query, from its gradient; None if scale needs none."""
        if not self.wanted[4]:
            return None
        weighted = gradient.new_empty(1, self.n)
        weighted_kernel[(ceil(self.n, self.block_rows),)](
            gradient, self.q, weighted, self.n, self.q.stride(0), gradient.shape[2],
            BM=self.block_rows, BD=self.block_d, num_warps=4,
        )  # fmt: skip
        return weighted

    def _inverses(self, both: bool = False) -> tuple[Tensor, Tensor]:
        """Factors of rows and columns; kernels over both sides find them themselves."""
        is_one = both or self.p.key is None
        return self.inverse, self.inverse if is_one else self.inverse[self.n :]

    def _backward(
        self, function: Any, has_gradient: bool = True
    ) -> tuple[RowKernel, Tensor, Tensor]:
        """The backward kernel, with memory for the gradient of each row and a number beside it."""
        kernel = RowKernel(function, BACKWARD, self.q, self.k, self.p.exclude, self.both)
        if not has_gradient:
            nothing = self.x.new_empty(0, dtype=torch.float32)
            return kernel, nothing, nothing
        size = (kernel.splits, self.n + self.m if self.both else self.n)
        gradient = self.x.new_empty((*size, self.x.shape[1]), dtype=torch.float32)
        return kernel, gradient, self.x.new_empty(size, dtype=torch.float32)

    def finish(self, sums: _Sums) -> tuple[Tensor, Tensor]:
        p, wanted = self.p, self.wanted
        inputs = (p.query, p.other, p.key, p.positive, p.scale, p.bias)
        derivatives, at = offsets(inputs, wanted)
        loss = p.query.new_empty((), dtype=torch.float32)
        none = self.scalars
        programs = 1
        if any(wanted[:4]):
            rows = (self.n, self.m if self.both else 0, self.n if wanted[3] else 0)
            programs += sum(ceil(size, self.block_rows) for size in rows)
        count, height = (0, 0) if sums.gradient is None else sums.gradient.shape[:2]
        is_scaled = self.has_inverse and is_deep(BACKWARD, self.q)
        finish_kernel[(programs,)](
            *self.matrices,
            self.inverse,
            self.similarity,
            self.weights,
            none if sums.grad is None else sums.grad,
            none if sums.gradient is None else sums.gradient,
            none if sums.weighted is None else sums.weighted,
            none if sums.sigma is None else sums.sigma,
            self.scalars,
            sums.loss,
            sums.counted,
            loss,
            derivatives,
            self.first,
            self.n,
            self.m,
            height,
            sums.loss.numel(),
            count,
            *((0, 0) if sums.sigma is None else sums.sigma.shape),
            self.offset,
            self.unit,
            *at,
            *self._strides(),
            self.x.shape[1],
            KEYS=self.both,
            SYMMETRIC=p.key is None,
            SIGMOID=p.form == "sigmoid",
            COLUMNS=p.columns,
            SCALED=is_scaled,
            **self._constants(),
        )
        return loss, derivatives
