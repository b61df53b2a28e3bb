"""MNIST, Fashion-MNIST and EMNIST from small copies of the publishers' files, and other files refused by name."""

import gzip
import hashlib

import numpy as np
import pytest

from latentline.core.errors import UserError
from stages.download.sources import mnist
from support.source_files import idx, md5, pixels, read, write_zip

IMAGES = np.arange(12 * 28 * 28).reshape(12, 28, 28) % 251
LABELS = np.arange(12) % 10


def _four_files(prefix: str = "", parts=("train", "t10k")) -> dict[str, bytes]:
    kinds = {"images-idx3-ubyte": IMAGES, "labels-idx1-ubyte": LABELS}
    return {f"{prefix}{part}-{kind}.gz": idx(array) for part in parts for kind, array in kinds.items()}


def _folder(tmp_path, files):
    root = tmp_path / "root"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


def _assert_whole(source, *, transposed: bool = False) -> None:
    for name, split in source.splits.items():
        assert len(split.images) == 12
        assert np.array_equal(split.labels, LABELS)
        assert np.array_equal(pixels(source, name, 3)[0], IMAGES[3].T if transposed else IMAGES[3])
    assert set(source.splits) == {"train", "test"}


@pytest.fixture
def mnist_root(monkeypatch, tmp_path):
    from torchvision.datasets import MNIST

    root = _folder(tmp_path, _four_files())
    monkeypatch.setattr(MNIST, "resources", [(path.name, md5(path)) for path in sorted(root.iterdir())])
    return root


def test_mnist_is_read_from_the_publishers_four_files(tmp_path, mnist_root):
    _assert_whole(read("mnist", tmp_path, root=mnist_root))


def test_mnist_of_other_bytes_or_incomplete_is_refused_with_checksum_and_remedies(tmp_path, mnist_root):
    (mnist_root / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(LABELS[::-1]))
    with pytest.raises(UserError, match=r"\(md5 .*\) must have the md5 "):
        read("mnist", tmp_path, root=mnist_root)
    (mnist_root / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError) as caught:
        read("mnist", tmp_path, root=mnist_root)
    for hint in ("train-images-idx3-ubyte.gz (md5 ", "data.root", "digits", "yann.lecun.com"):
        assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def fashion_files(monkeypatch):
    files = _four_files()
    monkeypatch.setattr(
        mnist,
        "FASHION_SHA256",
        {name: hashlib.sha256(gzip.decompress(content)).hexdigest() for name, content in files.items()},
    )
    return files


def test_fashion_mnist_comes_from_the_mirrors_and_where_they_fail_from_debian(
    tmp_path, server, fashion_files, monkeypatch
):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", [server.address + "gone/x-", server.address])
    monkeypatch.setattr(
        mnist, "debian_files", lambda package, names, seconds: {name: fashion_files[name] for name in names}
    )
    _assert_whole(read("fashion_mnist", tmp_path))
    server.files = fashion_files
    server.asked.clear()
    _assert_whole(read("fashion_mnist", tmp_path))
    assert len(server.asked) == 8


def test_fashion_mnist_out_of_reach_names_every_source_and_remedy(tmp_path, server, fashion_files, monkeypatch):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", [server.address])
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get
    with pytest.raises(UserError) as caught:
        read("fashion_mnist", tmp_path)
    for hint in (
        server.address,
        "dataset-fashion-mnist",
        "data.root",
        "t10k-labels-idx1-ubyte.gz (sha256 unpacked ",
        "digits",
    ):
        assert hint in str(caught.value)
    with pytest.raises(UserError, match=r"data\.root"):
        read("fashion_mnist", tmp_path, root=tmp_path)


@pytest.mark.parametrize("split", ["balanced", "byclass", "bymerge"])
def test_emnist_is_upright_from_its_archive_and_from_its_unpacked_files(tmp_path, monkeypatch, split):
    """Names as in gzip.zip of Cohen et al., arXiv:1702.05373: gzip/emnist-SPLIT-PART-images-idx3-ubyte.gz ..."""
    from torchvision.datasets import EMNIST

    files = _four_files(f"emnist-{split}-", ("train", "test"))
    root = _folder(tmp_path, files)
    source = read("emnist", tmp_path, root=root, emnist_split=split)
    _assert_whole(source, transposed=True)
    assert len(source.card.classes) == {"balanced": 47, "byclass": 62, "bymerge": 47}[split]

    for path in root.iterdir():
        path.unlink()
    archive = write_zip(root / "gzip.zip", {f"gzip/{name}": content for name, content in files.items()})
    with pytest.raises(UserError, match=r"\(md5 .*\) must have the md5 "):
        read("emnist", tmp_path, root=root, emnist_split=split)
    monkeypatch.setattr(EMNIST, "md5", md5(archive))
    _assert_whole(read("emnist", tmp_path, root=root, emnist_split=split), transposed=True)
    write_zip(root / "gzip.zip", {f"gzip/{name}": content for name, content in list(files.items())[:3]})
    monkeypatch.setattr(EMNIST, "md5", md5(root / "gzip.zip"))
    with pytest.raises(UserError, match=r"must contain gzip/emnist-.*, undamaged; fetch it again"):
        read("emnist", tmp_path, root=root, emnist_split=split)


def test_emnist_out_of_reach_names_the_archive_and_the_files_that_do_as_well(tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(UserError) as caught:
        read("emnist", tmp_path, root=tmp_path / "root")
    for hint in (
        "gzip.zip (md5 58c8d27c78d21e728a6bc7b3cc06412e)",
        "emnist-balanced-test-labels-idx1-ubyte.gz",
        "data.root",
    ):
        assert hint in str(caught.value)


def _bad_idx() -> dict[str, bytes]:
    raw = gzip.decompress(idx(IMAGES))
    return {
        "short": gzip.compress(raw[:-1]),
        "long": gzip.compress(raw + b"\0"),
        "header only": gzip.compress(raw[:9]),
        "empty": gzip.compress(b""),
        "labels": idx(LABELS),
        "no images": idx(IMAGES[:0]),
        "floats": gzip.compress(b"\0\0\x0d\x03" + raw[4:]),
        "huge promise": gzip.compress(raw[:4] + b"\xff" * 12 + raw[16:]),
        "cut": idx(IMAGES)[:-40],
        "no gzip": raw,
    }


@pytest.mark.parametrize("kind", _bad_idx())
def test_a_file_that_is_not_the_idx_it_should_be_is_refused_by_name(tmp_path, kind):
    files = _four_files("emnist-balanced-", ("train", "test")) | {
        "emnist-balanced-test-images-idx3-ubyte.gz": _bad_idx()[kind]
    }
    with pytest.raises(UserError, match="emnist-balanced-test-images"):
        read("emnist", tmp_path, root=_folder(tmp_path, files))


@pytest.mark.parametrize("labels", [LABELS[:5], LABELS + 40])
def test_labels_that_do_not_fit_the_images_are_refused(tmp_path, labels):
    files = _four_files("emnist-balanced-", ("train", "test")) | {
        "emnist-balanced-train-labels-idx1-ubyte.gz": idx(labels)
    }
    with pytest.raises(UserError, match="emnist-balanced-train-labels"):
        read("emnist", tmp_path, root=_folder(tmp_path, files))
