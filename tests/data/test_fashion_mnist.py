import gzip
import hashlib
import struct

import numpy as np
import pytest

from latentline.common.errors import UserError
from latentline.data import fashion_mnist
from latentline.data.fashion_mnist import read_fashion_mnist

COUNTS = {"train": 12, "t10k": 5}


def _files() -> dict[str, bytes]:
    """A small data set in the publisher's format: pixel = row of the image, label = its index mod 10."""
    files = {}
    for prefix, count in COUNTS.items():
        images = np.repeat(np.arange(28, dtype=np.uint8), 28)
        files[f"{prefix}-images-idx3-ubyte.gz"] = struct.pack(">4i", 2051, count, 28, 28) + bytes(images) * count
        files[f"{prefix}-labels-idx1-ubyte.gz"] = struct.pack(">2i", 2049, count) + bytes(index % 10 for index in range(count))
    return files


@pytest.fixture
def compressed(monkeypatch) -> dict[str, bytes]:
    """The four small files; their digests stand in for the publisher's."""
    monkeypatch.setattr(fashion_mnist, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in _files().items()})
    return {name: gzip.compress(content) for name, content in _files().items()}


@pytest.fixture
def folder(tmp_path, compressed):
    for name, content in compressed.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def _assert_whole(source) -> None:
    assert {name: len(split.labels) for name, split in source.splits.items()} == {"train": 12, "test": 5}
    for split in source.splits.values():
        assert split.images.shape[1:] == (1, 28, 28)
        assert np.array_equal(split.images[0, 0, :, 0], np.arange(28))
        assert np.array_equal(split.labels, np.arange(len(split.labels)) % 10)


def test_the_publishers_four_files_are_read_from_a_folder(folder):
    _assert_whole(read_fashion_mnist(folder, 1.0))


@pytest.mark.parametrize("damage", [gzip.compress(b"other content"), b"no gzip at all", None])
def test_a_folder_with_a_wrong_or_missing_file_is_refused_with_the_remedies(folder, damage):
    name = "t10k-labels-idx1-ubyte.gz"
    if damage is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(damage)
    with pytest.raises(UserError) as caught:
        read_fashion_mnist(folder, 1.0)
    message = str(caught.value)
    assert "\n" not in message
    for hint in (str(folder / name), "data.root", "train-images-idx3-ubyte.gz", "data.name", "digits"):
        assert hint in message


def test_a_folder_named_in_data_root_is_the_only_source(tmp_path, mirror, compressed, monkeypatch):
    mirror.files = compressed
    monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: [mirror.address])
    with pytest.raises(UserError):
        read_fashion_mnist(tmp_path, 1.0)
    assert mirror.asked == []


def test_the_next_mirror_serves_when_the_first_has_gone_or_sends_other_bytes(mirror, compressed, monkeypatch):
    mirror.files = {**compressed, "other-train-images-idx3-ubyte.gz": gzip.compress(b"other content")}
    mirrors = [mirror.address + "gone/x-", mirror.address + "other-", mirror.address]
    monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: mirrors)
    _assert_whole(read_fashion_mnist(None, 5.0))
    assert mirror.asked[:3] == ["/gone/x-train-images-idx3-ubyte.gz", "/other-train-images-idx3-ubyte.gz", "/train-images-idx3-ubyte.gz"]


def test_without_mirrors_the_debian_package_serves(compressed, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "_mirrors", list)
    monkeypatch.setattr(fashion_mnist, "debian_files", lambda package, names, seconds: {name: compressed[name] for name in names})
    _assert_whole(read_fashion_mnist(None, 1.0))


def test_when_nothing_works_each_source_and_the_remedies_are_named(tmp_path, mirror, compressed, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "_mirrors", lambda: [mirror.address + "gone/"])
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get
    with pytest.raises(UserError) as caught:
        read_fashion_mnist(None, 1.0)
    for hint in (mirror.address, "dataset-fashion-mnist", "data.root", "digits"):
        assert hint in str(caught.value)


def test_the_official_digests_and_names_are_those_of_four_files():
    assert len(fashion_mnist.SHA256) == 4
    assert all(len(bytes.fromhex(digest)) == 32 for digest in fashion_mnist.SHA256.values())
    assert len(fashion_mnist.CARD.classes) == 10
