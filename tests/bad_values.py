"""Values that a caller may pass by mistake, and the expected outcome."""

import numpy as np
import torch
from torch import nn

MATRIX = torch.zeros(6, 8)
VALUES = [
    None, True, False, 0, 1, -1, 2, 2**63, -(2**64), 0.0, 0.5, -1.5, 1e-300, 1e300, float("inf"),
    -float("inf"), float("nan"), 1j, "", "no such", "\0", b"bytes", [], [None], [0.5, "x"], (),
    (0.5, 1.0), (1, float("nan")), {}, {"a": 1}, object(), int, len, range(3), np.zeros((6, 8)),
    np.array(0.5), np.array("a"), np.int64(3), np.float32(0.5), np.True_, torch.tensor(0.5),
    torch.tensor(3), torch.tensor(True), torch.tensor(float("nan")), torch.tensor(1j),
    torch.zeros(0), torch.zeros(6), torch.zeros(1, 1, 1, 1), MATRIX, MATRIX.long(),
    MATRIX.to("meta"), MATRIX.to_sparse(), [MATRIX], torch.device("meta"), torch.float64,
    nn.Linear(4, 2), torch.Generator(),
]  # fmt: skip


def values(good):
    """Values to pass instead of ``good``: those above, and some close to it."""
    if isinstance(good, torch.Tensor) and good.dim():
        dtypes = torch.int64, torch.bool, torch.uint8, torch.float16, torch.float64
        dtypes += torch.complex64, torch.float8_e4m3fn
        wider = torch.cat([good, good[..., :1]], -1)
        return [
            *VALUES, good.tolist(), good.numpy(), good[:0], good[..., :0], good[None],
            torch.cat([good, good[:1]]), wider, good.to("meta"), good.to_sparse(),
            torch.full(good.shape, float("nan")), good.long() - 4, good.long() + 2**62,
            *(good.to(dtype) for dtype in dtypes),
        ]  # fmt: skip
    if isinstance(good, list | tuple):
        return [*VALUES, [*good, None], [*good, "x"], good[:0], [good], *good[:1]]
    return VALUES


def problem_of(call, value, names, allowed=()):
    """Why a call neither works nor names the bad argument, in one line; None if it does."""
    shown = f"{names[0]}={value!r:.60}"
    if isinstance(value, torch.Tensor):
        shown = f"{names[0]}={value.dtype} {tuple(value.shape)} on {value.device}"
    try:
        call()
    except allowed:
        return None
    except (TypeError, ValueError) as error:
        if "\n" in str(error) or not any(name in str(error) for name in names):
            return f"{shown}: {str(error)[:200]!r}"
    except Exception as error:
        return f"{shown}: {type(error).__name__}: {str(error)[:200]!r}"
    return None
