"""Every loss under torch's transformations: compiled with changing shapes and temperatures,
checkpointed, twice differentiated, in inference mode."""

import copy

import pytest
import torch
from cases import CASES
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacrev
from torch.utils.checkpoint import checkpoint

from sslkernels import (
    IBOTPatchLoss,
    functional,
    offdiagonal_norm,
    pairwise_logsumexp,
    pairwise_softplus,
    prototype_cross_entropy,
    sinkhorn,
    soft_cross_entropy,
)

LABELS = torch.arange(67) % 10 * 1_000_003 - 5
ROWS = (20, 24, 28)
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


def penalty(function, x):
    (gradient,) = torch.autograd.grad(function(x), x, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), x)[0]


def hessian_product(function, x):
    return torch.autograd.functional.hvp(function, x, torch.ones_like(x))[1]


def directional(function, x):
    return torch.func.jvp(function, (x,), (torch.ones_like(x),))[1]


def dual(function, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


SECOND = {
    "create_graph": penalty,
    "hvp": hessian_product,
    "grad of grad": lambda f, x: grad(lambda x: grad(f)(x).square().sum())(x),
    "jacrev of jacrev": lambda f, x: jacrev(jacrev(f))(x),
    "hessian": lambda f, x: hessian(f)(x),
    "jvp": directional,
    "dual": dual,
}


def right_or_an_error(derivative, function, formula, x):
    try:
        found = derivative(function, x)
    except RuntimeError as error:
        assert "differentiable once" in str(error)
    else:
        torch.testing.assert_close(found, derivative(formula, x))


def of_first(case):
    """The loss and its formula as functions of one embedding, and the embedding, in float64."""
    first, *rest = (x.detach().double() for x in draw(case, 6))
    functions = (
        lambda x, f=f: f([x, *rest], LABELS[: len(x)]) for f in (case.compute, case.expect)
    )
    return *functions, first.requires_grad_()


@each_loss
@pytest.mark.parametrize("kind", SECOND)
def test_another_derivative_is_right_or_an_error(name, kind):
    right_or_an_error(SECOND[kind], *of_first(CASES[name]))


Q, K = (torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        for _ in range(2))  # fmt: skip
PRIMITIVES = {
    "pairwise_logsumexp": lambda x: pairwise_logsumexp(x, K),
    "pairwise_logsumexp, one set": lambda x: pairwise_logsumexp(x, x, exclude=(0,)),
    "pairwise_softplus": lambda x: pairwise_softplus(x, K),
    "offdiagonal_norm": lambda x: offdiagonal_norm(x, K)[0],
    "soft_cross_entropy": lambda x: soft_cross_entropy(x, K),
    "prototype_cross_entropy": lambda x: prototype_cross_entropy(x, Q, K, K),
}


@pytest.mark.parametrize("name", PRIMITIVES)
@pytest.mark.parametrize("kind", SECOND)
def test_another_derivative_of_a_primitive(name, kind):
    def function(x):
        return PRIMITIVES[name](x).square().sum()

    with pytest.raises(RuntimeError, match="differentiable once"):
        SECOND[kind](function, Q.clone().requires_grad_())


@each_loss
def test_of_a_batch_of_problems(name):
    function, _, first = of_first(CASES[name])
    batch = torch.stack([first.detach(), 2 * first.detach(), first.detach() + 1])
    for of in (function, grad(function)):
        torch.testing.assert_close(torch.vmap(of)(batch), torch.stack([of(x) for x in batch]))
    torch.testing.assert_close(jacrev(function)(first.detach()), grad(function)(first.detach()))


@each_loss
def test_inference_mode_then_training(name):
    case = CASES[name]
    inputs = draw(case, 20)
    with torch.inference_mode():
        inside = loss_of(case)(*inputs)
    loss = loss_of(case)(*inputs)
    loss.backward()
    assert torch.equal(inside, loss)


@each_loss
def test_nan_gives_nan(name):
    case = CASES[name]
    inputs = [x.detach() for x in draw(case, 20)]
    inputs[0][3, 5] = float("nan")
    assert loss_of(case)(*inputs).isnan()
    inputs[0].requires_grad_()
    loss_of(case)(*inputs).backward()
    assert inputs[0].grad.isnan().any()


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
    "dino": lambda x, y, t: functional.dino(
        student=[x, y], teacher=[y], student_temp=t, teacher_temp=t / 2
    ),
    "dino sinkhorn": lambda x, y, t: functional.dino(
        student=[x, y], teacher=[y], teacher_temp=t, center=sinkhorn(y, t)
    ),
    "dino of features": lambda x, y, t: functional.dino(
        student=[x, y], teacher=[y], student_temp=t, teacher_temp=t / 2,
        prototypes=y, teacher_prototypes=x,
    ),
    "ibot": lambda x, y, t: functional.ibot(
        student=x, teacher=y, mask=torch.ones(4, 5, dtype=torch.bool), teacher_temp=t
    ),
    "swav": lambda x, y, t: functional.swav([x, y], temperature=t, epsilon=t / 4),
    "swav of features": lambda x, y, t: functional.swav([x, y], epsilon=t, prototypes=x),
    "capi": lambda x, y, t: functional.capi(
        teacher=y.unflatten(0, (4, 5)), student=x.unflatten(0, (4, 5)), teacher_temperature=t
    ),
    "msn": lambda x, y, t: functional.msn(x, y, y, temperature=t),
}  # fmt: skip


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


def test_masked_patches_in_any_number_compile_at_most_twice():
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    loss = IBOTPatchLoss(16)
    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    eager = copy.deepcopy(loss)
    for patches in (7, 12, 9, 20, 3):
        mask = torch.zeros(4, 5, dtype=torch.bool)
        mask.view(-1)[:patches] = True
        x, y = (torch.randn(patches, 16, requires_grad=True) for _ in range(2))
        torch.testing.assert_close(compiled(y, x, mask), eager(y, x, mask))
        torch.testing.assert_close(loss.center, eager.center)
    assert counter.frame_count <= 2
