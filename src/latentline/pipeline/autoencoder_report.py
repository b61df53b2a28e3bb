"""What stage ``train_autoencoder`` tells about its codec: metrics of the test split and fig/autoencoder."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.codecs.base import Codec
from latentline.common.files import replaced_folder
from latentline.common.seeds import generator
from latentline.data.store import ImageSplit, to_uint8, to_unit_range
from latentline.evaluation.reconstruction import active_units, psnr, ssim
from latentline.figures.grids import alternating_rows, save_grid
from latentline.figures.latents import save_latents
from latentline.figures.plots import curves, write_table
from latentline.latents.normalizer import Normalizer
from latentline.params.autoencoder import CodecFiguresParams
from latentline.pipeline.codec import inference_batch
from latentline.pipeline.paths import FIGURES

_STRENGTHS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)  # of perturbations, in standard deviations of each channel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Coded:
    """A split, there and back."""

    latents: Tensor  # (N, *latent_shape)
    decoded: Tensor  # uint8 (N, C, H, W)


@torch.no_grad()
def losses(codec: Codec, split: ImageSplit, device: torch.device, seed: int) -> dict[str, float]:
    """The loss's terms over a split, with the same noise every time."""
    noise = generator(seed, "train_autoencoder", "validation")
    sums: dict[str, float] = {}
    for images, _ in split.batches(inference_batch(split.images.shape)):
        for name, value in codec.loss(images.to(device), noise)[1].items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(images)
    return {name: total / len(split) for name, total in sums.items()}


@torch.no_grad()
def score(codec: Codec, test: ImageSplit, device: torch.device, seed: int) -> tuple[dict[str, Any], Coded]:
    """Metrics of the test split, and the split coded.

    Codecs without a posterior have no divergence: ``kl`` (nats per image), ``bits`` (the same in bits) and active units are null.
    """
    latents = torch.cat([codec.encode(images.to(device)).cpu() for images, _ in test.batches(inference_batch(test.images.shape))])
    decoded = _decode(codec, latents, test, device)
    x, y = test.images.load().float() / 255, decoded.float() / 255
    mse = float((x - y).square().mean())
    terms = losses(codec, test, device, seed)
    kl = terms.get("kl")
    active = None if kl is None else active_units(latents)
    metrics = {
        "mse": mse,
        "psnr": psnr(mse),
        "ssim": ssim(y, x),
        "test_loss": terms["loss"],
        "kl": kl,
        "bits": None if kl is None else kl / math.log(2),
        "latent_size": math.prod(codec.latent_shape),
        "active_units": None if active is None else sum(active),
        "active_units_by_channel": active,
    }
    return metrics, Coded(latents, decoded)


def warn_of_silence(metrics: dict[str, Any]) -> None:
    """One line in the log when channels carry nothing about the image, or none carries anything."""
    active = metrics["active_units_by_channel"]
    silent = [channel for channel, units in enumerate(active or []) if units == 0]
    if active and len(silent) == len(active):
        log.warning("the posterior has collapsed: no latent varies with the image; lower autoencoder.kl_weight or raise autoencoder.kl_warmup_steps")
    elif silent:
        log.warning(
            "%d of %d latent channels say nothing about the image (%s); lower autoencoder.kl_weight, or do with fewer channels",
            len(silent),
            len(active),
            ", ".join(map(str, silent)),
        )


def draw_figures(
    codec: Codec, test: ImageSplit, coded: Coded, history: list[dict[str, float]], knobs: CodecFiguresParams, device: torch.device, seed: int
) -> None:
    """Write fig/autoencoder."""
    error = (to_unit_range(test.images.load()) - to_unit_range(coded.decoded)).square().flatten(1).mean(dim=1)  # (N,)
    by_error = error.argsort()
    columns = min(knobs.width, len(test))
    shown = min(knobs.height // 2 * columns, len(test))
    chosen = {
        "reconstructions": torch.arange(shown),
        "best_to_worst": by_error[torch.linspace(0, len(test) - 1, shown).round().long()],  # evenly spaced percentiles of the error
        "worst_reconstructions": by_error[-shown:],
    }
    with replaced_folder(FIGURES / "autoencoder") as folder:
        write_table(folder / "loss.csv", history)
        if history[-1]["epoch"] > 0:
            curves(folder / "loss.png", history, "epoch", ["loss", "val_loss"], "loss", log=True)
        for name, rows in chosen.items():
            save_grid(folder / f"{name}.png", alternating_rows([test.images[rows], coded.decoded[rows]], columns), columns, knobs.scale)
        save_latents(folder / "latents.png", coded.latents[:columns], scale=4 * knobs.scale)
        _strips(folder / "interpolations.png", _interpolated(coded.latents, knobs.height, knobs.width), codec, test, knobs, device)
        draw = generator(seed, "train_autoencoder", "perturbation")
        _strips(folder / "perturbations.png", _perturbed(coded.latents, knobs.height, draw), codec, test, knobs, device)


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


def _strips(path: Path, latents: Tensor, codec: Codec, test: ImageSplit, knobs: CodecFiguresParams, device: torch.device) -> None:
    """Decode (rows, columns, *latent_shape) and draw it so."""
    save_grid(path, _decode(codec, latents.flatten(0, 1), test, device), columns=latents.shape[1], scale=knobs.scale)


@torch.no_grad()
def _decode(codec: Codec, latents: Tensor, like: ImageSplit, device: torch.device) -> Tensor:
    """Raw latents (N, *latent_shape) -> uint8 images (N, C, H, W) on the CPU."""
    return torch.cat([to_uint8(codec.decode(z.to(device))).cpu() for z in latents.split(inference_batch(like.images.shape))])
