import pytest
import torch
import torch.nn.functional as F
from covering import covering
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_as_exact_as_eager, results

import sslkernels
from sslkernels.functional import nt_xent


def cross_entropy_nt_xent(out0, out1, temperature):
    """NT-Xent in plain torch, with (2N, 2N) scores."""
    z = F.normalize(torch.cat([out0, out1]), dim=1)
    scores = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    n = len(out0)
    return F.cross_entropy(scores.to(torch.promote_types(z.dtype, torch.float32)),
                           torch.arange(2 * n).roll(n))  # fmt: skip


def four_block_nt_xent(out0, out1, temperature):
    """lightly's formula: four blocks of similarities, with the positives before the negatives."""
    z0, z1 = F.normalize(out0, dim=1), F.normalize(out1, dim=1)
    n = len(z0)
    off = ~torch.eye(n, dtype=torch.bool)
    same0, same1 = ((z @ z.T / temperature)[off].view(n, -1) for z in (z0, z1))
    cross = z0 @ z1.T / temperature
    scores = torch.cat([torch.cat([cross, same0], 1), torch.cat([cross.T, same1], 1)])
    return F.cross_entropy(scores, torch.arange(n).repeat(2))


@pytest.mark.parametrize("temperature, dtype, shape", covering(
    [0.05, 0.1, 0.5, -1.0],
    [torch.float32, torch.bfloat16, torch.float16],
    [(130, 129), (67, 33)],
), ids=str)  # fmt: skip
def test_as_exact_as_eager(temperature, dtype, shape):
    weight = [torch.ones((), dtype=torch.float64)]

    def draw():
        inputs = [
            *(torch.randn(shape).to(dtype) for _ in range(2)),
            torch.tensor(temperature).to(dtype),
        ]
        return tuple(
            results(lambda *x, f=f: (f(*x),), inputs, as_dtype, weight)
            for f, as_dtype in (
                (nt_xent, dtype),
                (cross_entropy_nt_xent, dtype),
                (cross_entropy_nt_xent, torch.float64),
            )
        )

    assert_as_exact_as_eager([draw() for _ in range(32)])


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, -1.0])
def test_equals_the_four_block_form(temperature):
    out0, out1 = (torch.randn(300, 64, requires_grad=True) for _ in range(2))
    ours = sslkernels.NTXentLoss(temperature)(out0, out1)
    theirs = four_block_nt_xent(out0, out1, temperature)
    assert abs(ours - theirs) <= 1e-5 * abs(theirs)
    for a, b in zip(*(torch.autograd.grad(x, (out0, out1)) for x in (ours, theirs)), strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("temperature", [0.01, 0.011, 1e-4])
def test_finite_where_unshifted_sums_overflow(temperature):
    out0 = torch.randn(128, 32, requires_grad=True)
    loss = nt_xent(out0, out0 + 0.1 * torch.randn(128, 32), temperature)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, out0)[0]).all()
    z = F.normalize(out0, dim=1).repeat(2, 1)
    assert not torch.isfinite(torch.log(torch.exp(z @ z.T / temperature).sum(1))).all()


def test_small_cases():
    x, y = torch.randn(1, 5), torch.randn(1, 5)
    torch.testing.assert_close(nt_xent(x, y), torch.tensor(0.0))  # one pair: no negatives
    torch.testing.assert_close(nt_xent(x[:, :1], -x[:, :1]), torch.tensor(0.0))
    column = torch.tensor([[2.0], [-3.0]])
    # two pairs in one dimension: positives at +1, negatives at -1
    expected = torch.log(torch.exp(torch.tensor(2.0)) + 2 * torch.exp(torch.tensor(-2.0))) - 2
    torch.testing.assert_close(nt_xent(column, column, 0.5), expected)
    zeros = torch.zeros(3, 4, requires_grad=True)
    loss = nt_xent(zeros, zeros)
    torch.testing.assert_close(loss, torch.tensor(5.0).log())
    assert torch.isfinite(torch.autograd.grad(loss, zeros)[0]).all()
    assert nt_xent(x.double(), y.double()).dtype == torch.float64


def test_gradcheck_with_learnable_temperature():
    out0, out1 = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    temperature = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(nt_xent, (out0, out1, temperature))


def test_parameter_temperature_is_learned():
    loss = sslkernels.NTXentLoss(torch.nn.Parameter(torch.tensor(0.5)))
    assert [name for name, _ in loss.named_parameters()] == ["temperature"]
    loss(torch.randn(8, 4), torch.randn(8, 4)).backward()
    assert loss.temperature.grad.abs() > 0


batches = st.tuples(st.integers(2, 40), st.integers(1, 40), st.integers(0, 2**31 - 1))


def draw(batch):
    n, d, seed = batch
    generator = torch.Generator().manual_seed(seed)
    return (*(torch.randn(n, d, generator=generator) for _ in range(2)), generator)


@settings(max_examples=25, deadline=None)
@given(batches, st.sampled_from([0.05, 0.2, 1.0]))
def test_symmetries(batch, temperature):
    out0, out1, generator = draw(batch)
    loss = nt_xent(out0, out1, temperature)
    close = {"rtol": 1e-5, "atol": 2e-5}
    torch.testing.assert_close(nt_xent(out1, out0, temperature), loss, **close)
    order = torch.randperm(len(out0), generator=generator)
    torch.testing.assert_close(nt_xent(out0[order], out1[order], temperature), loss, **close)
    rotation = torch.linalg.qr(torch.randn(out0.shape[1], out0.shape[1], generator=generator))[0]
    torch.testing.assert_close(
        nt_xent(out0 @ rotation, out1 @ rotation, temperature), loss, **close
    )
    lengths = 0.1 + torch.rand(len(out0), 1, generator=generator)
    torch.testing.assert_close(nt_xent(out0 * lengths, out1, temperature), loss, **close)


@settings(max_examples=25, deadline=None)
@given(batches)
def test_softmax_weights_sum_to_one(batch):
    """Σ_j ∂(Σ_i rows_i)/∂k_j = scale · Σ_i q_i, since each row's weights sum to one."""
    q, k, _ = draw(batch)
    k.requires_grad_()
    rows = sslkernels.pairwise_logsumexp(q, k, 0.3)
    (gradient,) = torch.autograd.grad(rows.sum(), k)
    torch.testing.assert_close(gradient.sum(0), 0.3 * q.sum(0), rtol=1e-4, atol=1e-4)


def test_autocast_keeps_float32():
    out0, out1 = torch.randn(64, 32), torch.randn(64, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = nt_xent(out0, out1, 0.1)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, nt_xent(out0, out1, 0.1))


def test_compile_without_graph_breaks():
    torch.compiler.reset()
    loss = sslkernels.NTXentLoss(0.2)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    out0, out1 = (torch.randn(32, 16, requires_grad=True) for _ in range(2))
    torch.testing.assert_close(compiled(out0, out1), loss(out0, out1))
    torch.testing.assert_close(
        *(torch.autograd.grad(f(out0, out1), (out0, out1)) for f in (compiled, loss))
    )


@pytest.mark.parametrize("arguments, error", [
    ({"temperature": 0.0}, ValueError),
    ({"temperature": float("nan")}, ValueError),
    ({"memory_bank_size": -1}, ValueError),
    ({"memory_bank_size": (64, -1)}, ValueError),
    ({"memory_bank_size": 64}, ValueError),
    ({"memory_bank_size": (64, 0)}, ValueError),
    ({"convention": "paper"}, ValueError),
    ({"gather": "star"}, ValueError),
    ({"grad_scale": 2}, TypeError),
])  # fmt: skip
def test_constructor_refuses(arguments, error):
    with pytest.raises(error):
        sslkernels.NTXentLoss(**arguments)


@pytest.mark.parametrize("out1, error, words", [
    (torch.ones(3, 4), ValueError, r"\(2, 4\) and \(3, 4\)"),
    (torch.ones(2, 4).half(), TypeError, "float16"),
    ([1.0], TypeError, "list"),
])  # fmt: skip
def test_forward_refuses(out1, error, words):
    with pytest.raises(error, match=words):
        nt_xent(torch.ones(2, 4), out1)
