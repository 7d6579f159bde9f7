"""Finding images: in folders, lists and tar files."""

import io
import json
import os
import tarfile

import pytest
from pictures import write_pictures

from sslkernels.data.readers import PILReader, image_folder, image_list, webdataset


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


def test_lists_with_names_of_classes(tmp_path):
    paths = write_pictures(tmp_path, classes=1, per_class=3)
    lines = [f"class0/{path.name} {label}\n" for path, label in zip(paths, "bab", strict=True)]
    (tmp_path / "list.txt").write_text("".join(lines))
    images = image_list(tmp_path / "list.txt")
    assert images.labels.tolist() == [1, 0, 1] and images.classes == ("a", "b")
    (tmp_path / "list.txt").write_text("a.jpg cat\ntwo words.jpg\n")
    with pytest.raises(ValueError, match="list.txt:2: expected 'path label', got 'two words.jpg'"):
        image_list(tmp_path / "list.txt")


def test_a_mark_of_the_byte_order_is_no_part_of_the_first_path(tmp_path):
    paths = write_pictures(tmp_path, classes=1, per_class=1)
    (tmp_path / "list.txt").write_text("class0/000.jpg 3\n", "utf-8-sig")
    assert image_list(tmp_path / "list.txt").names == [str(paths[0])]
    (tmp_path / "list.txt").write_text("class0/000.jpg 3\n", "utf-16")
    with pytest.raises(ValueError, match="list.txt:1: expected 'path label'"):
        image_list(tmp_path / "list.txt")


def test_names_may_be_any_bytes(tmp_path):
    (path,) = write_pictures(tmp_path, classes=1, per_class=1)
    odd = path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff\xe9.jpg"))
    (tmp_path / "list.txt").write_bytes(b"class0/\xff\xe9.jpg 3\n")
    for images in (image_folder(tmp_path), image_list(tmp_path / "list.txt")):
        assert images.names == [str(odd)] and images.read(0) == odd.read_bytes()
        assert images.fingerprint
    reader = PILReader(images, 1)
    assert len(list(reader)) == 1 and not reader.skipped


@pytest.mark.parametrize("label", [2**63, -(2**63) - 1])
def test_labels_fit_64_bits(tmp_path, label):
    (tmp_path / "list.txt").write_text(f"a.jpg {label}\n")
    with pytest.raises(ValueError, match=f"labels must fit 64 bits, got {label}"):
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


def write_tar(path, **members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_webdataset_labels_in_json_and_by_name(tmp_path):
    tar = write_tar(
        tmp_path / "a.tar",
        **{"1.jpg": b"one", "1.json": json.dumps({"label": 7, "url": "x"}).encode()},
        **{"2.jpg": b"two", "2.json": b'{"url": "y"}', "2.cls": b"9"},
        **{"3.gif": b"three", "3.json": b'{"url": "z"}', "3.txt": b"a caption"},
    )
    images = webdataset(str(tar))  # one file alone
    assert images.labels.tolist() == [7, 9, 0]
    tar = write_tar(tmp_path / "b.tar", **{"1.jpg": b"", "1.cls": b"dog\n", "2.avif": b""})
    with pytest.raises(ValueError, match="all numbers or all names, got 'dog' and 0.*2.avif"):
        webdataset(tar)
    write_tar(tar, **{"1.jpg": b"", "1.cls": b"dog", "2.jfif": b"", "2.json": b'{"label": "cat"}'})
    images = webdataset([tar])
    assert images.labels.tolist() == [1, 0] and images.classes == ("cat", "dog")
    for content in (b'{"label": 1.5}', b'{"label": true}', b"{"):
        with pytest.raises(ValueError, match="expected .*1.json"):
            webdataset(write_tar(tar, **{"1.jpg": b"", "1.json": content}))


def test_webdataset_takes_one_image_of_a_sample(tmp_path):
    members = {"a/1.seg.png": b"mask", "a/1.JPG": b"image", "a/1.png": b"another", "b/1.jpg": b"b"}
    members |= {"2.v2.jpg": b"as it was", "2.v3.jpg": b"this too"}
    images = webdataset(write_tar(tmp_path / "a.tar", **members))
    found = [images.read(i) for i in range(len(images))]
    assert found == [b"image", b"b", b"as it was", b"this too"]


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
