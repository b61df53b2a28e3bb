"""Load the autoencoder, and encode or decode many images with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.build import build_autoencoder
from latentline.core.paths import AUTOENCODER
from latentline.core.seeds import start_noise
from latentline.data.store import to_uint8, to_unit_range
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import to_device

_BATCH = 500  # images at a time when nothing is learnt
_PIXELS = 1 << 19  # and pixels, so that large images in a network that begins at full size stay within a few GiB
_NOISE_SEED = 0  # whatever the run's: an image's noise is one of its own, as fixed as its number


def inference_batch(image_shape: Sequence[int]) -> int:
    """How many images of (C, H, W) go through an autoencoder at a time; the results do not depend on it."""
    return max(1, min(_BATCH, _PIXELS // (image_shape[-2] * image_shape[-1])))


def noise_for_index(shape: tuple[int, ...], numbers: Tensor) -> Tensor:
    """The noise (len(numbers), *shape) that images of these numbers are decoded from, where nobody says otherwise."""
    return start_noise(_NOISE_SEED, "decode", numbers, shape)


@torch.no_grad()
def decode_images(
    autoencoder: Autoencoder,
    raw: Tensor,
    device: torch.device,
    image_shape: Sequence[int],
    noise: Tensor | None = None,
    *,
    first: int = 0,
) -> Tensor:
    """Raw latents (N, *latent_shape) -> uint8 images (N, C, H, W) on the CPU.

    Args:
        autoencoder: on ``device``.
        raw: latents.
        device: where the work is done.
        image_shape: (C, H, W).
        noise: (N, *noise_shape), for a codec that decodes from noise. None = row i has that of image number ``first`` + i, the same every time
            and of no other image.
        first: number of the first row, for callers that decode a long series in parts.
    """
    images = []
    for rows in torch.arange(len(raw)).split(inference_batch(image_shape)):
        told = None
        if noise is not None:
            told = noise[rows].to(device)
        elif autoencoder.noise_shape is not None:
            told = noise_for_index(autoencoder.noise_shape, first + rows).to(device)
        images.append(to_uint8(autoencoder.decode(raw[rows].float().to(device), told)).cpu())
    return torch.cat(images)


@dataclass(frozen=True)
class TrainedAutoencoder:
    """A codec with its weights, on its device, and the sha256 of its checkpoint."""

    network: Autoencoder
    device: torch.device
    sha256: str
    image_shape: tuple[int, ...]

    def decode(self, raw: Tensor, noise: Tensor | None = None, *, first: int = 0) -> Tensor:
        """:func:`decode_images` of this codec."""
        return decode_images(self.network, raw, self.device, self.image_shape, noise, first=first)

    @torch.no_grad()
    def invert(self, images: Tensor, raw: Tensor) -> Tensor:
        """The noise (N, *noise_shape), float32 on the CPU, that decodes to uint8 ``images`` (N, C, H, W) of latents ``raw`` (N, *latent_shape).

        Only for a codec that has a ``noise_shape``.
        """
        rows = torch.arange(len(raw)).split(inference_batch(self.image_shape))
        parts = ((to_unit_range(images[part]).to(self.device), raw[part].float().to(self.device)) for part in rows)
        return torch.cat([self.network.invert(x, z).cpu() for x, z in parts])

    @torch.no_grad()
    def sdedit(self, images: Tensor, raw: Tensor, t: float, noise: Tensor) -> Tensor:
        """uint8 ``images`` (N, C, H, W), noised with ``noise`` (N, *noise_shape) up to ``t`` and denoised, told ``raw`` (N, *latent_shape).

        uint8 (N, C, H, W) on the CPU. Only for a codec that has a ``noise_shape``.
        """
        rows = torch.arange(len(raw)).split(inference_batch(self.image_shape))
        parts = (
            [tensor[part].to(self.device) for tensor in (to_unit_range(images), raw.float(), noise)] for part in rows
        )
        return torch.cat([to_uint8(self.network.sdedit(x, z, t, told)).cpu() for x, z, told in parts])


def load_autoencoder(device: torch.device, root: Path = Path()) -> TrainedAutoencoder:
    """Build the codec that ``root``/checkpoints/autoencoder holds. Raises UserError when it is missing or damaged."""
    checkpoint = load_checkpoint(root / AUTOENCODER, kind="autoencoder", made_by="train_autoencoder")
    autoencoder = build_autoencoder(checkpoint.name, **checkpoint.constructor)
    checkpoint.load_into(autoencoder)
    to_device(autoencoder.eval().requires_grad_(False), device)
    return TrainedAutoencoder(autoencoder, device, checkpoint.sha256, tuple(checkpoint.constructor["image_shape"]))
