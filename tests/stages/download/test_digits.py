"""The digits of scikit-learn keep every grey level and label."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from stages.download.registry import read_source
from stages.download.source import SourceOptions


@pytest.fixture
def source(tmp_path: Path):
    return read_source(
        SourceOptions(
            name="digits",
            path=tmp_path,
            labels=tmp_path / "none.csv",
            root=None,
            emnist_split="balanced",
            medmnist_size=28,
            timeout_seconds=1.0,
            downloads=tmp_path,
            scratch=tmp_path,
        )
    )


def test_digits_keep_every_grey_level_and_label_of_the_publisher(source):
    raw = load_digits()
    images = np.concatenate([split.images.array for split in source.splits.values()])[:, 0]
    labels = np.concatenate([split.labels for split in source.splits.values()])
    assert images.shape == (1797, 8, 8)
    assert np.array_equal(np.round(images * (16 / 255)), raw.images)
    assert (images.min(), images.max()) == (0, 255)
    assert np.array_equal(labels, raw.target)


def test_every_class_is_in_every_split_and_has_a_name(source):
    for split in source.splits.values():
        assert set(split.labels) == set(range(len(source.card.classes)))
