"""The losses that are one operator on a CPU, against all scores in float64."""

import pytest
import torch
import torch.nn.functional as F
from contrastive_problems import PROBLEMS, check, dense
from covering import covering

from sslkernels import _ext
from sslkernels.primitives.contrastive import Contrastive, contrastive_loss, cpu

pytestmark = pytest.mark.skipif(not _ext.HAS_EXTENSION, reason="sslkernels._C is not built")

KEPT, RECOMPUTED = cpu.WORKSPACE, 0


@pytest.mark.parametrize("name, workspace, dtype, scale", covering(
    list(PROBLEMS), [KEPT, RECOMPUTED], [torch.float32, torch.bfloat16, torch.float16], [5.0, 90.0]
), ids=str)  # fmt: skip
def test_as_exact_as_eager(name, workspace, dtype, scale, monkeypatch):
    monkeypatch.setattr(cpu, "WORKSPACE", workspace)
    check(name, dtype=dtype, scale=scale, m=113)


@pytest.mark.parametrize("name, n, d, scale", covering(
    list(PROBLEMS), [4, 50, 97, 300, 800], [3, 16, 65, 130], [4.0, 90.0]
), ids=str)  # fmt: skip
def test_ragged_shapes(name, n, d, scale):
    check(name, n=n, m=n + 31, d=d, scale=scale, draws=2)


@pytest.mark.parametrize("isa", ["avx2", "baseline"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_instruction_sets(isa, name):
    sets = _ext.extension().instruction_sets()
    if isa not in sets:
        pytest.skip(f"this processor or build has no {isa}")
    _ext.extension().use_instruction_set(isa)
    try:
        check(name, n=101, m=203, d=37, scale=5.0, draws=2)
        check(name, n=101, m=203, d=37, scale=90.0, draws=2)
    finally:
        _ext.extension().use_instruction_set(sets[0])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", PROBLEMS)
def test_threads(threads, name):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(name, n=300, m=500, d=64, draws=1)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", PROBLEMS)
def test_same_bits_again(name):
    x = [torch.randn(150, 40, requires_grad=True) for _ in range(3)]
    kind, problem = PROBLEMS[name]
    inputs = x[: {"": 1, "queue and positive": 3}.get(kind, 2)]

    def run():
        loss = contrastive_loss(problem(*inputs, scale=7.0))
        return [loss, *torch.autograd.grad(loss, inputs)]

    assert all(map(torch.equal, run(), run()))


@pytest.mark.parametrize("n, m, d", [(1, 40, 24), (5, 2501, 70), (33, 2200, 512), (64, 1030, 16)])
@pytest.mark.parametrize("scale", [5.0, 90.0])
@pytest.mark.parametrize("threads", [1, 3])
def test_few_queries_beside_a_queue(n, m, d, scale, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check("queue", n=n, m=m, d=d, scale=scale, constant=(1,), draws=2)
    finally:
        torch.set_num_threads(before)


def test_rows_that_share_memory():
    query = F.normalize(torch.randn(1, 64), dim=1).expand(40, 64)
    key = F.normalize(torch.randn(1, 64), dim=1).expand(40, 64)
    options = {"scale": 6.0, "exclude": (0,), "unit_query": False, "unit_key": False}
    found, expected = (
        contrastive_loss(Contrastive(x, key=y, **options))
        for x, y in ((query, key), (query.contiguous(), key.contiguous()))
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("form", ["cross_entropy", "decoupled", "sigmoid"])
def test_few_queries_exclude_some_of_many_keys(form):
    query, positive, key = (F.normalize(torch.randn(n, 20), dim=1) for n in (7, 7, 300))
    query.requires_grad_()

    def problem(*x):
        return Contrastive(
            x[0], key=x[1], positive=x[2], scale=6.0, exclude=(-2, 0, 150), form=form,
            unit_query=False, unit_key=False,
        )  # fmt: skip

    loss = contrastive_loss(problem(query, key, positive))
    wide = [x.detach().double() for x in (query, key, positive)]
    exact = dense(problem(wide[0].requires_grad_(), *wide[1:]))
    torch.testing.assert_close(loss.double(), exact)
    found, right = (torch.autograd.grad(x, y)[0] for x, y in ((loss, query), (exact, wide[0])))
    assert (found - right).norm() <= 1e-6 * right.norm()


@pytest.mark.parametrize("constant", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("name", ["two views", "both ways"])
@pytest.mark.parametrize("workspace", [KEPT, RECOMPUTED])
def test_only_the_wanted_gradients(name, constant, workspace, monkeypatch):
    monkeypatch.setattr(cpu, "WORKSPACE", workspace)
    check(name, constant=constant, draws=1)


@pytest.mark.parametrize("temperature", [0.1, 0.01])
def test_bfloat16_embeddings_are_rounded_once(temperature):
    """Errors relative to the given embeddings, compared with products in bfloat16."""
    ours, products = [], []
    for _ in range(8):
        x, y = (torch.randn(128, 64).bfloat16().requires_grad_() for _ in range(2))
        given = [z.detach().double().requires_grad_() for z in (x, y)]
        n = len(x)
        options = {"offset": n, "exclude": (-n, 0, n), "scale": 1 / temperature}
        exact = dense(Contrastive(*given, **options))
        gradients = torch.autograd.grad(exact, given)
        loss = contrastive_loss(Contrastive(x, y, **options))
        found = torch.autograd.grad(loss, (x, y))
        rough = [F.normalize(z, dim=1).bfloat16().double().requires_grad_() for z in given]
        rough_loss = dense(Contrastive(*rough, **options, unit_query=False))
        rough_gradients = torch.autograd.grad(rough_loss, rough)
        ours.append(
            [loss - exact, *(a.double() - b for a, b in zip(found, gradients, strict=True))]
        )
        products.append(
            [rough_loss - exact]
            + [
                torch.autograd.grad(F.normalize(g, dim=1), g, r.detach())[0] - b
                for g, r, b in zip(given, rough_gradients, gradients, strict=True)
            ]
        )
    for a, b in zip(zip(*ours, strict=True), zip(*products, strict=True), strict=True):
        mine, theirs = (torch.stack([y.detach().double() for y in x]).norm() for x in (a, b))
        assert mine <= 2 * theirs


def test_queries_and_keys_must_be_alike():
    x = torch.randn(4, 8)
    with pytest.raises(TypeError, match="one dtype"):
        contrastive_loss(Contrastive(x, key=x.bfloat16()))
    with pytest.raises(ValueError, match="impl must be one of"):
        contrastive_loss(Contrastive(x, key=x), impl="fast")
