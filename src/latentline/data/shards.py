"""Write the prepared images (``store.py`` reads them), holding one shard in memory and no more."""

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
    """Some prepared images in order, with what is known of them."""

    images: NDArray[np.uint8]  # (B, C, H, W)
    labels: NDArray[np.int64] | None  # (B,)
    attributes: NDArray[np.float32] | None  # (B, A)


def write_shards(folder: Path, name: str, batches: Iterable[Batch], shard_bytes: int = SHARD_BYTES) -> dict[str, Any]:
    """Write split ``name`` to ``folder``; what the card says of it: count, and sha256 by shard."""
    shards: dict[str, str] = {}
    count = 0
    waiting: list[Batch] = []

    def flush() -> None:
        path = folder / f"{name}-{len(shards):05d}.safetensors"
        joined = _joined(waiting)
        waiting.clear()  # before saving, which makes a copy of its own
        save_arrays(path, joined, {"kind": "images"})
        shards[path.name] = sha256_file(path)

    for batch in batches:
        per_shard = max(1, shard_bytes // int(np.prod(batch.images.shape[1:])))
        rest = batch
        while held := len(rest.images):
            room = per_shard - sum(len(part.images) for part in waiting)
            waiting.append(_rows(rest, slice(0, room)))
            rest = _rows(rest, slice(room, held))
            if len(rest.images) or held == room:
                flush()
        count += len(batch.images)
    if waiting:
        flush()
    return {"count": count, "shards": shards}


def _rows(batch: Batch, rows: slice) -> Batch:
    return Batch(
        batch.images[rows],
        None if batch.labels is None else batch.labels[rows],
        None if batch.attributes is None else batch.attributes[rows],
    )


def _joined(batches: list[Batch]) -> dict[str, Tensor]:
    arrays = {"images": torch.from_numpy(np.concatenate([batch.images for batch in batches]))}
    for key in ("labels", "attributes"):
        parts = [part for batch in batches if (part := getattr(batch, key)) is not None]
        if parts:
            arrays[key] = torch.from_numpy(np.concatenate(parts))
    return arrays
