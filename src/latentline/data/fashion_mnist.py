"""Fashion-MNIST: 60,000 + 10,000 grey 28x28 images of ten kinds of clothing."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from latentline.common.errors import UserError
from latentline.data.debian import debian_files
from latentline.data.fetch import SourceError, first_that_works, gunzip_verified, http_get
from latentline.data.idx import parse_idx
from latentline.data.source import Card, Source, SourceSplit

CARD = Card(
    name="fashion_mnist",
    classes=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    licence="MIT",
    source="https://github.com/zalandoresearch/fashion-mnist",
    citation="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms. arXiv:1708.07747",
)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
SHA256 = {  # of the decompressed content
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_FILES = {"train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"), "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")}


def read_fashion_mnist(root: Path | None, timeout_seconds: float) -> Source:
    """Fetch and verify all 70,000 images.

    Args:
        root: folder that holds the four ``.gz`` files; None = torchvision's mirrors, then Debian's package.
        timeout_seconds: a source that is silent for so long is given up.

    Raises:
        UserError: no source delivered the right bytes.
    """
    attempts: list[tuple[str, Callable[[], dict[str, bytes]]]]
    if root is not None:
        attempts = [(f"data.root {root}", partial(_from_folder, root))]
    else:
        attempts = [(f"mirror {mirror}", partial(_from_mirror, mirror, timeout_seconds)) for mirror in _mirrors()]
        attempts.append((f"Debian package {DEBIAN_PACKAGE}", partial(_from_debian, timeout_seconds)))
    try:
        _, files = first_that_works(attempts)
    except SourceError as error:
        raise UserError(
            f"Fashion-MNIST could not be had ({error}); remedies: connect to the network, or put {', '.join(SHA256)} "
            "into a folder and name it in data.root, or set data.name to digits, which needs no network"
        ) from None
    return Source(CARD, {split: _split(files, *names) for split, names in _FILES.items()})


def _split(files: dict[str, bytes], images: str, labels: str) -> SourceSplit:
    return SourceSplit(parse_idx(files[images], images)[:, None], parse_idx(files[labels], labels).astype(np.int64))


def _mirrors() -> list[str]:
    from torchvision.datasets import FashionMNIST  # torchvision takes seconds to import: only when it is needed

    return list(FashionMNIST.mirrors)


def _from_mirror(mirror: str, timeout_seconds: float) -> dict[str, bytes]:
    return {name: gunzip_verified(http_get(mirror + name, timeout_seconds), digest, mirror + name) for name, digest in SHA256.items()}


def _from_debian(timeout_seconds: float) -> dict[str, bytes]:
    archive = debian_files(DEBIAN_PACKAGE, list(SHA256), timeout_seconds)
    return {name: gunzip_verified(archive[name], digest, name) for name, digest in SHA256.items()}


def _from_folder(root: Path) -> dict[str, bytes]:
    files = {}
    for name, digest in SHA256.items():
        try:
            files[name] = gunzip_verified((root / name).read_bytes(), digest, str(root / name))
        except OSError as error:
            raise SourceError(str(error)) from None
    return files
