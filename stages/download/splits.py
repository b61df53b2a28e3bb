"""Which image goes into which split, and in what order: by one seeded number per image that depends on its content alone.

The number decides the split, and sorts it. So an image keeps its split when others are added or removed, equal images
share one, the order is a seeded shuffle, and the first N of a split are the same whatever N.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentline.core.errors import UserError
from latentline.core.seeds import derive_seed

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Member:
    """Rows of one of the publisher's splits that belong to one of ours, in their order."""

    published: str
    rows: NDArray[np.int64]


def content_keys(digests: Sequence[bytes], seed: int) -> NDArray[np.float64]:
    """One number in [0, 1) per digest, uniform and independent for different digests or seeds."""
    return np.array([derive_seed(seed, "split", digest.hex()) for digest in digests], np.float64) / 2.0**63


def cut_splits(published: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]], shares: dict[str, float]) -> dict[str, Member]:
    """Train, val and test: those the publisher cut, and shares of the publisher's train for those that are missing.

    Args:
        published: split -> (rows that can be used (N,), their keys (N,)).
        shares: of ``val`` and ``test``, each used only where the publisher has no such split. A share that comes to no
            image at all takes the one nearest to it.

    Raises:
        UserError: a split is empty, or there is too little to cut.
    """
    rows, keys = published["train"]
    order = np.lexsort((rows, keys))
    rows, keys = rows[order], keys[order]
    cut: dict[str, Member] = {}
    start, edge = 0, 0.0
    missing = [name for name in ("test", "val") if name not in published]
    if len(rows) <= len(missing):
        raise UserError(f"data.splits: {len(rows)} readable images cannot be cut into train{''.join(f', {name}' for name in missing)}; add images")
    for name in missing:
        edge += shares[name]
        left_for_others = len(missing) - len(cut)
        stop = int(np.clip(np.searchsorted(keys, edge), start + 1, len(rows) - left_for_others))
        cut[name] = Member("train", rows[start:stop])
        start = stop
    cut["train"] = Member("train", rows[start:])
    for name in published.keys() - {"train"}:
        rows, keys = published[name]
        if not len(rows):
            raise UserError(f"data: split {name} of the source has no readable image; expected at least one")
        cut[name] = Member(name, rows[np.lexsort((rows, keys))])
    return {name: cut[name] for name in SPLITS}
