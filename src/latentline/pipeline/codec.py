"""Load the autoencoder, and encode or decode many images with it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.codecs.base import Codec
from latentline.codecs.build import build_codec
from latentline.data.store import ImageSplit, to_uint8
from latentline.pipeline.paths import AUTOENCODER
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import place

_BATCH = 500  # images at a time when nothing is learnt; the results do not depend on it


@dataclass(frozen=True)
class TrainedCodec:
    """A codec with its weights, on its device, and the sha256 of its checkpoint."""

    codec: Codec
    device: torch.device
    sha256: str

    @torch.no_grad()
    def encode(self, split: ImageSplit) -> Tensor:
        """All images of a split -> raw latents (N, C, H, W), float32 on the CPU."""
        return torch.cat([self.codec.encode(images.to(self.device)).cpu() for images, _ in split.batches(_BATCH)])

    @torch.no_grad()
    def decode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw latents (N, C, H, W) -> uint8 images (N, C, H, W) on the CPU."""
        return torch.cat([to_uint8(self.codec.decode(z.float().to(self.device), generator)).cpu() for z in raw.split(_BATCH)])


def load_codec(device: torch.device) -> TrainedCodec:
    """Build the codec that checkpoints/autoencoder holds. Raises UserError when it is missing or damaged."""
    checkpoint = load_checkpoint(AUTOENCODER, kind="autoencoder", made_by="train_autoencoder")
    codec = build_codec(checkpoint.name, **checkpoint.constructor)
    checkpoint.load_into(codec)
    place(codec.eval().requires_grad_(False), device)
    return TrainedCodec(codec, device, checkpoint.sha256)
