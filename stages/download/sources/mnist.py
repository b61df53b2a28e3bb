"""MNIST and its family: Fashion-MNIST and EMNIST, all in four gzipped IDX files."""

import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentline.core.errors import UserError
from stages.download.archives import open_zip
from stages.download.fetch import Checksum, RemoteFile, SourceError, md5, obtain, verify
from stages.download.images import ArrayImages
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.debian import debian_files
from stages.download.sources.files import publisher_files, unavailable
from stages.download.sources.idx import read_idx

log = logging.getLogger(__name__)

FASHION_SHA256 = {  # of the unpacked content, since mirrors packed it anew
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_DEBIAN_PACKAGE = "dataset-fashion-mnist"
_PARTS = {"train": "train", "test": "t10k"}
_LARGEST_IDX = 1 << 30  # bytes, packed
_MNIST_PAGE = "http://yann.lecun.com/exdb/mnist/"
_FASHION_PAGE = "https://github.com/zalandoresearch/fashion-mnist"
_EMNIST_PAGE = "https://www.nist.gov/itl/products-and-services/emnist-dataset"


def read_mnist(options: SourceOptions) -> Source:
    """Return 60,000 + 10,000 grey 28x28 handwritten digits."""
    from torchvision.datasets import MNIST  # here, since its import takes seconds

    files = [md5(name, digest, *(mirror + name for mirror in MNIST.mirrors)) for name, digest in MNIST.resources]
    card = Card(
        name="mnist",
        classes=tuple(str(digit) for digit in range(10)),
        licence="CC BY-SA 3.0",
        source=_MNIST_PAGE,
        citation="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document Recognition. "
        "Proc. IEEE 86(11), 1998",
    )
    return Source(card, _splits(publisher_files(options, "MNIST", files, _MNIST_PAGE), card.classes, options.scratch))


def read_fashion_mnist(options: SourceOptions) -> Source:
    """Return 60,000 + 10,000 grey 28x28 images of ten kinds of clothing.

    Where the mirrors are out of reach, they come from Debian's package.
    """
    from torchvision.datasets import FashionMNIST  # here, since its import takes seconds

    files = [
        RemoteFile(
            name, tuple(mirror + name for mirror in FashionMNIST.mirrors), Checksum("sha256", digest, unpacked=True)
        )
        for name, digest in FASHION_SHA256.items()
    ]
    card = Card(
        name="fashion_mnist",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        licence="MIT",
        source=_FASHION_PAGE,
        citation="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, a Novel Dataset for Benchmarking Machine Learning "
        "Algorithms. arXiv:1708.07747",
    )
    try:
        paths = obtain(
            files,
            root=options.root,
            downloads=options.downloads / "fashion_mnist",
            timeout_seconds=options.timeout_seconds,
        )
    except SourceError as error:
        if options.root is not None:
            raise unavailable("Fashion-MNIST", files, _FASHION_PAGE, error) from None
        try:
            paths = _from_debian(files, options)
            log.info("Fashion-MNIST came from the Debian package %s", _DEBIAN_PACKAGE)
        except SourceError as second:
            raise unavailable(
                "Fashion-MNIST",
                files,
                _FASHION_PAGE,
                SourceError(f"{error}; Debian package {_DEBIAN_PACKAGE}: {second}"),
            ) from None
    return Source(card, _splits(paths, card.classes, options.scratch))


def read_emnist(options: SourceOptions) -> Source:
    """Return up to 814,255 grey 28x28 handwritten characters in 47 or 62 classes (``data.emnist_split``)."""
    from torchvision.datasets import EMNIST  # here, since its import takes seconds

    archive = md5("gzip.zip", EMNIST.md5, EMNIST.url)
    prefix = f"emnist-{options.emnist_split}-"
    single = [
        RemoteFile(f"{prefix}{part}-{kind}.gz")
        for part in ("train", "test")
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    card = Card(
        name=f"emnist_{options.emnist_split}",
        classes=tuple(EMNIST.classes_split_dict[options.emnist_split]),
        licence="public domain (NIST)",
        source=_EMNIST_PAGE,
        citation="G. Cohen, S. Afshar, J. Tapson, A. van Schaik: EMNIST: an extension of MNIST to handwritten letters. "
        "arXiv:1702.05373",
    )
    if options.root is not None and all((options.root / file.name).is_file() for file in single):
        paths = {file.name: options.root / file.name for file in single}
    else:
        packed = publisher_files(
            options, "EMNIST", [archive], f"{_EMNIST_PAGE}; or, unpacked, {', '.join(file.name for file in single)}"
        )["gzip.zip"]
        paths = {file.name: _member(packed, f"gzip/{file.name}", options.scratch) for file in single}
    renamed = {name.removeprefix(prefix).replace("test-", "t10k-"): path for name, path in paths.items()}
    # The publisher exchanged rows and columns (arXiv:1702.05373 follows MATLAB's column order).
    return Source(card, _splits(renamed, card.classes, options.scratch, transposed=True))


def _from_debian(files: list[RemoteFile], options: SourceOptions) -> dict[str, Path]:
    content = debian_files(_DEBIAN_PACKAGE, [file.name for file in files], options.timeout_seconds)
    paths = {}
    for file in files:
        paths[file.name] = options.scratch / file.name
        paths[file.name].write_bytes(content[file.name])
        verify(paths[file.name], file.checksum)
    return paths


def _member(archive: Path, name: str, scratch: Path) -> Path:
    with open_zip(archive) as opened:
        try:
            if opened.getinfo(name).file_size > _LARGEST_IDX:
                raise UserError(f"{archive}: {name} must be at most {_LARGEST_IDX} bytes; fetch the archive again")
            target = scratch / Path(name).name
            with opened.open(name) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
        except (KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{archive} ({error}) must contain {name}, undamaged; fetch it again") from None
    return target


def _splits(
    paths: dict[str, Path], classes: tuple[str, ...], scratch: Path, *, transposed: bool = False
) -> dict[str, SourceSplit]:
    splits = {}
    for split, part in _PARTS.items():
        images_path, labels_path = paths[f"{part}-images-idx3-ubyte.gz"], paths[f"{part}-labels-idx1-ubyte.gz"]
        images = read_idx(images_path, 3, scratch)[:, None]  # (N, 1, H, W)
        labels = _labels(labels_path, len(images), classes, scratch)
        splits[split] = SourceSplit(ArrayImages(images.transpose(0, 1, 3, 2) if transposed else images), labels)
    return splits


def _labels(path: Path, count: int, classes: tuple[str, ...], scratch: Path) -> NDArray[np.int64]:
    labels = read_idx(path, 1, scratch).astype(np.int64)
    if len(labels) != count or labels.max() >= len(classes):
        found = f"{len(labels)} labels up to {labels.max()}"
        raise UserError(f"{path} ({found}) must have {count} labels below {len(classes)}; fetch it again")
    return labels
