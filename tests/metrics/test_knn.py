"""kNN accuracy against its definition, and the collapse indicator."""

import math

import pytest
import torch

from sslkernels.metrics import embedding_spread, knn_accuracy, linear_probe


def naive_knn_accuracy(train_features, train_labels, test_features, test_labels, k, temperature):
    correct = 0
    for feature, label in zip(test_features.double(), test_labels.tolist(), strict=True):
        similarity = [
            float(feature @ other / (feature.norm() * other.norm()))
            for other in train_features.double()
        ]
        nearest = sorted(range(len(similarity)), key=lambda i: -similarity[i])[:k]
        votes = [0.0] * (int(train_labels.max()) + 1)
        for i in nearest:
            votes[int(train_labels[i])] += math.exp(similarity[i] / temperature)
        correct += votes.index(max(votes)) == label
    return correct / len(test_labels)


def random_problem(train=60, test=40, width=5, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(train, width, generator=generator),
        torch.randint(classes, (train,), generator=generator),
        torch.randn(test, width, generator=generator),
        torch.randint(classes, (test,), generator=generator),
    )


@pytest.mark.parametrize("k", [1, 3, 20, 60])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_the_naive_formula(k, temperature):
    # Labels that depend on the features, so that right votes matter.
    train, _, test, _ = random_problem()
    train_labels, test_labels = train[:, :3].argmax(1), test[:, :3].argmax(1)
    problem = (train, train_labels, test, test_labels)
    accuracy = knn_accuracy(*problem, k=k, temperature=temperature)
    assert accuracy == naive_knn_accuracy(*problem, k, temperature)


def test_weights_settle_the_vote():
    # One neighbour at similarity 1 of class 0; two at 0.8 of class 1.
    train = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]])
    labels = torch.tensor([0, 1, 1])
    query, target = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    assert knn_accuracy(train, labels, query, target, k=3, temperature=0.07) == 1
    assert knn_accuracy(train, labels, query, target, k=3, temperature=1.0) == 0
    assert knn_accuracy(train, labels, query, target, k=1, temperature=1.0) == 1


def test_separated_clusters_are_perfect():
    generator = torch.Generator().manual_seed(0)
    centers = 10 * torch.eye(6)
    labels = torch.arange(6).repeat(30)
    train, test = (centers[labels] + torch.randn(180, 6, generator=generator) for _ in range(2))
    assert knn_accuracy(train, labels, test, labels) == 1
    assert knn_accuracy(train, labels, test, (labels + 1) % 6) == 0


def test_length_of_features_does_not_matter():
    train, train_labels, test, test_labels = random_problem(seed=1)
    expected = knn_accuracy(train, train_labels, test, test_labels, k=5)
    lengths = torch.linspace(0.1, 50, len(train))[:, None]
    assert knn_accuracy(lengths * train, train_labels, 7 * test, test_labels, k=5) == expected


@pytest.mark.parametrize("chunk_size", [1, 7, 40, 1000])
def test_chunks_do_not_change_the_result(chunk_size):
    problem = random_problem(seed=2)
    assert knn_accuracy(*problem, k=5, chunk_size=chunk_size) == knn_accuracy(*problem, k=5)


def test_small_temperature_does_not_overflow():
    train, _, _, _ = random_problem()
    labels = torch.arange(len(train))
    assert knn_accuracy(train, labels, train, labels, k=5, temperature=1e-3) == 1


def test_a_class_absent_from_training_is_always_wrong():
    train, labels = torch.randn(30, 4), torch.zeros(30, dtype=torch.int64)
    assert knn_accuracy(train, labels, torch.randn(5, 4), torch.full((5,), 9)) == 0


def test_half_precision_features():
    train, train_labels, test, test_labels = random_problem(seed=3)
    train, test = train.bfloat16(), test.bfloat16()
    expected = knn_accuracy(train.float(), train_labels, test.float(), test_labels, k=5)
    assert knn_accuracy(train, train_labels, test, test_labels, k=5) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, r"1\.\.60, got 0"),
        ({"k": 61}, r"1\.\.60, got 61"),
        ({"temperature": 0.0}, "above 0, got 0.0"),
        ({"temperature": math.nan}, "finite number of float32, got nan"),
        ({"chunk_size": 0}, "at least 1, got 0"),
        ({"test_features": torch.zeros(40, 6)}, "got 5 and 6"),
        ({"test_features": torch.zeros(40)}, r"test_features must be \(n, d\)"),
        ({"test_features": torch.zeros(0, 5)}, r"n ≥ 1, got shape \(0, 5\)"),
        ({"train_labels": torch.zeros(59).long()}, r"train_labels must be \(60,\)"),
    ],
)
def test_wrong_input(change, message):
    names = ("train_features", "train_labels", "test_features", "test_labels")
    arguments = dict(zip(names, random_problem(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        knn_accuracy(**arguments)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_features_that_are_not_finite_have_no_accuracy(value, place):
    problem = list(random_problem())
    problem[place][3, 1] = value
    name = "test_features" if place else "train_features"
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        knn_accuracy(*problem)


DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("accuracy", [knn_accuracy, linear_probe])
def test_labels_of_any_whole_dtype(accuracy, dtype):
    train, labels, test, test_labels = random_problem(classes=2)
    expected = accuracy(train, labels, test, test_labels)
    assert accuracy(train, labels.to(dtype), test, test_labels.to(dtype)) == expected
    assert accuracy(train, labels.to(dtype), test, test_labels) == expected


@pytest.mark.parametrize("accuracy", [knn_accuracy, linear_probe])
def test_labels_that_are_none(accuracy):
    train, labels, test, test_labels = random_problem()
    with pytest.raises(TypeError, match="train_labels must be a tensor of integers"):
        accuracy(train, labels.float(), test, test_labels)
    with pytest.raises(ValueError, match="test_labels must be classes 0, 1, …, got -1"):
        accuracy(train, labels, test, test_labels - 1)


def test_labels_may_be_large_and_features_of_two_precisions():
    train, labels, test, test_labels = random_problem()
    expected = knn_accuracy(train, labels, test, test_labels)
    far = torch.tensor([3, 10, 2**40, 2**62])
    assert knn_accuracy(train, far[labels], test.double(), far[test_labels]) == expected


def test_spread_is_one_on_the_sphere_and_zero_on_a_point():
    embeddings = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert embedding_spread(embeddings).item() == pytest.approx(1, abs=0.02)
    assert embedding_spread(3 * embeddings).item() == pytest.approx(1, abs=0.02)
    assert embedding_spread(embeddings[:1].expand(100, 64)).item() == pytest.approx(0, abs=1e-6)
