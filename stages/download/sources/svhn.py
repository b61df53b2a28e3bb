"""Street View House Numbers, cropped digits (format 2).

Each .mat file holds ``X`` uint8 (32, 32, 3, N) and ``y`` (N, 1), in which 10 stands for the digit 0
(http://ufldl.stanford.edu/housenumbers/, "Format 2: Cropped Digits").
"""

from pathlib import Path

import numpy as np

from latentline.core.errors import UserError
from stages.download.fetch import md5
from stages.download.images import ArrayImages
from stages.download.source import Card, Source, SourceOptions, SourceSplit
from stages.download.sources.files import publisher_files

_PAGE = "http://ufldl.stanford.edu/housenumbers/"


def read_svhn(options: SourceOptions) -> Source:
    """Return 73,257 + 26,032 colour 32x32 digits, without the publisher's easier ``extra`` images."""
    from torchvision.datasets import SVHN  # here, since its import takes seconds

    files = {
        split: md5(name, digest, url)
        for split, (url, name, digest) in SVHN.split_list.items()
        if split in ("train", "test")
    }
    paths = publisher_files(options, "SVHN", list(files.values()), _PAGE)
    card = Card(
        name="svhn",
        classes=tuple(str(digit) for digit in range(10)),
        licence="for non-commercial use only",
        source=_PAGE,
        citation="Y. Netzer et al.: Reading Digits in Natural Images with Unsupervised Feature Learning. "
        "NIPS Workshop on Deep Learning, 2011",
    )
    return Source(card, {split: _split(paths[file.name]) for split, file in files.items()})


def _split(path: Path) -> SourceSplit:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, variable_names=["X", "y"])
        images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MatReadError) as error:
        raise UserError(f"{path} ({error}) must be SVHN's MATLAB file; fetch it again") from None
    if (
        images.dtype != np.uint8
        or images.shape != (32, 32, 3, len(labels))
        or not set(np.unique(labels)) <= set(range(1, 11))
    ):
        raise UserError(
            f"{path} (X {images.dtype} {images.shape}) must have X uint8 (32, 32, 3, {len(labels)}) "
            "and labels 1 to 10; fetch it again"
        )
    return SourceSplit(ArrayImages(images.transpose(3, 2, 0, 1)), labels % 10)
