"""Whether two losses agree: values, gradients, signatures, errors, state."""

import copy
import inspect

import pytest
import torch

from sslkernels.compat.peer import missing_parameters

# peers keep temperatures in float32, and gradients that should be 0 are sums that cancel
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4}
FLOOR = {torch.float64: 1e-10, torch.float32: 1e-5}


def installed(load):
    """The result of ``load``; skips if the package is not installed."""
    try:
        return load()
    except ImportError as error:
        pytest.skip(f"needs the peer: {error}", allow_module_level=True)


def leaves_of(x):
    """Tensors that require a gradient, at any depth of lists."""
    if isinstance(x, torch.Tensor):
        return [x] if x.requires_grad else []
    if isinstance(x, list | tuple):
        return [leaf for y in x for leaf in leaves_of(y)]
    return []


def cast(x, dtype):
    """The same inputs as leaves of another dtype."""
    if isinstance(x, torch.Tensor):
        if not x.is_floating_point():
            return x
        return x.detach().to(dtype).requires_grad_(x.requires_grad)
    return type(x)(cast(y, dtype) for y in x) if isinstance(x, list | tuple) else x


def assert_close(found, expected, tolerance, floor, what):
    found, expected = found.double(), expected.double()
    assert found.shape == expected.shape, what
    error = (found - expected).norm()
    assert error <= tolerance * expected.norm() + floor, (what, found, expected)


def assert_same_steps(ours, theirs, steps, dtype=torch.float64, seed=0):
    """Compare the peer in float64 with ours in ``dtype`` over several steps, keeping state.

    Both draw the same random numbers.
    """
    tolerance, floor = TOLERANCE[dtype], FLOOR[dtype]
    ours, theirs = _to(ours, dtype), _to(theirs, torch.float64)
    for number, step in enumerate(steps):
        results = []
        for loss, inputs in ((ours, cast(step, dtype)), (theirs, cast(step, torch.float64))):
            torch.manual_seed(seed + number)
            value, leaves = loss(*inputs), leaves_of(inputs)
            results.append((value, torch.autograd.grad(value.sum(), leaves, allow_unused=True)))
        (found, found_grads), (expected, expected_grads) = results
        assert_close(found.detach(), expected.detach(), tolerance, floor, f"value of step {number}")
        for a, b in zip(found_grads, expected_grads, strict=True):
            if b is None or a is None:
                assert (a if b is None else b) is None or not (a if b is None else b).any()
            else:
                assert_close(a, b, 10 * tolerance, floor, f"gradient of step {number}")
    return ours, theirs


def assert_same_state(ours, theirs, tolerance=1e-6):
    """State dicts are equal, and each loads the other's."""
    found, expected = ours.state_dict(), theirs.state_dict()
    assert list(found) == list(expected)
    for name, buffer in expected.items():
        assert_close(found[name], buffer, tolerance, 1e-6, name)
    copy.deepcopy(theirs).load_state_dict(found)
    copy.deepcopy(ours).load_state_dict(expected)


def assert_same_signature(ours, theirs):
    """Every parameter of theirs at its position, with its default; ours may have more."""
    assert missing_parameters(theirs, ours) == []
    names = ("__init__", "forward") if inspect.isclass(theirs) else (None,)
    for name in names:
        found, expected = (
            inspect.signature(getattr(x, name) if name else x).parameters for x in (ours, theirs)
        )
        for parameter in expected.values():
            if parameter.name in found and not callable(parameter.default):
                assert found[parameter.name].default == parameter.default, parameter.name


def assert_same_error(ours, theirs):
    """Both raise, and code that catches their error catches ours."""
    with pytest.raises(Exception) as expected:
        theirs()
    with pytest.raises(expected.type):
        ours()


def _to(loss, dtype):
    return loss.to(dtype) if isinstance(loss, torch.nn.Module) else loss
