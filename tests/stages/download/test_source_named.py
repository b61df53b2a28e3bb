"""Each named data set from a small copy in its publisher's form, written from the publisher's own description."""

import gzip
import io
import sys
from itertools import chain

import numpy as np
import pytest
from scipy.io import savemat

from latentline.core.errors import UserError
from stages.download.fetch import RemoteFile
from stages.download.params import DataParams
from stages.download.registry import _READERS
from stages.download.sources import cifar, tinyimagenet
from support.source_files import encoded, flat, md5, pixels, read, tar_bytes, write_tar, write_zip

random = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def _trust(monkeypatch, module) -> None:
    """The checksums written down in ``module`` are the publisher's; these small copies have others."""
    monkeypatch.setattr(module, "md5", lambda name, digest, *urls: RemoteFile(name, urls))


def _level(source, split: str, row: int) -> int:
    """The level of a flat image, as JPEG kept it."""
    values = pixels(source, split, row)
    assert values.max() - values.min() <= 2
    return round(float(values.mean()))


def test_every_name_of_the_knob_has_a_reader():
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
def test_files_that_are_not_there_are_named_with_checksum_and_place(tmp_path, root, name):
    with pytest.raises(UserError) as caught:
        read(name, tmp_path, root=root)
    for hint in (OUT_OF_REACH[name], "data.root", str(root)):
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


# https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version": <1 x label><3072 x pixel>, red then green then blue, rows first.
PICTURES = random.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)


def _records(*label_columns) -> bytes:
    columns = [np.array(column, np.uint8)[:, None] for column in label_columns]
    return np.hstack([*columns, PICTURES.reshape(6, -1)]).tobytes()


def test_cifar10_is_read_from_its_binary_archive(tmp_path, root, monkeypatch):
    _trust(monkeypatch, cifar)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    files = {f"cifar-10-batches-bin/data_batch_{number}.bin": _records([number, 0, 0, 0, 0, 9]) for number in range(1, 6)}
    files |= {"cifar-10-batches-bin/test_batch.bin": _records([3] * 6), "cifar-10-batches-bin/batches.meta.txt": "\n".join([*names, ""]).encode()}
    write_tar(root / "cifar-10-binary.tar.gz", files, "w:gz")
    source = read("cifar10", tmp_path, root=root)
    assert source.card.classes == tuple(names)
    assert source.splits["train"].labels.tolist() == [label for number in range(1, 6) for label in (number, 0, 0, 0, 0, 9)]
    assert np.array_equal(pixels(source, "train", 13), PICTURES[1])
    assert source.splits["test"].labels.tolist() == [3] * 6


def test_cifar100_takes_the_fine_label_which_comes_second(tmp_path, root, monkeypatch):
    _trust(monkeypatch, cifar)
    files = {"train.bin": _records([19] * 6, range(6)), "test.bin": _records([1] * 6, [99] * 6)}
    files |= {"fine_label_names.txt": "\n".join(f"fine{number}" for number in range(100)).encode(), "coarse_label_names.txt": b"coarse"}
    write_tar(root / "cifar-100-binary.tar.gz", {f"cifar-100-binary/{name}": content for name, content in files.items()}, "w:gz")
    source = read("cifar100", tmp_path, root=root)
    assert source.splits["train"].labels.tolist() == list(range(6))
    assert source.card.classes[99] == "fine99"
    assert np.array_equal(pixels(source, "test", 5), PICTURES[5])


@pytest.mark.parametrize("content", [b"", _records([1] * 6)[:-1], _records([10] * 6)])
def test_cifar_of_a_wrong_length_or_label_is_refused(tmp_path, root, monkeypatch, content):
    _trust(monkeypatch, cifar)
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    files = {f"cifar-10-batches-bin/{name}": _records([1] * 6) for name in names} | {"cifar-10-batches-bin/batches.meta.txt": b"a " * 10}
    write_tar(root / "cifar-10-binary.tar.gz", files | {"cifar-10-batches-bin/test_batch.bin": content}, "w:gz")
    with pytest.raises(UserError, match="cifar-10-binary"):
        read("cifar10", tmp_path, root=root)


def _svhn(root, monkeypatch, **arrays):
    """http://ufldl.stanford.edu/housenumbers/, format 2: X is 32 x 32 x 3 x N, y has labels 1 to 10, and '0' has label 10."""
    from torchvision.datasets import SVHN

    images = PICTURES.transpose(2, 3, 1, 0)
    for split in ("train", "test"):
        savemat(root / f"{split}_32x32.mat", {"X": images, "y": np.array([[1], [10], [2], [9], [10], [5]], np.uint8), **arrays}, do_compression=True)
    known = {split: [url, name, md5(root / name) if split != "extra" else digest] for split, (url, name, digest) in SVHN.split_list.items()}
    monkeypatch.setattr(SVHN, "split_list", known)


def test_svhn_is_read_from_its_matlab_files_and_ten_is_zero(tmp_path, root, monkeypatch):
    _svhn(root, monkeypatch)
    source = read("svhn", tmp_path, root=root)
    assert source.splits["train"].labels.tolist() == [1, 0, 2, 9, 0, 5]
    assert np.array_equal(pixels(source, "test", 4), PICTURES[4])
    assert set(source.splits) == {"train", "test"}


@pytest.mark.parametrize("arrays", [{"y": np.array([[1]])}, {"y": np.zeros((6, 1))}, {"X": PICTURES.astype(float)}, {"X": PICTURES}])
def test_svhn_of_another_form_is_refused(tmp_path, root, monkeypatch, arrays):
    _svhn(root, monkeypatch, **arrays)
    with pytest.raises(UserError, match="32x32"):
        read("svhn", tmp_path, root=root)


def _medmnist(root, monkeypatch, name: str, size: int = 28, **changed):
    """https://github.com/MedMNIST/MedMNIST: {train,val,test}_images (N, S, S[, 3]) and _labels (N, 1), or (N, 14) in ChestMNIST."""
    from medmnist import INFO

    count = {"train": 6, "val": 4, "test": 5}
    width = 14 if name == "chestmnist" else 1
    arrays = {}
    for split, rows in count.items():
        arrays[f"{split}_images"] = random.integers(0, 256, (rows, size, size), dtype=np.uint8)
        arrays[f"{split}_labels"] = random.integers(0, 2, (rows, width), dtype=np.uint8)
    arrays |= changed
    suffix = "" if size == 28 else f"_{size}"
    path = root / f"{name}{suffix}.npz"
    np.savez_compressed(path, **arrays)
    monkeypatch.setitem(INFO, name, {**INFO[name], f"MD5{suffix}": md5(path)})
    return arrays


@pytest.mark.parametrize(("name", "classes"), [("octmnist", 4), ("tissuemnist", 8), ("pneumoniamnist", 2)])
def test_medmnist_with_one_label_is_read_in_its_own_splits(tmp_path, root, monkeypatch, name, classes):
    arrays = _medmnist(root, monkeypatch, name)
    source = read(name, tmp_path, root=root)
    assert len(source.card.classes) == classes
    assert source.card.licence == "CC BY 4.0"
    for split in ("train", "val", "test"):
        assert source.splits[split].labels.tolist() == arrays[f"{split}_labels"][:, 0].tolist()
        assert np.array_equal(pixels(source, split, 2)[0], arrays[f"{split}_images"][2])


def test_chestmnist_has_fourteen_binary_attributes_and_every_size(tmp_path, root, monkeypatch):
    arrays = _medmnist(root, monkeypatch, "chestmnist", size=64)
    source = read("chestmnist", tmp_path, root=root, medmnist_size=64)
    assert source.card.classes == ()
    assert [known.kind for known in source.card.attributes] == ["binary"] * 14
    assert source.card.attributes[0].name == "atelectasis"
    assert source.splits["val"].labels is None
    assert np.array_equal(source.splits["val"].attributes, arrays["val_labels"])
    assert pixels(source, "val", 0).shape == (1, 64, 64)


@pytest.mark.parametrize(
    "changed", [{"val_labels": np.zeros((3, 1), np.uint8)}, {"test_labels": np.full((5, 1), 9)}, {"train_images": np.zeros((6, 5))}]
)
def test_medmnist_of_another_form_is_refused(tmp_path, root, monkeypatch, changed):
    _medmnist(root, monkeypatch, "octmnist", **changed)
    with pytest.raises(UserError, match="octmnist"):
        read("octmnist", tmp_path, root=root)


@pytest.mark.parametrize(("name", "package"), [("octmnist", "medmnist"), ("huggingface", "datasets")])
def test_a_missing_package_is_named_with_the_extra_that_installs_it(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package {package}.*latentline\[(medmnist|huggingface)\]"):
        read(name, tmp_path)


def _celeba(root, monkeypatch, partition: str = ["0", "0", "1", "2", "0"]):
    """README of CelebA: a line with the count, a line with the names, then file and 1 or -1 per attribute; 0 train, 1 val, 2 test."""
    from torchvision.datasets import CelebA

    names = [f"{number:06d}.jpg" for number in range(1, 6)]
    rows = [f"{name} {' '.join(f'{1 if (row + column) % 3 == 0 else -1:2d}' for column in range(40))}" for row, name in enumerate(names)]
    lines = ["5", " ".join(f"Attribute_{column}" for column in range(40)) + " ", *rows]
    (root / "list_attr_celeba.txt").write_text("\r\n".join(lines) + "\r\n")
    (root / "list_eval_partition.txt").write_text("".join(f"{name} {part}\n" for name, part in zip(names, partition, strict=False)))
    write_zip(
        root / "img_align_celeba.zip", {f"img_align_celeba/{name}": encoded(flat(40 * row, (218, 178)), "JPEG") for row, name in enumerate(names)}
    )
    monkeypatch.setattr(
        CelebA, "file_list", [(place, md5(root / name) if (root / name).exists() else digest, name) for place, digest, name in CelebA.file_list]
    )


def test_celeba_has_forty_attributes_and_the_publishers_splits(tmp_path, root, monkeypatch):
    _celeba(root, monkeypatch)
    source = read("celeba", tmp_path, root=root)
    assert len(source.card.attributes) == 40
    assert source.card.classes == ()
    assert {name: len(split.images) for name, split in source.splits.items()} == {"train": 3, "val": 1, "test": 1}
    assert source.splits["train"].attributes[:, :3].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert pixels(source, "val", 0).shape == (3, 218, 178)
    assert _level(source, "val", 0) == 80
    assert _level(source, "train", 2) == 160


@pytest.mark.parametrize("partition", [["0"] * 4, ["0", "1", "2", "3", "0"]])
def test_celeba_lists_that_do_not_fit_are_refused(tmp_path, root, monkeypatch, partition):
    _celeba(root, monkeypatch, partition)
    with pytest.raises(UserError, match="list_eval_partition"):
        read("celeba", tmp_path, root=root)


def _dtd(root, monkeypatch, **changed):
    """https://www.robots.ox.ac.uk/~vgg/data/dtd: images/CLASS/CLASS_0001.jpg, labels/{train,val,test}1.txt with lines CLASS/FILE."""
    from torchvision.datasets.dtd import DTD

    lists = {
        "train": ["banded/banded_0001.jpg", "zigzagged/zigzagged_0001.jpg"],
        "val": ["banded/banded_0002.jpg"],
        "test": ["dotted/dotted_0001.jpg"],
    }
    files = {f"dtd/labels/{split}1.txt": "\n".join(names).encode() for split, names in lists.items()}
    files |= {f"dtd/images/{name}": encoded(flat(50 * number, (9 + number, 7)), "JPEG") for number, name in enumerate(chain(*lists.values()))}
    write_tar(root / "dtd-r1.0.1.tar.gz", files | changed, "w:gz")
    monkeypatch.setattr(DTD, "_MD5", md5(root / "dtd-r1.0.1.tar.gz"))


def test_dtd_is_read_in_its_first_division(tmp_path, root, monkeypatch):
    _dtd(root, monkeypatch)
    source = read("dtd", tmp_path, root=root)
    assert source.card.classes == ("banded", "dotted", "zigzagged")
    assert {name: split.labels.tolist() for name, split in source.splits.items()} == {"train": [0, 2], "val": [0], "test": [1]}
    assert _level(source, "test", 0) == 150
    assert pixels(source, "test", 0).shape == (3, 12, 7)


def test_dtd_that_lists_what_it_lacks_is_refused(tmp_path, root, monkeypatch):
    _dtd(root, monkeypatch, **{"dtd/labels/val1.txt": b"banded/absent.jpg"})
    with pytest.raises(UserError, match="absent"):
        read("dtd", tmp_path, root=root)


def test_tiny_imagenet_is_read_with_val_as_test(tmp_path, root, monkeypatch):
    """tiny-imagenet-200.zip: wnids.txt, words.txt, train/WNID/images/WNID_N.JPEG, val/images, val/val_annotations.txt with boxes."""
    _trust(monkeypatch, tinyimagenet)
    folder = "tiny-imagenet-200"
    files = {
        f"{folder}/wnids.txt": b"n02124075\nn01443537\n",
        f"{folder}/words.txt": b"n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\n",
        f"{folder}/val/val_annotations.txt": b"val_0.JPEG\tn01443537\t0\t32\t44\t62\nval_1.JPEG\tn02124075\t52\t55\t57\t59\n",
        f"{folder}/train/n01443537/n01443537_boxes.txt": b"n01443537_0.JPEG\t0\t10\t63\t58\n",
        f"{folder}/train/n01443537/images/n01443537_0.JPEG": encoded(flat(10, (64, 64)), "JPEG"),
        f"{folder}/train/n02124075/images/n02124075_0.JPEG": encoded(flat(20, (64, 64)), "JPEG"),
        f"{folder}/train/n02124075/images/n02124075_1.JPEG": encoded(flat(30, (64, 64), channels=1), "JPEG"),
        f"{folder}/val/images/val_0.JPEG": encoded(flat(40, (64, 64)), "JPEG"),
        f"{folder}/val/images/val_1.JPEG": encoded(flat(50, (64, 64)), "JPEG"),
        f"{folder}/test/images/test_0.JPEG": encoded(flat(60, (64, 64)), "JPEG"),
    }
    write_zip(root / "tiny-imagenet-200.zip", files)
    source = read("tinyimagenet", tmp_path, root=root)
    assert source.card.classes == ("Egyptian cat (n02124075)", "goldfish (n01443537)")
    assert source.splits["train"].labels.tolist() == [1, 0, 0]
    assert source.splits["test"].labels.tolist() == [1, 0]
    assert [_level(source, "train", row) for row in range(3)] == [10, 20, 30]
    assert [_level(source, "test", row) for row in range(2)] == [40, 50]
    write_zip(root / "tiny-imagenet-200.zip", files | {f"{folder}/wnids.txt": b"n02124075\n"})
    with pytest.raises(UserError, match="n01443537"):
        read("tinyimagenet", tmp_path, root=root)


def _places(root, monkeypatch, train_list: bytes = b"/a/airfield/00000001.jpg 0\n/b/bedroom/00000002.jpg 2\n"):
    """http://places2.csail.mit.edu/download.html and the readme of its file lists: a file and a class number per line."""
    from torchvision.datasets import Places365

    write_tar(
        root / "train_256_places365standard.tar",
        {
            "data_256_standard/a/airfield/00000001.jpg": encoded(flat(10), "JPEG"),
            "data_256_standard/b/bedroom/00000002.jpg": encoded(flat(20), "JPEG"),
        },
    )
    write_tar(root / "val_256.tar", {f"val_256/Places365_val_0000000{n}.jpg": encoded(flat(30 * n), "JPEG") for n in (1, 2)})
    lists = {"places365_train_standard.txt": train_list, "places365_val.txt": b"Places365_val_00000002.jpg 1\nPlaces365_val_00000001.jpg 0\n"}
    write_tar(root / "filelist_places365-standard.tar", lists)
    (root / "categories_places365.txt").write_text("/a/airfield 0\n/a/apartment_building/outdoor 1\n/b/bedroom 2\n")
    small = {key: (name, md5(root / name) if (root / name).exists() else digest) for key, (name, digest) in Places365._IMAGES_META.items()}
    monkeypatch.setattr(Places365, "_IMAGES_META", small)
    monkeypatch.setattr(Places365, "_DEVKIT_META", {"standard": ("filelist_places365-standard.tar", md5(root / "filelist_places365-standard.tar"))})
    monkeypatch.setattr(Places365, "_CATEGORIES_META", ("categories_places365.txt", md5(root / "categories_places365.txt")))


def test_places365_is_read_in_place_with_val_as_test(tmp_path, root, monkeypatch):
    _places(root, monkeypatch)
    source = read("places365", tmp_path, root=root)
    assert source.card.classes == ("airfield", "apartment_building/outdoor", "bedroom")
    assert source.splits["train"].labels.tolist() == [0, 2]
    assert source.splits["test"].labels.tolist() == [1, 0]
    assert [_level(source, "test", row) for row in range(2)] == [60, 30]
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("line", [b"/a/airfield/absent.jpg 0\n", b"/a/airfield/00000001.jpg 3\n", b"/a/airfield/00000001.jpg x\n"])
def test_places365_lists_that_do_not_fit_are_refused(tmp_path, root, monkeypatch, line):
    _places(root, monkeypatch, line)
    with pytest.raises(UserError, match="filelist_places365"):
        read("places365", tmp_path, root=root)


def _imagenet(root, monkeypatch, truth: bytes = b"2\n1\n"):
    """readme.txt of ILSVRC2012_devkit_t12: meta.mat's synsets (leaves first, then inner nodes), ground truth by ILSVRC2012_ID."""
    import torchvision.datasets.imagenet as reference

    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    synsets = np.zeros((3, 1), kinds)
    for row, (wnid, words, children) in enumerate(
        [("n02119789", "kit fox, Vulpes macrotis", 0), ("n01440764", "tench, Tinca tinca", 0), ("n00001740", "entity", 2)]
    ):
        synsets[row, 0] = (row + 1, wnid, words, "gloss", children)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    folder = "ILSVRC2012_devkit_t12"
    files = {f"{folder}/data/meta.mat": meta.getvalue(), f"{folder}/data/ILSVRC2012_validation_ground_truth.txt": truth, f"{folder}/readme.txt": b""}
    write_tar(root / f"{folder}.tar.gz", files, "w:gz")
    fox = tar_bytes({"n02119789_7.JPEG": encoded(flat(10), "JPEG"), "n02119789_9.JPEG": encoded(flat(20), "JPEG")})
    tench = tar_bytes({"n01440764_18.JPEG": encoded(flat(30), "JPEG")})
    write_tar(root / "ILSVRC2012_img_train.tar", {"n02119789.tar": fox, "n01440764.tar": tench})
    write_tar(root / "ILSVRC2012_img_val.tar", {f"ILSVRC2012_val_0000000{n}.JPEG": encoded(flat(40 + n), "JPEG") for n in (2, 1)})
    monkeypatch.setattr(reference, "ARCHIVE_META", {part: (name, md5(root / name)) for part, (name, _) in reference.ARCHIVE_META.items()})


def test_imagenet_is_read_from_tars_within_a_tar_with_val_as_test(tmp_path, root, monkeypatch):
    _imagenet(root, monkeypatch)
    source = read("imagenet", tmp_path, root=root)
    assert source.card.classes == ("tench (n01440764)", "kit fox (n02119789)")
    assert source.splits["train"].labels.tolist() == [0, 1, 1]
    assert [_level(source, "train", row) for row in range(3)] == [30, 10, 20]
    assert source.splits["test"].labels.tolist() == [0, 1]
    assert [_level(source, "test", row) for row in range(2)] == [41, 42]


@pytest.mark.parametrize("truth", [b"2\n", b"2\n3\n", b"2\nx\n"])
def test_imagenet_labels_that_do_not_fit_are_refused(tmp_path, root, monkeypatch, truth):
    _imagenet(root, monkeypatch, truth)
    with pytest.raises(UserError, match="ILSVRC2012"):
        read("imagenet", tmp_path, root=root)


def _saved(tmp_path, columns: dict, features: dict | None = None, *, named: bool = False):
    """A directory as `datasets` itself saves it."""
    from datasets import Dataset, DatasetDict, Features

    data = Dataset.from_dict(columns, features=Features(features) if features else None)
    (DatasetDict({"train": data, "validation": data, "test": data}) if named else data).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


@pytest.fixture(scope="module")
def pictures() -> list[dict]:
    return [{"bytes": encoded(flat(level)), "path": None} for level in (10, 20, 30)]


def test_a_hugging_face_directory_gives_images_classes_and_splits(tmp_path, pictures):
    from datasets import ClassLabel, Image

    columns = {"image": pictures, "label": [1, 0, 1]}
    path = _saved(tmp_path, columns, {"image": Image(), "label": ClassLabel(names=["cat", "dog"])}, named=True)
    source = read("huggingface", tmp_path, path=path)
    assert source.card.classes == ("cat", "dog")
    assert set(source.splits) == {"train", "val", "test"}
    assert source.splits["val"].labels.tolist() == [1, 0, 1]
    assert [_level(source, "test", row) for row in range(3)] == [10, 20, 30]


def test_a_hugging_face_set_without_labels_or_with_texts_is_read(tmp_path, pictures):
    from datasets import Image, Value

    assert read("huggingface", tmp_path, path=_saved(tmp_path, {"img": pictures}, {"img": Image()})).card.classes == ()
    (tmp_path / "b").mkdir()
    path = _saved(tmp_path / "b", {"img": pictures, "labels": ["x", "y", "x"]}, {"img": Image(), "labels": Value("string")})
    source = read("huggingface", tmp_path, path=path)
    assert source.splits["train"].labels.tolist() == [0, 1, 0]


def test_other_hugging_face_folders_are_refused_with_the_remedy(tmp_path, pictures):
    from datasets import ClassLabel, Image, List, Value

    with pytest.raises(UserError, match="save_to_disk"):
        read("huggingface", tmp_path, path=tmp_path)
    with pytest.raises(UserError, match="expected one of images"):
        read("huggingface", tmp_path, path=_saved(tmp_path, {"text": ["a"]}))
    (tmp_path / "b").mkdir()
    path = _saved(tmp_path / "b", {"image": pictures, "label": [1, -1, 0]}, {"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    with pytest.raises(UserError, match="without a class"):
        read("huggingface", tmp_path, path=path)
    kinds = [([1, None, 0], Value("int64")), ([[1, 0], [0], []], List(Value("int64")))]
    for number, (labels, kind) in enumerate(kinds):
        (tmp_path / str(number)).mkdir()
        path = _saved(tmp_path / str(number), {"image": pictures, "label": labels}, {"image": Image(), "label": kind})
        with pytest.raises(UserError, match="one integer or text in every row"):
            read("huggingface", tmp_path, path=path)


@pytest.mark.slow
def test_the_real_fashion_mnist_serves_as_emnist_format_too(tmp_path, root):
    """Debian's package holds the publisher's real files; EMNIST's have the same form and other names."""
    from stages.download.sources.debian import debian_files
    from stages.download.sources.mnist import FASHION_SHA256

    for name, content in debian_files("dataset-fashion-mnist", list(FASHION_SHA256), 60.0).items():
        (root / name).write_bytes(content)
    real = read("fashion_mnist", tmp_path, root=root)
    assert {name: len(split.images) for name, split in real.splits.items()} == {"train": 60_000, "test": 10_000}
    assert np.bincount(real.splits["train"].labels).tolist() == [6000] * 10
    for path in list(root.iterdir()):
        path.rename(root / f"emnist-balanced-{path.name.replace('t10k', 'test')}")
    turned = read("emnist", tmp_path, root=root)
    assert np.array_equal(pixels(turned, "train", 7)[0], pixels(real, "train", 7)[0].T)
    assert gzip.decompress((root / "emnist-balanced-test-labels-idx1-ubyte.gz").read_bytes())[8:] == bytes(turned.splits["test"].labels.tolist())
