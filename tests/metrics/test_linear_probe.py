"""The linear probe: its optimum, and problems with known solutions."""

import math

import pytest
import torch
import torch.nn.functional as F

from sslkernels.metrics import fit_linear_probe, linear_probe


def clusters(n=200, d=6, classes=4, noise=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.eye(d)[:classes]
    labels = torch.arange(n) % classes
    return centers[labels] + noise * torch.randn(n, d, generator=generator), labels


def test_separable_classes_are_told_apart_and_wrong_labels_are_not():
    train, labels = clusters(noise=0.1)
    test, test_labels = clusters(noise=0.1, seed=1)
    assert linear_probe(train, labels, test, test_labels) == 1
    assert linear_probe(train, labels, test, (test_labels + 1) % 4) == 0


def test_what_no_line_separates_is_left_to_chance():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]).repeat(25, 1)
    labels = torch.tensor([0, 0, 1, 1]).repeat(25)
    probe = fit_linear_probe(x, labels)
    assert probe.logits(x).softmax(1) == pytest.approx(torch.full((100, 2), 0.5), abs=1e-4)


@pytest.mark.parametrize("regularization", [1e-4, 1e-2, 1.0])
def test_the_gradient_vanishes_at_the_optimum(regularization):
    x, labels = clusters(noise=0.8)
    x = 40 * x.double() + torch.arange(6)
    probe = fit_linear_probe(x, labels, regularization=regularization, iterations=300)
    standardized = (x - x.mean(0)) / x.std(0, correction=0)
    assert probe.mean == pytest.approx(x.mean(0)) and probe.weight.dtype == torch.float64
    weight, bias = (t.clone().requires_grad_() for t in (probe.weight, probe.bias))
    loss = F.cross_entropy(standardized @ weight.T + bias, labels)
    loss = loss + regularization / 2 * weight.square().sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-6
    assert weight.abs().max() > 1e-3


def test_two_symmetric_points_have_the_answer_of_one_equation():
    # Standardised ±1 with labels 1, 0: logits ±w x, with w = 2 σ(−2 w) / (2 λ)… by W₁ = −W₀ = w:
    # d/dw [ln(1 + e^(−2w)) + λ w²] = 0, so λ w = σ(−2 w).
    x, labels = torch.tensor([[7.0], [3.0]]).double(), torch.tensor([1, 0])
    probe = fit_linear_probe(x, labels, regularization=0.05)
    w = float(probe.weight[1, 0])
    assert probe.weight[0, 0] == pytest.approx(-w) and w > 0
    assert 0.05 * w == pytest.approx(1 / (1 + math.exp(2 * w)), abs=1e-7)


def test_scale_and_place_of_features_do_not_matter():
    train, labels = clusters(noise=0.8)
    test, test_labels = clusters(noise=0.8, seed=1)
    expected = linear_probe(train, labels, test, test_labels)
    stretch, shift = torch.tensor([1e-3, 1.0, 5.0, 100.0, 7.0, 0.1]), torch.arange(6.0)
    moved = linear_probe(train * stretch + shift, labels, test * stretch + shift, test_labels)
    assert 0.5 < expected < 1 and moved == pytest.approx(expected, abs=0.011)


def test_constant_features_say_nothing():
    train, labels = clusters(noise=0.1)
    constant = torch.full((200, 3), 0.1)
    probe = fit_linear_probe(torch.cat([train, constant], 1), labels)
    assert probe.weight[:, 6:].abs().max() < 1e-5
    collapsed = torch.full((200, 6), 0.3)
    assert linear_probe(collapsed, labels, train, labels) == 0.25


def test_chunks_do_not_change_the_result(monkeypatch):
    x, labels = clusters(noise=0.8)
    expected = fit_linear_probe(x.double(), labels)
    monkeypatch.setitem(fit_linear_probe.__globals__, "CHUNK_SIZE", 7)
    got = fit_linear_probe(x.double(), labels)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)
    assert got.accuracy(x, labels) == expected.accuracy(x, labels)


def test_repeatable_and_without_a_trace():
    x, labels = clusters(noise=0.8)
    x.requires_grad_()
    with torch.no_grad():
        first = fit_linear_probe(x, labels)
    torch.randn(5)
    second = fit_linear_probe(x.bfloat16().float(), labels), fit_linear_probe(x, labels)
    assert torch.equal(first.weight, second[1].weight) and not first.weight.requires_grad
    assert fit_linear_probe(x.bfloat16(), labels).weight.equal(second[0].weight)
    assert x.grad is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train_features": torch.zeros(4)}, ValueError, r"train_features must be \(n, d\)"),
        ({"test_features": torch.zeros(4, 7)}, ValueError, "got 6 and 7"),
        ({"test_features": torch.full((4, 6), math.nan)}, ValueError, "test_features must be fin"),
        ({"train_labels": torch.zeros(3).long()}, ValueError, r"train_labels must be \(200,\)"),
        ({"train_labels": torch.zeros(200)}, TypeError, "tensor of integers, got a tensor"),
        ({"train_labels": torch.full((200,), -1)}, ValueError, "classes 0, 1, …, got -1"),
        ({"regularization": -1.0}, ValueError, "must not be negative, got -1"),
        ({"iterations": 0}, ValueError, "at least 1, got 0"),
    ],
)
def test_wrong_input(change, error, message):
    x, labels = clusters()
    arguments = {
        "train_features": x,
        "train_labels": labels,
        "test_features": x[:4],
        "test_labels": labels[:4],
    }
    with pytest.raises(error, match=message):
        linear_probe(**arguments | change)
