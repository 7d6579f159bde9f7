"""Every loss where torch runs it otherwise than line by line: compiled with changing shapes and
temperatures, checkpointed, twice differentiated, in inference mode."""

import pytest
import torch
from cases import CASES
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from sslkernels import functional

LABELS = torch.arange(67) % 10 * 1_000_003 - 5
ROWS = (20, 24, 28)
FACTORISED = ("mmcr", "cca", "cca of some dimensions", "w_mse")  # of NaN, torch refuses to
each_loss = pytest.mark.parametrize("name", CASES)


def loss_of(case):
    return lambda *inputs: case.compute(list(inputs), LABELS[: len(inputs[0])])


def draw(case, rows):
    inputs = case.inputs(rows, 16, torch.float32)
    variable = len(inputs) if not case.constant else case.embeddings - case.constant
    return [x.requires_grad_(i < variable or i >= case.embeddings) for i, x in enumerate(inputs)]


@each_loss
@pytest.mark.parametrize("dynamic", [None, True], ids=["changing sizes", "dynamic"])
def test_compiles_at_most_twice(name, dynamic):
    torch.compiler.reset()
    case = CASES[name]
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(loss_of(case), fullgraph=True, dynamic=dynamic, backend=counter)
    for rows in ROWS:
        inputs = draw(case, rows)
        found, expected = compiled(*inputs), loss_of(case)(*inputs)
        torch.testing.assert_close(found, expected)
    assert counter.frame_count <= 2


@each_loss
@pytest.mark.parametrize("use_reentrant", [True, False], ids=["reentrant", "not reentrant"])
def test_checkpoint(name, use_reentrant):
    case = CASES[name]
    inputs = draw(case, 20)
    wanted = [x for x in inputs if x.requires_grad]
    loss_of(case)(*inputs).backward()
    expected = [x.grad for x in wanted]
    for x in wanted:
        x.grad = None
    checkpoint(loss_of(case), *inputs, use_reentrant=use_reentrant).backward()
    for x, y in zip(wanted, expected, strict=True):
        assert (x.grad is None) == (y is None)
        assert y is None or torch.equal(x.grad, y)


@each_loss
def test_second_derivative_is_right_or_an_error(name):
    case = CASES[name]
    inputs = [x.detach().double().requires_grad_(x.requires_grad) for x in draw(case, 12)]
    first = inputs[0]

    def penalty(function):
        (gradient,) = torch.autograd.grad(function(*inputs), first, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), first)[0]

    try:
        found = penalty(loss_of(case))
    except RuntimeError as error:
        assert "differentiable once" in str(error)
    else:
        expected = penalty(lambda *x: case.expect(list(x), LABELS[: len(x[0])]))
        torch.testing.assert_close(found, expected)


@each_loss
def test_inference_mode_then_training(name):
    case = CASES[name]
    inputs = draw(case, 20)
    with torch.inference_mode():
        inside = loss_of(case)(*inputs)
    loss = loss_of(case)(*inputs)
    loss.backward()
    assert torch.equal(inside, loss)


@pytest.mark.parametrize("name", [x for x in CASES if x not in FACTORISED])
def test_nan_gives_nan(name):
    case = CASES[name]
    inputs = [x.detach() for x in draw(case, 20)]
    inputs[0][3, 5] = float("nan")
    assert loss_of(case)(*inputs).isnan()


TEMPERATURES = {
    "nt_xent": lambda x, y, t: functional.nt_xent(x, y, t),
    "dcl": lambda x, y, t: functional.dcl(x, y, t),
    "dclw": lambda x, y, t: functional.dclw(x, y, t),
    "supcon": lambda x, y, t: functional.supcon(x, LABELS[:20], temperature=t),
    "info_nce": lambda x, y, t: functional.info_nce(x, y, temperature=t),
    "moco": lambda x, y, t: functional.moco(x, y, y, t),
    "moco_v3": lambda x, y, t: functional.moco_v3(x, y, t),
    "clip": lambda x, y, t: functional.clip(x, y, 1 / t),
    "siglip": lambda x, y, t: functional.siglip(x, y, 1 / t, -t),
}


@pytest.mark.parametrize("name", TEMPERATURES)
def test_a_scheduled_temperature_compiles_at_most_twice(name):
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(TEMPERATURES[name], fullgraph=True, backend=counter)
    x, y = (torch.randn(20, 16, requires_grad=True) for _ in range(2))
    for temperature in (0.1, 0.15, 0.2, 0.25):
        found, expected = (f(x, y, temperature) for f in (compiled, TEMPERATURES[name]))
        torch.testing.assert_close(found, expected)
        gradients = (torch.autograd.grad(loss, x)[0] for loss in (found, expected))
        torch.testing.assert_close(*gradients)
    assert counter.frame_count <= 2
