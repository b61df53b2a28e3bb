"""Metrics and figures of what the noise x_T of a diffusion autoencoder carries; nothing for other autoencoders."""

from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.diffae import DiffAE
from latentline.autoencoders.load import decode_images, noise_for_index
from latentline.data.store import ImageSplit, to_uint8, to_unit_range
from latentline.evaluation.reconstruction import psnr, ssim
from latentline.figures.grids import GridText, alternating_rows, save_grid
from stages.train_autoencoder.auxiliary_report import perceptual_distance
from stages.train_autoencoder.params import AutoencoderFiguresParams
from stages.train_autoencoder.perceptual import PerceptualDistance
from stages.train_autoencoder.report import Reconstructions

_STEPS = (20, 100)  # as in the paper's table of reconstructions
_BATCH = 128  # images at a time


def noise_scores(
    autoencoder: Autoencoder,
    test: ImageSplit,
    reconstructions: Reconstructions,
    perceptual: PerceptualDistance | None,
    device: torch.device,
) -> dict[str, dict[str, dict[str, float]]]:
    """Score reconstructions from random and from inferred noise, in 20 and in 100 steps.

    The scores are of the decoded images in ``reconstructions``. ``perceptual`` None gives no LPIPS.
    """
    if not isinstance(autoencoder, DiffAE):
        return {}
    count = len(reconstructions.decoded)
    images, latents = test.images[:count], reconstructions.latents[:count]
    scores: dict[str, dict[str, dict[str, float]]] = {"with_random_noise": {}, "with_inferred_noise": {}}
    random = noise_for_index(autoencoder.noise_shape, torch.arange(count))
    for steps in _STEPS:
        inferred = _inferred_noise(autoencoder, images, latents, device, steps)
        for kind, noise in (("with_random_noise", random), ("with_inferred_noise", inferred)):
            decoded = _decoded(autoencoder, latents, noise, device, steps)
            scores[kind][str(steps)] = _image_scores(decoded, images, perceptual)
    return scores


def draw_noise(
    folder: Path,
    autoencoder: Autoencoder,
    test: ImageSplit,
    reconstructions: Reconstructions,
    params: AutoencoderFiguresParams,
    device: torch.device,
) -> None:
    """Draw noise.png and stochastic.png of the first test images into ``folder``.

    ``noise.png`` has rows of originals, of decodings from default noise and from inferred noise, and of the inferred
    noise itself if it has the shape of an image. ``stochastic.png`` has an original per row, then decodings of its
    latent from different noise.
    """
    if not isinstance(autoencoder, DiffAE):
        return
    columns = min(params.width, len(reconstructions.decoded))
    images, latents, steps = test.images[:columns], reconstructions.latents[:columns], autoencoder.sample_timesteps
    noise = _inferred_noise(autoencoder, images, latents, device, steps)
    names = ["original", "random noise", "inferred noise"]
    shown = [images, reconstructions.decoded[:columns], _decoded(autoencoder, latents, noise, device, steps)]
    if noise.shape == images.shape:
        shown.append(to_uint8(noise / 3))  # +-3 standard deviations
        names.append("the noise")
    note = f"Decoded in {steps} steps. The latent is the same; only the noise x_T differs."
    text = GridText("Test images decoded from random noise, and from the noise inferred from them", note, names)
    save_grid(folder / "noise.png", alternating_rows(shown, columns), columns, params.scale, text)

    rows, draws = min(params.height, len(images)), params.width - 1
    repeated = reconstructions.latents[:rows].repeat_interleave(draws, dim=0)  # (rows * draws, D)
    decoded = decode_images(autoencoder, repeated, device, images.shape[1:])  # (rows * draws, C, H, W)
    drawn = decoded.unflatten(0, (rows, draws))
    grid = torch.cat([images[:rows, None], drawn], dim=1).flatten(0, 1)  # (rows * (draws + 1), C, H, W)
    columns_text = ["original", *(str(number + 1) for number in range(draws))]
    note = "One test image per row. What the columns share is in the latent; what differs is in the noise."
    text = GridText("One latent decoded from different noise", note, columns=columns_text, across="draw of the noise")
    save_grid(folder / "stochastic.png", grid, params.width, params.scale, text)


@torch.no_grad()
def _inferred_noise(autoencoder: DiffAE, images: Tensor, latents: Tensor, device: torch.device, steps: int) -> Tensor:
    """Return the noise (M, *noise_shape), on the CPU, of uint8 images (M, C, H, W) and latents (M, D)."""
    batches = zip(images.split(_BATCH), latents.split(_BATCH), strict=True)
    return torch.cat(
        [autoencoder.invert(to_unit_range(x).to(device), z.to(device), steps=steps).cpu() for x, z in batches]
    )


@torch.no_grad()
def _decoded(autoencoder: DiffAE, latents: Tensor, noise: Tensor, device: torch.device, steps: int) -> Tensor:
    """Decode latents (M, D) from noise (M, *noise_shape) to uint8 images (M, C, H, W), on the CPU."""
    batches = zip(latents.split(_BATCH), noise.split(_BATCH), strict=True)
    return torch.cat([to_uint8(autoencoder.decode(z.to(device), x.to(device), steps=steps)).cpu() for z, x in batches])


def _image_scores(decoded: Tensor, images: Tensor, perceptual: PerceptualDistance | None) -> dict[str, float]:
    """Return the distances of uint8 images (M, C, H, W), pair by pair."""
    x, y = images.float() / 255, decoded.float() / 255
    mse = float((x - y).square().mean())
    lpips = {} if perceptual is None else {"lpips": perceptual_distance(perceptual, images, decoded)}
    return {"mse": mse, "psnr": psnr(mse), "ssim": ssim(y, x), **lpips}
