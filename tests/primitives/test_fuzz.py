"""Random calls of every function that reaches C++: a correct value, or a ValueError or TypeError.

``make sanitize`` runs many more of them, with C++ that detects memory errors.
"""

import math
import os
import random

import pytest
import torch
from views_inputs import plain_parameters

from sslkernels import (
    Quadrature,
    RaggedImages,
    _ext,
    augment_views,
    nearest_neighbor,
    offdiagonal_norm,
    pairwise_logsumexp,
    pairwise_softplus,
    random_directions,
    sinkhorn,
    sliced_epps_pulley,
    sliced_wasserstein,
    soft_cross_entropy,
)
from sslkernels import functional as F

CALLS = int(os.environ.get("SSLKERNELS_FUZZ", 500))  # of all functions together
LARGE = (0, 1, -1, 2**20, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63))
NUMBERS = (0.0, -0.0, 0.5, 1.0, -1.0, 3e9, -3e9, 1e19, 3e38, 1e-45, math.inf, -math.inf, math.nan)

pytestmark = pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")


def size(draw):
    return draw.choice([1, 2, 3, 7, 15, 16, 17, 33, 63, 64, 65, 100, 129, 193, 200])


def laid_out(draw, *shape, dtype):
    """Numbers in one of the possible layouts of a tensor."""
    layout = draw.choice(["plain", "transposed", "steps", "part", "expanded"])
    if layout == "transposed":
        return torch.randn(*shape[:-2], shape[-1], shape[-2]).to(dtype).transpose(-1, -2)
    if layout == "steps":
        return torch.randn(*shape[:-1], 2 * shape[-1]).to(dtype)[..., ::2]
    if layout == "part":
        return torch.randn(*shape[:-1], shape[-1] + 3).to(dtype)[..., 1:-2]
    if layout == "expanded":
        return torch.randn(*shape[:-2], 1, shape[-1]).to(dtype).expand(shape)
    return torch.randn(shape).to(dtype)


def matrices(draw):
    dtype = draw.choice([torch.float32, torch.bfloat16, torch.float16])
    n, m, d = size(draw), size(draw), size(draw)
    q = laid_out(draw, n, d, dtype=dtype) / math.sqrt(d)
    return q, q if draw.random() < 0.3 else laid_out(draw, m, d, dtype=dtype)


def offsets(draw):
    return [draw.choice([*LARGE, -3, 2, 5, -40]) for _ in range(draw.randrange(3))]


def both(function, *tensors, **options):
    """The results and gradients of C++ and of tiled torch."""
    results = []
    for impl in ("cpu", "tiled"):
        own = [x.detach().requires_grad_() for x in tensors]
        out = function(*own, **options, impl=impl)
        out = [x for x in (out if isinstance(out, tuple) else (out,)) if x.is_floating_point()]
        if out[0].requires_grad:
            # an entry without terms is -inf
            sum(
                x.masked_fill(x.isinf(), 0).float().sum() for x in out if x.requires_grad
            ).backward()
        results.append([*(x.detach() for x in out), *(x.grad for x in own)])
    for ours, theirs in zip(*results, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            tolerance = 1e-4 if ours.dtype == torch.float32 else 2e-2
            scale = theirs[theirs.isfinite()].abs().max().item() if theirs.isfinite().any() else 1
            torch.testing.assert_close(
                ours, theirs, rtol=tolerance, atol=tolerance * max(scale, 1e-3), equal_nan=True
            )


def fuzz_logsumexp(draw):
    q, k = matrices(draw)
    options = {"scale": draw.choice([1.0, -2.0, 10.0, 100.0]), "exclude": offsets(draw)}
    both(lambda a, b, **o: pairwise_logsumexp(a, b, columns=True, **o), q, k, **options)


def fuzz_softplus(draw):
    options = {"scale": draw.choice([1.0, 10.0]), "bias": -3.0, "exclude": offsets(draw)}
    both(pairwise_softplus, *matrices(draw), **options)


def fuzz_neighbor(draw):
    q, k = matrices(draw)
    options = {"topk": draw.randint(1, len(k)), "exclude": offsets(draw)}
    both(lambda a, b, **o: nearest_neighbor(a, b, **o)[0], q, k, **options)


def fuzz_norm(draw):
    dtype = draw.choice([torch.float32, torch.bfloat16, torch.float16])
    shape = max(2, size(draw)), size(draw)
    tensors = [laid_out(draw, *shape, dtype=dtype) for _ in range(draw.choice([1, 2]))]
    both(offdiagonal_norm, *tensors, columns=draw.choice(["raw", "centered"]))


def fuzz_sinkhorn(draw):
    groups, rows, width = draw.randint(1, 3), size(draw), size(draw) + 1
    x = laid_out(draw, groups, rows, width, dtype=draw.choice([torch.float32, torch.bfloat16]))
    count = draw.choice([None, *LARGE])
    counted = None if count is None else torch.tensor(count)
    with torch.no_grad():
        both(sinkhorn, x, epsilon=0.5, iterations=draw.randint(1, 4), rows=counted)


def fuzz_cross_entropy(draw):
    rows, width = size(draw), size(draw)
    dtype = draw.choice([torch.float32, torch.bfloat16])
    student = laid_out(draw, draw.randint(1, 4), rows, width, dtype=dtype)
    teacher = laid_out(draw, draw.randint(1, 3), rows, width, dtype=dtype).detach()
    center = torch.randn(width) if draw.random() < 0.5 else None
    both(
        lambda x, **o: soft_cross_entropy(x, teacher, center=center, **o), student,
        student_temperature=0.5, teacher_temperature=0.3,
    )  # fmt: skip


def fuzz_contrastive(draw):
    dtype = draw.choice([torch.float32, torch.bfloat16, torch.float16])
    n, d = max(2, size(draw)), size(draw)
    a, b = (laid_out(draw, n, d, dtype=dtype) for _ in range(2))
    labels = torch.tensor([draw.choice(LARGE[:6]) for _ in range(n)])
    loss, tensors = draw.choice([
        (F.nt_xent, (a, b)), (F.dcl, (a, b)), (F.clip, (a, b)), (F.siglip, (a, b)),
        (lambda x, **o: F.supcon(x, labels, **o), (a,)),
        (F.moco, (a, b, laid_out(draw, size(draw), d, dtype=dtype))),
        (F.barlow_twins, (a, b)), (F.vicreg, (a, b)),
    ])  # fmt: skip
    for x in tensors:
        x.requires_grad_()
    loss(*tensors).backward()
    assert all(x.grad is None or x.grad.shape == x.shape for x in tensors)


def fuzz_views(draw):
    """Images and parameters, some of them invalid."""
    channels = draw.choice([1, 3])
    sides = [(draw.randint(1, 40), draw.randint(1, 40)) for _ in range(draw.randint(1, 3))]
    images = RaggedImages.of(
        [torch.randint(0, 256, (*side, channels), dtype=torch.uint8) for side in sides]
    )
    parameters = torch.stack([
        plain_parameters(torch.empty(*side, channels), **{
            "height": draw.randint(1, side[0]), "width": draw.randint(1, side[1]),
            "order": draw.randrange(256), "brightness": draw.random() * 2,
            "contrast": draw.random() * 2, "saturation": draw.random() * 2,
            "hue": draw.random() - 0.5, "grayscale": draw.randrange(3),
            "sigma": draw.random() * 3, "solarize": draw.choice([256, 100]),
        }) for side in sides
    ])[None].repeat(2, 1, 1)  # fmt: skip
    fault = draw.randrange(5)
    if fault == 0:
        images.offsets[draw.randrange(len(sides))] = draw.choice(LARGE)
    elif fault == 1:
        images.sizes[draw.randrange(len(sides)), draw.randrange(2)] = draw.choice(LARGE)
    elif fault < 4:
        parameters[draw.randrange(2), 0, draw.randrange(13)] = draw.choice(NUMBERS)
    options = {"size": draw.choice([1, 2, 16, 33]), "channels_last": draw.random() < 0.5,
               "interpolation": draw.choice(["bilinear", "bicubic"]),
               "dtype": draw.choice([torch.float32, torch.float16])}  # fmt: skip
    out = augment_views(images, parameters, mean=[0] * channels, std=[1] * channels, **options)
    assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1


def fuzz_directions(draw):
    step = torch.tensor(draw.choice([*LARGE, 3]))
    dtype = draw.choice([torch.float32, torch.bfloat16, torch.float16, torch.float64])
    options = {"seed": draw.choice([1, 3, *LARGE]), "dtype": dtype}
    shape = size(draw), size(draw)
    ours, exact = (
        random_directions(step, *shape, **options, impl=impl) for impl in ("cpu", "reference")
    )
    tolerance = {torch.bfloat16: 1e-2, torch.float16: 1e-3}.get(dtype, 1e-6)
    torch.testing.assert_close(ours, exact, rtol=0, atol=tolerance)


def fuzz_slices(draw):
    dtype = draw.choice([torch.float32, torch.bfloat16, torch.float16])
    views, n, m, d = draw.choice([1, 2, 5]), size(draw), size(draw), size(draw)
    z = laid_out(draw, views, n, d, dtype=dtype)
    slices = laid_out(draw, d, m, dtype=dtype) / math.sqrt(d)
    quadrature = Quadrature.trapezoid(draw.choice([2, 3, 10, 33, 64, 129]), draw.choice([0.5, 3.0]))
    values = []
    for impl, kind in (("cpu", torch.float32), ("reference", torch.float64)):
        own = z.detach().to(dtype if impl == "cpu" else kind).requires_grad_()
        statistics = sliced_epps_pulley(own, slices.to(own.dtype), quadrature, impl=impl)
        values.append((statistics, *torch.autograd.grad(statistics.mean(), own)))
    for ours, exact in zip(*values, strict=True):
        error = (ours.double() - exact).norm()
        assert error <= (1e-4 if ours.dtype == torch.float32 else 2e-2) * exact.norm() + 1e-5


def fuzz_wasserstein(draw):
    shape = [draw.randint(1, 3), size(draw), draw.randint(1, 40)][draw.randrange(2) :]
    dtype = draw.choice([torch.float32, torch.bfloat16, torch.float16])
    z = laid_out(draw, *shape, dtype=dtype)
    slices = laid_out(draw, shape[-1], size(draw), dtype=dtype) / math.sqrt(shape[-1])
    if draw.random() < 0.2:
        z = z.masked_fill(torch.rand(shape) < 0.01, draw.choice([math.nan, math.inf, -math.inf]))
    values = []
    for impl in ("cpu", "tiled"):
        own = z.detach().requires_grad_()
        values.append(sliced_wasserstein(own, slices, impl=impl))
        values[-1].backward()  # its gradient depends on the order of near ties
        assert own.grad.isfinite().all() or not z.isfinite().all()
    assert torch.equal(*(x.isfinite() for x in values))
    if values[0].isfinite():
        torch.testing.assert_close(*values, rtol=1e-4, atol=1e-6)


FUZZ = (fuzz_logsumexp, fuzz_softplus, fuzz_neighbor, fuzz_norm, fuzz_sinkhorn,
        fuzz_cross_entropy, fuzz_contrastive, fuzz_directions, fuzz_slices,
        fuzz_wasserstein,
        fuzz_views)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fuzz", FUZZ, ids=lambda x: x.__name__)
def test_random_calls(fuzz, seed):
    refused = 0
    for call in range(count := max(1, CALLS // (4 * len(FUZZ)))):
        torch.manual_seed(1000 * seed + call)
        draw = random.Random(f"{fuzz.__name__} {seed} {call}")
        try:
            fuzz(draw)
        except (ValueError, TypeError) as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused < count or fuzz is fuzz_views  # most are valid
