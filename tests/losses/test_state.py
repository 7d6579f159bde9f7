"""The state of losses: buffers, copies, devices, and their printed form."""

import copy
import pickle

import pytest
import torch
from test_bad_arguments import MODULES, D, N, x

import sslkernels
from sslkernels import functional

NAN, INFINITY = float("nan"), float("inf")


def made(name):
    arguments, call = MODULES[name]
    return getattr(sslkernels, name)(**arguments), call


def learning(call):
    """The call with tensors that require gradients."""
    return {
        name: value.clone().requires_grad_()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in call.items()
    }


def value_of(loss):
    return loss[0] if isinstance(loss, tuple) else loss


@pytest.mark.parametrize("name", MODULES)
def test_inference_mode_then_training(name):
    loss, call = made(name)
    with torch.inference_mode():
        loss(**call)
    inputs = learning(call)
    result = value_of(loss(**inputs))
    if result.requires_grad:
        result.backward()
    assert not any(buffer.is_inference() for buffer in loss.buffers())


@pytest.mark.parametrize("name", MODULES)
def test_copies_go_on_alike(name):
    loss, call = made(name)
    loss(**call)
    another = made(name)[0]
    another.load_state_dict(loss.state_dict())
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), another):
        own = copy.deepcopy(loss)
        torch.manual_seed(1)
        expected = value_of(own(**call))
        torch.manual_seed(1)
        assert torch.equal(value_of(other(**call)), expected)
        for a, b in zip(other.buffers(), own.buffers(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", MODULES)
def test_on_the_meta_device_and_back(name):
    with torch.device("meta"):
        loss, call = made(name)
    assert all(buffer.is_meta for buffer in loss.buffers())
    loss = loss.to_empty(device="cpu")
    loss.load_state_dict(made(name)[0].state_dict())
    assert value_of(loss(**call)).isfinite()
    assert all(buffer.dtype == torch.float64 for buffer in loss.to(torch.float64).buffers()
               if buffer.is_floating_point())  # fmt: skip


@pytest.mark.parametrize("name", ["BarlowTwinsLoss", "DINOLoss", "MoCoLoss", "NTXentLoss"])
def test_a_misspelt_argument_is_named(name):
    with pytest.raises(TypeError, match=f"{name}.* argument.*temprature") as error:
        getattr(sslkernels, name)(**MODULES[name][0], temprature=0.1)
    assert "GatheringLoss" not in str(error.value)


@pytest.mark.parametrize("loss, expected", [
    (sslkernels.NTXentLoss(), "NTXentLoss()"),
    (sslkernels.VICRegLoss(1, 2, 3), "VICRegLoss(lambda_param=1, mu_param=2, nu_param=3)"),
    (sslkernels.InfoNCELoss(reduction="sum", negative_mode="paired"),
     "InfoNCELoss(reduction='sum', negative_mode='paired')"),
    (sslkernels.NTXentLoss(torch.nn.Parameter(torch.tensor(0.25))),
     "NTXentLoss(temperature=tensor(0.25))"),
    (sslkernels.BarlowTwinsLoss(gather="ring"), "BarlowTwinsLoss(gather=Gather(route='ring'"),
    (sslkernels.DINOLoss(8, center_mode="sinkhorn"),
     "DINOLoss(output_dim=8, center_mode='sinkhorn')"),
    (sslkernels.KoLeoLoss(topk=2), "KoLeoLoss(topk=2)"),
    (sslkernels.DCLWLoss(sigma=0.2), "DCLWLoss(sigma=0.2)"),
], ids=lambda x: type(x).__name__)  # fmt: skip
def test_what_is_not_the_default_is_printed(loss, expected):
    assert repr(loss).startswith(expected)


@pytest.mark.parametrize("bad", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("as_list", [True, False])
def test_a_center_leaves_out_rows_that_are_not_finite(bad, as_list):
    loss = sslkernels.DINOLoss(D, center_momentum=0.5)
    teacher, student = torch.stack([x(0), x(1)]), torch.stack([x(2), x(3)])
    teacher[1, 2, 3] = bad
    loss(teacher.unbind() if as_list else teacher, student)
    rows = teacher.flatten(0, 1)
    finite = rows[rows.isfinite().all(1)]
    assert len(finite) == 2 * N - 1
    torch.testing.assert_close(loss.center[0, 0], finite.mean(0) / 2)
    before = loss.center.clone()
    loss(torch.full_like(teacher, bad), student)
    assert torch.equal(loss.center, before)


def test_a_center_of_features_too():
    loss = sslkernels.DINOLoss(5, center_momentum=0.0)
    teacher, weight = torch.stack([x(0), x(1)]), x(4, 5, D)
    teacher[0, 0, 0] = NAN
    loss(teacher, torch.stack([x(2), x(3)]), prototypes=weight, teacher_prototypes=weight)
    expected = (teacher.flatten(0, 1)[1:] @ weight.T).mean(0)
    torch.testing.assert_close(loss.center[0, 0], expected)


def test_patches_that_are_not_finite():
    loss = sslkernels.IBOTPatchLoss(D, center_momentum=0.0)
    teacher, mask = x(), torch.ones(2, 3, dtype=torch.bool)
    teacher[4] = INFINITY
    loss(teacher, x(1), mask)
    torch.testing.assert_close(loss.center[0], teacher[[0, 1, 2, 3, 5]].mean(0))


def test_a_covariance_leaves_out_rows_that_are_not_finite():
    z, covariance = x(), torch.eye(D)
    z[1, 2] = NAN
    found = functional.tico_covariance(z, covariance, 0.5)
    rest = torch.cat([z[:1], z[2:]])
    torch.testing.assert_close(found, functional.tico_covariance(rest, covariance, 0.5))
    nothing = functional.tico_covariance(torch.full_like(z, NAN), covariance, 0.5)
    assert torch.equal(nothing, covariance)
    loss = sslkernels.TiCoLoss()
    assert loss(z, x(1)).isnan()
    assert loss.C.isfinite().all()


@pytest.mark.parametrize("bad", [NAN, INFINITY])
def test_a_queue_leaves_out_rows_that_are_not_finite(bad):
    bank = sslkernels.MemoryBank(5, D)
    before, keys = bank.bank.clone(), x(0, 3, D)
    keys[1, 0] = bad
    bank.enqueue(keys)
    assert torch.equal(bank.bank[[1, 3, 4]], before[[1, 3, 4]])
    torch.testing.assert_close(bank.bank[[0, 2]], torch.nn.functional.normalize(keys[[0, 2]]))
    assert bank.bank_ptr.item() == 3


def test_the_queue_of_the_official_builder_can_be_loaded():
    queue = torch.nn.functional.normalize(x(0, D, 12), dim=0)
    saved = {"queue": queue, "queue_ptr": torch.tensor([8])}
    model = torch.nn.ModuleDict({"loss": sslkernels.MoCoLoss(D, 12)})
    model.load_state_dict({f"loss.{name}": value for name, value in saved.items()})
    assert torch.equal(model["loss"].queue.bank, queue.T)
    assert model["loss"].queue.bank_ptr.item() == 8


def test_running_statistics_leave_out_a_batch_that_is_not_finite():
    loss, call = made("WMSELoss")
    before = [buffer.clone() for buffer in loss.buffers()]
    bad = call["input"].clone()
    bad[0, 0] = NAN
    assert loss(bad).isnan()
    assert all(map(torch.equal, loss.buffers(), before))


def test_teacher_and_student_are_given_by_name():
    for function, given in (
        (functional.dino, ([x()], [x(1), x(2)])),
        (functional.ibot, (x(), x(1), torch.ones(2, 3, dtype=torch.bool))),
        (functional.capi, (x(0, N, 2, D), x(1, N, 2, D))),
        (functional.simdino, (x(0, 2, N, D), x(1, 2, N, D))),
    ):
        with pytest.raises(TypeError, match="positional"):
            function(*given)


def test_aligned_pairs_are_not_pulled():
    z = x().requires_grad_()
    for alpha in (0.5, 1, 1.5, 3):
        (gradient,) = torch.autograd.grad(functional.alignment(z, z.detach(), alpha=alpha), z)
        assert torch.equal(gradient, torch.zeros_like(z))


def test_one_default_of_koleo():
    # an embedding opposite to all others, where the conventions differ
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    assert torch.equal(functional.koleo(z), sslkernels.KoLeoLoss()(z))


def test_features_and_grids_on_two_devices():
    features, grids = [(x(i), x(i, N, 2, 2, D)) for i in range(2)], [x(0, N, 2, 2, 2)] * 2
    grids[1] = grids[1].to("meta")
    with pytest.raises(ValueError, match="global_view_grids must be on one device"):
        functional.vicregl(features, grids, num_matches=(1, 1))
