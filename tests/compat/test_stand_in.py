"""Instances of a peer's class that are computed here, with a class created by the test."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

from sslkernels.compat.lightly import TiCoLoss as Ours
from sslkernels.compat.peer import say_again
from sslkernels.compat.stand_in import replace_class, replacing_function


class TiCoLoss(nn.Module):
    """A peer's class: it accepts inputs that ours refuses, and has state of the same name."""

    def __init__(self, beta=0.9, rho=8.0, gather_distributed=False, colour="red"):
        super(TiCoLoss, self).__init__()  # noqa: UP008  # as some of lightly's do
        if rho < 0:
            raise KeyError("no negative rho")
        self.noise = torch.randn(3)
        self.beta, self.rho, self.colour, self.C = beta, rho, colour, None

    def forward(self, z_a, z_b, update_covariance_matrix=True):
        if z_a.dim() != 2:
            raise IndexError("dimensions")
        before = 0 if self.C is None else self.C
        self.C = before + z_a.T @ z_a
        return self._compute(z_a, z_b)

    def _compute(self, z_a, z_b):
        return self.rho * (z_a - z_b).sum()


class Child(TiCoLoss):
    def _compute(self, z_a, z_b):
        return 2 * super()._compute(z_a, z_b)


@pytest.fixture(autouse=True)
def _patched():
    say_again()
    undo = replace_class(TiCoLoss, Ours)
    yield
    undo()


def views(count=5):
    return torch.randn(count, 3, requires_grad=True), torch.randn(count, 3)


def test_is_of_both_classes():
    loss, ours = TiCoLoss(rho=2.0), Ours(rho=2.0)
    assert isinstance(loss, TiCoLoss)
    assert isinstance(loss, Ours)
    for _ in range(2):
        x = views()
        assert torch.equal(loss(*x), ours(*x))
    assert torch.equal(loss.C, ours.C)
    assert loss.colour == "red"  # the peer's attribute
    assert loss._compute(*x) == 2 * (x[0] - x[1]).sum()  # and method
    with pytest.raises(AttributeError, match="taste"):
        loss.taste  # noqa: B018
    assert loss.state_dict() == {}
    assert list(loss.children()) == []
    assert type(loss).__name__ == "TiCoLoss"


def test_random_numbers_are_the_peer_s():
    torch.manual_seed(0)
    loss, after = TiCoLoss(), torch.randn(2)
    torch.manual_seed(0)
    noise, expected = torch.randn(3), torch.randn(2)
    assert torch.equal(loss.noise, noise)
    assert torch.equal(after, expected)


def test_subclasses_keep_the_peer_s_code():
    x = views()
    for child in (Child(), type("Late", (TiCoLoss,), {"__init__": lambda self: TiCoLoss.__init__(
            self, rho=16.0)})()):  # fmt: skip
        assert not isinstance(child, Ours)
        torch.testing.assert_close(child(*x), 16 * (x[0] - x[1]).sum())


def test_undone():
    undo = replace_class(Child, Ours)  # a class that inherits its constructor
    assert isinstance(Child(), Ours)
    undo()
    assert "__init__" not in vars(Child)
    assert not isinstance(Child(), Ours)
    assert isinstance(TiCoLoss(), Ours)


def test_arguments_that_are_not_done_here():
    with pytest.warns(UserWarning, match=r"TiCoLoss\(\) is left to the package's own code: .*beta"):
        loss = TiCoLoss(beta=1.5)
    assert type(loss) is TiCoLoss
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # warns once
        loss = TiCoLoss(colour="blue")
    assert type(loss) is TiCoLoss
    assert loss.colour == "blue"
    for arguments in ({"rho": -1.0}, {"rho": -1.0, "beta": 2.0}):
        with pytest.raises(KeyError, match="no negative rho"):
            TiCoLoss(**arguments)
    with pytest.raises(TypeError, match="taste"):
        TiCoLoss(taste=1)


def test_inputs_that_are_not_done_here():
    """The peer's value or error; the state is copied there and back."""
    loss = TiCoLoss(rho=2.0)
    loss(*views())
    before = loss.C.clone()
    one = torch.ones(1, 3, requires_grad=True), torch.zeros(1, 3)
    loss.rho = 3.0
    with pytest.warns(UserWarning, match=r"TiCoLoss.forward is left .*at least 2 rows, got 1"):
        value = loss(*one)
    assert value == 9
    value.backward()
    assert (one[0].grad == 3).all()
    torch.testing.assert_close(loss.C, before + torch.ones(3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # warns once
        assert loss(*one) == 9
    with pytest.raises(IndexError, match="dimensions") as error:
        loss(*(torch.ones(1, 2, 3),) * 2)
    assert "sslkernels says: " in error.value.__notes__[0]
    x = views()
    ours = Ours(rho=3.0)
    ours.C = loss.C.clone()
    assert torch.equal(loss(*x), ours(*x))


def test_attributes_that_only_the_peer_has():
    """Setting one turns the instance into the peer's, with its state."""
    loss, x = TiCoLoss(rho=2.0), views()
    loss(*x)
    loss.rho, loss.taste = 4.0, "sweet"  # one of both, one of neither
    assert isinstance(loss, Ours)
    covariance = loss.C.clone()
    with pytest.warns(UserWarning, match=r"TiCoLoss._compute is left .* it has been set"):
        loss._compute = lambda z_a, z_b: 7
    assert type(loss) is TiCoLoss
    assert loss(*x) == 7
    torch.testing.assert_close(loss.C, covariance + x[0].T @ x[0])
    assert loss.rho == 4.0
    loss = TiCoLoss()
    loss.colour = "blue"
    assert type(loss) is TiCoLoss
    assert loss.colour == "blue"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)),
                                    lambda x: saved(x)])  # fmt: skip
def test_copies(copied):
    loss = TiCoLoss(rho=2.0)
    loss(*views())
    other = copied(loss)
    assert type(other) is type(loss)
    assert torch.equal(other.C, loss.C)
    assert other.C is not loss.C
    x = views()
    assert torch.equal(other(*x), loss(*x))
    with pytest.warns(UserWarning, match="is left"):
        assert other(*(torch.ones(1, 3),) * 2) == 0
    with pytest.warns(UserWarning, match="is left"):
        assert type(copied(TiCoLoss(beta=1.5))) is TiCoLoss


def saved(loss):
    file = io.BytesIO()
    torch.save(loss, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def test_compiles_whole():
    loss, x = TiCoLoss(), views()
    expected = Ours()(*x)
    torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="eager")(*x), expected)


def test_functions():
    def theirs(x):
        return x.sum() if x.dim() == 1 else 1 / 0

    def ours(x):
        if len(x) < 2:
            raise ValueError("too few")
        return 2 * x.sum()

    function = replacing_function(theirs, ours)
    assert function(torch.ones(2)) == 4
    with pytest.warns(UserWarning, match="theirs is left .*: too few"):
        assert function(torch.ones(1)) == 1
    with pytest.raises(ZeroDivisionError):
        function(torch.ones(1, 2))
