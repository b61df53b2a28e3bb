"""What the noise x_T of a diffusion autoencoder holds besides its latent: numbers and pictures of test images. Nothing for other codecs."""

from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.base import Codec
from latentline.autoencoders.diffae import DiffAE
from latentline.autoencoders.load import decode_images, numbered_noise
from latentline.data.store import ImageSplit, to_uint8, to_unit_range
from latentline.evaluation.reconstruction import psnr, ssim
from latentline.figures.grids import alternating_rows, save_grid
from stages.train_autoencoder.auxiliary_report import perceptual_distance
from stages.train_autoencoder.params import CodecFiguresParams
from stages.train_autoencoder.perceptual import PerceptualDistance
from stages.train_autoencoder.report import Coded

_STEPS = (20, 100)  # the paper's table of reconstructions has both
_BATCH = 128  # images at a time


def noise_scores(
    codec: Codec, test: ImageSplit, coded: Coded, perceptual: PerceptualDistance | None, device: torch.device
) -> dict[str, dict[str, dict[str, float]]]:
    """How well the test images of ``coded.decoded`` come back in 20 and in 100 steps: from noise that knows nothing of them, and from their own."""
    if not isinstance(codec, DiffAE):
        return {}
    images = test.images[: len(coded.decoded)]
    scores: dict[str, dict[str, dict[str, float]]] = {"with_random_noise": {}, "with_inferred_noise": {}}
    random = numbered_noise(codec.noise_shape, torch.arange(len(images)))
    for steps in _STEPS:
        inferred = _inferred(codec, images, coded, device, steps)
        for kind, noise in (("with_random_noise", random), ("with_inferred_noise", inferred)):
            scores[kind][str(steps)] = _closeness(_decoded(codec, coded, noise, device, steps), images, perceptual)
    return scores


def draw_noise(folder: Path, codec: Codec, test: ImageSplit, coded: Coded, knobs: CodecFiguresParams, device: torch.device) -> None:
    """Two pictures of the first test images.

    ``noise.png``: rows of originals, of what their latent and a noise of its own decode to, of what it and the inferred noise do, and of that
    noise where it has an image's shape. ``stochastic.png``: an original, then what its latent decodes to from one noise after another.
    """
    if not isinstance(codec, DiffAE):
        return
    columns = min(knobs.width, len(coded.decoded))
    images = test.images[:columns]
    noise = _inferred(codec, images, coded, device, codec.sample_timesteps)
    inferred = _decoded(codec, coded, noise, device, codec.sample_timesteps)
    shown = [images, coded.decoded[:columns], inferred, *([to_uint8(noise / 3)] if noise.shape == images.shape else [])]  # +-3 deviations
    save_grid(folder / "noise.png", alternating_rows(shown, columns), columns, knobs.scale)

    rows, draws = min(knobs.height, len(images)), knobs.width - 1
    latents = coded.latents[:rows].repeat_interleave(draws, dim=0)  # (rows * draws, D)
    drawn = decode_images(codec, latents, device, images.shape[1:]).unflatten(0, (rows, draws))  # (rows, draws, C, H, W)
    save_grid(folder / "stochastic.png", torch.cat([images[:rows, None], drawn], dim=1).flatten(0, 1), knobs.width, knobs.scale)


@torch.no_grad()
def _inferred(codec: DiffAE, images: Tensor, coded: Coded, device: torch.device, steps: int) -> Tensor:
    """uint8 images (M, C, H, W), the first of the split -> their noise (M, *noise_shape), on the CPU."""
    batches = zip(images.split(_BATCH), coded.latents[: len(images)].split(_BATCH), strict=True)
    return torch.cat([codec.invert(to_unit_range(x).to(device), z.to(device), steps=steps).cpu() for x, z in batches])


@torch.no_grad()
def _decoded(codec: DiffAE, coded: Coded, noise: Tensor, device: torch.device, steps: int) -> Tensor:
    """Noise (M, *noise_shape) of the first images of the split -> uint8 images (M, C, H, W), on the CPU."""
    batches = zip(noise.split(_BATCH), coded.latents[: len(noise)].split(_BATCH), strict=True)
    return torch.cat([to_uint8(codec.decode(z.to(device), part.to(device), steps=steps)).cpu() for part, z in batches])


def _closeness(decoded: Tensor, images: Tensor, perceptual: PerceptualDistance | None) -> dict[str, float]:
    """Of uint8 images (M, C, H, W)."""
    x, y = images.float() / 255, decoded.float() / 255
    mse = float((x - y).square().mean())
    seen = {} if perceptual is None else {"lpips": perceptual_distance(perceptual, images, decoded)}
    return {"mse": mse, "psnr": psnr(mse), "ssim": ssim(y, x), **seen}
