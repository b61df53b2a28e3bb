"""Cut the splits: a seeded shuffle, a validation part, a limit."""

import numpy as np

from latentline.common.seeds import derive_seed
from latentline.data.source import SourceSplit


def cut_splits(splits: dict[str, SourceSplit], *, val_fraction: float, limit: int | None, seed: int) -> dict[str, SourceSplit]:
    """``train``, ``val`` (a seeded part of train, where the source has none) and ``test``, each shuffled, then limited.

    Args:
        splits: the publisher's splits.
        val_fraction: share of the publisher's train split.
        limit: first N images of each split after the shuffle; None = all.
        seed: of the shuffle; the same images for any ``limit``, only fewer of them.
    """
    shuffled = {name: _take(split, _order(split, seed, name)) for name, split in splits.items()}
    if "val" not in shuffled:
        train = shuffled["train"]
        held_out = max(1, round(val_fraction * len(train.labels)))
        shuffled["val"] = _take(train, np.arange(held_out))
        shuffled["train"] = _take(train, np.arange(held_out, len(train.labels)))
    return {name: _take(split, np.arange(min(limit or len(split.labels), len(split.labels)))) for name, split in shuffled.items()}


def _order(split: SourceSplit, seed: int, name: str) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(derive_seed(seed, "split", name))).permutation(len(split.labels))


def _take(split: SourceSplit, rows: np.ndarray) -> SourceSplit:
    return SourceSplit(split.images[rows], split.labels[rows])
