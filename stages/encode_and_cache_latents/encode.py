"""Latents of all prepared images, encoded batch by batch: all that encoded_img depends on."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder, inference_batch
from latentline.core.finite import require_finite
from latentline.core.paths import PREPARED
from latentline.core.seeds import generator
from latentline.data.store import ImageSplit, StoreCard, read_split
from latentline.latents.cache import LatentSplit, LatentStats, write_cache
from latentline.runtime.resumable_map import Chunk, ResumableMap
from latentline.runtime.resume import ResumeFile
from stages.encode_and_cache_latents.params import LatentsParams

STAGE = "encode_and_cache_latents"


def resume_file(params: LatentsParams, seed: int, trained: TrainedAutoencoder, card: StoreCard) -> ResumeFile:
    """Return the state of this stage for these settings, images and autoencoder."""
    inputs = {"seed": seed, "autoencoder": trained.sha256, "images": card.sha256}
    identity = {"settings": params.model_dump(exclude={"export"}), "inputs": inputs}
    return ResumeFile(STAGE, identity, [f"stages.{STAGE}.encode"])


def encode_splits(
    params: LatentsParams, seed: int, trained: TrainedAutoencoder, card: StoreCard, chunks: ResumableMap
) -> LatentStats:
    """Encode all splits and write the latents, their labels and statistics. A chunk is the latents of one batch."""
    splits = {name: read_split(PREPARED, name) for name in card.counts}
    size, dtype = inference_batch(trained.image_shape), getattr(torch, params.dtype)
    starts = [(name, start) for name, split in splits.items() for start in range(0, len(split), size)]  # of each chunk

    def encode(number: int) -> Chunk:
        name, start = starts[number]
        images = splits[name].images[start : start + size]  # uint8 (B, C, H, W)
        draw = generator(seed, STAGE, name, start) if params.posterior == "sample" else None
        latents = trained.encode(images, draw).to(dtype)
        remedy = "take float32, or train the autoencoder with a lower autoencoder.optimizer.lr"
        return {"latents": require_finite(latents, f"latents.dtype ({params.dtype})", remedy)}

    encoded = chunks.map(len(starts), encode)
    return write_cache(
        Path(),
        {name: _with_labels(split, size, encoded) for name, split in splits.items()},
        schema=card.schema,
        autoencoder=trained.sha256,
        scaling=None if params.scaling == "per_channel" else params.scaling,
    )


def _with_labels(split: ImageSplit, size: int, encoded: Iterator[Chunk]) -> Iterator[LatentSplit[Tensor]]:
    """Yield the latents of ``split`` with their labels, a batch at a time. ``encoded`` yields all splits in order."""
    for start in range(0, len(split), size):
        yield LatentSplit(next(encoded)["latents"], split.labels[start : start + size])
