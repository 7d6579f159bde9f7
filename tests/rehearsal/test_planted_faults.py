"""Plausible mistakes, each of which must be detected."""

import inspect
import sys
import textwrap
from importlib import import_module

import pytest
import torch
from steps import loss_step, no_wait

from bench.rehearsal import Fault, launches
from sslkernels import pairwise_logsumexp, sinkhorn
from sslkernels.primitives.contrastive import composed
from sslkernels.primitives.pairwise_logsumexp import triton as logsumexp_triton
from sslkernels.primitives.sinkhorn import cuda as sinkhorn_cuda
from sslkernels.primitives.sinkhorn import triton as sinkhorn_triton
from sslkernels.primitives.soft_cross_entropy import op as soft_cross_entropy_op

dino = import_module("sslkernels.losses.distillation.dino")  # not the functions of these names
koleo = import_module("sslkernels.losses.distillation.koleo")
vicregl = import_module("sslkernels.losses.covariance.vicregl")


@pytest.fixture
def plant(monkeypatch):
    """Rewrites a function, replacing correct code by a mistake."""

    def rewrite(function, right, wrong, used_in=None):
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(right) == 1
        names = dict(function.__globals__)
        file = function.__code__.co_filename
        exec(compile(source.replace(right, wrong), file, "exec"), names)
        module = used_in or sys.modules[function.__module__]
        monkeypatch.setattr(module, function.__name__, names[function.__name__])

    return rewrite


def run(name, n=70, d=20):
    step = loss_step(name, n, d, torch.bfloat16)
    with no_wait():
        return step()


def test_a_pointer_to_the_cpu(plant):
    plant(
        logsumexp_triton.partial_sums,
        "by_column = q.new_empty((2, row_blocks, m), dtype=torch.float32)",
        "by_column = torch.empty((2, row_blocks, m))",
    )
    with pytest.raises(Fault, match="forward_kernel: argument 8 is a pointer to the CPU"):
        run("nt_xent")


def test_a_bound_on_the_cpu(plant):
    plant(
        logsumexp_triton._largest,
        "return q_norm if k is q else (q_norm * largest_norm(k)).sqrt_()",
        "return torch.tensor(1.0)",
    )
    with pytest.raises(Fault, match="forward_kernel: argument 3 is a pointer to the CPU"):
        run("nt_xent")


def test_a_pointer_to_the_cpu_for_the_extension(plant):
    plant(sinkhorn_cuda.masses, "x.new_empty((clusters", "torch.empty((clusters")
    with pytest.raises(Fault, match="cuda_sinkhorn_masses: .* is no address on the device"):
        sinkhorn(torch.randn(70, 300, device="cuda"), impl="cuda")


def test_a_tensor_made_on_the_cpu_and_copied(plant):
    plant(
        soft_cross_entropy_op.pairs_of,
        "rule.matrix(counts, device, dtype)",
        "rule.matrix(counts, torch.device('cpu'), dtype).to(device)",
    )
    views = [torch.randn(70, 20, device="cuda") for _ in range(2)]
    with pytest.raises(Fault, match="_to_copy.*the host waits for the device"), no_wait():
        dino.dino(student=views, teacher=views, impl="tiled")


def test_a_scalar_read_by_the_host(plant):
    plant(
        composed._wide,
        "return value.to(x.device, torch.float64).reshape(())",
        "return float(value)",
    )
    with pytest.raises(Fault, match="_local_scalar_dense.*contrastive/composed.py.*_wide"):
        run("clip")


def test_a_value_read_between_steps():
    step = loss_step("nt_xent", 70, 20, torch.bfloat16)
    with pytest.raises(Fault, match="_local_scalar_dense"), no_wait():
        step()[0].item()


def test_a_branch_on_a_value():
    with pytest.raises(Fault, match="waits for the device"), no_wait():
        assert torch.ones(3, device="cuda").isfinite().all()


@pytest.mark.parametrize("read", [
    lambda x: x.tolist(), lambda x: x.cpu(), lambda x: x.nonzero(), lambda x: x[x > 0],
    lambda x: torch.ones(3).copy_(x), lambda x: x.copy_(torch.ones(3)), lambda x: torch.equal(x, x),
    lambda x: torch.tensor([1.0], device="cuda"), lambda x: x.unique(), lambda x: int(x.sum()),
    lambda x: torch.linalg.eigvalsh(x.diag()), lambda x: torch.linalg.cholesky(x.diag()),
])  # fmt: skip
def test_all_ways_to_wait(read):
    x = torch.ones(3, device="cuda")
    with pytest.raises(Fault, match="waits for the device"), no_wait():
        read(x)


def test_two_devices(plant):
    plant(
        koleo._neighbors,
        "torch.arange(first, first + len(z), device=z.device)",
        "torch.arange(first, first + len(z))",
    )
    with pytest.raises(Fault, match="tensors on the device and on the CPU"):
        run("koleo")


def test_too_large_a_grid(plant):
    plant(
        sinkhorn_triton._of_columns,
        "grid = blocks, groups, splits",
        "grid = splits, groups, blocks",
    )
    logits = torch.zeros(1, 256 * 2**16, device="cuda", dtype=torch.bfloat16)
    with pytest.raises(Fault, match="no device launches a grid of 1 x 1 x 65536"):
        sinkhorn(logits)


def test_another_result_than_the_fake_promises(plant):
    plant(logsumexp_triton._combine, "new_empty(size)", "new_empty(size, dtype=torch.float64)")
    with pytest.raises(Fault, match="result 0: .*float64.*promises .*float32"):
        run("nt_xent")


def test_compiling_while_a_graph_is_captured():
    launches.forget()
    q = torch.randn(70, 20, device="cuda", dtype=torch.bfloat16)
    with (
        pytest.raises(Fault, match="compiles while a graph is captured"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        pairwise_logsumexp(q, q)


def test_a_gradient_that_is_added_in_any_order(plant):
    plant(
        vicregl._cells,
        "return x[torch.arange(len(x), device=x.device)[:, None], index]",
        "return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))",
    )
    with pytest.raises(Fault, match="scatter_add.* adds in another order each time"):
        run("vicregl")
