"""However many images have something to report, all are counted and only the first 1,000 are named."""

import numpy as np
import pytest

from stages.download.duplicates import find_duplicates
from stages.download.images import ArrayImages
from stages.download.listed import MAX_LISTED, Unreadable
from stages.download.scan import Scan, cropped


class _Named(ArrayImages):
    """Images without pixels, which count how often a name is asked for."""

    asked = 0

    def name(self, row: int) -> str:
        _Named.asked += 1
        return super().name(row)


def test_the_worst_cropped_images_of_all_splits_are_named():
    sides = np.random.default_rng(0).integers(1, 100, (2, 3000)).tolist()
    scans = [Scan(np.arange(3000), [], [(3, 10, side) for side in split], Unreadable()) for split in sides]
    images = _Named(np.empty((3000, 3, 1, 1), np.uint8))
    found = cropped([(images, scan) for scan in scans], (3, 10, 10))
    lost = [(f"image {row}", 1 - min(side / 10, 10 / side)) for split in sides for row, side in enumerate(split)]
    assert found.count == sum(share > 0.01 for _, share in lost) > 5000
    assert _Named.asked <= 2 * MAX_LISTED == 2000
    worst = sorted(lost, key=lambda image: -image[1])[:MAX_LISTED]
    assert [name for name, _ in found.worst] == [name for name, _ in worst]
    assert [share for _, share in found.worst] == pytest.approx([share for _, share in worst])


def test_the_first_unreadable_images_by_name_are_named_whatever_the_chunks():
    names = np.random.default_rng(0).permutation(2500).tolist()
    found = Unreadable()
    for chunk in (names[start : start + 256] for start in range(0, 2500, 256)):
        found.update(Unreadable(len(chunk), {f"{name:04d}.png": f"reason {name}" for name in chunk}))
        assert len(found.reasons) <= MAX_LISTED
    found.update(Unreadable())
    assert found.count == 2500
    assert list(found.reasons.items()) == [(f"{name:04d}.png", f"reason {name}") for name in range(MAX_LISTED)]


@pytest.mark.parametrize("pairs", [0, 1, MAX_LISTED, MAX_LISTED + 1, 1500])
def test_the_largest_groups_of_duplicates_are_listed(pairs):
    numbers = np.concatenate([np.arange(pairs), np.arange(2000), [0] * bool(pairs)])
    digests = {"train": np.array([number.tobytes() * 2 for number in numbers.astype(np.int64)], "V16")}
    found = find_duplicates(digests)
    assert found.within == {"train": pairs + bool(pairs)}
    assert [len(group) for group in found.groups] == ([3] + [2] * (min(pairs, MAX_LISTED) - 1) if pairs else [])
