import numpy as np
import pytest
from sklearn.datasets import load_digits

from latentline.data.digits import read_digits
from latentline.data.read import read_source


@pytest.fixture(scope="module")
def source():
    return read_source("digits", root=None, timeout_seconds=1.0)


def test_digits_are_1797_images_of_8_by_8_in_two_splits(source):
    assert {name: split.images.shape for name, split in source.splits.items()} == {"train": (1437, 1, 8, 8), "test": (360, 1, 8, 8)}
    assert all(split.images.dtype == np.uint8 for split in source.splits.values())


def test_digits_keep_every_grey_level_and_label_of_the_publisher(source):
    raw = load_digits()
    images = np.concatenate([source.splits[name].images for name in ("train", "test")])[:, 0]
    labels = np.concatenate([source.splits[name].labels for name in ("train", "test")])
    assert np.array_equal(np.round(images * (16 / 255)), raw.images)
    assert (images.min(), images.max()) == (0, 255)
    assert np.array_equal(labels, raw.target)


def test_every_class_is_in_every_split_and_has_a_name(source):
    for split in source.splits.values():
        assert set(split.labels) == set(range(len(source.card.classes)))


def test_reading_twice_gives_the_same(source):
    again = read_digits()
    assert all(np.array_equal(again.splits[name].images, split.images) for name, split in source.splits.items())
