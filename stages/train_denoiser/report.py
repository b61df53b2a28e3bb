"""Metrics and figures of the denoiser: loss curves, previews while training, partial denoising."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.attributes import CLASS
from latentline.core.files import canonical_json, replaced_folder, sha256_bytes, write_metrics
from latentline.core.finite import require_finite
from latentline.core.paths import FIGURES, METRICS
from latentline.core.seeds import generator
from latentline.denoisers.conditioning import labels_for_samples
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import SamplingConfig, draw_latents
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.partial_denoising import denoise, estimate
from latentline.diffusion.path import add_noise_at
from latentline.diffusion.process import conditional_model
from latentline.diffusion.time_grid import time_grid
from latentline.figures.grids import GridText, save_grid, turns_as_rows
from latentline.figures.names import first_of, image_names
from latentline.figures.plots import bars, curves, write_table
from latentline.latents.cache import LatentStats, read_labels
from stages.train_denoiser.evaluate import evaluate
from stages.train_denoiser.latents import Latents
from stages.train_denoiser.params import PreviewParams
from stages.train_denoiser.train import LOSS_AT

_PREVIEW = "preview_{:04d}.png"  # of an epoch
_COLUMNS = 12  # test images in partial_denoising.png
_TIMES = (0.2, 0.4, 0.6, 0.8, 1.0)
_STEPS = 16


def preview_drawer(
    params: PreviewParams,
    stats: LatentStats,
    autoencoder: TrainedAutoencoder,
    seed: int,
    folder: Path,
    tokens: Tensor | None = None,
) -> Callable[[Denoiser, int], None]:
    """Return a function (denoiser, epoch) that draws a grid of samples every ``params.every_epochs`` epochs.

    Args:
        params: of the section ``denoiser.preview``.
        stats: of the latents.
        autoencoder: decodes the samples.
        seed: of the run.
        folder: for the grids; see :func:`preview_folder`.
        tokens: of captions (N, L), one for each row of a grid; None = no captions.
    """

    def draw(denoiser: Denoiser, epoch: int) -> None:
        if params.every_epochs and epoch and epoch % params.every_epochs == 0:
            path, title = folder / _PREVIEW.format(epoch), f"Samples after epoch {epoch}"
            _draw_preview(path, title, denoiser, params, stats, seed, autoencoder, tokens)

    return draw


def preview_folder(state: Path, params: PreviewParams) -> Path:
    """Return the folder of the grids below that of the saved ``state``, so that a restart finds earlier ones.

    Other settings have another folder: they do not shape the state, but every grid.
    """
    return state / f"previews-{sha256_bytes(canonical_json(params.model_dump()).encode())[:16]}"


def draw_missing_preview(
    denoiser: Denoiser, epoch: int, folder: Path, draw_preview: Callable[[Denoiser, int], None]
) -> None:
    """Draw the grid of the last epoch where ``folder`` has none, as after a training with other preview settings."""
    if not (folder / _PREVIEW.format(epoch)).exists():
        draw_preview(denoiser, epoch)


def write_report(
    denoiser: Denoiser,
    test: Latents,
    history: list[dict[str, float]],
    losses: dict[str, Any],
    seed: int,
    stats: LatentStats,
    autoencoder: TrainedAutoencoder,
    previews: Path,
) -> None:
    """Write metrics/denoiser.json and fig/denoiser.

    Args:
        denoiser: as trained.
        test: the test split.
        history: one row per epoch.
        losses: more entries of the metrics.
        seed: of the run.
        stats: of the latents.
        autoencoder: decodes the latents.
        previews: folder of the grids that were drawn while training.
    """
    test_loss, by_time = evaluate(denoiser, test, seed)
    write_metrics(
        METRICS / "denoiser.json",
        {
            "train_loss": None if math.isnan(history[-1]["loss"]) else history[-1]["loss"],
            "test_loss": test_loss,
            "test_loss_by_time": by_time,
            **losses,
            "parameters": sum(parameter.numel() for parameter in denoiser.network.parameters()),
        },
    )
    with replaced_folder(FIGURES / "denoiser") as folder:
        for row in history:  # a longer run may have left previews of later epochs
            if (preview := previews / _PREVIEW.format(row["epoch"])).exists():
                shutil.copy(preview, folder)
        _draw_curves(folder, history, by_time, denoiser.process.prediction)
        draw_partial_denoising(folder / "partial_denoising.png", denoiser, stats, autoencoder, test, seed)


def _draw_curves(folder: Path, history: list[dict[str, float]], by_time: dict[str, float], prediction: str) -> None:
    """Draw the loss by epoch, the same by time, and the test loss by time, each with its table."""
    write_table(folder / "loss.csv", history)
    names = {"loss": "training", "val_loss": "validation"}
    curves(folder / "loss.png", history, "epoch", names, f"loss ({prediction})", title="Training of the denoiser")
    details = {name: f"t = {name.partition('@')[2]}" for name in history[-1] if name.startswith(LOSS_AT)}
    by_epoch = [{"epoch": row["epoch"], **{label: row[name] for name, label in details.items()}} for row in history]
    label, title = f"validation loss ({prediction})", "Validation loss at each time t (0 = data, 1 = noise)"
    curves(folder / "loss_by_time.png", by_epoch, "epoch", list(details.values()), label, title=title, ordered=True)
    write_table(folder / "buckets.csv", [{"t": t, "loss": value} for t, value in by_time.items()])
    label, title = f"loss ({prediction})", "Test loss of the trained denoiser at each time"
    losses = list(by_time.values())
    bars(folder / "buckets.png", list(by_time), losses, label, title=title, xlabel="time t (0 = data, 1 = noise)")


def _draw_preview(
    path: Path,
    title: str,
    denoiser: Denoiser,
    params: PreviewParams,
    stats: LatentStats,
    seed: int,
    autoencoder: TrainedAutoencoder,
    tokens: Tensor | None,
) -> None:
    """Draw one row of samples per class; without classes one per caption or, without captions, rows of any samples."""
    num_classes = len(stats.classes) or params.height
    rows = turns_as_rows(num_classes, params.height, params.width)
    labels = labels_for_samples(read_labels(stats.schema), num_classes * params.width)[rows]
    config = SamplingConfig(lambda noise_fn: dpmpp_2m, time_grid(params.steps), Guidance(params.guidance_scale))
    captions = None if tokens is None else tokens[rows % num_classes % len(tokens)]
    z0 = draw_latents(denoiser, config, seed, "preview", torch.arange(len(labels)), labels, None, captions)
    setting = f"denoiser.preview.guidance_scale ({params.guidance_scale})"
    require_finite(z0, setting, "lower it or denoiser.optimizer.lr, or set denoiser.preview.every_epochs to 0")
    names: list[str] = []
    if CLASS in denoiser.conditioning.names and tokens is None:
        names = list(stats.classes[: params.height])
        title += ", one class per row"
    note = f"Sampler dpmpp_2m, {params.steps} steps, guidance scale {params.guidance_scale:g}."
    note += first_of(len(names), len(stats.classes), "classes") if names else ""
    images = autoencoder.decode(stats.normalizer.restore(z0))
    save_grid(path, images, params.width, params.scale, GridText(title, note, names))


@torch.no_grad()
def draw_partial_denoising(
    path: Path, denoiser: Denoiser, stats: LatentStats, autoencoder: TrainedAutoencoder, test: Latents, seed: int
) -> None:
    """Draw one image per column: its latent decoded, then three rows for each of t = 0.2, 0.4, ... 1.

    The three rows are the noised latent, the network's estimate of z0, and the latent denoised in 16 steps.

    Args:
        path: ends in ``.png``.
        denoiser: as trained.
        stats: of the latents.
        autoencoder: decodes every panel, the first row too.
        test: split; its first images are drawn.
        seed: of the noise; each image has the same at every t.
    """
    columns = slice(_COLUMNS)
    z0 = test.z0(columns)
    model = conditional_model(denoiser.network, denoiser.process, test.condition(columns))
    noise = torch.randn(z0.shape, generator=generator(seed, "from the middle")).to(z0)
    rows, names = [z0], ["clean latent"]
    for t in _TIMES:
        names += [f"t = {t:g}: noised", "estimate", "denoised"]
        z_t = add_noise_at(model.path, z0, noise, t)
        rows += [z_t, estimate(model, z_t, t), denoise(model, z_t, t, _STEPS)]
    latents = require_finite(torch.cat(rows), "denoiser.optimizer.lr", "lower it, and train the denoiser again")
    images = autoencoder.decode(stats.normalizer.restore(latents))
    note = (
        "One test image per column. Its latent is noised to time t, then the network estimates the clean latent at "
        f"once (estimate) or in {_STEPS} steps (denoised). All are decoded."
    )
    columns_text = image_names(test.labels[columns])
    text = GridText("Denoising test images from rising noise", note, names, columns_text)
    save_grid(path, images, columns=len(z0), scale=2, text=text)
