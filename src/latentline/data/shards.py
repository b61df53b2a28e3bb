"""Write images in shards (``store.py`` reads them), holding one shard in memory and no more: the prepared ones, and samples."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentline.core.shards import SHARD_BYTES, write_rows


@dataclass(frozen=True)
class Batch:
    """Some images in order, with what is known of them."""

    images: NDArray[np.uint8]  # (B, C, H, W)
    labels: NDArray[np.int64] | None  # (B,)
    attributes: NDArray[np.float32] | None  # (B, A)


def write_shards(folder: Path, name: str, batches: Iterable[Batch], meta: dict[str, Any], shard_bytes: int = SHARD_BYTES) -> dict[str, Any]:
    """Write images as they come to ``folder``/``name``-00000.safetensors, ``name``-00001..., each whole before the next is begun.

    Args:
        folder: exists.
        name: of the split.
        batches: the images, in any portions.
        meta: of every shard.
        shard_bytes: of the pixels in a shard, at most, but at least one image.

    Returns:
        What a card says of the split: ``count``, and ``shards``, the sha256 of each by its name.
    """
    arrays = ({key: torch.from_numpy(array) for key, array in vars(batch).items() if array is not None} for batch in batches)
    return write_rows(folder, name, arrays, meta, shard_bytes)
