"""What stage ``train_autoencoder`` tells about its codec: metrics of the test split and fig/autoencoder."""

import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.load import decode_images, inference_batch, noise_for_index
from latentline.core.files import replaced_folder
from latentline.core.paths import FIGURES
from latentline.core.seeds import generator
from latentline.data.store import ImageSplit, to_unit_range
from latentline.evaluation.reconstruction import active_units, psnr, ssim
from latentline.figures.grids import alternating_rows, save_grid
from latentline.figures.latents import save_latents
from latentline.figures.plots import curves, write_table
from latentline.latents.normalizer import Normalizer
from stages.train_autoencoder.params import AutoencoderFiguresParams

_STRENGTHS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)  # of perturbations, in standard deviations of each channel
_FEW = 100  # images that a codec with a sampler decodes: in 100 steps each takes 0.13 s of CPU time at 28x28, and the report decodes them often

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Coded:
    """A split, there and back; of a codec that decodes from noise only the first images are decoded: each takes all of a sampler's steps."""

    latents: Tensor  # (N, *latent_shape)
    decoded: Tensor  # uint8 (M, C, H, W), of the first M


@torch.no_grad()
def losses(autoencoder: Autoencoder, split: ImageSplit, device: torch.device, seed: int) -> dict[str, float]:
    """The loss's terms over a split, with the same noise every time."""
    noise = generator(seed, "train_autoencoder", "validation")
    sums: dict[str, float] = {}
    for images in split.batches(inference_batch(split.images.shape)):
        for name, value in autoencoder.loss(images.to(device), noise)[1].items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(images)
    return {name: total / len(split) for name, total in sums.items()}


@torch.no_grad()
def score(autoencoder: Autoencoder, test: ImageSplit, device: torch.device, seed: int) -> tuple[dict[str, Any], Coded]:
    """Metrics of the test split, and the split coded. Where decoding takes noise, each image has its own, which knows nothing of it.

    Codecs without a posterior have no divergence: ``kl`` (nats per image), ``bits`` (the same in bits) and active units are null.
    """
    latents = torch.cat(
        [autoencoder.encode(images.to(device)).cpu() for images in test.batches(inference_batch(test.images.shape))]
    )
    count = len(test) if autoencoder.noise_shape is None else min(_FEW, len(test))
    decoded = decode_images(autoencoder, latents[:count], device, test.images.shape[1:])
    x, y = test.images[:count].float() / 255, decoded.float() / 255
    mse = float((x - y).square().mean())
    terms = losses(autoencoder, test, device, seed)
    kl = terms.get("kl")
    active = None if kl is None else active_units(latents)
    metrics = {
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
    return metrics, Coded(latents, decoded)


def warn_of_silence(metrics: dict[str, Any]) -> None:
    """One line in the log when channels carry nothing about the image, or none carries anything."""
    active = metrics["active_units_by_channel"]
    silent = [channel for channel, units in enumerate(active or []) if units == 0]
    if active and len(silent) == len(active):
        log.warning(
            "the posterior has collapsed: no latent varies with the image; lower autoencoder.kl_weight or raise autoencoder.kl_warmup_steps"
        )
    elif silent:
        log.warning(
            "%d of %d latent channels say nothing about the image (%s); lower autoencoder.kl_weight, or do with fewer channels",
            len(silent),
            len(active),
            ", ".join(map(str, silent)),
        )


def draw_figures(
    autoencoder: Autoencoder,
    test: ImageSplit,
    coded: Coded,
    histories: dict[str, list[dict[str, float]]],
    params: AutoencoderFiguresParams,
    device: torch.device,
    seed: int,
    previews: Path,
) -> None:
    """Write fig/autoencoder: a curve of each of ``histories``, the pictures of folder ``previews``, and what ``coded`` looks like."""
    count = len(coded.decoded)
    error = (to_unit_range(test.images[:count]) - to_unit_range(coded.decoded)).square().flatten(1).mean(dim=1)  # (M,)
    by_error = error.argsort()
    columns = min(params.width, count)
    shown = min(params.height // 2 * columns, count)
    chosen = {
        "reconstructions": torch.arange(shown),
        "best_to_worst": by_error[
            torch.linspace(0, count - 1, shown).round().long()
        ],  # evenly spaced percentiles of the error
        "worst_reconstructions": by_error[-shown:],
    }
    with replaced_folder(FIGURES / "autoencoder") as folder:
        for name, history in histories.items():
            write_table(folder / f"{name}.csv", history)
            if history[-1]["epoch"] > 0:
                curves(folder / f"{name}.png", history, "epoch", ["loss", "val_loss"], "loss", log=True)
        for preview in sorted(previews.glob("preview_*.png")):
            shutil.copy(preview, folder)
        for name, rows in chosen.items():
            save_grid(
                folder / f"{name}.png",
                alternating_rows([test.images[rows], coded.decoded[rows]], columns),
                columns,
                params.scale,
            )
        save_latents(folder / "latents.png", coded.latents[:columns], scale=4 * params.scale)
        _strips(
            folder / "interpolations.png",
            _interpolated(coded.latents, params.height, params.width),
            autoencoder,
            test,
            params,
            device,
        )
        draw = generator(seed, "train_autoencoder", "perturbation")
        _strips(
            folder / "perturbations.png",
            _perturbed(coded.latents, params.height, draw),
            autoencoder,
            test,
            params,
            device,
        )


def _interpolated(latents: Tensor, rows: int, columns: int) -> Tensor:
    """Straight lines between the latents of neighbouring test images: (rows, columns, *latent_shape)."""
    pairs = latents[: min(rows, len(latents) // 2) * 2].unflatten(0, (-1, 2))  # (rows, 2, *latent_shape)
    weights = torch.linspace(0, 1, columns).reshape(columns, *[1] * (latents.ndim - 1))  # (columns, 1, ...)
    return torch.lerp(pairs[:, :1], pairs[:, 1:], weights)


def _perturbed(latents: Tensor, rows: int, draw: torch.Generator) -> Tensor:
    """One direction of noise per image at rising strengths: (rows, strengths, *latent_shape)."""
    normalizer = Normalizer.fit(latents)
    clean = normalizer.standardise(latents[:rows])
    noise = torch.randn(clean.shape, generator=draw)
    return torch.stack([normalizer.restore(clean + strength * noise) for strength in _STRENGTHS], dim=1)


def _strips(
    path: Path,
    latents: Tensor,
    autoencoder: Autoencoder,
    test: ImageSplit,
    params: AutoencoderFiguresParams,
    device: torch.device,
) -> None:
    """Decode (rows, columns, *latent_shape) and draw it so; all of a row from the same noise, where decoding takes any."""
    rows, columns = latents.shape[:2]
    noise = (
        None
        if autoencoder.noise_shape is None
        else noise_for_index(autoencoder.noise_shape, torch.arange(rows).repeat_interleave(columns))
    )
    save_grid(
        path,
        decode_images(autoencoder, latents.flatten(0, 1), device, test.images.shape[1:], noise),
        columns,
        scale=params.scale,
    )
