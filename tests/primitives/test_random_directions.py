from math import sqrt

import pytest
import torch

from sslkernels import _ext, random_directions
from sslkernels.primitives.random_directions.reference import philox

CPU = pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))  # fmt: skip
each_implementation = pytest.mark.parametrize("impl", ["reference", CPU])
needs_extension = pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")
SHAPES = [
    (1, 1), (1, 2000), (2, 300), (3, 300), (4, 50), (5, 7), (15, 33), (17, 64), (64, 257),
    (128, 1024), (1000, 13), (9001, 3),
]  # fmt: skip
STEPS = (0, 1, 2**32 + 7, 2**63 - 1, -5)
ALL = 0xFFFFFFFF
PUBLISHED = [  # Random123's known answers: counter, key, result
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([ALL] * 4, [ALL] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request):
    if not _ext.HAS_EXTENSION or request.param not in _ext.extension().instruction_sets():
        pytest.skip(f"this processor or build has no {request.param}")
    _ext.extension().use_instruction_set(request.param)
    yield request.param
    _ext.extension().use_instruction_set(_ext.extension().instruction_sets()[0])


def at(step):
    return torch.tensor(step)


@pytest.mark.parametrize("counter, key, result", PUBLISHED)
def test_philox_gives_the_published_words(counter, key, result):
    words = philox(tuple(key), tuple(torch.tensor(x) for x in counter))
    assert [int(x) for x in words] == result


@pytest.mark.parametrize("counter, key, result", PUBLISHED)
def test_philox_of_each_instruction_set(instruction_set, counter, key, result):
    assert _ext.extension().philox(key, counter) == result


@pytest.mark.parametrize("features, slices", SHAPES)
def test_instruction_sets_agree_with_the_reference(instruction_set, features, slices):
    for step in STEPS:
        for seed in (0, 2**40 + 3, 2**63 - 1):
            expected = random_directions(at(step), features, slices, seed=seed, impl="reference")
            ours = random_directions(at(step), features, slices, seed=seed, impl="cpu")
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


@each_implementation
@pytest.mark.parametrize("features, slices", SHAPES)
def test_columns_have_length_one(impl, features, slices):
    directions = random_directions(at(3), features, slices, impl=impl)
    assert directions.shape == (features, slices) and directions.dtype == torch.float32
    assert directions.T.is_contiguous() and not directions.requires_grad
    assert (directions.double().norm(dim=0) - 1).abs().max() < 3e-7


@each_implementation
def test_one_place_does_not_depend_on_the_others(impl):
    many = random_directions(at(5), 40, 100, impl=impl)
    assert torch.equal(many[:, :9], random_directions(at(5), 40, 9, impl=impl))


@each_implementation
def test_steps_and_seeds_differ_and_nothing_else_does(impl):
    torch.manual_seed(1)
    first = random_directions(at(0), 50, 60, impl=impl)
    torch.manual_seed(2)
    assert torch.equal(first, random_directions(at(0), 50, 60, impl=impl))
    others = [random_directions(at(x), 50, 60, impl=impl) for x in (1, 2**32, -1)]
    others += [random_directions(at(0), 50, 60, seed=x, impl=impl) for x in (1, 2**32, 2**62)]
    for i, x in enumerate(others):
        for y in [first, *others[:i]]:
            assert (x * y).sum(0).abs().mean() < 2 / sqrt(50)
            assert not (x == y).any()


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_threads_do_not_matter(dtype):
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(random_directions(at(9), 129, 1001, dtype=dtype, impl="cpu"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, results[0]) for x in results)


@each_implementation
@pytest.mark.parametrize("features", [2, 3, 7, 32])
def test_uniform_on_the_sphere(impl, features):
    """Within five standard deviations of mean 0, covariance I / D and the coordinates' fourth
    moments 3 / (D (D + 2))."""
    count = 200_000
    x = random_directions(at(17), features, count, impl=impl).double()
    mean, covariance = x.mean(1), x @ x.T / count
    assert mean.abs().max() < 5 / sqrt(features * count)
    spread = 5 * sqrt(3) / features / sqrt(count)
    assert (covariance - torch.eye(features) / features).abs().max() < spread
    fourth = x.pow(4)
    error = (fourth.mean(1) - 3 / (features * (features + 2))).abs() / fourth.std(1)
    assert error.max() < 5 / sqrt(count)


@each_implementation
def test_coordinates_are_normal_when_there_are_many(impl):
    """The Kolmogorov-Smirnov distance between distributions, at 1 in 10^6."""
    x = random_directions(at(4), 4096, 64, impl=impl).double() * sqrt(4096)
    x = x.flatten().sort().values
    places = torch.arange(1, len(x) + 1, dtype=torch.float64) / len(x)
    assert (torch.special.ndtr(x) - places).abs().max() < 2.7 / sqrt(len(x))


@each_implementation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_float32_rounded(impl, dtype):
    for features, slices in ((1, 9), (130, 70), (5000, 3)):
        exact = random_directions(at(1), features, slices, impl=impl)
        ours = random_directions(at(1), features, slices, dtype=dtype, impl=impl)
        assert ours.dtype == dtype and ours.T.is_contiguous()
        assert torch.equal(ours, exact.to(dtype))


@each_implementation
def test_float64_has_length_one_in_float64(impl):
    directions = random_directions(at(1), 33, 40, dtype=torch.float64, impl=impl)
    assert directions.dtype == torch.float64 and directions.T.is_contiguous()
    assert (directions.norm(dim=0) - 1).abs().max() < 1e-15
    single = random_directions(at(1), 33, 40, impl=impl)
    torch.testing.assert_close(directions, single.double(), rtol=2e-7, atol=0)


@each_implementation
def test_autocast_changes_nothing(impl):
    outside = random_directions(at(1), 30, 20, impl=impl)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = random_directions(at(1), 30, 20, impl=impl)
    assert inside.dtype == torch.float32 and torch.equal(inside, outside)


@each_implementation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_opcheck(impl, dtype):
    arguments = at(3), 6, 4, 1, dtype, impl
    torch.library.opcheck(torch.ops.sslkernels.random_directions, arguments)


@pytest.mark.parametrize("impl", ["auto", "reference", CPU])
def test_compile_without_graph_breaks(impl):
    torch.compiler.reset()
    step = torch.zeros((), dtype=torch.int64)

    def function(z):
        directions = random_directions(step, z.shape[1], 16, dtype=z.dtype, impl=impl)
        step.add_(1)
        return (z @ directions).square().sum()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for width in (8, 12):
        results = []
        for f in (function, compiled):
            step.fill_(width)
            z = torch.linspace(-1, 1, 5 * width).view(5, width).requires_grad_()
            results.append([*(f(z) for _ in range(2)), step.clone()])
            results[-1] += torch.autograd.grad(results[-1][1], z)
        torch.testing.assert_close(*results)


def test_fake_and_meta():
    with torch._subclasses.FakeTensorMode():
        x = random_directions(torch.zeros((), dtype=torch.int64), 5, 7, dtype=torch.bfloat16)
        assert x.shape == (5, 7) and x.stride() == (1, 5) and x.dtype == torch.bfloat16


@pytest.mark.parametrize("arguments, error, words", [
    ({"step": 3}, TypeError, r"step must be a tensor \(\) of torch.int64, got 3"),
    ({"step": torch.tensor(1.0)}, TypeError, "step must be .* torch.float32"),
    ({"step": torch.tensor(1, dtype=torch.int32)}, TypeError, "step must be .* torch.int32"),
    ({"step": torch.zeros(1, dtype=torch.int64)}, ValueError, r"no dimensions, got .*\(1,\)"),
    ({"features": 0}, ValueError, "features must be at least 1, got 0"),
    ({"features": 2.0}, TypeError, "features must be an integer, got 2.0"),
    ({"slices": -1}, ValueError, "slices must be at least 1, got -1"),
    ({"slices": True}, TypeError, "slices must be an integer, got True"),
    ({"seed": -1}, ValueError, "seed must be in 0.."),
    ({"seed": 2**63}, ValueError, "seed must be in 0.."),
    ({"dtype": "float32"}, TypeError, "dtype must be .* got 'float32'"),
    ({"dtype": torch.int64}, TypeError, "dtype must be .* got torch.int64"),
    ({"impl": "fast"}, ValueError, "must be one of auto"),
    ({"impl": "tiled"}, ValueError, "must be one of auto"),
    ({"impl": "triton"}, ValueError, "cuda tensors, got tensors on cpu"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    good = {"step": at(0), "features": 4, "slices": 3}
    with pytest.raises(error, match=words):
        random_directions(**{**good, **arguments})


def test_absent_extension(monkeypatch):
    from sslkernels.primitives import _arguments

    monkeypatch.setattr(_ext, "_C", None)
    monkeypatch.setattr(_ext, "_reason", "not built", raising=False)
    monkeypatch.setattr(_arguments, "HAS_EXTENSION", False)
    with pytest.raises(RuntimeError, match="C\\+\\+ compiler"):
        random_directions(at(0), 3, 4, impl="cpu")
    expected = random_directions(at(0), 3, 4, impl="reference")
    assert torch.equal(random_directions(at(0), 3, 4), expected)
