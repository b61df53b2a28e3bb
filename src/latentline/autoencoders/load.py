"""Load the autoencoder, and encode or decode many images with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.build import build_autoencoder
from latentline.core.files import refusing_earlier_versions
from latentline.core.finite import require_finite
from latentline.core.paths import AUTOENCODER
from latentline.core.seeds import start_noise
from latentline.core.shards import ShardedArray
from latentline.data.store import to_uint8, to_unit_range
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import to_device
from latentline.runtime.precision import Precision, inference

_BATCH = 500  # images at a time without gradients
_PIXELS = 1 << 19  # at a time, so that large images in a network that begins at full size stay within a few GiB
_REMEDY = "lower it and train again, or move the latents less (guidance scales, manipulate.strengths)"
_NOISE_SEED = 0  # not the run's seed: the noise of an image depends on its index alone


def inference_batch(image_shape: Sequence[int]) -> int:
    """Return how many images of (C, H, W) pass through an autoencoder at a time; the results do not depend on it."""
    return max(1, min(_BATCH, _PIXELS // (image_shape[-2] * image_shape[-1])))


def noise_for_index(shape: tuple[int, ...], numbers: Tensor) -> Tensor:
    """Return the default noise (len(numbers), *shape) for decoding the images of these indices, int64."""
    return start_noise(_NOISE_SEED, "decode", numbers, shape)


@torch.no_grad()
def encode_images(
    network: Autoencoder,
    images: Tensor | ShardedArray,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Encode uint8 images (N, C, H, W) as raw latents (N, *latent_shape), on the CPU.

    Args:
        network: on ``device``.
        images: in memory or on disk.
        device: where the network runs.
        generator: samples from an encoder's distribution, batch by batch; None = its mean.
    """
    batches = images.split(inference_batch(images.shape))
    return torch.cat([network.encode(to_unit_range(batch.to(device)), generator).cpu() for batch in batches])


@torch.no_grad()
def decode_images(
    network: Autoencoder,
    raw: Tensor,
    device: torch.device,
    image_shape: Sequence[int],
    noise: Tensor | None = None,
    *,
    first: int = 0,
) -> Tensor:
    """Decode raw latents (N, *latent_shape) to uint8 images (N, C, H, W), on the CPU.

    Args:
        network: on ``device``.
        raw: latents.
        device: where the network runs.
        image_shape: (C, H, W).
        noise: (N, *noise_shape), for an autoencoder that decodes from noise. None = row i takes the default noise of
            image index ``first`` + i (:func:`noise_for_index`).
        first: index of the first row, for callers that decode a long series in chunks.

    Raises:
        UserError: a pixel is NaN or infinite.
    """
    images = []
    for rows in torch.arange(len(raw)).split(inference_batch(image_shape)):
        batch_noise = None
        if noise is not None:
            batch_noise = noise[rows].to(device)
        elif network.noise_shape is not None:
            batch_noise = noise_for_index(network.noise_shape, first + rows).to(device)
        images.append(_to_bytes(network.decode(raw[rows].float().to(device), batch_noise)).cpu())
    return torch.cat(images)


def _to_bytes(pixels: Tensor) -> Tensor:
    """Return uint8 images (B, C, H, W). Raises UserError for NaN and infinity, which would become black or white."""
    return to_uint8(require_finite(pixels, "autoencoder.optimizer.lr", _REMEDY, "pixels"))


@dataclass(frozen=True)
class TrainedAutoencoder:
    """An autoencoder with its weights, on its device, and the sha256 of its checkpoint."""

    network: Autoencoder
    device: torch.device
    sha256: str
    image_shape: tuple[int, ...]
    precision: Precision = "float32"
    """Of its training; all images are encoded in it."""

    def encode(self, images: Tensor | ShardedArray, generator: torch.Generator | None = None) -> Tensor:
        """Encode uint8 images in the precision of the training; see :func:`encode_images`."""
        with inference(self.device, self.precision, "autoencoder.optimizer.precision"):
            return encode_images(self.network, images, self.device, generator)

    def decode(self, raw: Tensor, noise: Tensor | None = None, *, first: int = 0) -> Tensor:
        """Decode raw latents; see :func:`decode_images`."""
        return decode_images(self.network, raw, self.device, self.image_shape, noise, first=first)

    @torch.no_grad()
    def invert(self, images: Tensor, raw: Tensor) -> Tensor:
        """Return the noise (N, *noise_shape), on the CPU, that decodes to ``images``; see :meth:`Autoencoder.invert`.

        Args:
            images: uint8 (N, C, H, W).
            raw: their latents (N, *latent_shape).
        """
        rows = torch.arange(len(raw)).split(inference_batch(self.image_shape))
        batches = ((to_unit_range(images[part].to(self.device)), raw[part].float().to(self.device)) for part in rows)
        return torch.cat([self.network.invert(x, z).cpu() for x, z in batches])

    @torch.no_grad()
    def sdedit(self, images: Tensor, raw: Tensor, t: float, noise: Tensor) -> Tensor:
        """Add noise up to time ``t`` and denoise, conditioned on ``raw``; see :meth:`Autoencoder.sdedit`.

        Args:
            images: uint8 (N, C, H, W).
            raw: latents (N, *latent_shape).
            t: in (0, 1).
            noise: (N, *noise_shape).

        Returns:
            uint8 (N, C, H, W), on the CPU.
        """
        rows = torch.arange(len(raw)).split(inference_batch(self.image_shape))
        batches = (
            (to_unit_range(images[part].to(self.device)), *(x[part].to(self.device) for x in (raw.float(), noise)))
            for part in rows
        )
        return torch.cat([_to_bytes(self.network.sdedit(x, z, t, part)).cpu() for x, z, part in batches])


def load_autoencoder(device: torch.device, root: Path = Path()) -> TrainedAutoencoder:
    """Load the autoencoder in ``root``/checkpoints/autoencoder. Raises UserError for a missing, damaged or old file."""
    checkpoint = load_checkpoint(root / AUTOENCODER, kind="autoencoder", made_by="train_autoencoder")
    with refusing_earlier_versions(checkpoint.path, "train_autoencoder"):
        network = build_autoencoder(checkpoint.name, **checkpoint.constructor)
        image_shape = tuple(checkpoint.constructor["image_shape"])
    checkpoint.load_into(network)
    to_device(network.eval().requires_grad_(False), device)
    precision = checkpoint.settings.get("precision", "float32")
    return TrainedAutoencoder(network, device, checkpoint.sha256, image_shape, precision)
