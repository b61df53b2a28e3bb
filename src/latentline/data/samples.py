"""Samples on disk.

data/generated/prompts.json                the captions that samples have in turn, where the denoiser takes captions
data/generated/samples-00000.safetensors   images uint8 (N, C, H, W) and the labels that they are conditioned on
                                           (:mod:`latentline.core.labels`), with their schema in the metadata

Shards are written one at a time and read when they are used, so that at most one is in memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from latentline.core.errors import UserError
from latentline.core.files import read_sealed_json, refusing_earlier_versions, replaced_folder, write_sealed_json
from latentline.core.labels import LabelTable, read_labelled_rows, schema_to_json, write_labelled_rows
from latentline.core.shards import SHARD_BYTES
from latentline.data.store import ImageSplit

MADE_BY = "sample"
_PROMPTS = "prompts.json"


def write_samples(
    root: Path,
    batches: Iterable[Tensor],
    labels: LabelTable,
    autoencoder: str,
    shard_bytes: int = SHARD_BYTES,
    prompts: Sequence[str] | None = None,
) -> None:
    """Write samples to ``root`` as they are drawn; the folder appears whole or not at all.

    Args:
        root: the folder.
        batches: uint8 images (B, C, H, W) on the CPU, N in all.
        labels: of N images, the labels that they are conditioned on.
        autoencoder: sha256 of the checkpoint that decoded them.
        shard_bytes: of the pixels in a shard, at most.
        prompts: captions; sample i has the one of index i modulo their number. None = there are none.
    """
    schema = schema_to_json(labels.schema)
    meta = {"kind": "samples", "autoencoder": autoencoder, "schema": schema, "count": len(labels)}
    with replaced_folder(root) as folder:
        write_labelled_rows(folder, "samples", "images", _with_labels(batches, labels), meta, shard_bytes)
        if prompts is not None:
            write_sealed_json(folder / _PROMPTS, {"prompts": list(prompts)})


def _with_labels(batches: Iterable[Tensor], labels: LabelTable) -> Iterator[tuple[Tensor, LabelTable]]:
    start = 0
    for images in batches:
        rows = slice(start, start := start + len(images))
        yield images, labels[rows]


def read_samples(root: Path, autoencoder: str) -> ImageSplit:
    """Read the samples and the labels that they are conditioned on.

    Args:
        root: the folder.
        autoencoder: sha256 of the checkpoint that must have decoded them.

    Raises:
        UserError: a shard is missing or damaged, or another autoencoder decoded them.
    """
    shards = sorted(root.glob("samples-*.safetensors")) or [root / "samples-00000.safetensors"]  # reported as missing
    images, labels, meta = read_labelled_rows(shards, "images", None, MADE_BY)
    if meta.get("autoencoder") != autoencoder:
        raise UserError(
            f"{root} (decoded by another autoencoder) must be decoded by checkpoints/autoencoder; "
            f"run `dvc repro {MADE_BY}`"
        )
    if len(images) != meta.get("count"):
        raise UserError(
            f"{root} ({len(images)} samples, a shard is missing) must hold {meta.get('count')} samples; "
            f"run `dvc repro {MADE_BY}`"
        )
    return ImageSplit(images, labels)


def read_prompts(root: Path) -> list[str] | None:
    """Return the captions that samples have in turn; None = the denoiser takes none.

    Raises:
        UserError: the file is damaged.
    """
    path = root / _PROMPTS
    if not path.exists():
        return None
    with refusing_earlier_versions(path, MADE_BY):
        return [str(prompt) for prompt in read_sealed_json(path, MADE_BY)["prompts"]]
