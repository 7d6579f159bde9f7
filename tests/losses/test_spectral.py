"""Losses on the spectrum of a batch: difficult shapes and spectra."""

import formulas
import pytest
import torch

import sslkernels as ssl
from sslkernels import functional
from sslkernels.distributed import Gather, gather_rows
from sslkernels.losses.covariance.nuclear_norm import nuclear_norm


def views(n, d, dtype=torch.float64, count=2):
    base = torch.randn(n, d, dtype=torch.float64)
    noise = [0.7 * torch.randn(n, d, dtype=torch.float64) for _ in range(count)]
    return [(base + x).to(dtype).requires_grad_() for x in noise]


def assert_same(ours, expected, leaves, tolerance=1e-10):
    assert abs(ours - expected) <= tolerance * abs(expected)
    gradients = (torch.autograd.grad(x, leaves) for x in (ours, expected))
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("n, d", [(50, 8), (9, 8), (8, 8), (7, 12), (5, 40), (2, 6)])
@pytest.mark.parametrize("dimensions", [None, 1, 3])
def test_cca_of_every_shape(n, d, dimensions):
    x = views(n, d)
    # the formula's derivative of eigh divides by gaps, so a perturbation separates eigenvalues
    ours = functional.cca(*x, 0.01, dimensions)
    expected = cca_by_cholesky(*x, 0.01, dimensions)
    assert_same(ours, expected, x, 1e-9)
    assert abs(ours - formulas.cca(*x, 0.01, dimensions)) <= 1e-10 * abs(ours)


def cca_by_cholesky(z_a, z_b, ridge, dimensions):
    a, b = (x - x.mean(0) for x in (z_a, z_b))
    whitened = []
    for x in (a, b):
        own = x.T @ x / (len(x) - 1) + ridge * torch.eye(x.shape[1], dtype=x.dtype)
        whitened.append(torch.linalg.solve(torch.linalg.cholesky(own), x.T))
    correlations = torch.linalg.svdvals(whitened[0] @ whitened[1].T / (len(a) - 1))
    return -correlations[:dimensions].sum()


def test_cca_of_equal_views_has_equal_correlations():
    (x,) = views(40, 6, count=1)
    assert abs(functional.cca(x, x, 1e-12) + 6) < 1e-9
    loss = functional.cca(x, x.detach().clone(), 1e-4)
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


def test_cca_of_collapsed_views_in_float32():
    """A covariance of rank 3 with entries so large that float32 loses a ridge of 1e-4."""
    base = torch.randn(64, 3, dtype=torch.float64) @ torch.randn(3, 10, dtype=torch.float64)
    x = [(300 * (base + 0.01 * torch.randn(64, 3, dtype=torch.float64)
                 @ torch.randn(3, 10, dtype=torch.float64))).float().requires_grad_()
         for _ in range(2)]  # fmt: skip
    wide = [z.detach().double().requires_grad_() for z in x]
    loss, exact = functional.cca(*x), functional.cca(*wide)
    assert abs(loss - exact) <= 1e-6 * abs(exact)
    for a, b in zip(torch.autograd.grad(loss, x), torch.autograd.grad(exact, wide), strict=True):
        assert (a - b).norm() <= 1e-6 * b.norm()


def test_cca_module_and_refusals():
    x = views(30, 6, torch.float32)
    assert torch.equal(ssl.CCALoss(0.1, 2)(*x), functional.cca(*x, 0.1, 2))
    assert torch.equal(ssl.CCALoss()(*x), functional.cca(*x, 1e-4))
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        functional.cca(x[0][:1], x[1][:1])
    with pytest.raises(ValueError, match="at most D = 6, got 7"):
        functional.cca(*x, dimensions=7)
    with pytest.raises(ValueError, match="dimensions must be at least 1, got 0"):
        ssl.CCALoss(dimensions=0)
    with pytest.raises(ValueError, match="ridge must be above 0, got 0"):
        ssl.CCALoss(0)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (7, 7), (3, 4, 20), (3, 20, 4), (1, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nuclear_norm(shape, dtype):
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    assert_same(nuclear_norm(x).sum(), torch.linalg.svdvals(x).sum(), [x], 5 * tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nuclear_norm_where_it_has_no_gradient(dtype):
    for rank in (0, 1, 3):
        x = torch.randn(6, rank, dtype=dtype) @ torch.randn(rank, 11, dtype=dtype)
        x.requires_grad_()
        norm = nuclear_norm(x)
        (gradient,) = torch.autograd.grad(norm, x)
        torch.testing.assert_close(norm, torch.linalg.svdvals(x.double()).sum().to(dtype))
        # a partial isometry: it is one on the rows and columns of x, zero elsewhere
        expected = torch.tensor([1.0] * rank + [0.0] * (6 - rank), dtype=dtype)
        torch.testing.assert_close(torch.linalg.svdvals(gradient), expected, atol=2e-6, rtol=1e-5)


def test_mmcr_shapes_and_refusals():
    for b, k, d in ((6, 2, 16), (20, 3, 5), (1, 1, 4)):
        online, momentum = (torch.randn(b, k, d, dtype=torch.float64, requires_grad=True)
                            for _ in range(2))  # fmt: skip
        for normalize in (False, True):
            z = torch.cat([online, momentum], 1)
            z = formulas.unit(z) if normalize else z
            expected = (
                0.1 * torch.linalg.svdvals(z).sum() / b - torch.linalg.svdvals(z.mean(1)).sum()
            )
            loss = ssl.MMCRLoss(0.1, normalize=normalize)
            assert_same(loss(online, momentum), expected, [online, momentum])
    with pytest.raises(ValueError, match=r"\(B, k, D\).*got \(3, 4\) and \(3, 4\)"):
        functional.mmcr(torch.ones(3, 4), torch.ones(3, 4))
    with pytest.raises(TypeError, match="int64"):
        functional.mmcr(torch.ones(3, 4, 2).long(), torch.ones(3, 4, 2).long())
    with pytest.raises(ValueError, match="lmda must not be negative, got -1"):
        ssl.MMCRLoss(-1)


@pytest.mark.parametrize("n, d", [(40, 8), (8, 8), (7, 30), (1, 5), (5, 1)])
def test_coding_rate_of_every_shape(n, d):
    (x,) = views(n, d, count=1)
    assert_same(functional.coding_rate(x, 0.2), formulas.coding_rate(x, 0.2), [x])


def test_coding_rate_refuses():
    with pytest.raises(ValueError, match="eps must be above 0, got 0"):
        functional.coding_rate(torch.ones(3, 3), 0)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        functional.coding_rate(torch.ones(3))


@pytest.mark.parametrize("views_of_student", [2, 4])
@pytest.mark.parametrize("expa_type", [0, 1])
def test_simdino_module(views_of_student, expa_type):
    student = torch.randn(views_of_student * 6, 10, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(12, 10, dtype=torch.float64)
    s, t = student.view(views_of_student, 6, 10), teacher.view(2, 6, 10)
    loss = ssl.SimDINOLoss(views_of_student, expa_type=expa_type, eps=0.3, coeff=2.0)
    value, agreement, expansion = loss(student, teacher)
    assert_same(value, formulas.simdino(s, t, 0.3, 2.0, expa_type), [student])
    assert not agreement.requires_grad and not expansion.requires_grad
    assert abs(agreement + formulas.simdino(s, t, 0.3, 1.0, expa_type) + expansion) < 1e-12
    function = functional.simdino(student=s, teacher=t, eps=0.3, coeff=2.0, expa_type=expa_type)
    assert torch.equal(value, function)


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("no_diag", [True, False])
@pytest.mark.parametrize("expa_type", [0, 1])
def test_simdino_v2_module(normalized, no_diag, expa_type):
    student = [torch.randn(7, 5, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    teacher = [torch.randn(7, 5, dtype=torch.float64) for _ in range(2)]
    loss = ssl.SimDINOv2Loss(5, expa_type=expa_type, coeff=0.7)
    value, terms = loss(student, teacher, no_diag=no_diag, normalized=normalized)

    s, t = (x if normalized else [formulas.unit(z) for z in x] for x in (student, teacher))
    pairs = [(i, j) for i in range(2) for j in range(4) if not (no_diag and i == j)]
    products = {(i, j): (t[i] * s[j]).sum(1).mean() for i, j in pairs}
    agreement = sum(products.values()) / len(products)
    means = [s[i] if expa_type == 0 else (s[i] + t[i]) / 2 for i in range(2)]
    expansion = sum(formulas.coding_rate(x, 0.05) for x in means) / 2 * (12 / 35)
    assert_same(value, -0.7 * agreement - expansion, student)
    globally = sum(product for (_, j), product in products.items() if j < 2) / 2
    expected = {"loss": value, "comp_loss": agreement, "global_comp_loss": globally}
    expected["expa_loss"] = expansion
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        assert not term.requires_grad and abs(term - expected[name]) < 1e-12, name


def test_simdino_refuses():
    x = torch.randn(4, 6, 8)
    with pytest.raises(ValueError, match=r"\(S, N, D\).*got \(4, 6, 8\) and \(6, 8\)"):
        functional.simdino(student=x, teacher=x[0])
    with pytest.raises(ValueError, match="at least 2 views.*got 2 and 4"):
        functional.simdino(student=x[:2], teacher=x)
    with pytest.raises(ValueError, match="expa_type must be in 0\.\.1, got 2"):
        functional.simdino(student=x, teacher=x[:2], expa_type=2)
    with pytest.raises(TypeError, match="one dtype"):
        functional.simdino(student=x, teacher=x[:2].double())
    with pytest.raises(ValueError, match=r"student_feat must be \(4 N, D\), got \(7, 8\)"):
        ssl.SimDINOLoss(4)(torch.ones(7, 8), torch.ones(2, 8))
    with pytest.raises(ValueError, match="ncrops must be at least 2, got 1"):
        ssl.SimDINOLoss(1)
    with pytest.raises(ValueError, match="out_dim=9 columns, got 8"):
        ssl.SimDINOv2Loss(9)(x.unbind(), x[:2].unbind())


def wide_losses(x, gather):
    """For x (n, 40), more features than all ranks' rows."""
    return torch.stack([
        functional.coding_rate(x, gather=gather),
        functional.cca(x, x.roll(1, 1).square(), 0.1, gather=gather),
        functional.mmcr(x[:, None], x[:, None].sin(), gather=gather),
        functional.w_mse(x, x.sin(), 0.1, gather=gather),
        gather_rows(x, gather).square().sum() / 40,
    ])  # fmt: skip


def share(rank, sizes):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(sum(sizes), 40, generator=generator, dtype=torch.float64)
    return (x if rank is None else x.split(sizes)[rank]).requires_grad_()


def wide_on_rank(rank, sizes, grad_scale):
    x = share(rank, sizes)
    losses = wide_losses(x, Gather(grad_scale=grad_scale))
    return losses.detach(), torch.autograd.grad(losses[:4].sum(), x)[0]


@pytest.mark.parametrize("grad_scale", ["mean", "reference"])
def test_fewer_rows_than_features_on_all_ranks(gang, grad_scale):
    sizes = [5, 3, 4, 6][: gang.size]
    x = share(None, sizes)
    losses = wide_losses(x, None)
    (gradient,) = torch.autograd.grad(losses[:4].sum(), x)
    found = gang.run(wide_on_rank, sizes, grad_scale)
    mean = torch.stack([values for values, _ in found]).mean(0)
    assert (mean - losses).abs().max() <= 1e-12 * losses.abs().max()
    gradients = torch.cat([gradient for _, gradient in found])
    # for the sum of all ranks' losses
    expected = gradient * (gang.size if grad_scale == "mean" else 1)
    assert (gradients - expected).norm() <= 1e-12 * expected.norm()


def rows_on_rank(rank):
    x = torch.full((rank + 1, 2), float(rank), requires_grad=True)
    rows = gather_rows(x, Gather())
    (gradient,) = torch.autograd.grad((rows * (rank + 1)).sum(), x)
    return rows.detach(), gradient


def test_gather_rows(gang):
    rows = torch.cat([torch.full((i + 1, 2), float(i)) for i in range(gang.size)])
    for found, gradient in gang.run(rows_on_rank):
        assert torch.equal(found, rows)
        assert (gradient == sum(range(1, gang.size + 1))).all()


def compiled_on_rank(rank):
    torch.compiler.reset()
    torch.manual_seed(rank)
    found = []
    for d in (4, 40):
        x = torch.randn(5 + rank, d, requires_grad=True)

        def function(x):
            return torch.stack([
                functional.coding_rate(x, gather=Gather()),
                functional.cca(x, x.square(), 0.1, gather=Gather()),
                functional.mmcr(x[:, None], x[:, None].sin(), gather=Gather()),
                functional.simdino(
                    student=torch.stack([x, x.cos()]), teacher=x[None], gather=Gather()
                ),
                gather_rows(x, Gather()).sin().sum(),
                functional.w_mse(x, x.sin(), 0.1, gather=Gather()),
                functional.tico(x, x.sin(), functional.tico_covariance(
                    x, torch.eye(x.shape[1]), gather=Gather()), gather=Gather()),
            ])  # fmt: skip

        compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=False)
        for f in (function, compiled):
            values = f(x)
            found.append((values.detach(), torch.autograd.grad(values.sum(), x)[0]))
    return found


@pytest.mark.parametrize("gang", [2], indirect=True)  # same graph as with more
def test_compile_without_graph_breaks_on_ranks(gang):
    for eager4, compiled4, eager40, compiled40 in gang.run(compiled_on_rank):
        torch.testing.assert_close(compiled4, eager4)
        torch.testing.assert_close(compiled40, eager40)


@pytest.mark.parametrize("shape", [(20, 6), (3, 15, 4), (2, 2, 9, 1)])
def test_whiten(shape):
    x = torch.randn(shape, dtype=torch.float64)
    z = functional.whiten(x @ torch.randn(shape[-1], shape[-1], dtype=torch.float64) + 5)
    n, identity = shape[-2], torch.eye(shape[-1], dtype=torch.float64)
    torch.testing.assert_close(z.mean(-2), torch.zeros_like(z.mean(-2)))
    torch.testing.assert_close(z.mT @ z / (n - 1), identity.expand(*shape[:-2], -1, -1))
    assert functional.whiten(x.bfloat16(), 0.5).dtype == torch.float32


def test_w_mse_says_what_to_do():
    collapsed = torch.zeros(2 * 16, 8)
    with pytest.raises(ValueError, match=r"larger eps \(got 0.0\) or more rows.*got 16 for 8"):
        ssl.WMSELoss(8, w_size=16)(collapsed)
    assert ssl.WMSELoss(8, w_size=16, eps=0.1)(collapsed).isfinite()
    with pytest.raises(ValueError, match=r"multiple of w_size=16, got \(48, 8\)"):
        ssl.WMSELoss(8, w_size=16)(torch.randn(48, 8))
    with pytest.raises(ValueError, match="w_size must be at least twice embedding_dim = 128"):
        ssl.WMSELoss(w_size=255)
    with pytest.raises(ValueError, match="eps must be from 0 to 1, got 2"):
        functional.whiten(collapsed, 2)
    with pytest.raises(ValueError, match=r"\(…, N, 9\), got \(1, 2, 16, 8\)"):
        ssl.WMSELoss(9, w_size=18, num_samples=2).whitening(torch.ones(1, 2, 16, 8))
    with pytest.raises(TypeError, match="int64"):
        functional.whiten(collapsed.long())


def test_w_mse_module_is_its_function_for_one_sub_batch():
    x = views(24, 8)
    loss = ssl.WMSELoss(8, eps=0.1, w_size=24)(torch.cat(x))
    assert_same(loss, functional.w_mse(*x, 0.1), x)


@pytest.mark.parametrize("training", [True, False])
def test_w_mse_half_precision_autocast_and_compile(training):
    torch.compiler.reset()
    x = torch.randn(64, 8, dtype=torch.bfloat16, requires_grad=True)
    results = []
    for compile in (lambda f: f, lambda f: torch.compile(f, fullgraph=True, backend="aot_eager")):
        loss = ssl.WMSELoss(8, w_size=16, w_iter=2).train(training)
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = compile(loss)(x)
        assert value.dtype == torch.float32
        (gradient,) = torch.autograd.grad(value, x)
        assert gradient.dtype == torch.bfloat16
        results.append((value.detach(), gradient, *loss.buffers()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    torch.manual_seed(3)
    wide = ssl.WMSELoss(8, w_size=16, w_iter=2).train(training)(x.detach().float())
    torch.testing.assert_close(results[0][0], wide)


def test_tico_remembers_and_is_saved():
    loss = ssl.TiCoLoss(0.8, 3.0)
    assert loss.state_dict()["C"].shape == (0, 0)
    fresh = ssl.TiCoLoss(0.8, 3.0)
    fresh.load_state_dict(loss.state_dict())
    before = torch.zeros(5, 5, dtype=torch.float64)
    for update in (True, False, True):
        x = views(12, 5)
        value = loss(*x, update)
        assert_same(value, formulas.tico(*x, before, 0.8, 3.0), x)
        if update:
            before = functional.tico_covariance(x[0], before, 0.8)
            assert not before.requires_grad
        torch.testing.assert_close(loss.C, before)
    fresh.double().load_state_dict(loss.state_dict())
    assert torch.equal(fresh(*x), loss(*x))
    small = ssl.TiCoLoss()
    small(torch.randn(4, 3), torch.randn(4, 3))
    small.load_state_dict(loss.state_dict())
    assert small.C.shape == (5, 5)


def test_tico_backward_survives_the_next_batch():
    loss = ssl.TiCoLoss()
    values = [loss(*x) for x in [views(12, 5), views(12, 5)]]
    sum(values).backward()


def test_tico_refuses():
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"covariance must be \(3, 3\), got \(2, 2\)"):
        functional.tico(x, x, torch.eye(2))
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        ssl.TiCoLoss()(x[:1], x[:1])
    with pytest.raises(ValueError, match="beta must be from 0 to 1, got 1.5"):
        ssl.TiCoLoss(1.5)


def remembered_on_rank(rank):
    loss = ssl.TiCoLoss(gather_distributed=True)
    for i in range(3):
        x, y = (share(None, [20]).detach().roll(i + j, 0)[5 * rank : 5 * rank + 5]
                for j in (0, 3))  # fmt: skip
        loss(x, y)
    return loss.C


def test_tico_remembers_alike_on_all_ranks(gang):
    alone = ssl.TiCoLoss()
    for i in range(3):
        x, y = (share(None, [20]).detach().roll(i + j, 0)[: 5 * gang.size] for j in (0, 3))
        alone(x, y)
    for found in gang.run(remembered_on_rank):
        torch.testing.assert_close(found, alone.C, rtol=1e-12, atol=1e-14)


def test_compiled_backward_keeps_float32_under_autocast():
    """torch.compile runs backward passes under the autocast of the forward pass."""

    def function(x):
        return torch.stack([
            functional.coding_rate(x),
            functional.cca(x, x.sin(), 0.1),
            functional.mmcr(x[:, None], x[:, None].sin()),
            functional.simdino(student=torch.stack([x, x.cos()]), teacher=x[None]),
            functional.w_mse(x, x.sin(), 0.1),
            functional.tico(x, x.sin(), torch.eye(4)),
        ])  # fmt: skip

    torch.compiler.reset()
    x = torch.randn(30, 4, requires_grad=True)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = compiled(x)
    for a, b in zip(losses, function(x), strict=True):
        found, expected = (torch.autograd.grad(z, x, retain_graph=True)[0] for z in (a, b))
        assert (found - expected).norm() <= 1e-5 * expected.norm()
