"""SIGReg and related losses of lightly, stable-pretraining and LeJEPA's authors."""

import copy

import pytest
import torch
from checkouts import imported, originals
from parity import assert_same_error, assert_same_state, installed
from test_stable_pretraining import load as load_stable_pretraining

import sslkernels
from bench import peers
from sslkernels.compat import lejepa, lightly, stable_pretraining


def load_lightly():
    peers.torchvision_transforms()
    import lightly.loss

    return lightly.loss


of_lightly = installed(load_lightly)


@pytest.fixture(scope="module")
def of_the_authors():
    return originals(lejepa)


@pytest.fixture(scope="module")
def of_stable_pretraining():
    return vars(load_stable_pretraining())


def r(*shape, dtype=torch.float32):
    return torch.randn(*shape).to(dtype).requires_grad_()


def assert_agree(ours, theirs, call, steps=2, tolerance=1e-5):
    """Values and gradients over several steps, from the same random numbers; and the state."""
    for seed in range(steps):
        results = []
        for loss in (ours, theirs):
            torch.manual_seed(seed)
            inputs, value = call(loss)
            results.append((value, *torch.autograd.grad(value.sum(), inputs)))
        for a, b in zip(*results, strict=True):
            assert (a - b).norm() <= tolerance * b.norm()
    if isinstance(theirs, torch.nn.Module):
        assert_same_state(ours, theirs)


def views(*shapes):
    """A call of a loss with views by name."""

    def call(loss):
        x = dict(zip(("local_proj", "global_proj"), (r(*x) for x in shapes), strict=True))
        return list(x.values()), loss(**x)

    return call


def clips(loss):
    x = {"predicted": r(9, 2, 8), "target": r(9, 2, 8).detach(), "embeddings": r(9, 3, 8)}
    return [x["predicted"], x["embeddings"]], loss(**x)


def one(*shape):
    def call(loss):
        x = r(*shape)
        return [x], loss(x)

    return call


LIGHTLY = [
    ("SIGReg", {}, one(30, 8)),
    ("SIGReg", {"knots": 8, "t_max": 4.0, "num_vectors": 33}, one(2, 3, 30, 8)),
    ("LeJEPALoss", {"sigreg_num_vectors": 50}, views((3, 20, 8), (2, 20, 8))),
    ("LeJEPALoss", {"lambda_param": 0.5, "sigreg_knots": 5}, views((1, 20, 8), (1, 20, 8))),
    ("VISRegLoss", {"num_slices": 50}, views((3, 20, 8), (2, 20, 8))),
    (
        "VISRegLoss",
        {"lambda_param": 0.6, "lambda_shape": 3.0, "lambda_scale": 0.5, "eps": 0.1},
        views((1, 11, 8), (1, 11, 8)),
    ),
    ("LeWMLoss", {"sigreg_num_vectors": 50}, clips),
    ("LeWMLoss", {"normalize": True, "lambda_param": 3.0}, clips),
]


@pytest.mark.parametrize("name, arguments, call", LIGHTLY)
def test_lightly(name, arguments, call):
    cls = getattr(of_lightly, name)
    assert_agree(getattr(lightly, name)(**arguments), cls(**arguments), call)
    with sslkernels.patch("lightly", only=[name]) as patch:
        loss = cls(**arguments)
        assert type(loss) is not cls and isinstance(loss, cls)
        assert_agree(loss, patch.own[name](**arguments), call)


@pytest.mark.parametrize("name, arguments, inputs", [
    ("SIGReg", {"knots": 1}, None),
    ("SIGReg", {"t_max": 0}, None),
    ("SIGReg", {"num_vectors": 0}, None),
    ("LeJEPALoss", {"lambda_param": 1.5}, None),
    ("LeJEPALoss", {}, {"local_proj": torch.ones(4, 3), "global_proj": torch.ones(2, 4, 3)}),
    ("LeJEPALoss", {}, {"local_proj": torch.ones(1, 4, 3), "global_proj": torch.ones(2, 5, 3)}),
    ("LeWMLoss", {"lambda_param": -1.0}, None),
    ("VISRegLoss", {"lambda_param": 1.5}, None),
    ("VISRegLoss", {"num_slices": 0}, None),
    ("VISRegLoss", {"eps": 0.0}, None),
    ("VISRegLoss", {}, dict.fromkeys(("local_proj", "global_proj"), torch.ones(2, 1, 3))),
    ("LeWMLoss", {}, dict.fromkeys(("predicted", "target", "embeddings"), torch.ones(4, 3))),
])  # fmt: skip
def test_errors_of_lightly(name, arguments, inputs):
    def run(cls):
        loss = cls(**arguments)
        return loss if inputs is None else loss(**inputs)

    module = getattr(of_lightly, name)
    assert_same_error(lambda: run(getattr(lightly, name)), lambda: run(module))


def test_components_of_visreg():
    pair = [x.VISRegLoss(num_slices=40) for x in (lightly, of_lightly)]
    local_proj, global_proj = r(3, 20, 8), r(2, 20, 8)
    results = []
    for loss in pair:
        torch.manual_seed(0)
        results.append(
            loss.forward_components(local_proj=local_proj, global_proj=global_proj)._asdict()
        )
    torch.testing.assert_close(*results)


def test_knots_of_a_checkpoint():
    """Buffers with another of LeJEPA's quadratures are used; other values are refused."""
    other = of_lightly.SIGReg(t_max=5.0)
    ours = lightly.SIGReg()
    ours.load_state_dict(other.state_dict())
    assert_agree(ours, other, one(30, 8))
    other.weights = other.weights * 2
    ours.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="trapezoidal"):
        ours(r(30, 8))
    with sslkernels.patch("lightly", only=["SIGReg"]), pytest.warns(UserWarning, match="left to"):
        patched = of_lightly.SIGReg(t_max=5.0)
        patched.weights = patched.weights * 2
        assert_agree(patched, other, one(30, 8))


@pytest.mark.parametrize("arguments", [
    {}, {"reduction": "sum"}, {"reduction": None}, {"clip_value": 0.9}
])  # fmt: skip
def test_the_authors(of_the_authors, arguments):
    theirs = of_the_authors["SlicingUnivariateTest"](
        of_the_authors["EppsPulley"](n_points=9), 40, **arguments
    )
    ours = lejepa.SlicingUnivariateTest(lejepa.EppsPulley(n_points=9), 40, **arguments)
    assert_agree(ours, theirs, one(3, 25, 8), steps=3)
    assert_agree(ours.univariate_test, theirs.univariate_test, one(3, 25, 8))
    ours.global_step.fill_(7), theirs.global_step.fill_(7)
    assert_agree(ours, theirs, one(25, 8))
    assert_agree(copy.deepcopy(ours), copy.deepcopy(theirs), one(25, 8))


def test_patching_the_authors():
    with imported(lejepa), sslkernels.patch("lejepa") as patch:
        import lejepa as authors

        assert patch.left == {}
        slices = authors.multivariate.SlicingUnivariateTest
        loss = slices(authors.univariate.EppsPulley(), 30)
        own = patch.own["SlicingUnivariateTest"](patch.own["EppsPulley"](), 30)
        assert_agree(loss, own, one(2, 25, 8))
        others = slices(authors.univariate.Watson(), 30)
        with pytest.warns(UserWarning, match="left to the package's own code"):
            assert others(r(25, 8)).isfinite()
        assert int(others.global_step) == 1


def test_stable_pretraining(of_stable_pretraining):
    for arguments in ({}, {"num_slices": 30, "t_max": 4.0, "n_points": 9}):
        pair = [
            x["SlicedEppsPulley"](**arguments)
            for x in (vars(stable_pretraining), of_stable_pretraining)
        ]
        assert_agree(*pair, one(40, 8), steps=3)
        assert_agree(pair[0].ep, pair[1].ep, one(40, 8))


def test_a_step_that_is_set_is_read_once(monkeypatch):
    loss, z = stable_pretraining.SlicedEppsPulley(20), r(30, 8)
    loss(z), loss(z)
    read = []
    monkeypatch.setattr(torch.Tensor, "__int__", lambda x: read.append(x) or 0)
    loss(z)
    assert read == [] and loss.global_step == 3
    loss.load_state_dict({**loss.state_dict(), "global_step": torch.tensor(0)})
    loss(z), loss(z)
    assert len(read) == 1
