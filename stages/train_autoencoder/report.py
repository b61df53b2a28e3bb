"""Metrics of test images, and fig/autoencoder."""

import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.load import decode_images, encode_images, noise_for_index
from latentline.core.files import replaced_folder
from latentline.core.seeds import generator
from latentline.data.store import ImageSplit, to_unit_range
from latentline.evaluation.reconstruction import active_units, psnr, ssim
from latentline.figures.grids import GridText, alternating_rows, save_grid
from latentline.figures.latents import save_latents
from latentline.figures.names import image_names
from latentline.figures.plots import curves, write_table
from latentline.latents.normalizer import Normalizer
from stages.train_autoencoder.params import AutoencoderFiguresParams
from stages.train_autoencoder.train import loss_terms

_STRENGTHS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)  # of perturbations, in standard deviations of each channel
# Images that an autoencoder with a sampler decodes: 100 steps take 0.13 s of CPU time per image at 28x28.
_FEW = 100
_PAIR = ("original", "reconstruction")
_ERRORS = {"l1": "mean absolute error", "mse": "mean squared error"}  # a run of l1 reports the squared one, too
_FEWEST = 2  # images that can differ in a latent

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconstructions:
    """A split, encoded and decoded.

    An autoencoder with a sampler decodes only the first images, since each takes all of the sampler's steps.
    """

    latents: Tensor
    """(N, *latent_shape)."""
    decoded: Tensor
    """uint8 (M, C, H, W), of the first M."""


@torch.no_grad()
def score(
    autoencoder: Autoencoder, test: ImageSplit, device: torch.device, seed: int
) -> tuple[dict[str, Any], Reconstructions]:
    """Return metrics of the test split, and its reconstructions.

    An autoencoder that decodes from noise takes the default noise of each image's index. Without a posterior, ``kl``
    (nats per image), ``bits`` (the same in bits) and the active units are null.
    """
    latents = encode_images(autoencoder, test.images, device)
    count = len(test) if autoencoder.noise_shape is None else min(_FEW, len(test))
    decoded = decode_images(autoencoder, latents[:count], device, test.images.shape[1:])
    x, y = test.images[:count].float() / 255, decoded.float() / 255
    mse = float((x - y).square().mean())
    terms = loss_terms(autoencoder, test, device, seed)
    kl = terms.get("kl")
    active = None if kl is None or len(test) < _FEWEST else active_units(latents)
    metrics: dict[str, Any] = {
        "mse": mse,
        "psnr": psnr(mse),
        "ssim": ssim(y, x),
        "test_loss": terms["loss"],
        "kl": kl,
        "bits": None if kl is None else kl / math.log(2),
        "latent_size": math.prod(autoencoder.latent_shape),
        "active_units": None if active is None else sum(active),
        "active_units_by_channel": active,
    }
    if kl is not None and active is None:
        reason = f"needs at least {_FEWEST} test images, not {len(test)}"
        metrics["not_computed"] = dict.fromkeys(("active_units", "active_units_by_channel"), reason)
    return metrics, Reconstructions(latents, decoded)


def warn_inactive_channels(metrics: dict[str, Any]) -> None:
    """Log one line when latent channels do not vary with the image; channels count from 1, as in the figures."""
    active = metrics["active_units_by_channel"]
    inactive = [channel for channel, units in enumerate(active or [], start=1) if units == 0]
    if active and len(inactive) == len(active):
        log.warning(
            "the posterior has collapsed: no latent varies with the image; lower autoencoder.kl_weight or raise "
            "autoencoder.kl_warmup_steps"
        )
    elif inactive:
        log.warning(
            "%d of %d latent channels carry nothing about the image (%s); lower autoencoder.kl_weight or "
            "autoencoder.latent_channels",
            len(inactive),
            len(active),
            ", ".join(map(str, inactive)),
        )


def draw_preview(
    folder: Path,
    params: AutoencoderFiguresParams,
    device: torch.device,
    autoencoder: Autoencoder,
    val: ImageSplit,
    epoch: int,
) -> None:
    """Draw a row of validation images above their reconstructions, every ``params.preview_every_epochs`` epochs."""
    if not params.preview_every_epochs or epoch % params.preview_every_epochs:
        return
    columns = min(params.width, len(val))
    images = val.images[:columns]
    decoded = decode_images(autoencoder, encode_images(autoencoder, images, device), device, images.shape[1:])
    path = folder / f"preview_{epoch:04d}.png"
    text = GridText(f"Validation images after epoch {epoch}", "", _PAIR)
    save_grid(path, alternating_rows([images, decoded], columns), columns, params.scale, text)


def draw_figures(
    folder: Path,
    autoencoder: Autoencoder,
    test: ImageSplit,
    reconstructions: Reconstructions,
    histories: dict[str, list[dict[str, float]]],
    params: AutoencoderFiguresParams,
    device: torch.device,
    seed: int,
    previews: Path,
) -> None:
    """Replace ``folder``: curves of the trainings, previews, reconstructions, interpolations, perturbations.

    Args:
        folder: of the figures.
        autoencoder: on ``device``.
        test: the test split.
        reconstructions: of it.
        histories: of each training, by the name of its curve.
        params: sizes of the grids.
        device: where the network runs.
        seed: of the run.
        previews: folder of the pictures that :func:`draw_preview` drew.
    """
    latents, decoded = reconstructions.latents, reconstructions.decoded
    count = len(decoded)
    error = (to_unit_range(test.images[:count]) - to_unit_range(decoded)).square().flatten(1).mean(dim=1)  # (M,)
    by_error = error.argsort()
    columns = min(params.width, count)
    shown = min(params.height // 2 * columns, count)
    chosen = {
        "reconstructions": (torch.arange(shown), f"The first {shown} test images and their reconstructions", ""),
        # evenly spaced percentiles of the error
        "best_to_worst": (
            by_error[torch.linspace(0, count - 1, shown).round().long()],
            f"{shown} of {count} test images, from the best reconstruction to the worst",
            f"Mean squared error: {error.min():.2g} (top left) to {error.max():.2g} (bottom right).",
        ),
        "worst_reconstructions": (
            by_error[-shown:],
            f"The {shown} of {count} test images with the largest squared error",
            "",
        ),
    }
    names = image_names(test.labels[: 2 * params.height])
    perturbation = generator(seed, "train_autoencoder", "perturbation")
    strips = {
        "interpolations": (
            _interpolated(latents, params.height, params.width),
            GridText(
                "Straight lines between the latents of two test images, decoded",
                rows=[f"{first} \u2192 {second}" for first, second in zip(names[::2], names[1::2], strict=False)],
                columns=[f"{weight:.2g}" for weight in torch.linspace(0, 1, params.width).tolist()],
                across="weight of the second image",
            ),
        ),
        "perturbations": (
            _perturbed(latents, params.height, perturbation),
            GridText(
                "Test images whose latents have noise added, decoded",
                rows=names[: params.height],
                columns=[f"{strength:g}" for strength in _STRENGTHS],
                across="noise (standard deviations of each channel)",
            ),
        ),
    }
    with replaced_folder(folder) as made:
        for name, history in histories.items():
            write_table(made / f"{name}.csv", history)
            if history[-1]["epoch"] > 0:
                lines = {"loss": "training", "val_loss": "validation"}
                title = f"Training of the autoencoder{name.removeprefix('loss').replace('_', ': ')}"
                note = _loss_terms(history[-1])
                curves(made / f"{name}.png", history, "epoch", lines, "loss", title=title, note=note, log=True)
        for preview in sorted(previews.glob("preview_*.png")):
            shutil.copy(preview, made)
        for name, (rows, title, note) in chosen.items():
            images = alternating_rows([test.images[rows], decoded[rows]], columns)
            text = GridText(title, note, _PAIR * (len(images) // columns // 2))
            save_grid(made / f"{name}.png", images, columns, params.scale, text)
        numbers = [str(number + 1) for number in range(columns)]
        save_latents(made / "latents.png", latents[:columns], 4 * params.scale, "Latents of test images", numbers)
        for name, (strip, text) in strips.items():
            images = _decode_strips(strip, autoencoder, device, test.images.shape[1:])
            save_grid(made / f"{name}.png", images, strip.shape[1], params.scale, text)


def _loss_terms(row: dict[str, float]) -> str:
    """Return a sentence on the terms of the loss in a row of a training's history."""
    error = next((text for name, text in _ERRORS.items() if f"val_{name}" in row), "denoising loss")
    return f"Loss: {error}{' + weighted KL divergence' if 'val_kl' in row else ''}."


def _interpolated(latents: Tensor, rows: int, columns: int) -> Tensor:
    """Return straight lines between the latents of neighbouring test images: (rows, columns, *latent_shape)."""
    pairs = latents[: min(rows, len(latents) // 2) * 2].unflatten(0, (-1, 2))  # (rows, 2, *latent_shape)
    weights = torch.linspace(0, 1, columns).reshape(columns, *[1] * (latents.ndim - 1))  # (columns, 1, ...)
    return torch.lerp(pairs[:, :1], pairs[:, 1:], weights)


def _perturbed(latents: Tensor, rows: int, draw: torch.Generator) -> Tensor:
    """Return latents with one noise per image, at rising strengths: (rows, strengths, *latent_shape)."""
    normalizer = Normalizer.fit(latents)
    clean = normalizer.standardise(latents[:rows])
    noise = torch.randn(clean.shape, generator=draw)
    return torch.stack([normalizer.restore(clean + strength * noise) for strength in _STRENGTHS], dim=1)


def _decode_strips(
    latents: Tensor, autoencoder: Autoencoder, device: torch.device, image_shape: tuple[int, ...]
) -> Tensor:
    """Decode (rows, columns, *latent_shape) to uint8 (rows * columns, C, H, W), each row from one noise if any."""
    rows, columns = latents.shape[:2]
    noise = None
    if autoencoder.noise_shape is not None:
        noise = noise_for_index(autoencoder.noise_shape, torch.arange(rows).repeat_interleave(columns))
    return decode_images(autoencoder, latents.flatten(0, 1), device, image_shape, noise)
