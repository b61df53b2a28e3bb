"""Split and order of the images: by one seeded number per image that depends on its content alone.

The number determines the split, and the order in it. So an image keeps its split when others are added or removed.
Equal images share a split. The order is a seeded shuffle, and the first N images do not depend on N.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentline.core.errors import UserError
from latentline.core.seeds import derive_seed

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitRows:
    """Rows of a split: rows of one of the publisher's splits, in order."""

    published: str
    rows: NDArray[np.int64]


def content_keys(digests: Sequence[bytes], seed: int) -> NDArray[np.float64]:
    """Return one number in [0, 1) per digest, uniform and independent for different digests or seeds."""
    return np.array([derive_seed(seed, "split", digest.hex()) for digest in digests], np.float64) / 2.0**63


def cut_splits(
    published: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]], shares: dict[str, float]
) -> dict[str, SplitRows]:
    """Return train, val and test: the publisher's, and fractions of the publisher's train for missing ones.

    Args:
        published: split -> (usable rows (N,), their keys (N,)).
        shares: fractions for ``val`` and ``test``, used where the publisher has no such split. A fraction below one
            image gives the image with the nearest key.

    Raises:
        UserError: a split is empty, or there is too little to cut.
    """
    rows, keys = published["train"]
    order = np.lexsort((rows, keys))
    rows, keys = rows[order], keys[order]
    cut: dict[str, SplitRows] = {}
    start, edge = 0, 0.0
    missing = [name for name in ("test", "val") if name not in published]
    if len(rows) <= len(missing):
        names = "".join(f", {name}" for name in missing)
        raise UserError(f"data ({len(rows)} readable images) must have one for each of train{names}; add images")
    for name in missing:
        edge += shares[name]
        left_for_others = len(missing) - len(cut)
        stop = int(np.clip(np.searchsorted(keys, edge), start + 1, len(rows) - left_for_others))
        cut[name] = SplitRows("train", rows[start:stop])
        start = stop
    cut["train"] = SplitRows("train", rows[start:])
    for name in published.keys() - {"train"}:
        rows, keys = published[name]
        if not len(rows):
            raise UserError(f"data: split {name} (0 readable images) must have at least one; mend or add images")
        cut[name] = SplitRows(name, rows[np.lexsort((rows, keys))])
    return {name: cut[name] for name in SPLITS}
