"""Splits and classes come from the folders' names by the stated rules, or are refused."""

from dataclasses import replace

import numpy as np
import pytest

from latentline.core.errors import UserError
from latentline.data.store import read_split
from stages.download.prepare import prepare
from support.source_files import PREPARE_OPTIONS, encoded, fill_folder, read


def _read(tmp_path, names, others=()):
    folder = fill_folder(tmp_path / "x", list(names))
    for name in others:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no image")
    return read("image_folder", tmp_path, path=folder)


def _content(source) -> dict[str, list[str]]:
    """Return split -> names of its images with their class."""
    return {
        name: [
            split.images.name(row) + ("" if split.labels is None else f" {source.card.classes[split.labels[row]]}")
            for row in range(len(split.images))
        ]
        for name, split in source.splits.items()
    }


@pytest.mark.parametrize(
    "folders", [("train", "val", "test"), ("Training", "VALIDATION", "Testing"), ("TRAIN", "Valid", "test")]
)
def test_split_folders_are_splits(tmp_path, caplog, folders):
    caplog.set_level("INFO")
    train, val, test = folders
    source = _read(tmp_path, [f"{train}/cat/1.png", f"{train}/dog/2.png", f"{val}/dog/3.png", f"{test}/cat/4.png"])
    assert source.card.classes == ("cat", "dog")
    assert _content(source) == {
        "train": [f"{train}/cat/1.png cat", f"{train}/dog/2.png dog"],
        "val": [f"{val}/dog/3.png dog"],
        "test": [f"{test}/cat/4.png cat"],
    }
    assert "are read as splits (2 of train, 1 of val, 1 of test); data.splits does not cut these again" in caplog.text


def test_a_missing_split_is_cut_and_a_given_one_is_kept(tmp_path):
    source = _read(tmp_path, [f"train/{number:02d}.png" for number in range(30)] + ["test/a.png", "test/b.png"])
    prepare(source, tmp_path / "prepared", PREPARE_OPTIONS)
    levels = {
        name: sorted(read_split(tmp_path / "prepared", name).images.to_memory()[:, 0, 0, 0].tolist())
        for name in ("train", "val", "test")
    }
    assert levels["test"] == [30, 31]
    assert len(levels["val"]) > 1
    assert sorted(levels["train"] + levels["val"]) == list(range(30))


def test_split_folders_inside_class_folders_are_splits(tmp_path):
    source = _read(tmp_path, ["cat/train/1.png", "cat/test/2.png", "dog/train/a/3.png", "dog/Test/4.png"])
    assert _content(source) == {
        "train": ["cat/train/1.png cat", "dog/train/a/3.png dog"],
        "test": ["cat/test/2.png cat", "dog/Test/4.png dog"],
    }


@pytest.mark.parametrize("prefix", ["PetImages", "archive/PetImages", "data/train"])
def test_a_wrapper_is_descended_and_the_log_names_it(tmp_path, caplog, prefix):
    caplog.set_level("INFO")
    source = _read(tmp_path, [f"{prefix}/cat/1.png", f"{prefix}/dog/2.png"], others=["readme.md"])
    assert _content(source) == {"train": [f"{prefix}/cat/1.png cat", f"{prefix}/dog/2.png dog"]}
    assert f"folder {prefix.split('/')[0]} only wraps other folders" in caplog.text


def test_wrappers_outside_and_inside_of_splits(tmp_path):
    source = _read(tmp_path, ["set/train/images/cat/1.png", "set/test/images/cat/2.png"])
    assert _content(source) == {"train": ["set/train/images/cat/1.png cat"], "test": ["set/test/images/cat/2.png cat"]}


@pytest.mark.parametrize(
    "names",
    [["cat/1.png"], ["cat/1.png", "train/2.png"], ["car/1.png", "test/2.png"], ["bus_test/1.png", "train_car/2.png"]],
)
def test_folders_that_are_no_splits_stay_classes(tmp_path, names):
    source = _read(tmp_path, names)
    assert source.card.classes == tuple(name.split("/")[0] for name in names)
    assert set(source.splits) == {"train"}


def test_at_several_depths_the_first_folder_is_the_class_and_the_log_says_so(tmp_path, caplog):
    source = _read(tmp_path, ["cat/1.png", "dog/deep/er/2.png"])
    assert source.card.classes == ("cat", "dog")
    assert "images lie at several depths; the first sub-folder is the class" in caplog.text


@pytest.mark.parametrize(
    ("names", "others", "hint"),
    [
        (
            ["train/1.png", "test/2.png", "extra/3.png"],
            [],
            r"folders test, train beside folder extra\) must hold split",
        ),
        (["train/1.png", "test/2.png", "3.png"], [], r"folders test, train beside images\) must hold split folders or"),
        (["cat/train/1.png", "cat/test/2.png", "dog/3.png"], [], r"folders test, train beside images\)"),
        (["val/cat/1.png", "test/cat/2.png"], [], r"folders test, val\) must hold a folder train; add it"),
        (
            ["train/1.png", "val/2.png", "valid/3.png"],
            [],
            r"folders train, val, valid\) must hold one folder per split",
        ),
        (["train/cat/1.png", "test/dog/2.png"], [], r"class dog of test\) must have a folder in train too; move it"),
        (["train/cat/1.png", "test/2.png"], [], r"1 images beside its sub-folders, such as test/2\.png"),
        (["cat/1.png", "dog/2.png"], ["owl/1.heic", "owl/2.heic"], r"x/owl with 2 of \.heic\) must hold images, as"),
        (["train/1.png", "val/2.png"], ["test/1.heic"], r"x/test with 1 of \.heic\) must hold images, as"),
        (["train/cat/1.png", "test/cat/2.png"], ["train/dog/1.jp2"], r"train/dog with 1 of \.jp2\) must hold images"),
        (
            ["train_images/1.png", "Test-Images/2.png"],
            [],
            r"folders Test-Images, train_images\) must hold split folders",
        ),
        (
            ["01_trainset/a/1.png", "02_dev/a/2.png"],
            [],
            r"; if they are splits, rename 01_trainset, or list images and",
        ),
        (["images/cat/1.png"], ["labels/cat/1.txt"], r"x/labels with 1 of \.txt\) must hold images, as"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_remedy(tmp_path, names, others, hint):
    with pytest.raises(UserError, match=rf"^data\.path \(.*{hint}") as caught:
        _read(tmp_path, names, others)
    assert str(caught.value).count("; ") == 1


@pytest.mark.parametrize(("suffix", "form"), [("tif", "TIFF"), ("jfif", "JPEG"), ("", "PNG"), ("dat", "WEBP")])
def test_a_class_of_other_kinds_of_image_is_read(tmp_path, suffix, form):
    fill_folder(tmp_path / "x", ["cat/1.png"])
    (tmp_path / "x" / "dog").mkdir()
    (tmp_path / "x" / "dog" / f"1.{suffix}".rstrip(".")).write_bytes(encoded(np.full((4, 4, 3), 9, np.uint8), form))
    source = read("image_folder", tmp_path, path=tmp_path / "x")
    assert source.card.classes == ("cat", "dog")
    assert source.left_out == {}


def test_what_is_left_out_has_a_kind(tmp_path):
    source = _read(
        tmp_path,
        ["cat/1.png", "cat/@eaDir/1.png", "__MACOSX/cat/._1.png"],
        others=["cat/notes.pdf", "cat/Thumbs.db", ".DS_Store", "licence"],
    )
    (tmp_path / "x" / "owl").mkdir()
    source = read("image_folder", tmp_path, path=tmp_path / "x")
    assert source.left_out == {
        ".DS_Store": "hidden or of the system",
        "__MACOSX/": "hidden or of the system",
        "cat/@eaDir/": "hidden or of the system",
        "cat/Thumbs.db": "hidden or of the system",
        "cat/notes.pdf": ".pdf",
        "licence": "without suffix",
        "owl/": "empty folder",
    }


def test_images_that_the_csv_does_not_list_are_left_out(tmp_path):
    folder = fill_folder(tmp_path / "x", ["1.png", "2.png"])
    (folder / "labels.csv").write_text("file,label\n1.png,cat\n")
    source = read("image_folder", tmp_path, path=folder, labels=folder / "labels.csv")
    assert source.left_out == {"2.png": "images without a row"}


def test_linked_files_are_read_and_linked_folders_are_refused(tmp_path):
    folder = fill_folder(tmp_path / "x", ["cat/1.png"])
    fill_folder(tmp_path / "y", ["2.png"], first=5)
    (folder / "cat" / "2.png").symlink_to(tmp_path / "y" / "2.png")
    assert len(read("image_folder", tmp_path, path=folder).splits["train"].images) == 2
    (folder / "dog").symlink_to(tmp_path / "y")
    with pytest.raises(UserError, match=r"^data\.path \(.*x/dog, a link to a folder\) must be a folder"):
        read("image_folder", tmp_path, path=folder)


def test_a_class_whose_images_are_all_unreadable_is_refused(tmp_path):
    source = _read(tmp_path, [f"cat/{number}.png" for number in range(200)], others=["dog/1.png"])

    with pytest.raises(
        UserError, match=r"^data: class dog \(0 readable images in train\) must have at least one; mend"
    ):
        prepare(source, tmp_path / "prepared", replace(PREPARE_OPTIONS, max_unreadable=0.1))
