import numpy as np
import pytest

from latentline.data.source import SourceSplit
from latentline.data.splits import cut_splits


def _source(count: int, first: int) -> SourceSplit:
    """Each image's pixels spell its own number, which is its label too."""
    numbers = np.arange(first, first + count)
    return SourceSplit(np.tile(numbers.astype(np.uint8)[:, None, None, None], (1, 1, 2, 2)), numbers.astype(np.int64))


SPLITS = {"train": _source(100, 0), "test": _source(30, 100)}


def _cut(*, limit: int | None = None, seed: int = 0, splits=SPLITS) -> dict[str, SourceSplit]:
    return cut_splits(splits, val_fraction=0.2, limit=limit, seed=seed)


def test_splits_share_no_image_and_lose_none():
    cut = _cut()
    assert {name: len(split.labels) for name, split in cut.items()} == {"train": 80, "val": 20, "test": 30}
    assert set(cut["train"].labels) | set(cut["val"].labels) == set(range(100))
    assert set(cut["test"].labels) == set(range(100, 130))


def test_images_keep_their_labels():
    for split in _cut(limit=7).values():
        assert np.array_equal(split.images[:, 0, 0, 0], split.labels)


def test_the_same_seed_cuts_alike_and_another_does_not():
    one, again, other = _cut(), _cut(), _cut(seed=1)
    for name, split in one.items():
        assert np.array_equal(split.labels, again[name].labels)
        assert not np.array_equal(split.labels, other[name].labels)


@pytest.mark.parametrize("limit", [1, 10, 25, 1000])
def test_a_limit_keeps_the_first_images_of_the_unlimited_order(limit):
    for name, split in _cut(limit=limit).items():
        assert np.array_equal(split.labels, _cut()[name].labels[:limit])


def test_splits_are_shuffled():
    for split in _cut().values():
        assert not np.array_equal(split.labels, np.sort(split.labels))


def test_a_validation_split_of_the_publisher_is_kept():
    cut = _cut(splits={**SPLITS, "val": _source(10, 200)})
    assert set(cut["val"].labels) == set(range(200, 210))
    assert set(cut["train"].labels) == set(range(100))
