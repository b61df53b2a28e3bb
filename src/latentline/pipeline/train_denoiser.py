"""Stage ``train_denoiser``: learn the velocity field of the cached latents."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from latentline.common.files import replaced_folder, sha256_file, write_metrics
from latentline.common.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler
from latentline.diffusion.objective import draw_times, velocity_loss
from latentline.diffusion.samplers.heun import heun
from latentline.diffusion.time_grid import time_grid
from latentline.evaluation.buckets import bucket_means
from latentline.figures.grids import save_grid, turns_as_rows
from latentline.figures.plots import bars, curves, write_table
from latentline.latents.cache import LatentStats, read_known, read_latents, read_stats
from latentline.models.denoisers import build_denoiser
from latentline.params.denoiser import DenoiserParams, PreviewParams
from latentline.params.load import load
from latentline.pipeline.codec import TrainedCodec, load_codec
from latentline.pipeline.conditions import Conditions, chosen_conditions, values_in_turn
from latentline.pipeline.paths import DENOISER, FIGURES, LATENT_KNOWN, LATENT_STATS, LATENTS, METRICS
from latentline.pipeline.sampling import draw_latents, start_noise
from latentline.pipeline.training import optimizer_of, saving_of
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import fast_layout, place, set_up
from latentline.training.loop import Saving, fit

STAGE = "train_denoiser"
_BATCH = 500
_BUCKETS = 10
_ROWS = 10  # of a preview without classes


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
    splits = {name: _read(name, stats, conditions, device) for name in ("train", "val", "test")}
    untrained = _evaluate(network, splits["test"], seed)[0]

    latents = sha256_file(LATENT_STATS)
    saving = saving_of(STAGE, knobs.model_dump(), {"seed": seed, "latents": latents}, compute.save_every_seconds)
    codec = load_codec(device)
    stats.require_autoencoder(codec.sha256)
    averaged, history = _train(network, knobs, splits, stats, conditions, seed, saving, codec)
    save_checkpoint(
        DENOISER,
        kind="denoiser",
        name=knobs.name,
        constructor=constructor,
        trained_on={"autoencoder": stats.autoencoder, "latents": latents},
        tensors=averaged.state_dict(),
        settings={"condition": conditions.names},
    )
    _report(averaged, splits, history, untrained, seed, previews=saving.file.folder)
    saving.file.remove()


def _report(averaged: nn.Module, splits: dict[str, Latents], history: list[dict[str, float]], untrained: float, seed: int, previews: Path) -> None:
    """Write metrics/denoiser.json and fig/denoiser."""
    val_loss, _ = _evaluate(averaged, splits["val"], seed)
    test_loss, by_bucket = _evaluate(averaged, splits["test"], seed)
    by_time = {f"{(index + 0.5) / _BUCKETS:.2f}": value for index, value in enumerate(by_bucket)}  # middle of the slice of t -> loss
    write_metrics(
        METRICS / "denoiser.json",
        {
            "train_loss": history[-1]["loss"],
            "val_loss": val_loss,
            "test_loss": test_loss,
            "test_loss_by_time": by_time,
            "untrained": {"test_loss": untrained},
            "parameters": sum(parameter.numel() for parameter in averaged.parameters()),
        },
    )
    with replaced_folder(FIGURES / "denoiser") as folder:
        for preview in sorted(previews.glob("preview_*.png")):
            shutil.copy(preview, folder)
        write_table(folder / "loss.csv", history)
        curves(folder / "loss.png", history, "epoch", ["loss", "val_loss"], "velocity loss")
        write_table(folder / "buckets.csv", [{"t": t, "loss": value} for t, value in by_time.items()])
        bars(
            folder / "buckets.png", list(by_time), [float("nan") if value is None else value for value in by_time.values()], "test velocity loss by t"
        )


def _read(name: str, stats: LatentStats, conditions: Conditions, device: torch.device) -> Latents:
    split = read_latents(LATENTS, name)
    return Latents(stats.normalizer.standardise(split.latents).to(device), conditions.encode(split.values).to(device))


def _train(
    network: nn.Module,
    knobs: DenoiserParams,
    splits: dict[str, Latents],
    stats: LatentStats,
    conditions: Conditions,
    seed: int,
    saving: Saving,
    codec: TrainedCodec,
) -> tuple[nn.Module, list[dict[str, float]]]:
    train = splits["train"]
    device = train.z0.device
    order = EpochSampler(len(train.z0), knobs.optimizer.batch_size, derive_seed(seed, STAGE, "order"))

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        rows = order.rows(step).to(device)
        draw = generator(seed, STAGE, "noise", step)
        z0 = fast_layout(train.z0[rows])
        t = draw_times(len(rows), knobs.process.time_sampling, draw).to(device)
        noise = torch.randn(z0.shape, generator=draw).to(z0)
        hidden = (torch.rand(len(rows), generator=draw) < knobs.label_dropout).to(device)
        value = velocity_loss(network, z0, train.condition[rows].masked_fill(hidden[:, None], 0), t, noise).mean()
        return value, {"loss": value}

    def on_epoch(averaged: nn.Module, epoch: int) -> dict[str, float]:
        if knobs.preview.every_epochs and epoch % knobs.preview.every_epochs == 0:
            # Beside the running state, so that a restart has the pictures drawn before it.
            _preview(saving.file.folder / f"preview_{epoch:04d}.png", averaged, knobs.preview, stats, conditions, seed, codec)
        return {"val_loss": _evaluate(averaged, splits["val"], seed)[0]}

    return fit(
        network,
        loss,
        epochs=knobs.epochs,
        steps_per_epoch=order.steps_per_epoch,
        optimizer=optimizer_of(knobs.optimizer),
        saving=saving,
        ema_decay=knobs.ema_decay,
        on_epoch=on_epoch,
        section="denoiser",
    )


def _preview(
    path: Path, network: nn.Module, knobs: PreviewParams, stats: LatentStats, conditions: Conditions, seed: int, codec: TrainedCodec
) -> None:
    """A row of images per class; ten rows of anything where there are no classes."""
    rows = len(stats.classes) or _ROWS
    values = values_in_turn(stats.columns, read_known(LATENT_KNOWN), rows * knobs.per_class)
    z0 = draw_latents(
        network,
        heun,
        start_noise(seed, "preview", torch.arange(len(values)), stats.shape).to(codec.device),
        conditions.encode(values[turns_as_rows(rows, knobs.per_class)]).to(codec.device),
        times=time_grid(knobs.steps),
        guidance_scale=conditions.guidance(knobs.guidance_scale, "denoiser.preview.guidance_scale"),
    )
    save_grid(path, codec.decode(stats.normalizer.restore(z0)), columns=knobs.per_class, scale=2)


@torch.no_grad()
def _evaluate(network: nn.Module, split: Latents, seed: int) -> tuple[float, list[float | None]]:
    """Mean loss and loss by time over a split, with true conditions, uniform times and the same noise every time."""
    draw = generator(seed, STAGE, "validation")
    t = draw_times(len(split.z0), "uniform", draw)
    noise = torch.randn(split.z0.shape, generator=draw)
    network.eval()
    values = [
        velocity_loss(network, z0, condition, part_t.to(z0), part_noise.to(z0)).cpu()
        for z0, condition, part_t, part_noise in zip(
            split.z0.split(_BATCH), split.condition.split(_BATCH), t.split(_BATCH), noise.split(_BATCH), strict=True
        )
    ]
    losses = torch.cat(values)  # (N,)
    return float(losses.mean()), bucket_means(losses, t, _BUCKETS)
