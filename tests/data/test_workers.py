"""Readers in other processes: forked, pickled, and shared by the workers of a DataLoader."""

import os
import pickle

import pytest
import torch
from pictures import write_pictures
from torch.utils.data import DataLoader

from sslkernels.data import MovedDigitViews, SimCLRViews, image_folder, load_digits
from sslkernels.data.dali import HAS_DALI, DALIReader, DALIViewReader
from sslkernels.data.readers import MemoryReader, PILReader, threads
from sslkernels.data.view_batch import FusedViewReader

SMALL = SimCLRViews(size=16)
needs_dali = pytest.mark.skipif(not HAS_DALI, reason="DALI is not installed here")
MAKERS = [
    pytest.param(lambda images: PILReader(images, 4, threads=2), id="pil"),
    pytest.param(lambda images: DALIReader(images, 4, threads=2), id="dali", marks=needs_dali),
    pytest.param(
        lambda images: DALIViewReader(images, 4, SMALL, threads=2), id="views", marks=needs_dali
    ),
    pytest.param(
        lambda images: FusedViewReader(PILReader(images, 4, threads=1), SMALL), id="fused"
    ),
    pytest.param(
        lambda images: MemoryReader(torch.zeros(len(images), 8, 8).byte(), images.labels, 4),
        id="memory",
    ),
    pytest.param(lambda images: MovedDigitViews(few_digits(len(images)), 4), id="digits"),
]


def few_digits(count):
    digits, _ = load_digits()
    return type(digits)(*(x[:count] for x in digits))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_pictures(folder, classes=2, per_class=11, height=24, width=24)
    return image_folder(folder)


def indices(batches):
    return [batch.indices.tolist() for batch in batches]


def loader(reader, workers, **options):
    return DataLoader(reader, batch_size=None, num_workers=workers, timeout=60, **options)


@pytest.mark.parametrize("make", MAKERS)
def test_workers_share_an_epoch_in_its_order(images, make):
    """Also for a reader that the parent has used, whose threads do not exist in workers."""
    reader = make(images)
    expected = [indices(reader) for _ in range(2)]
    assert len(expected[0]) == 5
    for epoch in range(2):
        steps = reader if hasattr(reader, "step") else reader.reader
        steps.step = epoch * len(reader)
        assert indices(loader(reader, 2)) == expected[epoch]


@pytest.mark.parametrize("make", MAKERS[:2])
def test_workers_that_persist_go_on_with_the_next_epoch(images, make):
    expected = [indices(make(images)) for _ in range(1)]
    again = make(images)
    expected = [indices(again) for _ in range(3)]
    shared = loader(make(images), 2, persistent_workers=True)
    assert [indices(shared) for _ in range(3)] == expected


@pytest.mark.parametrize("make", MAKERS)
def test_a_reader_that_was_used_can_be_pickled(images, make):
    reader = make(images)
    first = next(iter(reader)).indices.tolist()
    copy = pickle.loads(pickle.dumps(reader))
    assert [first, *indices(copy)] == indices(make(images))


def test_threads_are_the_cores_of_this_process_shared(images, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    assert PILReader(images, 4).threads == 12
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert PILReader(images, 4).threads == 3 and PILReader(images, 4, threads=7).threads == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert threads.available_cores() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    if HAS_DALI:
        assert DALIReader(images, 4).threads == 3
    worker = type("Worker", (), {"num_workers": 3})
    monkeypatch.setattr(threads, "get_worker_info", worker)
    assert threads.available_cores() == 1
