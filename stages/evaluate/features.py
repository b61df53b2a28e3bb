"""Features of every image set, in chunks: a killed evaluation continues, and no set is ever whole in memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.seeds import start_noise
from latentline.core.shards import ShardedArray
from latentline.feature_extractors.load import FeatureExtractor
from latentline.latents.cache import LatentStats
from latentline.runtime.resumable_map import Chunk, ResumableMap

STAGE = "evaluate"
_BATCH = 500  # images of a chunk


@dataclass(frozen=True)
class ImageSet:
    """Images that are read or decoded on demand."""

    count: int
    read: Callable[[slice], Tensor]  # uint8 (B, C, H, W), the same at every call


@dataclass(frozen=True)
class Extracted:
    """Features (N, D) and predicted labels (N, A) of an image set, on the CPU."""

    features: Tensor
    labels: Tensor


def image_sets(
    train: ShardedArray,
    samples: ShardedArray,
    test: ShardedArray,
    latents: Tensor,
    autoencoder: TrainedAutoencoder,
    stats: LatentStats,
    seed: int,
) -> dict[str, ImageSet]:
    """Return ``train``, ``samples`` and the references ``real_test``, ``reconstructions`` and ``decoded_noise``.

    Args:
        train: images that all others are compared with.
        samples: images.
        test: images.
        latents: of ``test``, raw.
        autoencoder: decodes latents.
        stats: scale of the latents.
        seed: of the noise.
    """
    noise = start_noise(seed, STAGE, torch.arange(min(len(test), len(samples))), stats.shape)

    def reconstruct(rows: slice) -> Tensor:
        return autoencoder.decode(latents[rows], first=rows.start)

    def decode_noise(rows: slice) -> Tensor:
        return autoencoder.decode(stats.normalizer.restore(noise[rows]), first=rows.start)

    return {
        "train": ImageSet(len(train), train.__getitem__),
        "samples": ImageSet(len(samples), samples.__getitem__),
        "real_test": ImageSet(len(test), test.__getitem__),
        "reconstructions": ImageSet(len(latents), reconstruct),
        "decoded_noise": ImageSet(len(noise), decode_noise),
    }


def extract(sets: dict[str, ImageSet], extractor: FeatureExtractor, chunks: ResumableMap) -> dict[str, Extracted]:
    """Return the features and predicted labels of each set.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM came; what is done is saved.
    """
    numbered = [(name, start) for name, images in sets.items() for start in range(0, images.count, _BATCH)]

    def compute(number: int) -> Chunk:
        name, start = numbered[number]
        rows = slice(start, min(start + _BATCH, sets[name].count))
        features, labels = extractor.extract(sets[name].read(rows))
        return {"features": features, "labels": labels}

    by_set: dict[str, list[Chunk]] = {}
    for (name, _), chunk in zip(numbered, chunks.map(len(numbered), compute), strict=True):
        by_set.setdefault(name, []).append(chunk)
    return {
        name: Extracted(*(torch.cat([chunk[key] for chunk in parts]) for key in ("features", "labels")))
        for name, parts in by_set.items()
    }
