"""Against sinkhorn of the logits, which it never stores."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from covering import covering
from peak_memory import printed

from sslkernels import _ext, prototype_sinkhorn, sinkhorn

IMPLEMENTATIONS = ["tiled", pytest.param("cpu", marks=pytest.mark.skipif(
    not _ext.HAS_EXTENSION, reason="sslkernels._C is not built"))]  # fmt: skip
BUILT = ["tiled"] + ["cpu"] * _ext.HAS_EXTENSION

each_implementation = pytest.mark.parametrize("impl", IMPLEMENTATIONS)
weight_normalised = pytest.mark.parametrize("normalised", [False, True], ids=["plain", "weights"])


def problem(n, k, d=16, normalised=False, dtype=torch.float32):
    """features, prototypes, magnitude."""
    features = F.normalize(torch.randn(n, d), dim=1)
    if normalised:
        return features.to(dtype), 5 * torch.randn(k, d), 0.5 + torch.rand(k, 1)
    return features.to(dtype), F.normalize(torch.randn(k, d), dim=1), None


def logits_of(features, prototypes, magnitude):
    """Logits in float64."""
    prototypes = prototypes.double()
    if magnitude is not None:
        prototypes = F.normalize(prototypes, dim=1) * magnitude.double()
    return features.double() @ prototypes.T


def assert_equals_sinkhorn(impl, arguments, epsilon=0.05, iterations=3, rows=None):
    features, prototypes, magnitude = arguments
    options = {"rows": rows, "impl": impl}
    ours = prototype_sinkhorn(
        features, prototypes, epsilon, iterations, magnitude=magnitude, **options
    )
    logits = logits_of(*arguments)
    expected, eager = (
        sinkhorn(x, epsilon, iterations, rows=rows, impl="reference")
        for x in (logits, logits.to(ours.dtype))
    )
    assert ours.dtype == torch.promote_types(features.dtype, torch.float32)
    rounding = (eager - expected).abs().max().item()
    torch.testing.assert_close(ours.double(), expected, rtol=2e-6, atol=2e-7 + 2 * rounding)


@pytest.mark.parametrize("impl", ["reference", *IMPLEMENTATIONS])
@pytest.mark.parametrize("normalised, iterations, shape", covering(
    [False, True], [1, 2, 3, 10], [(1, 1), (1, 50), (50, 1), (40, 191), (600, 3000)]
), ids=str)  # fmt: skip
def test_equals_sinkhorn_of_the_logits(impl, normalised, iterations, shape):
    assert_equals_sinkhorn(impl, problem(*shape, normalised=normalised), iterations=iterations)


@each_implementation
@weight_normalised
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_dtypes(impl, normalised, dtype):
    if impl == "cpu" and dtype == torch.float64:
        pytest.skip("computes in float32")
    features, prototypes, magnitude = problem(600, 3000, normalised=normalised, dtype=dtype)
    if dtype == torch.float64:
        prototypes = prototypes.double()
    assert_equals_sinkhorn(impl, (features, prototypes, magnitude))
    if dtype != torch.float64 and not normalised:
        assert_equals_sinkhorn(impl, (features, prototypes.to(dtype), None))


@each_implementation
def test_only_the_first_rows_count(impl):
    features, *rest = problem(700, 2000)
    for count in (1, 123, 699, 700):
        held = features.clone()
        held[count:] = float("nan")
        ours = prototype_sinkhorn(held, *rest[:1], rows=torch.tensor(count), impl=impl)
        expected = sinkhorn(logits_of(features[:count], *rest), impl="reference")
        torch.testing.assert_close(ours.double(), expected, rtol=2e-6, atol=2e-7)


@each_implementation
def test_strides_and_no_gradient(impl):
    features, prototypes, _ = problem(60, 400)
    expected = prototype_sinkhorn(features, prototypes, impl=impl)
    features = features.T.contiguous().T.requires_grad_()
    prototypes = torch.cat([prototypes, prototypes], 1)[:, :16].requires_grad_()
    ours = prototype_sinkhorn(features, prototypes, impl=impl)
    assert not ours.requires_grad
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@each_implementation
def test_bitwise_repeatable_and_nan(impl):
    features, prototypes, _ = problem(300, 5000)
    first, second = (prototype_sinkhorn(features, prototypes, impl=impl) for _ in range(2))
    assert torch.equal(first, second)
    features[3, 4] = float("nan")
    assert prototype_sinkhorn(features, prototypes, impl=impl).isnan().all()


def test_logits_are_never_stored():
    """They would be 200 MiB."""
    code = """
features, prototypes = torch.randn(800, 16), torch.randn(65536, 16)
options = {"magnitude": torch.ones(65536) if normalised else None, "impl": impl}
run = lambda size: prototype_sinkhorn(features, prototypes[:size], 1.0, 2, **options)
options["magnitude"] = None
run(4096)
before = peak()
options["magnitude"] = torch.ones(65536) if normalised else None
run(65536)
print(peak() - before)
"""
    cases = [{"impl": x, "normalised": y} for x, y in product(BUILT, [False, True])]
    for case, extra in zip(cases, printed(code, cases), strict=True):
        assert extra < 32, case


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(dtype):
    features, prototypes, _ = problem(60, 50, dtype=dtype)
    outside = prototype_sinkhorn(features, prototypes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prototype_sinkhorn(features, prototypes), outside)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@weight_normalised
def test_opcheck(impl, normalised):
    features, prototypes, magnitude = problem(6, 5, normalised=normalised)
    magnitude = magnitude if magnitude is None else magnitude.flatten()
    for epsilon in ((None, 0.1), (torch.tensor(0.1, dtype=torch.float64), 1.0)):
        arguments = features, prototypes, magnitude, *epsilon, 3, torch.tensor(4), impl
        torch.library.opcheck(torch.ops.sslkernels.prototype_sinkhorn, arguments)


@pytest.mark.parametrize("impl", ["auto", "reference", *IMPLEMENTATIONS])
def test_compile_without_graph_breaks(impl):
    torch.compiler.reset()  # each case recompiles one function, and recompilations are limited

    def function(features, prototypes):
        return 2 * prototype_sinkhorn(features, prototypes, impl=impl)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for n in (40, 50):  # a second shape
        features, prototypes, _ = problem(n, 300)
        torch.testing.assert_close(compiled(features, prototypes), function(features, prototypes))


@pytest.mark.parametrize("arguments, error, words", [
    ({"features": [1.0]}, TypeError, "features must be a torch.Tensor"),
    ({"features": torch.ones(4)}, ValueError, r"two non-empty dimensions, got \(4,\)"),
    ({"prototypes": torch.ones(3, 5)}, ValueError, "must agree in D"),
    ({"prototypes": torch.ones(3, 4, dtype=torch.float64)}, TypeError, "both be float64"),
    ({"prototypes": torch.ones(3, 4, device="meta")}, ValueError, "one device"),
    ({"magnitude": torch.ones(2)}, ValueError, r"\(K,\) or \(K, 1\) with K = 3, got \(2,\)"),
    ({"epsilon": -1.0}, ValueError, "above 0, got -1.0"),
    ({"iterations": 0}, ValueError, r"iterations must be in 1\.\.10000, got 0"),
    ({"rows": 3}, TypeError, "integer or None, got 3"),
    ({"impl": "fast"}, ValueError, "must be one of auto"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    good = {"features": torch.ones(2, 4), "prototypes": torch.ones(3, 4)}
    with pytest.raises(error, match=words):
        prototype_sinkhorn(**{**good, **arguments})
