"""Each small named data set from a copy in its publisher's form, written from the publisher's description."""

import gzip
import sys

import numpy as np
import pytest
from scipy.io import savemat

from latentline.core.errors import UserError
from stages.download.fetch import RemoteFile
from stages.download.params import DataParams
from stages.download.registry import _READERS
from stages.download.sources import cifar
from support.source_files import md5, pixels, read, write_tar

random = np.random.default_rng(0)


def _trust(monkeypatch, module) -> None:
    """The checksums written down in ``module`` are the publisher's; these small copies have others."""
    monkeypatch.setattr(module, "md5", lambda name, digest, *urls: RemoteFile(name, urls))


def test_every_value_of_data_name_has_a_reader():
    assert set(_READERS) == set(DataParams.model_fields["name"].annotation.__args__)


OUT_OF_REACH = {
    "mnist": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "emnist": "58c8d27c78d21e728a6bc7b3cc06412e",
    "cifar10": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar100": "03b5dce01913d631647c71ecec9e9cb8",
    "svhn": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "celeba": "00d2c5bc6d35e252742224ab0c1e8fcb",
    "chestmnist": "02c8a6516a18b556561a56cbdd36c4a8",
    "tinyimagenet": "90528d7ca1a48142e341f4ef8d21d0de",
    "places365": "53ca1c756c3d1e7809517cc47c5561c5",
    "dtd": "fff73e5086ae6bdbea199a49dfb8a4c1",
    "imagenet": "1d675b47d978889d74fa0da5fadfb00e",
}


@pytest.mark.parametrize("name", OUT_OF_REACH)
def test_files_that_are_not_there_are_named_with_checksum_and_place(tmp_path, files_root, name):
    with pytest.raises(UserError) as caught:
        read(name, tmp_path, root=files_root)
    for hint in (OUT_OF_REACH[name], "data.root", str(files_root)):
        assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_digits_are_1797_images_of_8_by_8_with_every_grey_level_of_the_publisher(tmp_path):
    from sklearn.datasets import load_digits

    raw = load_digits()
    source = read("digits", tmp_path)
    assert {name: len(split.images) for name, split in source.splits.items()} == {"train": 1437, "test": 360}
    images = np.concatenate([split.images.array for split in source.splits.values()])[:, 0]
    assert np.array_equal(np.round(images * (16 / 255)), raw.images)
    assert np.array_equal(np.concatenate([split.labels for split in source.splits.values()]), raw.target)


# https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version": label, then red, green, blue, rows first.
PICTURES = random.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)


def _records(*label_columns) -> bytes:
    columns = [np.array(column, np.uint8)[:, None] for column in label_columns]
    return np.hstack([*columns, PICTURES.reshape(6, -1)]).tobytes()


def test_cifar10_is_read_from_its_binary_archive(tmp_path, files_root, monkeypatch):
    _trust(monkeypatch, cifar)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    files = {
        f"cifar-10-batches-bin/data_batch_{number}.bin": _records([number, 0, 0, 0, 0, 9]) for number in range(1, 6)
    }
    files |= {
        "cifar-10-batches-bin/test_batch.bin": _records([3] * 6),
        "cifar-10-batches-bin/batches.meta.txt": "\n".join([*names, ""]).encode(),
    }
    write_tar(files_root / "cifar-10-binary.tar.gz", files, "w:gz")
    source = read("cifar10", tmp_path, root=files_root)
    assert source.card.classes == tuple(names)
    assert source.splits["train"].labels.tolist() == [
        label for number in range(1, 6) for label in (number, 0, 0, 0, 0, 9)
    ]
    assert np.array_equal(pixels(source, "train", 13), PICTURES[1])
    assert source.splits["test"].labels.tolist() == [3] * 6


def test_cifar100_takes_the_fine_label_which_comes_second(tmp_path, files_root, monkeypatch):
    _trust(monkeypatch, cifar)
    files = {"train.bin": _records([19] * 6, range(6)), "test.bin": _records([1] * 6, [99] * 6)}
    files |= {
        "fine_label_names.txt": "\n".join(f"fine{number}" for number in range(100)).encode(),
        "coarse_label_names.txt": b"coarse",
    }
    write_tar(
        files_root / "cifar-100-binary.tar.gz",
        {f"cifar-100-binary/{name}": content for name, content in files.items()},
        "w:gz",
    )
    source = read("cifar100", tmp_path, root=files_root)
    assert source.splits["train"].labels.tolist() == list(range(6))
    assert source.card.classes[99] == "fine99"
    assert np.array_equal(pixels(source, "test", 5), PICTURES[5])


@pytest.mark.parametrize("content", [b"", _records([1] * 6)[:-1], _records([10] * 6)])
def test_cifar_of_a_wrong_length_or_label_is_refused(tmp_path, files_root, monkeypatch, content):
    _trust(monkeypatch, cifar)
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    files = {f"cifar-10-batches-bin/{name}": _records([1] * 6) for name in names} | {
        "cifar-10-batches-bin/batches.meta.txt": b"a " * 10
    }
    write_tar(files_root / "cifar-10-binary.tar.gz", files | {"cifar-10-batches-bin/test_batch.bin": content}, "w:gz")
    with pytest.raises(UserError, match="cifar-10-binary"):
        read("cifar10", tmp_path, root=files_root)


def _svhn(files_root, monkeypatch, **arrays):
    """Format 2 of http://ufldl.stanford.edu/housenumbers/: X (32, 32, 3, N), labels y 1 to 10, 10 for digit 0."""
    from torchvision.datasets import SVHN

    images = PICTURES.transpose(2, 3, 1, 0)
    for split in ("train", "test"):
        savemat(
            files_root / f"{split}_32x32.mat",
            {"X": images, "y": np.array([[1], [10], [2], [9], [10], [5]], np.uint8), **arrays},
            do_compression=True,
        )
    listed = {
        split: [url, name, md5(files_root / name) if split != "extra" else digest]
        for split, (url, name, digest) in SVHN.split_list.items()
    }
    monkeypatch.setattr(SVHN, "split_list", listed)


def test_svhn_is_read_from_its_matlab_files_and_ten_is_zero(tmp_path, files_root, monkeypatch):
    _svhn(files_root, monkeypatch)
    source = read("svhn", tmp_path, root=files_root)
    assert source.splits["train"].labels.tolist() == [1, 0, 2, 9, 0, 5]
    assert np.array_equal(pixels(source, "test", 4), PICTURES[4])
    assert set(source.splits) == {"train", "test"}


@pytest.mark.parametrize(
    "arrays", [{"y": np.array([[1]])}, {"y": np.zeros((6, 1))}, {"X": PICTURES.astype(float)}, {"X": PICTURES}]
)
def test_svhn_of_another_form_is_refused(tmp_path, files_root, monkeypatch, arrays):
    _svhn(files_root, monkeypatch, **arrays)
    with pytest.raises(UserError, match="32x32"):
        read("svhn", tmp_path, root=files_root)


def _medmnist(files_root, monkeypatch, name: str, size: int = 28, **changed):
    """https://github.com/MedMNIST/MedMNIST: {train,val,test}_images (N, S, S[, 3]) and _labels (N, 1), or (N, 14)."""
    from medmnist import INFO

    count = {"train": 6, "val": 4, "test": 5}
    width = 14 if name == "chestmnist" else 1
    arrays = {}
    for split, rows in count.items():
        arrays[f"{split}_images"] = random.integers(0, 256, (rows, size, size), dtype=np.uint8)
        arrays[f"{split}_labels"] = random.integers(0, 2, (rows, width), dtype=np.uint8)
    arrays |= changed
    suffix = "" if size == 28 else f"_{size}"
    path = files_root / f"{name}{suffix}.npz"
    np.savez_compressed(path, **arrays)
    monkeypatch.setitem(INFO, name, {**INFO[name], f"MD5{suffix}": md5(path)})
    return arrays


@pytest.mark.parametrize(("name", "classes"), [("octmnist", 4), ("tissuemnist", 8), ("pneumoniamnist", 2)])
def test_medmnist_with_one_label_is_read_in_its_own_splits(tmp_path, files_root, monkeypatch, name, classes):
    arrays = _medmnist(files_root, monkeypatch, name)
    source = read(name, tmp_path, root=files_root)
    assert len(source.card.classes) == classes
    assert source.card.licence == "CC BY 4.0"
    for split in ("train", "val", "test"):
        assert source.splits[split].labels.tolist() == arrays[f"{split}_labels"][:, 0].tolist()
        assert np.array_equal(pixels(source, split, 2)[0], arrays[f"{split}_images"][2])


def test_chestmnist_has_fourteen_binary_attributes_and_every_size(tmp_path, files_root, monkeypatch):
    arrays = _medmnist(files_root, monkeypatch, "chestmnist", size=64)
    source = read("chestmnist", tmp_path, root=files_root, medmnist_size=64)
    assert source.card.classes == ()
    assert [attribute.kind for attribute in source.card.attributes] == ["binary"] * 14
    assert source.card.attributes[0].name == "atelectasis"
    assert source.splits["val"].labels is None
    assert np.array_equal(source.splits["val"].attributes, arrays["val_labels"])
    assert pixels(source, "val", 0).shape == (1, 64, 64)


@pytest.mark.parametrize(
    "changed",
    [
        {"val_labels": np.zeros((3, 1), np.uint8)},
        {"test_labels": np.full((5, 1), 9)},
        {"train_images": np.zeros((6, 5))},
    ],
)
def test_medmnist_of_another_form_is_refused(tmp_path, files_root, monkeypatch, changed):
    _medmnist(files_root, monkeypatch, "octmnist", **changed)
    with pytest.raises(UserError, match="octmnist"):
        read("octmnist", tmp_path, root=files_root)


@pytest.mark.parametrize(("name", "package"), [("octmnist", "medmnist"), ("huggingface", "datasets")])
def test_a_missing_package_is_named_with_the_extra_that_installs_it(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package {package}.*pip install -e '\.\[(medmnist|huggingface)\]'"):
        read(name, tmp_path)


@pytest.mark.slow
def test_the_real_fashion_mnist_serves_as_emnist_format_too(tmp_path, files_root):
    """Debian's package holds the publisher's real files; EMNIST's have the same form and other names."""
    from stages.download.sources.debian import debian_files
    from stages.download.sources.mnist import FASHION_SHA256

    for name, content in debian_files("dataset-fashion-mnist", list(FASHION_SHA256), 60.0).items():
        (files_root / name).write_bytes(content)
    real = read("fashion_mnist", tmp_path, root=files_root)
    assert {name: len(split.images) for name, split in real.splits.items()} == {"train": 60_000, "test": 10_000}
    assert np.bincount(real.splits["train"].labels).tolist() == [6000] * 10
    for path in list(files_root.iterdir()):
        path.rename(files_root / f"emnist-balanced-{path.name.replace('t10k', 'test')}")
    turned = read("emnist", tmp_path, root=files_root)
    assert np.array_equal(pixels(turned, "train", 7)[0], pixels(real, "train", 7)[0].T)
    assert gzip.decompress((files_root / "emnist-balanced-test-labels-idx1-ubyte.gz").read_bytes())[8:] == bytes(
        turned.splits["test"].labels.tolist()
    )
