"""Write images in shards (``store.py`` reads them), holding one shard in memory and no more: the prepared ones, and samples."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentline.common.arrays import save_arrays
from latentline.common.files import sha256_file

SHARD_BYTES = 128 << 20


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
    shards: dict[str, str] = {}
    count = filled = 0
    buffers: dict[str, Tensor] = {}  # of one shard, filled from the front

    def flush() -> None:
        path = folder / f"{name}-{len(shards):05d}.safetensors"
        save_arrays(path, {key: buffer[:filled] for key, buffer in buffers.items()}, meta)
        shards[path.name] = sha256_file(path)

    for batch in batches:
        arrays = {key: torch.from_numpy(array) for key, array in vars(batch).items() if array is not None}
        if not buffers:
            per_shard = max(1, shard_bytes // int(np.prod(batch.images.shape[1:])))
            buffers = {key: array.new_empty((per_shard, *array.shape[1:])) for key, array in arrays.items()}
        taken = 0
        while taken < len(batch.images):
            held = min(per_shard - filled, len(batch.images) - taken)
            for key, array in arrays.items():
                buffers[key][filled : filled + held] = array[taken : taken + held]
            taken += held
            filled += held
            if filled == per_shard:
                flush()
                filled = 0
        count += taken
    if filled:
        flush()
    return {"count": count, "shards": shards}
