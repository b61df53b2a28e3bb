"""The digits of scikit-learn: 1,797 grey 8x8 images, part of its package, so no network is needed."""

import numpy as np

from stages.download.images import ArrayImages
from stages.download.source import Card, Source, SourceOptions, SourceSplit

_TEST_COUNT = 360


def read_digits(options: SourceOptions) -> Source:
    """Return all images, grey levels 0..16 scaled to 0..255. The publisher has no splits: the last fifth is test."""
    from sklearn.datasets import load_digits  # here, since its import takes seconds

    raw = load_digits()
    images = np.round(raw.images * (255 / 16)).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    labels = raw.target.astype(np.int64)
    card = Card(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        licence="CC BY 4.0",
        source="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. "
        "UCI Machine Learning Repository, 1998. doi:10.24432/C50P49",
    )
    return Source(
        card,
        {
            "train": SourceSplit(ArrayImages(images[:-_TEST_COUNT]), labels[:-_TEST_COUNT]),
            "test": SourceSplit(ArrayImages(images[-_TEST_COUNT:]), labels[-_TEST_COUNT:]),
        },
    )
