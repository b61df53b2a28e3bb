"""data/generated on disk.

data/generated/samples-00000.safetensors   images uint8 (N, C, H, W); labels int64 (N,) and attributes float32 (N, A), where drawn for any

Shards are written one at a time, each whole before the next is begun, and read as they are needed: no more than one is held, whatever the count.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from latentline.core.attributes import CLASS
from latentline.core.errors import UserError
from latentline.core.files import replaced_folder
from latentline.core.shards import SHARD_BYTES
from latentline.data.shards import Batch, write_shards
from latentline.data.store import ImageSplit, read_shards

MADE_BY = "sample"


def write_generated(
    root: Path, batches: Iterable[Tensor], values: Tensor, names: list[str], autoencoder: str, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write samples to ``root`` as they are drawn; the folder appears whole or not at all.

    Args:
        root: the folder.
        batches: uint8 images (B, C, H, W) on the CPU, N in all.
        values: (N, A), what they are conditioned on.
        names: of the columns of ``values``.
        autoencoder: sha256 of the checkpoint that decoded them.
        shard_bytes: of the pixels in a shard, at most.
    """
    meta = {"kind": "samples", "autoencoder": autoencoder, "condition": names, "count": len(values)}
    with replaced_folder(root) as folder:
        write_shards(folder, "samples", _with_labels(batches, values, names), meta, shard_bytes)


def _with_labels(batches: Iterable[Tensor], values: Tensor, names: list[str]) -> Iterator[Batch]:
    """Join images and the ``values`` (N, A) they are conditioned on: a label, attributes, both or neither."""
    labels = values[:, 0].long().numpy() if CLASS in names else None  # (N,)
    numbers = values[:, 0 if labels is None else 1 :].numpy()  # (N, A)
    start = 0
    for images in batches:
        rows = slice(start, start := start + len(images))
        yield Batch(images.numpy(), None if labels is None else labels[rows], numbers[rows] if numbers.shape[1] else None)


def read_generated(root: Path, autoencoder: str) -> tuple[ImageSplit, list[str]]:
    """The samples, and the names of the columns that they were drawn for, which are the columns of their values.

    Args:
        root: the folder.
        autoencoder: sha256 of the checkpoint that must have decoded them.

    Raises:
        UserError: a shard is missing or damaged, or another autoencoder decoded them.
    """
    shards = sorted(root.glob("samples-*.safetensors")) or [root / "samples-00000.safetensors"]  # without any, the first is the one missed
    samples, meta = read_shards(shards, MADE_BY)
    if meta.get("autoencoder") != autoencoder:
        raise UserError(f"{root} was decoded by another autoencoder than checkpoints/autoencoder holds; run `dvc repro {MADE_BY}`")
    if len(samples) != meta.get("count"):
        raise UserError(f"{root} holds {len(samples)} of {meta.get('count')} samples: a shard is missing; run `dvc repro {MADE_BY}`")
    return samples, meta["condition"]
