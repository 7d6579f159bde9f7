"""Finding images: in folders, lists and tar files."""

import io
import tarfile

import pytest
from pictures import write_pictures

from sslkernels.data.readers import image_folder, image_list, webdataset


def test_a_class_per_subfolder_in_the_order_of_names(tmp_path):
    paths = write_pictures(tmp_path, classes=3, per_class=2)
    (tmp_path / "class0" / "notes.txt").write_text("no image")
    (tmp_path / "class0" / "._000.jpg").write_text("of a file manager")
    (tmp_path / ".cache").mkdir()
    images = image_folder(tmp_path)
    assert images.names == [str(path) for path in paths]
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.classes == ("class0", "class1", "class2")
    assert images.read(3) == paths[3].read_bytes()


def test_images_deep_in_a_class_belong_to_it(tmp_path):
    paths = write_pictures(tmp_path, classes=2, per_class=1)
    (tmp_path / "class0" / "more").mkdir()
    deep = paths[0].rename(tmp_path / "class0" / "more" / "PHOTO.JPEG")
    assert image_folder(tmp_path).names == [str(deep), str(paths[1])]


def test_a_flat_folder_has_one_label(tmp_path):
    write_pictures(tmp_path, classes=1, per_class=3)
    images = image_folder(tmp_path / "class0")
    assert len(images) == 3 and images.labels.tolist() == [0, 0, 0] and images.classes == ()


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="expected a folder of images.*missing"):
        image_folder(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"no images in .*expected files \.jpg.*subfolder"):
        image_folder(tmp_path)
    paths = write_pictures(tmp_path, classes=2, per_class=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images in .*empty.*remove"):
        image_folder(tmp_path)
    (tmp_path / "empty").rmdir()
    paths[0].rename(tmp_path / "stray.jpg")
    with pytest.raises(ValueError, match="beside subfolders.*stray.jpg.*move"):
        image_folder(tmp_path)


def test_lists(tmp_path):
    paths = write_pictures(tmp_path, classes=1, per_class=2)
    spaced = paths[1].rename(tmp_path / "two words.jpg")
    (tmp_path / "list.txt").write_text("two words.jpg 7\n\nclass0/000.jpg -1\n")
    images = image_list(tmp_path / "list.txt")
    assert images.names == [str(spaced), str(paths[0])]
    assert images.labels.tolist() == [7, -1]
    assert images.read(0) == spaced.read_bytes()


@pytest.mark.parametrize("line", ["picture.jpg", "picture.jpg cat", "3"])
def test_lists_with_a_wrong_line(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"a.jpg 0\n{line}\n")
    with pytest.raises(ValueError, match=f"list.txt:2: expected 'path label', got '{line}'"):
        image_list(tmp_path / "list.txt")


def test_lists_that_are_none(tmp_path):
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(ValueError, match="no images in"):
        image_list(tmp_path / "list.txt")
    with pytest.raises(ValueError, match="expected a text file of lines"):
        image_list(tmp_path / "missing.txt")


def test_webdataset_reads_members_in_place(tmp_path):
    paths = write_pictures(tmp_path / "files", classes=2, per_class=2)
    shards = [tmp_path / "0.tar", tmp_path / "1.tar"]
    for label, shard in enumerate(shards):
        with tarfile.open(shard, "w") as archive:
            for path in paths[2 * label :][:2]:
                archive.add(path, path.name)
                text = f"{label + 3}\n".encode()
                member = tarfile.TarInfo(f"{path.stem}.cls")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
    images = webdataset(shards)
    assert images.labels.tolist() == [3, 3, 4, 4]
    assert images.names[2] == f"{shards[1]}/000.jpg"
    assert [images.read(i) for i in range(4)] == [path.read_bytes() for path in paths]


def test_webdataset_of_something_else(tmp_path):
    (path,) = write_pictures(tmp_path, classes=1, per_class=1)
    with pytest.raises(ValueError, match="expected an uncompressed tar file, got .*000.jpg"):
        webdataset([path])
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(ValueError, match="no images in the tar files"):
        webdataset([tmp_path / "empty.tar"])


def test_the_fingerprint_follows_names_and_labels(tmp_path):
    write_pictures(tmp_path, classes=2, per_class=2)
    first = image_folder(tmp_path).fingerprint
    assert image_folder(tmp_path).fingerprint == first
    (tmp_path / "class0" / "000.jpg").rename(tmp_path / "class0" / "zzz.jpg")
    assert image_folder(tmp_path).fingerprint != first
