"""Stage ``train_denoiser``: learn to tell the cached latents from noise."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentline.autoencoders.load import TrainedAutoencoder, load_autoencoder
from latentline.core.condition import Condition
from latentline.core.files import replaced_folder, sha256_file, write_metrics
from latentline.core.load_params import load
from latentline.core.params import NO_WEIGHTS
from latentline.core.paths import DENOISER, FIGURES, LATENT_STATS, METRICS
from latentline.core.seeds import derive_seed, generator
from latentline.core.shards import ShardedArray
from latentline.core.stage import run_stage
from latentline.data.batches import EpochSampler
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.conditioning import build_conditioning, labels_for_samples
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import SamplingConfig, draw_latents
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.objective import denoising_loss, sample_times
from latentline.diffusion.process import build_process
from latentline.diffusion.time_grid import time_grid
from latentline.figures.grids import save_grid, turns_as_rows
from latentline.figures.plots import bars, curves, write_table
from latentline.latents.cache import LatentStats, read_labels, read_latents, read_stats
from latentline.latents.normalizer import Normalizer
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import channels_last, set_up, to_device
from latentline.runtime.memory import require_trainable
from latentline.runtime.parallel import Ranks, init_distributed
from latentline.training.config import optimizer_of, resident, saving_of
from latentline.training.ema import Ema
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, micro_batches
from stages.train_denoiser.buckets import bucket_means
from stages.train_denoiser.init_from import begin_with
from stages.train_denoiser.params import DenoiserParams, PreviewParams
from stages.train_denoiser.partial_denoising import draw_from_the_middle

STAGE = "train_denoiser"
_BATCH = 500
_BUCKETS = 10
_AT = "val_loss@"  # what follows is a time
_PREVIEW = "preview_{:04d}.png"  # of an epoch
_NOISED = 12  # test images in from_the_middle.png


@dataclass(frozen=True)
class Latents:
    """One split: raw latents, in memory where they take little of it, else on disk, and what the denoiser is told of them."""

    raw: Tensor | ShardedArray  # (N, *latent_shape)
    condition: Condition  # of N images, on the device
    normalizer: Normalizer

    def __len__(self) -> int:
        return len(self.raw)

    def z0(self, rows: Tensor | slice) -> Tensor:
        """Standardised latents (B, *latent_shape) on the device."""
        return self.normalizer.standardise(self.raw[rows].to(self.condition.vector.device))

    def expect(self, rows: Tensor) -> None:
        """These are asked for next: from disk they come meanwhile."""
        if isinstance(self.raw, ShardedArray):
            self.raw.expect(rows)


def main() -> None:
    """Read section ``denoiser`` and encoded_img; write checkpoints/denoiser, fig/denoiser and metrics/denoiser.json."""
    params, seed, compute = load("denoiser", DenoiserParams)
    device, ranks = init_distributed(
        set_up(compute.device, compute.threads), compute.devices, compute.nodes, compute.strategy
    )
    stats = read_stats()
    conditioning = build_conditioning(params.condition, stats.schema)
    constructor = {
        "latent_shape": list(stats.shape),
        "cond_dim": conditioning.cond_dim,
        **params.constructor(),
    }
    require_trainable(
        lambda: build_denoiser(params.name, **constructor), device, "denoiser", params.constructor(), ranks
    )
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    network = to_device(build_denoiser(params.name, **constructor), device)
    process = build_process(params.process.path, params.process.prediction)
    denoiser = Denoiser(network, process, conditioning, stats.shape, device)
    settings = {
        "condition": conditioning.names,
        "process": {"path": process.path.name, "prediction": process.prediction},
    }
    trained_on = {"autoencoder": stats.autoencoder, "latents": sha256_file(LATENT_STATS)}
    if params.init_from != NO_WEIGHTS:
        trained_on["init_from"] = begin_with(denoiser, params, settings, constructor, stats)
    splits = {name: _read(name, stats, denoiser) for name in ("train", "val", "test")}
    untrained = _evaluate(denoiser, splits["test"], seed)[0]

    saving = saving_of(
        STAGE,
        params.model_dump(exclude={"epochs"}),
        {"seed": seed, **trained_on},
        compute,
        computed_by=[f"stages.{STAGE}.__main__"],
    )
    autoencoder = load_autoencoder(device)
    stats.require_autoencoder(autoencoder.sha256)
    averaged, history = _train(denoiser, params, splits, stats, seed, saving, autoencoder, ranks)
    ranks.exit_non_main()
    trained, choice = _best(averaged, splits["val"], seed)
    save_checkpoint(
        DENOISER,
        kind="denoiser",
        name=params.name,
        constructor=constructor,
        trained_on=trained_on,
        tensors=trained.network.state_dict(),
        settings=settings,
    )
    _report(
        trained,
        splits["test"],
        history,
        {**choice, "untrained": {"test_loss": untrained}},
        seed,
        previews=saving.file.folder,
    )
    shown = slice(_NOISED)
    z0, condition = splits["test"].z0(shown), splits["test"].condition.rows(shown)
    draw_from_the_middle(FIGURES / "denoiser" / "from_the_middle.png", trained, stats, autoencoder, z0, condition, seed)
    saving.file.finish()


def _best(averaged: dict[float, Denoiser], val: Latents, seed: int) -> tuple[Denoiser, dict[str, Any]]:
    """Of the averages by their decay the one with the lowest validation loss, and what metrics/denoiser.json tells of the choice."""
    losses = {decay: _evaluate(denoiser, val, seed)[0] for decay, denoiser in averaged.items()}
    decay = min(losses, key=losses.__getitem__)
    by_decay = {str(decay): loss for decay, loss in losses.items()}
    return averaged[decay], {"ema_decay": decay, "val_loss": losses[decay], "val_loss_by_ema_decay": by_decay}


def _report(
    denoiser: Denoiser, test: Latents, history: list[dict[str, float]], known: dict[str, Any], seed: int, previews: Path
) -> None:
    """Write metrics/denoiser.json, with what is ``known`` already, and fig/denoiser."""
    test_loss, by_time = _evaluate(denoiser, test, seed)
    write_metrics(
        METRICS / "denoiser.json",
        {
            "train_loss": None if math.isnan(history[-1]["loss"]) else history[-1]["loss"],
            "test_loss": test_loss,
            "test_loss_by_time": by_time,
            **known,
            "parameters": sum(parameter.numel() for parameter in denoiser.network.parameters()),
        },
    )
    with replaced_folder(FIGURES / "denoiser") as folder:
        for row in history:  # a longer run may have left previews of later epochs
            if (preview := previews / _PREVIEW.format(row["epoch"])).exists():
                shutil.copy(preview, folder)
        write_table(folder / "loss.csv", history)
        curves(folder / "loss.png", history, "epoch", ["loss", "val_loss"], f"loss ({denoiser.process.prediction})")
        details = {name: f"t {name.partition('@')[2]}" for name in history[-1] if name.startswith(_AT)}
        by_epoch = [{"epoch": row["epoch"], **{label: row[name] for name, label in details.items()}} for row in history]
        curves(folder / "loss_by_time.png", by_epoch, "epoch", list(details.values()), "val loss by t")
        write_table(folder / "buckets.csv", [{"t": t, "loss": value} for t, value in by_time.items()])
        bars(folder / "buckets.png", list(by_time), list(by_time.values()), "test loss by t")


def _read(name: str, stats: LatentStats, denoiser: Denoiser) -> Latents:
    split = read_latents(name)
    condition = denoiser.conditioning.encode(split.labels).to(denoiser.device)
    return Latents(resident(split.latents, denoiser.device), condition, stats.normalizer)


def _train(
    denoiser: Denoiser,
    params: DenoiserParams,
    splits: dict[str, Latents],
    stats: LatentStats,
    seed: int,
    saving: Saving,
    autoencoder: TrainedAutoencoder,
    ranks: Ranks,
) -> tuple[dict[float, Denoiser], list[dict[str, float]]]:
    """The denoiser with each of the averaged weights, by their decay, and one row per epoch, which is about the first of them."""
    train, device = splits["train"], denoiser.device
    scale = denoiser.conditioning.guidance(params.preview.guidance_scale, "denoiser.preview.guidance_scale")
    preview = params.preview.model_copy(update={"guidance_scale": scale})
    order = EpochSampler(len(train), params.optimizer.batch_size, derive_seed(seed, STAGE, "order"))

    def loss(step: int) -> Iterator[MicroBatch]:
        rows = order.rows(step)
        draw = generator(seed, STAGE, "noise", step)
        z0 = channels_last(train.z0(rows))
        train.expect(order.rows(step + 1))
        t = sample_times(len(rows), params.process.time_sampling, draw).to(device)
        noise = torch.randn(z0.shape, generator=draw).to(z0)
        hidden = (torch.rand(len(rows), generator=draw) < params.label_dropout).to(device)
        condition = train.condition.rows(rows.to(device)).dropped(hidden)
        for weight, part in micro_batches(len(rows), params.optimizer.accumulate, ranks):
            batch = (z0[part], condition.rows(part), t[part], noise[part])
            value = denoising_loss(denoiser.network, denoiser.process, *batch, params.process.loss_weighting).mean()
            yield weight, value, {"loss": value}

    def on_epoch(averaged: nn.Module, epoch: int) -> dict[str, float]:
        if preview.every_epochs and epoch and epoch % preview.every_epochs == 0:
            # Beside the running state, so that a restart has the pictures drawn before it.
            _preview(
                saving.file.folder / _PREVIEW.format(epoch),
                replace(denoiser, network=averaged),
                preview,
                stats,
                seed,
                autoencoder,
            )
        val_loss, by_time = _evaluate(replace(denoiser, network=averaged), splits["val"], seed)
        return {"val_loss": val_loss, **{f"{_AT}{t}": value for t, value in by_time.items()}}

    if params.epochs == 0:
        return {params.ema_decays[0]: denoiser}, [
            {"epoch": 0, "loss": math.nan, **on_epoch(denoiser.network.eval(), 0)}
        ]
    averages = [Ema(denoiser.network, decay) for decay in params.ema_decays]
    _, history = fit(
        denoiser.network,
        loss,
        TrainConfig("denoiser", params.epochs, order.steps_per_epoch, optimizer_of(params.optimizer), saving),
        averages=averages,
        on_epoch=on_epoch,
        ranks=ranks,
    )
    return {average.decay: replace(denoiser, network=average.model) for average in averages}, history


def _preview(
    path: Path,
    denoiser: Denoiser,
    params: PreviewParams,
    stats: LatentStats,
    seed: int,
    autoencoder: TrainedAutoencoder,
) -> None:
    """A row of images per class; rows of anything where there are no classes."""
    kinds = len(stats.classes) or params.height
    labels = labels_for_samples(read_labels(stats.schema), kinds * params.width)[
        turns_as_rows(kinds, params.height, params.width)
    ]
    plan = SamplingConfig(lambda noise_fn: dpmpp_2m, time_grid(params.steps), Guidance(params.guidance_scale))
    z0 = draw_latents(denoiser, plan, seed, "preview", torch.arange(len(labels)), labels)
    save_grid(path, autoencoder.decode(stats.normalizer.restore(z0)), params.width, params.scale)


@torch.no_grad()
def _evaluate(denoiser: Denoiser, split: Latents, seed: int) -> tuple[float, dict[str, float]]:
    """Mean unweighted loss over a split, with true conditions, uniform times and the same noise every time.

    And the same by time: middle of a slice of t -> loss, where a time fell into the slice.
    """
    t = sample_times(len(split), "uniform", generator(seed, STAGE, "validation"))
    denoiser.network.eval()
    values = []
    for start in range(0, len(split), _BATCH):
        rows = slice(start, start + _BATCH)
        z0 = channels_last(split.z0(rows))
        noise = torch.randn(z0.shape, generator=generator(seed, STAGE, "validation", start)).to(z0)
        values.append(
            denoising_loss(
                denoiser.network, denoiser.process, z0, split.condition.rows(rows), t[rows].to(z0), noise
            ).cpu()
        )
    losses = torch.cat(values)  # (N,)
    means = enumerate(bucket_means(losses, t, _BUCKETS))
    return float(losses.mean()), {f"{(index + 0.5) / _BUCKETS:.2f}": mean for index, mean in means if mean is not None}


if __name__ == "__main__":
    run_stage("train_denoiser", main)
