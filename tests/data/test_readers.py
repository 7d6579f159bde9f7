"""The same tests for every reader: order, sharding, resuming, and broken files."""

import json
import warnings

import numpy as np
import pytest
import torch
from pictures import decoded, truncate, write_pictures

from sslkernels.data.dali import HAS_DALI, DALIReader, DALIViewReader
from sslkernels.data.readers import MemoryReader, PILReader, image_folder
from sslkernels.data.recipes.view import View

needs_dali = pytest.mark.skipif(not HAS_DALI, reason="DALI is not installed here")


def read_by_pil(folder, *args, **kwargs):
    return PILReader(image_folder(folder), *args, **kwargs)


def read_by_dali(folder, *args, **kwargs):
    return DALIReader(image_folder(folder), *args, threads=2, **kwargs)


def view_by_dali(folder, batch_size, **kwargs):
    views = [View(size=32)] * 2
    return DALIViewReader(image_folder(folder), batch_size, views, threads=2, **kwargs)


def read_memory(folder, *args, **kwargs):
    images = image_folder(folder)
    pixels = [torch.from_numpy(decoded(path)[:50, :50]) for path in images.names]
    return MemoryReader(torch.stack(pixels), images.labels, *args, **kwargs)


OF_FILES = [
    pytest.param(read_by_pil, id="pil"),
    pytest.param(read_by_dali, id="dali", marks=needs_dali),
    pytest.param(view_by_dali, id="dali-views", marks=needs_dali),
]
ALL = [*OF_FILES, pytest.param(read_memory, id="memory")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    write_pictures(path, classes=3, per_class=11)
    return path


def tensors(batch):
    """All tensors of a batch, at any depth."""
    if isinstance(batch, torch.Tensor):
        return [batch.clone()]
    parts = batch if isinstance(batch, tuple | list) else ()
    return [x for part in parts for x in tensors(part)]


def is_equal(first, second):
    return len(first) == len(second) and all(
        len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("make", ALL)
def test_an_epoch_has_every_image_once_with_its_label(folder, make):
    reader = make(folder, 8)
    assert len(reader) == 4
    batches = list(reader)
    indices = torch.cat([batch.indices for batch in batches])
    assert [len(batch.indices) for batch in batches] == [8] * 4
    assert len(set(indices.tolist())) == 32
    labels = torch.cat([batch.labels for batch in batches])
    assert torch.equal(labels, indices // 11)
    assert labels.dtype == indices.dtype == torch.int64
    assert reader.skipped == []


@pytest.mark.parametrize("make", ALL)
def test_epochs_differ_and_the_seed_repeats_them(folder, make):
    readers = [make(folder, 8, seed=seed) for seed in (5, 5, 6)]
    first, same, other = ([tensors(b) for _ in range(2) for b in r] for r in readers)
    assert is_equal(first, same)
    assert not is_equal(first, other)
    assert not is_equal(first[:4], first[4:])


@pytest.mark.parametrize("make", ALL)
def test_shares_of_three_ranks_are_disjoint_and_complete(folder, make):
    seen = []
    for rank in range(3):
        reader = make(folder, 5, rank=rank, world_size=3)
        assert len(reader) == 2
        seen += torch.cat([batch.indices for batch in reader]).tolist()
    assert len(set(seen)) == len(seen) == 30


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_resuming_is_exact(folder, make, stop):
    whole = make(folder, 8, seed=2)
    expected = [tensors(batch) for _ in range(3) for batch in whole]

    first, batches = make(folder, 8, seed=2), []
    while len(batches) < stop:
        for batch in first:
            batches.append(tensors(batch))
            if len(batches) == stop:
                break
    state = json.loads(json.dumps(first.state_dict()))
    second = make(folder, 8, seed=2)
    second.load_state_dict(state)
    while len(batches) < 12:
        batches += [tensors(batch) for batch in second]
    assert is_equal(batches, expected)


@pytest.mark.parametrize("make", ALL)
def test_an_iteration_left_early_goes_on(folder, make):
    reader = make(folder, 8)
    first = next(iter(reader)).indices.tolist()
    rest = [batch.indices.tolist() for batch in reader]
    assert [first, *rest] == [batch.indices.tolist() for batch in make(folder, 8)]


@pytest.mark.parametrize("make", ALL)
def test_iterations_do_not_mix(folder, make):
    expected = [tensors(batch) for batch in make(folder, 8)]
    reader = make(folder, 8)
    first = iter(reader)
    batches = [tensors(next(first))]
    second = iter(reader)
    batches.append(tensors(next(second)))
    assert is_equal([tensors(next(first))], expected[1:2])
    first.close()
    batches += [tensors(batch) for batch in second]
    assert is_equal(batches, expected)


@pytest.mark.parametrize("make", ALL)
def test_states_of_other_readers_are_refused(folder, make):
    reader = make(folder, 8)
    for key, other in (
        ("batch_size", make(folder, 4)),
        ("seed", make(folder, 8, seed=1)),
        ("share", make(folder, 8, rank=1, world_size=2)),
    ):
        with pytest.raises(ValueError, match=f"of a reader with {key} .* this one has"):
            reader.load_state_dict(other.state_dict())


@pytest.mark.parametrize("make", OF_FILES)
def test_a_state_of_other_files_is_refused(folder, tmp_path, make):
    write_pictures(tmp_path, classes=3, per_class=11)
    with pytest.raises(ValueError, match="of a reader with images"):
        make(folder, 8).load_state_dict(make(tmp_path, 8).state_dict())


@pytest.mark.parametrize("make", ALL[::3])
def test_what_is_no_state_is_refused_and_changes_nothing(folder, make):
    reader = make(folder, 8)
    next(iter(reader))
    state = reader.state_dict()
    for wrong in ({"epoch": 1}, {}, state | {"step": -1}, state | {"skipped": [(99, "x")]}):
        with pytest.raises(ValueError, match="state"):
            reader.load_state_dict(wrong)
    for wrong in (None, [state], state | {"step": "1"}):
        with pytest.raises(TypeError, match="state"):
            reader.load_state_dict(wrong)
    assert reader.state_dict() == state
    reader.load_state_dict(state | {"skipped": [(3, "gone")]})


@pytest.mark.parametrize("seed", [2**63, 2**64, -1])
def test_seeds_fit_what_torch_takes(folder, seed):
    with pytest.raises(ValueError, match=f"seed must be in 0..{2**63 - 1}, got {seed}"):
        read_by_pil(folder, 8, seed=seed)
    assert len(next(iter(read_memory(folder, 8, seed=2**63 - 1))).indices) == 8


def break_three(paths):
    """Truncated, text, and empty; returns their names in order."""
    truncate(paths[20])
    paths[50].write_text("404: not found")
    paths[71].write_bytes(b"")
    return [str(paths[i]) for i in (20, 50, 71)]


@pytest.fixture(scope="module")
def broken_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("broken")
    paths = write_pictures(path, classes=4, per_class=25)
    return path, break_three(paths)


@pytest.mark.parametrize("make", OF_FILES)
def test_three_broken_files_among_a_hundred(broken_folder, make):
    folder, names = broken_folder
    reader = make(folder, 10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = [batch for _ in range(2) for batch in reader]
    assert [len(batch.indices) for batch in batches] == [10] * 20
    assert reader.skipped == names
    messages = sorted(str(warning.message) for warning in caught)
    assert len(messages) == 3
    for name, message in zip(names, messages, strict=True):
        assert message.startswith(f"skipped {name}: ") and len(message) > len(name) + 12
    for epoch in (batches[:10], batches[10:]):
        indices = torch.cat([batch.indices for batch in epoch]).tolist()
        assert set(indices) == set(range(100)) - {20, 50, 71}
        assert all(len(set(batch.indices.tolist())) == 10 for batch in epoch)
        assert torch.equal(
            torch.cat([batch.labels for batch in epoch]), torch.tensor(indices) // 25
        )


@pytest.mark.parametrize("make", OF_FILES)
@pytest.mark.filterwarnings("ignore:skipped")
def test_resuming_among_broken_files_is_exact_and_remembers_them(broken_folder, make):
    folder, names = broken_folder
    whole = make(folder, 10)
    expected = [tensors(batch) for _ in range(2) for batch in whole]
    first, batches = make(folder, 10), []
    for batch in first:
        batches.append(tensors(batch))
        if len(batches) == 6:
            break
    second = make(folder, 10)
    second.load_state_dict(first.state_dict())
    assert second.skipped == first.skipped
    batches += [tensors(batch) for _ in range(2) for batch in second]
    assert is_equal(batches, expected)
    assert second.skipped == names


@needs_dali
@pytest.mark.filterwarnings("ignore:skipped")
def test_dali_and_pil_read_the_same_pixels(broken_folder):
    readers = [make(broken_folder[0], 10, seed=9) for make in (read_by_pil, read_by_dali)]
    assert is_equal(*([tensors(batch) for batch in reader] for reader in readers))


@pytest.mark.parametrize("make", OF_FILES[:2])
def test_pixels_are_those_of_the_files(folder, make):
    names = image_folder(folder).names
    images, _, indices = next(iter(make(folder, 8)))
    assert images.channels == 3 and images.data.dtype == torch.uint8
    for offset, size, index in zip(images.offsets, images.sizes.tolist(), indices, strict=True):
        expected = decoded(names[index])
        assert tuple(size) == expected.shape[:2]
        pixels = images.data[offset : offset + expected.size].view(expected.shape)
        assert np.array_equal(pixels.numpy(), expected)
    assert len(images.data) == (images.sizes.prod(1) * 3).sum()


@pytest.mark.parametrize("make", OF_FILES)
@pytest.mark.filterwarnings("ignore:skipped")
def test_nothing_but_broken_files(tmp_path, make):
    for path in write_pictures(tmp_path, classes=1, per_class=4):
        truncate(path)
    with pytest.raises(ValueError, match="none of the 4 images of rank 0 can be read"):
        list(make(tmp_path, 2))


@pytest.mark.parametrize("make", OF_FILES)
def test_a_file_that_vanishes_is_skipped(tmp_path, make):
    paths = write_pictures(tmp_path, classes=1, per_class=4)
    reader = make(tmp_path, 2)
    paths[1].unlink()
    with pytest.warns(UserWarning, match=f"skipped {paths[1]}: .*No such file"):
        assert len(list(reader)) == 2
    assert reader.skipped == [str(paths[1])]


def test_memory_gives_the_rows_of_its_tensor(folder):
    reader = read_memory(folder, 8)
    for images, labels, indices in reader:
        assert torch.equal(images, reader.images[indices])
        assert torch.equal(labels, reader.labels[indices])


def test_memory_of_a_wrong_kind():
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"uint8, got a tensor .* of torch\.float32"):
        MemoryReader(torch.zeros(4, 8, 8), labels, 2)
    with pytest.raises(ValueError, match=r"labels \(n,\), got \(4, 8, 8\) and \(3,\)"):
        MemoryReader(torch.zeros(4, 8, 8, dtype=torch.uint8), labels[:3], 2)


def test_pil_missing(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match="needs PIL; `pip install pillow`"):
        read_by_pil(folder, 8)
