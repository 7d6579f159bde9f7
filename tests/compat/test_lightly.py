"""``sslkernels.compat.lightly`` against the installed lightly."""

import contextlib
import inspect
import warnings

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from parity import (
    assert_same_error,
    assert_same_signature,
    assert_same_state,
    assert_same_steps,
    cast,
    installed,
    leaves_of,
)

from bench import peers
from sslkernels.compat import lightly as ours


def load():
    peers.torchvision_transforms()
    import lightly.loss

    return lightly.loss


installed(load)
pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor", "ignore:.*mises")
NAMES = sorted(ours.PEER.defined_in)
theirs, _ = ours.PEER.find(ours, NAMES)

floats = st.floats
temperatures = floats(0.05, 2) | floats(-2, -0.3)
positive = floats(0.05, 2)


def randn(*shape, grad=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def similar(*shape):
    """Two similar views, like those of a trained model."""
    base = torch.randn(*shape, dtype=torch.float64)
    return [(base + torch.randn_like(base)).requires_grad_() for _ in range(2)]


@st.composite
def pairs(draw, smallest=1, feature=20):
    shape = draw(st.integers(smallest, 20)), draw(st.integers(1, feature))
    return [similar(*shape) for _ in range(2)]


@st.composite
def maps(draw):
    shape = draw(st.integers(2, 12)), *draw(st.lists(st.integers(1, 3), max_size=2))
    return [similar(*shape, draw(st.integers(1, 12)))]


@st.composite
def view_groups(draw):
    shape = [draw(st.integers(1, 6)) for _ in range(2)]
    return [[randn(*shape, 8) for _ in range(2)]]


@st.composite
def crops(draw):
    """Teacher's and student's logits for some steps; an epoch, or a temperature."""
    rows, width = draw(st.integers(1, 6)), 30
    teachers, students = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    return [
        ([randn(rows, width, grad=False) for _ in range(teachers)],
         [randn(rows, width) for _ in range(students)],
         draw(st.none() | floats(0.04, 0.1)), epoch)
        for epoch in (None, 0, 1, 5)
    ]  # fmt: skip


@st.composite
def patches(draw):
    steps = []
    for _ in range(2):
        mask = torch.rand(draw(st.integers(1, 4)), 3, draw(st.integers(1, 4))) < 0.5
        mask[0, 0, 0] = True
        count = int(mask.sum())
        steps.append((randn(count, 30, grad=False), randn(count, 30), mask))
    return steps


@st.composite
def all_patches(draw):
    images, patches = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    shape = draw(st.sampled_from([(images, patches), (images * patches,)]))
    mask = torch.rand(images, patches) < 0.4
    steps = [(randn(*shape, 30, grad=False), randn(*shape, 30), mask, None, 0.7)]
    if len(shape) == 2:
        steps.append((randn(*shape, 30, grad=False), randn(*shape, 30)))
    return steps


@st.composite
def swapped(draw):
    rows = draw(st.integers(1, 10))
    high, low = draw(st.integers(2, 3)), draw(st.integers(0, 2))
    logits = [(0.3 * randn(rows, 20)).detach().requires_grad_() for _ in range(high + low)]
    queue = draw(st.none() | st.just([0.3 * randn(7, 20, grad=False) for _ in range(high)]))
    return [(logits[:high], logits[high:], queue)]


@st.composite
def masked_siamese(draw):
    targets, views = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    inputs = randn(targets * views, 8), randn(targets, 8, grad=False), randn(12, 8)
    return [(*inputs, draw(floats(0.2, 1)))]


@st.composite
def tokens(draw):
    images, count = draw(st.integers(4, 10)), draw(st.integers(1, 4))
    some = draw(st.booleans())
    chosen = draw(st.integers(1, count)) if some else count
    index = torch.randint(count, (images, chosen)) if some else None
    return [(0.1 * randn(images, count, 12, grad=False), randn(images, chosen, 12), index)]


@st.composite
def feature_maps(draw):
    def view():
        h, w = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        return (randn(n, 6), randn(n, h, w, 5)), torch.rand(n, h, w, 2, dtype=torch.float64)

    n = draw(st.integers(2, 8))
    large, small = [view() for _ in range(2)], [view() for _ in range(draw(st.integers(0, 2)))]
    sides = [[list(x) for x in zip(*views, strict=True)] for views in (large, small) if views]
    return [tuple(x for side in sides for x in side)]


def asymmetric(a, b):
    return 1 + (a[:, 0] - 2 * b[:, 0]).sigmoid()


def options(**named):
    return st.fixed_dictionaries({}, optional=named)


CASES = {
    "NTXentLoss": (
        options(temperature=temperatures, memory_bank_size=st.just((30, 16))), pairs()),
    "DirectCLRLoss": (options(temperature=positive, loss_dim=st.integers(1, 25)), pairs()),
    "DCLLoss": (
        options(temperature=positive, weight_fn=st.none() | st.just(asymmetric)), pairs(2)),
    "DCLWLoss": (options(temperature=positive, sigma=floats(0.1, 2)), pairs(2)),
    "HypersphereLoss": (
        options(t=floats(0.1, 4), lam=floats(0, 2), alpha=st.sampled_from([1, 2, 3.0])), pairs(2)),
    "NegativeCosineSimilarity": (options(dim=st.just(0), eps=floats(1e-9, 1e-3)), pairs()),
    "BarlowTwinsLoss": (options(lambda_param=floats(0, 1)), pairs(2)),
    "VICRegLoss": (
        options(lambda_param=floats(0, 30), mu_param=floats(0, 30), nu_param=floats(0, 5),
                eps=floats(1e-5, 1)), maps()),
    "VICRegLLoss": (
        options(lambda_param=floats(0, 30), mu_param=floats(0, 30), nu_param=floats(0, 5),
                alpha=floats(0, 1), num_matches=st.tuples(st.integers(1, 5), st.integers(1, 5))),
        feature_maps()),
    "TiCoLoss": (options(beta=floats(0, 1), rho=floats(0, 9)), pairs(2)),
    "MMCRLoss": (options(lmda=floats(0, 1)), view_groups()),
    "DINOLoss": (
        options(warmup_teacher_temp=floats(0.03, 0.1), teacher_temp=floats(0.03, 0.1),
                warmup_teacher_temp_epochs=st.integers(2, 6), student_temp=floats(0.1, 1),
                center_momentum=floats(0, 1)), crops()),
    "IBOTPatchLoss": (
        options(teacher_temp=floats(0.03, 0.1), student_temp=floats(0.1, 1),
                center_momentum=floats(0, 1)), patches()),
    "IBOTPlusPlusPatchLoss": (options(student_temp=floats(0.1, 1)), all_patches()),
    "SwaVLoss": (
        options(temperature=positive, sinkhorn_iterations=st.integers(1, 5),
                sinkhorn_epsilon=floats(0.05, 0.5)), swapped()),
    "MSNLoss": (
        options(temperature=floats(0.1, 1), sinkhorn_iterations=st.integers(0, 4),
                regularization_weight=floats(0, 3)), masked_siamese()),
    "PMSNLoss": (
        options(temperature=floats(0.1, 1), power_law_exponent=floats(0.1, 2)), masked_siamese()),
    "CAPILoss": (
        options(teacher_temperature=floats(0.06, 0.2), student_temperature=floats(0.1, 1),
                sinkhorn_iterations=st.integers(1, 4)), tokens()),
    "KoLeoLoss": (options(p=st.sampled_from([1, 2])), pairs(2).map(lambda x: [x[0][:1]])),
}  # fmt: skip
PROTOTYPES = {"DINOLoss": 30, "IBOTPatchLoss": 30, "IBOTPlusPlusPatchLoss": 30}


@pytest.mark.parametrize("name", [x for x in CASES if x in theirs])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    data=st.data(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_same_results(name, dtype, data, seed):
    arguments, steps = CASES[name]
    torch.manual_seed(seed)
    arguments, steps = data.draw(arguments), data.draw(steps)
    if name == "KoLeoLoss" and dtype == torch.float32:
        assume(steps[0][0].shape[1] > 1)  # otherwise unit vectors are equal up to rounding
    if name in PROTOTYPES:
        arguments["output_dim"] = PROTOTYPES[name]
    if "memory_bank_size" in arguments:
        arguments["memory_bank_size"] = (30, steps[0][0].shape[1])
    losses = []
    for cls in (getattr(ours, name), theirs[name]):
        torch.manual_seed(seed)
        losses.append(cls(**arguments))
    training = data.draw(st.booleans())
    losses = [x.train(training) for x in losses]
    assert_same_state(*assert_same_steps(*losses, steps * 2, dtype), 1e-5)


def needs_whitening(name):
    """lightly 1.5 looks for torch.linalg.solve_triangular in the wrong place."""
    if name == "WMSELoss":
        try:
            theirs[name]()
        except RuntimeError as error:
            pytest.skip(f"lightly cannot build it: {error}")


@pytest.mark.parametrize("arguments", [
    {}, {"momentum": 0.2, "eps": 0.1, "w_iter": 2}, {"num_samples": 3, "track_running_stats": False}
])  # fmt: skip
def test_same_whitening(arguments):
    needs_whitening("WMSELoss")
    arguments = {"embedding_dim": 6, "w_size": 16, **arguments}
    pair = [x["WMSELoss"](**arguments) for x in (vars(ours), theirs)]
    for training in (True, False):
        pair = [x.float().train(training) for x in pair]
        x = torch.randn(32 * arguments.get("num_samples", 2), 6, requires_grad=True)
        results = []
        for loss in pair:
            torch.manual_seed(3)
            value = loss(x)
            results.append((value, *torch.autograd.grad(value, x)))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert_same_state(*pair, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_same_signature(name):
    assert_same_signature(getattr(ours, name), theirs[name])


def test_nothing_is_named_that_is_not_there():
    assert set(ours.PEER.defined_in) == set(ours.__all__) - (set(ours.__all__) - set(theirs))
    assert set(ours.__all__) - set(theirs) <= {"CAPILoss"}


z = torch.ones(4, 3)


@pytest.mark.parametrize("name, arguments, inputs", [
    ("NTXentLoss", {"temperature": 0.0}, None),
    ("NTXentLoss", {"memory_bank_size": (-1, 3)}, None),
    ("DirectCLRLoss", {"temperature": 0.0}, None),
    ("MMCRLoss", {"lmda": -1}, None),
    ("MSNLoss", {"temperature": 0.0}, None),
    ("MSNLoss", {"sinkhorn_iterations": -1}, None),
    ("PMSNLoss", {"temperature": -1.0}, None),
    ("DINOLoss", {"center_mode": "median"}, None),
    ("IBOTPatchLoss", {"center_mode": "median"}, None),
    ("WMSELoss", {"embedding_dim": 128, "w_size": 200}, None),
    ("WMSELoss", {"embedding_dim": 3, "w_size": 6}, (torch.ones(13, 3),)),
    ("WMSELoss", {"embedding_dim": 3, "w_size": 6}, (torch.ones(4, 3),)),
    ("WMSELoss", {"embedding_dim": 3, "w_size": 6}, (torch.ones(12, 3),)),
    ("VICRegLoss", {}, (z[:1], z[:1])),
    ("VICRegLoss", {}, (z, z[:, :2])),
    ("TiCoLoss", {}, (z[:1], z[:1])),
    ("TiCoLoss", {}, (z, z[:, :2])),
    ("MMCRLoss", {}, (torch.ones(2, 3, 4), torch.ones(2, 2, 4))),
    ("BarlowTwinsLoss", {}, (z[:1], z[:1])),
    ("DINOLoss", {"output_dim": 3}, ([z], [z])),
    ("IBOTPlusPlusPatchLoss", {"output_dim": 3}, (z, z[:2])),
    ("IBOTPlusPlusPatchLoss", {"output_dim": 3}, (z[0], z[0])),
    ("IBOTPlusPlusPatchLoss", {"output_dim": 3}, (z, z)),
    ("IBOTPlusPlusPatchLoss", {"output_dim": 3}, (z, z, torch.ones(3, 2, dtype=torch.bool))),
    ("VICRegLLoss", {}, ([(z, z)], [])),
    ("VICRegLLoss", {}, ([], [], [])),
])  # fmt: skip
def test_same_errors(name, arguments, inputs):
    needs_whitening(name)

    def run(cls):
        loss = cls(**arguments)
        return loss if inputs is None else loss(*inputs)

    assert_same_error(lambda: run(getattr(ours, name)), lambda: run(theirs[name]))


def test_a_number_as_size_of_the_memory_bank():
    """lightly 1.5 accepts it with a warning, 1.6 does not."""
    results = []
    for cls in (ours.NTXentLoss, theirs["NTXentLoss"]):
        torch.manual_seed(0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                loss = cls(memory_bank_size=9)
                x = [torch.randn(4, 3, requires_grad=True) for _ in range(2)]
                values = [loss(*x).item() for _ in range(3)]
            except ValueError as error:
                values = type(error)
        results.append((values, [x.category for x in caught]))
    (found, warned), (expected, expected_warned) = results
    assert found == (pytest.approx(expected) if isinstance(expected, list) else expected)
    assert warned == expected_warned


@pytest.mark.skipif("SymNegCosineSimilarityLoss" not in theirs, reason="lightly 1.6 removed it")
def test_what_lightly_1_5_still_has():
    with pytest.warns(DeprecationWarning):
        pair = ours.SymNegCosineSimilarityLoss(), theirs["SymNegCosineSimilarityLoss"]()
    views = [tuple(randn(7, 5) for _ in range(2)) for _ in range(2)]
    assert_same_steps(*pair, [views])
    with pytest.warns(DeprecationWarning):
        pair = [x["MSNLoss"](0.1, 3, 1.0, 2.5) for x in (vars(ours), theirs)]
    assert_same_steps(*pair, [(randn(6, 8), randn(6, 8, grad=False), randn(12, 8))])
    assert "me_max_weight" in inspect.signature(ours.MSNLoss).parameters


def test_own_regularizer_of_msn():
    """A subclass overrides it, as lightly's PMSN does; PMSN takes a prior."""
    inputs = [(randn(6, 8), randn(3, 8, grad=False), randn(12, 8))]

    def prior(mean):
        return torch.softmax(torch.arange(len(mean), dtype=mean.dtype), 0)

    assert_same_steps(ours.PMSNCustomLoss(prior), theirs["PMSNCustomLoss"](prior), inputs)

    def subclass(base):
        class Own(base):
            def regularization_loss(self, mean_anchor_probs):
                return mean_anchor_probs.square().sum()

        return Own()

    assert_same_steps(subclass(ours.MSNLoss), subclass(theirs["MSNLoss"]), inputs)


def logits(scale, dtype):
    return [(scale * torch.randn(16, 30)).to(dtype).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize("name, arguments, inputs", [
    ("SwaVLoss", {}, lambda: (logits(1, torch.float16), [])),
    ("SwaVLoss", {}, lambda: (logits(6, torch.float32), [])),
    ("DINOLoss", {"output_dim": 30}, lambda: [logits(1, torch.float16)] * 2),
    ("NTXentLoss", {"memory_bank_size": (50, 30)}, lambda: logits(1, torch.float16)),
    ("NTXentLoss", {"memory_bank_size": (50, 30)}, lambda: logits(1, torch.bfloat16)),
    ("MMCRLoss", {}, lambda: [x.unflatten(1, (2, 15)) for x in logits(1, torch.float16)]),
    ("MSNLoss", {}, lambda: (*logits(1, torch.float16), logits(1, torch.float16)[0])),
    ("MSNLoss", {"temperature": 0.005},
     lambda: (*logits(1, torch.float32), logits(1, torch.float32)[0])),
])  # fmt: skip
def test_where_better(name, arguments, inputs):
    """As in the README: ours is finite where lightly raises or is not finite."""

    def is_finite(cls):
        torch.manual_seed(0)
        x = inputs()
        value = cls(**arguments)(*x)
        grads = torch.autograd.grad(value.sum(), leaves_of(list(x)), allow_unused=True)
        return all(t.isfinite().all() for t in (value, *grads) if t is not None)

    assert is_finite(getattr(ours, name))
    with contextlib.suppress(RuntimeError):
        assert not is_finite(theirs[name])


@pytest.mark.parametrize("name", ["NTXentLoss", "BarlowTwinsLoss", "VICRegLoss", "DCLLoss"])
def test_under_autocast(name):
    """At most as far from float64 as lightly."""
    torch.manual_seed(0)
    x = similar(64, 32)
    exact = theirs[name]()(*x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pair = getattr(ours, name), theirs[name]
        found, expected = (cls()(*cast(x, torch.float32)) for cls in pair)
    assert found.dtype == torch.float32
    assert abs(found - exact) <= abs(expected - exact)
