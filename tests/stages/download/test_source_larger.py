"""CelebA, DTD and the ImageNet-like data sets from small copies in their publishers' forms, read without unpacking."""

import io
from itertools import chain

import numpy as np
import pytest
from scipy.io import savemat

from latentline.core.errors import UserError
from stages.download.fetch import RemoteFile
from stages.download.sources import tinyimagenet
from support.source_files import encoded, flat, level, md5, pixels, read, tar_bytes, write_tar, write_zip


def _trust(monkeypatch, module) -> None:
    """The checksums written down in ``module`` are the publisher's; these small copies have others."""
    monkeypatch.setattr(module, "md5", lambda name, digest, *urls: RemoteFile(name, urls))


def _celeba(files_root, monkeypatch, partition: str = ["0", "0", "1", "2", "0"]):
    """README of CelebA: the count, the names, then file and 1 or -1 per attribute; 0 train, 1 val, 2 test."""
    from torchvision.datasets import CelebA

    names = [f"{number:06d}.jpg" for number in range(1, 6)]
    rows = [
        f"{name} {' '.join(f'{1 if (row + column) % 3 == 0 else -1:2d}' for column in range(40))}"
        for row, name in enumerate(names)
    ]
    lines = ["5", " ".join(f"Attribute_{column}" for column in range(40)) + " ", *rows]
    (files_root / "list_attr_celeba.txt").write_text("\r\n".join(lines) + "\r\n")
    (files_root / "list_eval_partition.txt").write_text(
        "".join(f"{name} {part}\n" for name, part in zip(names, partition, strict=False))
    )
    write_zip(
        files_root / "img_align_celeba.zip",
        {f"img_align_celeba/{name}": encoded(flat(40 * row, (218, 178)), "JPEG") for row, name in enumerate(names)},
    )
    monkeypatch.setattr(
        CelebA,
        "file_list",
        [
            (place, md5(files_root / name) if (files_root / name).exists() else digest, name)
            for place, digest, name in CelebA.file_list
        ],
    )


def test_celeba_has_forty_attributes_and_the_publishers_splits(tmp_path, files_root, monkeypatch):
    _celeba(files_root, monkeypatch)
    source = read("celeba", tmp_path, root=files_root)
    assert len(source.card.attributes) == 40
    assert source.card.classes == ()
    assert {name: len(split.images) for name, split in source.splits.items()} == {"train": 3, "val": 1, "test": 1}
    assert source.splits["train"].attributes[:, :3].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert pixels(source, "val", 0).shape == (3, 218, 178)
    assert level(source, "val", 0) == 80
    assert level(source, "train", 2) == 160


@pytest.mark.parametrize("partition", [["0"] * 4, ["0", "1", "2", "3", "0"]])
def test_celeba_lists_that_do_not_fit_are_refused(tmp_path, files_root, monkeypatch, partition):
    _celeba(files_root, monkeypatch, partition)
    with pytest.raises(UserError, match="list_eval_partition"):
        read("celeba", tmp_path, root=files_root)


def _dtd(files_root, monkeypatch, **changed):
    """https://www.robots.ox.ac.uk/~vgg/data/dtd: images/CLASS/CLASS_0001.jpg, labels/train1.txt with CLASS/FILE."""
    from torchvision.datasets.dtd import DTD

    lists = {
        "train": ["banded/banded_0001.jpg", "zigzagged/zigzagged_0001.jpg"],
        "val": ["banded/banded_0002.jpg"],
        "test": ["dotted/dotted_0001.jpg"],
    }
    files = {f"dtd/labels/{split}1.txt": "\n".join(names).encode() for split, names in lists.items()}
    files |= {
        f"dtd/images/{name}": encoded(flat(50 * number, (9 + number, 7)), "JPEG")
        for number, name in enumerate(chain(*lists.values()))
    }
    write_tar(files_root / "dtd-r1.0.1.tar.gz", files | changed, "w:gz")
    monkeypatch.setattr(DTD, "_MD5", md5(files_root / "dtd-r1.0.1.tar.gz"))


def test_dtd_is_read_in_its_first_division(tmp_path, files_root, monkeypatch):
    _dtd(files_root, monkeypatch)
    source = read("dtd", tmp_path, root=files_root)
    assert source.card.classes == ("banded", "dotted", "zigzagged")
    assert {name: split.labels.tolist() for name, split in source.splits.items()} == {
        "train": [0, 2],
        "val": [0],
        "test": [1],
    }
    assert level(source, "test", 0) == 150
    assert pixels(source, "test", 0).shape == (3, 12, 7)


def test_dtd_that_lists_what_it_lacks_is_refused(tmp_path, files_root, monkeypatch):
    _dtd(files_root, monkeypatch, **{"dtd/labels/val1.txt": b"banded/absent.jpg"})
    with pytest.raises(UserError, match="absent"):
        read("dtd", tmp_path, root=files_root)


def test_tiny_imagenet_is_read_with_val_as_test(tmp_path, files_root, monkeypatch):
    """tiny-imagenet-200.zip: wnids.txt, words.txt, train/WNID/images, val/images, val/val_annotations.txt."""
    _trust(monkeypatch, tinyimagenet)
    folder = "tiny-imagenet-200"
    files = {
        f"{folder}/wnids.txt": b"n02124075\nn01443537\n",
        f"{folder}/words.txt": b"n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\n",
        f"{folder}/val/val_annotations.txt": b"val_0.JPEG\tn01443537\t0\t32\t44\t62\n"
        b"val_1.JPEG\tn02124075\t52\t55\t57\t59\n",
        f"{folder}/train/n01443537/n01443537_boxes.txt": b"n01443537_0.JPEG\t0\t10\t63\t58\n",
        f"{folder}/train/n01443537/images/n01443537_0.JPEG": encoded(flat(10, (64, 64)), "JPEG"),
        f"{folder}/train/n02124075/images/n02124075_0.JPEG": encoded(flat(20, (64, 64)), "JPEG"),
        f"{folder}/train/n02124075/images/n02124075_1.JPEG": encoded(flat(30, (64, 64), channels=1), "JPEG"),
        f"{folder}/val/images/val_0.JPEG": encoded(flat(40, (64, 64)), "JPEG"),
        f"{folder}/val/images/val_1.JPEG": encoded(flat(50, (64, 64)), "JPEG"),
        f"{folder}/test/images/test_0.JPEG": encoded(flat(60, (64, 64)), "JPEG"),
    }
    write_zip(files_root / "tiny-imagenet-200.zip", files)
    source = read("tinyimagenet", tmp_path, root=files_root)
    assert source.card.classes == ("Egyptian cat (n02124075)", "goldfish (n01443537)")
    assert source.splits["train"].labels.tolist() == [1, 0, 0]
    assert source.splits["test"].labels.tolist() == [1, 0]
    assert [level(source, "train", row) for row in range(3)] == [10, 20, 30]
    assert [level(source, "test", row) for row in range(2)] == [40, 50]
    write_zip(files_root / "tiny-imagenet-200.zip", files | {f"{folder}/wnids.txt": b"n02124075\n"})
    with pytest.raises(UserError, match="n01443537"):
        read("tinyimagenet", tmp_path, root=files_root)


def _places(files_root, monkeypatch, train_list: bytes = b"/a/airfield/00000001.jpg 0\n/b/bedroom/00000002.jpg 2\n"):
    """http://places2.csail.mit.edu/download.html and the readme of its lists: a file and a class number per line."""
    from torchvision.datasets import Places365

    write_tar(
        files_root / "train_256_places365standard.tar",
        {
            "data_256_standard/a/airfield/00000001.jpg": encoded(flat(10), "JPEG"),
            "data_256_standard/b/bedroom/00000002.jpg": encoded(flat(20), "JPEG"),
        },
    )
    write_tar(
        files_root / "val_256.tar",
        {f"val_256/Places365_val_0000000{n}.jpg": encoded(flat(30 * n), "JPEG") for n in (1, 2)},
    )
    lists = {
        "places365_train_standard.txt": train_list,
        "places365_val.txt": b"Places365_val_00000002.jpg 1\nPlaces365_val_00000001.jpg 0\n",
    }
    write_tar(files_root / "filelist_places365-standard.tar", lists)
    (files_root / "categories_places365.txt").write_text(
        "/a/airfield 0\n/a/apartment_building/outdoor 1\n/b/bedroom 2\n"
    )
    small = {
        key: (name, md5(files_root / name) if (files_root / name).exists() else digest)
        for key, (name, digest) in Places365._IMAGES_META.items()
    }
    monkeypatch.setattr(Places365, "_IMAGES_META", small)
    monkeypatch.setattr(
        Places365,
        "_DEVKIT_META",
        {"standard": ("filelist_places365-standard.tar", md5(files_root / "filelist_places365-standard.tar"))},
    )
    monkeypatch.setattr(
        Places365, "_CATEGORIES_META", ("categories_places365.txt", md5(files_root / "categories_places365.txt"))
    )


def test_places365_is_read_in_place_with_val_as_test(tmp_path, files_root, monkeypatch):
    _places(files_root, monkeypatch)
    source = read("places365", tmp_path, root=files_root)
    assert source.card.classes == ("airfield", "apartment_building/outdoor", "bedroom")
    assert source.splits["train"].labels.tolist() == [0, 2]
    assert source.splits["test"].labels.tolist() == [1, 0]
    assert [level(source, "test", row) for row in range(2)] == [60, 30]
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    "line", [b"/a/airfield/absent.jpg 0\n", b"/a/airfield/00000001.jpg 3\n", b"/a/airfield/00000001.jpg x\n"]
)
def test_places365_lists_that_do_not_fit_are_refused(tmp_path, files_root, monkeypatch, line):
    _places(files_root, monkeypatch, line)
    with pytest.raises(UserError, match="filelist_places365"):
        read("places365", tmp_path, root=files_root)


def _imagenet(files_root, monkeypatch, truth: bytes = b"2\n1\n"):
    """readme.txt of ILSVRC2012_devkit_t12: synsets of meta.mat (leaves, then inner nodes), labels by ILSVRC2012_ID."""
    import torchvision.datasets.imagenet as reference

    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    synsets = np.zeros((3, 1), kinds)
    for row, (wnid, words, children) in enumerate(
        [
            ("n02119789", "kit fox, Vulpes macrotis", 0),
            ("n01440764", "tench, Tinca tinca", 0),
            ("n00001740", "entity", 2),
        ]
    ):
        synsets[row, 0] = (row + 1, wnid, words, "gloss", children)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    folder = "ILSVRC2012_devkit_t12"
    files = {
        f"{folder}/data/meta.mat": meta.getvalue(),
        f"{folder}/data/ILSVRC2012_validation_ground_truth.txt": truth,
        f"{folder}/readme.txt": b"",
    }
    write_tar(files_root / f"{folder}.tar.gz", files, "w:gz")
    fox = tar_bytes({"n02119789_7.JPEG": encoded(flat(10), "JPEG"), "n02119789_9.JPEG": encoded(flat(20), "JPEG")})
    tench = tar_bytes({"n01440764_18.JPEG": encoded(flat(30), "JPEG")})
    write_tar(files_root / "ILSVRC2012_img_train.tar", {"n02119789.tar": fox, "n01440764.tar": tench})
    write_tar(
        files_root / "ILSVRC2012_img_val.tar",
        {f"ILSVRC2012_val_0000000{n}.JPEG": encoded(flat(40 + n), "JPEG") for n in (2, 1)},
    )
    monkeypatch.setattr(
        reference,
        "ARCHIVE_META",
        {part: (name, md5(files_root / name)) for part, (name, _) in reference.ARCHIVE_META.items()},
    )


def test_imagenet_is_read_from_tars_within_a_tar_with_val_as_test(tmp_path, files_root, monkeypatch):
    _imagenet(files_root, monkeypatch)
    source = read("imagenet", tmp_path, root=files_root)
    assert source.card.classes == ("tench (n01440764)", "kit fox (n02119789)")
    assert source.splits["train"].labels.tolist() == [0, 1, 1]
    assert [level(source, "train", row) for row in range(3)] == [30, 10, 20]
    assert source.splits["test"].labels.tolist() == [0, 1]
    assert [level(source, "test", row) for row in range(2)] == [41, 42]


@pytest.mark.parametrize("truth", [b"2\n", b"2\n3\n", b"2\nx\n"])
def test_imagenet_labels_that_do_not_fit_are_refused(tmp_path, files_root, monkeypatch, truth):
    _imagenet(files_root, monkeypatch, truth)
    with pytest.raises(UserError, match="ILSVRC2012"):
        read("imagenet", tmp_path, root=files_root)
