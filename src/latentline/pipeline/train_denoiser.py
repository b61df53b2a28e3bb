"""Stage ``train_denoiser``: learn to tell the cached latents from noise."""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from latentline.common.files import replaced_folder, sha256_file, write_metrics
from latentline.common.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler
from latentline.diffusion.guidance import Guidance
from latentline.diffusion.objective import denoising_loss, draw_times
from latentline.diffusion.process import build_process
from latentline.diffusion.samplers.dpmpp_2m import dpmpp_2m
from latentline.diffusion.time_grid import time_grid
from latentline.evaluation.buckets import bucket_means
from latentline.figures.grids import save_grid, turns_as_rows
from latentline.figures.plots import bars, curves, write_table
from latentline.latents.cache import LatentStats, read_known, read_latents, read_stats
from latentline.models.denoisers import build_denoiser
from latentline.params.denoiser import DenoiserParams, PreviewParams
from latentline.params.load import load
from latentline.pipeline.codec import TrainedCodec, load_codec
from latentline.pipeline.conditions import chosen_conditions, values_in_turn
from latentline.pipeline.denoiser import Denoiser
from latentline.pipeline.from_the_middle import draw_from_the_middle
from latentline.pipeline.paths import DENOISER, FIGURES, LATENT_KNOWN, LATENT_STATS, LATENTS, METRICS
from latentline.pipeline.sampling import Plan, draw_latents
from latentline.pipeline.training import optimizer_of, saving_of
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import fast_layout, place, set_up
from latentline.training.loop import Saving, fit

STAGE = "train_denoiser"
_BATCH = 500
_BUCKETS = 10
_ROWS = 10  # of a preview without classes
_NOISED = 12  # test images in from_the_middle.png


@dataclass(frozen=True)
class Latents:
    """One split, standardised, on the device."""

    z0: Tensor  # (N, *latent_shape)
    condition: Tensor  # (N, F)


def main() -> None:
    """Read section ``denoiser`` and encoded_img; write checkpoints/denoiser, fig/denoiser and metrics/denoiser.json."""
    knobs, seed, compute = load("denoiser", DenoiserParams)
    device = set_up(compute.device, compute.threads)
    stats = read_stats(LATENT_STATS)
    conditions = chosen_conditions(knobs.condition, stats.columns)
    constructor = {
        "latent_shape": list(stats.shape),
        "features": conditions.features,
        **knobs.constructor(),
    }
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    network = place(build_denoiser(knobs.name, **constructor), device)
    process = build_process(knobs.process.path, knobs.process.prediction)
    denoiser = Denoiser(network, process, conditions, stats.shape, device)
    splits = {name: _read(name, stats, denoiser) for name in ("train", "val", "test")}
    untrained = _evaluate(denoiser, splits["test"], seed)[0]

    latents = sha256_file(LATENT_STATS)
    saving = saving_of(STAGE, knobs.model_dump(), {"seed": seed, "latents": latents}, compute)
    codec = load_codec(device)
    stats.require_autoencoder(codec.sha256)
    trained, history = _train(denoiser, knobs, splits, stats, seed, saving, codec)
    save_checkpoint(
        DENOISER,
        kind="denoiser",
        name=knobs.name,
        constructor=constructor,
        trained_on={"autoencoder": stats.autoencoder, "latents": latents},
        tensors=trained.network.state_dict(),
        settings={"condition": conditions.names, "process": {"path": process.path.name, "prediction": process.prediction}},
    )
    _report(trained, splits, history, untrained, seed, previews=saving.file.folder)
    shown = Latents(splits["test"].z0[:_NOISED], splits["test"].condition[:_NOISED])
    draw_from_the_middle(FIGURES / "denoiser" / "from_the_middle.png", trained, stats, codec, shown.z0, shown.condition, seed)
    saving.file.remove()


def _report(denoiser: Denoiser, splits: dict[str, Latents], history: list[dict[str, float]], untrained: float, seed: int, previews: Path) -> None:
    """Write metrics/denoiser.json and fig/denoiser."""
    val_loss, _ = _evaluate(denoiser, splits["val"], seed)
    test_loss, by_bucket = _evaluate(denoiser, splits["test"], seed)
    by_time = {f"{(index + 0.5) / _BUCKETS:.2f}": value for index, value in enumerate(by_bucket)}  # middle of the slice of t -> loss
    write_metrics(
        METRICS / "denoiser.json",
        {
            "train_loss": history[-1]["loss"],
            "val_loss": val_loss,
            "test_loss": test_loss,
            "test_loss_by_time": by_time,
            "untrained": {"test_loss": untrained},
            "parameters": sum(parameter.numel() for parameter in denoiser.network.parameters()),
        },
    )
    with replaced_folder(FIGURES / "denoiser") as folder:
        for preview in sorted(previews.glob("preview_*.png")):
            shutil.copy(preview, folder)
        write_table(folder / "loss.csv", history)
        curves(folder / "loss.png", history, "epoch", ["loss", "val_loss"], f"loss ({denoiser.process.prediction})")
        write_table(folder / "buckets.csv", [{"t": t, "loss": value} for t, value in by_time.items()])
        losses = [math.nan if value is None else value for value in by_time.values()]
        bars(folder / "buckets.png", list(by_time), losses, "test loss by t")


def _read(name: str, stats: LatentStats, denoiser: Denoiser) -> Latents:
    split = read_latents(LATENTS, name)
    z0, condition = stats.normalizer.standardise(split.latents), denoiser.conditions.encode(split.values)
    return Latents(z0.to(denoiser.device), condition.to(denoiser.device))


def _train(
    denoiser: Denoiser, knobs: DenoiserParams, splits: dict[str, Latents], stats: LatentStats, seed: int, saving: Saving, codec: TrainedCodec
) -> tuple[Denoiser, list[dict[str, float]]]:
    """The denoiser with the averaged weights, and one row per epoch."""
    train, device = splits["train"], denoiser.device
    scale = denoiser.conditions.guidance(knobs.preview.guidance_scale, "denoiser.preview.guidance_scale")
    preview = knobs.preview.model_copy(update={"guidance_scale": scale})
    order = EpochSampler(len(train.z0), knobs.optimizer.batch_size, derive_seed(seed, STAGE, "order"))

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        rows = order.rows(step).to(device)
        draw = generator(seed, STAGE, "noise", step)
        z0 = fast_layout(train.z0[rows])
        t = draw_times(len(rows), knobs.process.time_sampling, draw).to(device)
        noise = torch.randn(z0.shape, generator=draw).to(z0)
        hidden = (torch.rand(len(rows), generator=draw) < knobs.label_dropout).to(device)
        condition = train.condition[rows].masked_fill(hidden[:, None], 0)
        weighting = knobs.process.loss_weighting
        value = denoising_loss(denoiser.network, denoiser.process, z0, condition, t, noise, weighting).mean()
        return value, {"loss": value}

    def on_epoch(averaged: nn.Module, epoch: int) -> dict[str, float]:
        if preview.every_epochs and epoch % preview.every_epochs == 0:
            # Beside the running state, so that a restart has the pictures drawn before it.
            _preview(saving.file.folder / f"preview_{epoch:04d}.png", replace(denoiser, network=averaged), preview, stats, seed, codec)
        return {"val_loss": _evaluate(replace(denoiser, network=averaged), splits["val"], seed)[0]}

    averaged, history = fit(
        denoiser.network,
        loss,
        epochs=knobs.epochs,
        steps_per_epoch=order.steps_per_epoch,
        optimizer=optimizer_of(knobs.optimizer),
        saving=saving,
        ema_decay=knobs.ema_decay,
        on_epoch=on_epoch,
        section="denoiser",
    )
    return replace(denoiser, network=averaged), history


def _preview(path: Path, denoiser: Denoiser, knobs: PreviewParams, stats: LatentStats, seed: int, codec: TrainedCodec) -> None:
    """A row of images per class; ten rows of anything where there are no classes."""
    rows = len(stats.classes) or _ROWS
    values = values_in_turn(stats.columns, read_known(LATENT_KNOWN), rows * knobs.per_class)[turns_as_rows(rows, knobs.per_class)]
    plan = Plan(lambda draw_noise: dpmpp_2m, time_grid(knobs.steps), Guidance(knobs.guidance_scale))
    z0 = draw_latents(denoiser, plan, seed, "preview", torch.arange(len(values)), values)
    save_grid(path, codec.decode(stats.normalizer.restore(z0)), columns=knobs.per_class, scale=2)


@torch.no_grad()
def _evaluate(denoiser: Denoiser, split: Latents, seed: int) -> tuple[float, list[float | None]]:
    """Mean unweighted loss and loss by time over a split, with true conditions, uniform times and the same noise every time."""
    draw = generator(seed, STAGE, "validation")
    t = draw_times(len(split.z0), "uniform", draw)
    noise = torch.randn(split.z0.shape, generator=draw)
    denoiser.network.eval()
    values = [
        denoising_loss(denoiser.network, denoiser.process, z0, condition, part_t.to(z0), part_noise.to(z0)).cpu()
        for z0, condition, part_t, part_noise in zip(
            split.z0.split(_BATCH), split.condition.split(_BATCH), t.split(_BATCH), noise.split(_BATCH), strict=True
        )
    ]
    losses = torch.cat(values)  # (N,)
    return float(losses.mean()), bucket_means(losses, t, _BUCKETS)
