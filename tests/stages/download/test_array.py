"""A user's own arrays."""

import gzip
import io
import logging
import pickle
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latentline.core.errors import UserError
from stages.download.sources.idx import read_idx
from support.source_files import pixels, read

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 7), dtype=np.uint8)
LABELS = np.array([3, 7, 3, 3, 7])


def _write(path, **arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".npy":
        np.save(path, arrays["images"])
    else:
        save_file({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}, path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_images_and_labels_come_back_and_classes_are_the_distinct_labels(tmp_path, suffix):
    source = read("array", tmp_path, path=_write(tmp_path / f"x{suffix}", images=IMAGES, labels=LABELS))
    assert source.card.classes == ("3", "7")
    assert source.splits["train"].labels.tolist() == [0, 1, 0, 0, 1]
    assert all(np.array_equal(pixels(source, "train", row), IMAGES[row]) for row in range(5))


def test_packed_npz_and_plain_npy_are_read_without_labels(tmp_path):
    np.savez_compressed(tmp_path / "packed.npz", images=IMAGES)
    for path in (tmp_path / "packed.npz", _write(tmp_path / "x.npy", images=IMAGES)):
        source = read("array", tmp_path, path=path)
        assert source.splits["train"].labels is None
        assert source.card.classes == ()
        assert np.array_equal(pixels(source, "train", 4), IMAGES[4])


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (IMAGES[:, 0], (1, 6, 7)),
        (IMAGES[:, :1], (1, 6, 7)),
        (IMAGES.transpose(0, 2, 3, 1), (3, 6, 7)),
        (IMAGES[:, :1].transpose(0, 2, 3, 1), (1, 6, 7)),
        (IMAGES[:, :, :, :3], (3, 6, 3)),  # both readings: channels first
    ],
)
def test_every_common_layout_is_understood(tmp_path, images, shape):
    source = read("array", tmp_path, path=_write(tmp_path / "x.npy", images=images))
    assert pixels(source, "train", 2).shape == shape
    assert np.array_equal(pixels(source, "train", 2)[0], IMAGES[2, 0, :, : shape[2]])


def test_texts_are_classes_too_and_a_column_of_labels_is_flattened(tmp_path):
    named = _write(tmp_path / "x.npz", images=IMAGES, labels=np.array(["dog", "cat", "dog", "dog", "cat"]))
    assert read("array", tmp_path, path=named).card.classes == ("cat", "dog")
    column = _write(tmp_path / "y.npz", images=IMAGES, labels=LABELS[:, None].astype(np.float32))
    assert read("array", tmp_path, path=column).splits["train"].labels.tolist() == [0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "hint"),
    [
        ({"pictures": IMAGES}, "an array called images"),
        ({"images": IMAGES / 255}, "scale floats"),
        ({"images": IMAGES.astype(np.int16)}, "int16"),
        ({"images": IMAGES[:0]}, r"images \(uint8 \(0, 3, 6, 7\)\) must be uint8"),
        ({"images": IMAGES[:, :2]}, "C = 1 or 3"),
        ({"images": IMAGES[0, 0]}, r"images \(uint8 \(6, 7\)\) must be uint8"),
        ({"images": IMAGES, "labels": LABELS[:3]}, r"labels int64 \(3,\)\) must have labels \(5,\)"),
        ({"images": IMAGES, "labels": LABELS + 0.5}, r"\(3.5\) must hold integers or texts as classes"),
        (
            {"images": IMAGES, "labels": np.eye(5, 2)},
            r"labels float64 \(5, 2\)\) must have labels \(5,\).*; take .*argmax",
        ),
    ],
)
def test_other_arrays_are_refused_with_what_was_expected(tmp_path, arrays, hint):
    with pytest.raises(UserError, match=hint) as caught:
        read("array", tmp_path, path=_write(tmp_path / "x.npz", **arrays))
    assert "data.path" in str(caught.value)


class _Loud:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_a_pickle_is_never_run(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    content = buffer.getvalue() + pickle.dumps(_Loud())
    (tmp_path / "x.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("images.npy", content)
    for name in ("x.npy", "y.npz"):
        with pytest.raises(UserError, match=r"data\.path \(.*: images of dtype object\) must hold uint8 numbers; "):
            read("array", tmp_path, path=tmp_path / name)


@pytest.mark.parametrize(
    ("images", "labels"),
    [("images", "label"), ("x", "y"), ("X", "Y"), ("data", "targets"), ("imgs", "labels"), ("images", "y")],
)
def test_the_usual_names_are_taken_and_the_log_has_them(tmp_path, caplog, images, labels):
    path = _write(tmp_path / "x.npz", **{images: IMAGES, labels: LABELS, "ids": np.arange(5)})
    with caplog.at_level(logging.INFO):
        source = read("array", tmp_path, path=path)
    assert source.splits["train"].labels.tolist() == [0, 1, 0, 0, 1]
    assert f"data.path: images from {images}, labels from {labels}" in caplog.messages
    assert "data.path: 1 arrays of the file are not used: ids" in caplog.messages
    assert source.left_out == {"ids": "arrays without a usual name"}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("arrays", "hint"),
    [
        (
            {"images": IMAGES, "x": IMAGES.copy(), "y": LABELS},
            r"with images and x\) must contain one array of images; remove",
        ),
        (
            {"images": IMAGES, "y": LABELS, "label": LABELS.copy()},
            r"must contain one array of labels; remove or rename all",
        ),
        ({"images": IMAGES, "lables": LABELS}, r"with lables and without labels\) must have .*; rename it to labels"),
        ({"images": IMAGES, "target": LABELS}, r"with target and without labels\) must have its labels in an array"),
        ({"train_images": IMAGES}, r"with train_images\) must contain an array called images \(or x, data, imgs\)"),
    ],
)
def test_ambiguous_and_nearly_right_names_are_refused(tmp_path, suffix, arrays, hint):
    with pytest.raises(UserError, match=hint):
        read("array", tmp_path, path=_write(tmp_path / f"x{suffix}", **arrays))


@pytest.mark.parametrize("dtype", [">i8", ">u2", ">f4", "<i4", ">U5", "S5", "bool"])
def test_labels_of_any_byte_order_and_of_bytes_and_booleans_are_classes(tmp_path, dtype):
    path = _write(tmp_path / "x.npz", images=IMAGES, labels=(LABELS - 3).astype(dtype))
    source = read("array", tmp_path, path=path)
    assert source.splits["train"].labels.tolist() == [0, 1, 0, 0, 1]
    assert source.card.classes == (("False", "True") if dtype == "bool" else ("0", "4"))


def test_labels_of_objects_are_refused_with_the_remedy_and_other_objects_are_named(tmp_path, caplog):
    named = np.array(["a", "b", "a", "b", "a"], object)
    path = _write(tmp_path / "x.npz", images=IMAGES, labels=named)
    with pytest.raises(UserError, match=r"labels of dtype object\) must hold numbers or texts; .*\.astype\(str\)"):
        read("array", tmp_path, path=path)
    source = read("array", tmp_path, path=_write(tmp_path / "y.npz", images=IMAGES, labels=LABELS, notes=named))
    assert len(source.splits["train"].images) == 5
    assert "data.path: 1 arrays of the file are not used: notes" in caplog.messages


def test_blanks_around_labels_are_no_part_of_them_and_no_text_is_empty(tmp_path):
    labels = np.array(["cat", " cat", "dog ", "cat", "dog"])
    source = read("array", tmp_path, path=_write(tmp_path / "x.npz", images=IMAGES, labels=labels))
    assert source.card.classes == ("cat", "dog")
    labels[3] = " "
    with pytest.raises(UserError, match=r"labels\[3\] ''\) must be a class; add it, or remove the image"):
        read("array", tmp_path, path=_write(tmp_path / "x.npz", images=IMAGES, labels=labels))


def test_floats_that_skip_integers_are_no_classes(tmp_path):
    path = _write(tmp_path / "x.npz", images=IMAGES, labels=2.0**70 * (1 + LABELS))
    with pytest.raises(UserError, match=r"\(.*e\+2\d\) must hold integers of at most 2\*\*53 in floats; save them as"):
        read("array", tmp_path, path=path)


def test_one_image_has_one_label(tmp_path):
    source = read("array", tmp_path, path=_write(tmp_path / "x.npz", images=IMAGES[:1], labels=LABELS[:1]))
    assert source.splits["train"].labels.tolist() == [0]


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors"])
def test_a_file_cut_short_is_refused(tmp_path, suffix):
    whole = _write(tmp_path / f"x{suffix}", images=IMAGES).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / f"cut{suffix}").write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut"):
            read("array", tmp_path, path=tmp_path / f"cut{suffix}")


def test_a_missing_file_and_an_unknown_ending_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.path \(.*nowhere\) must be a file that ends in"):
        read("array", tmp_path)
    (tmp_path / "x.pkl").write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.pkl\) must end in \.npz, \.npy or \.safetensors"):
        read("array", tmp_path, path=tmp_path / "x.pkl")


def test_a_file_too_large_for_the_disk_is_refused_before_anything_is_unpacked(tmp_path, monkeypatch):
    path = _write(tmp_path / "x.npz", images=np.zeros((100, 200, 200), np.uint8))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 << 20))
    with pytest.raises(UserError, match=r"x\.npz \(3 MiB unpacked\) must fit into the 2 MiB of free disk; make room"):
        read("array", tmp_path, path=path)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (" + "9" * 30 + ",)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000, 1000000)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4, 4)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': 'abc'}",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (1, 4, 4)}",
        "{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1, 4, 4)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 4, 4",
        "(" * 5000,
        "[" * 150 + "]" * 150,
        "",
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path, header):
    text = header.encode() + b"\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(16))
    with pytest.raises(UserError, match=r"data\.path \(.*x\.npy: .*\) must be an undamaged array file"):
        read("array", tmp_path, path=tmp_path / "x.npy")


def test_an_idx_file_that_promises_more_than_the_disk_holds_is_not_unpacked(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(10_000)))
    with pytest.raises(UserError, match=r"x\.gz \(\d+ MiB unpacked\) must fit into the \d+ MiB of free disk"):
        read_idx(tmp_path / "x.gz", 3, tmp_path)
