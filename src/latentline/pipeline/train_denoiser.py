"""Stage ``train_denoiser``: learn to tell the cached latents from noise."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentline.common.files import replaced_folder, sha256_file, write_metrics
from latentline.common.rows import StoredRows
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
from latentline.latents.normalizer import Normalizer
from latentline.models.denoisers import build_denoiser
from latentline.params.base import NO_WEIGHTS
from latentline.params.denoiser import DenoiserParams, PreviewParams
from latentline.params.load import load
from latentline.pipeline.codec import TrainedCodec, load_codec
from latentline.pipeline.conditions import chosen_conditions, values_in_turn
from latentline.pipeline.denoiser import Denoiser
from latentline.pipeline.from_the_middle import draw_from_the_middle
from latentline.pipeline.paths import DENOISER, FIGURES, LATENT_KNOWN, LATENT_STATS, LATENTS, METRICS
from latentline.pipeline.pretrained_denoiser import begin_with
from latentline.pipeline.sampling import Plan, draw_latents
from latentline.pipeline.training import optimizer_of, resident, saving_of
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import fast_layout, place, set_up
from latentline.runtime.memory import require_trainable
from latentline.runtime.parallel import Ranks, join
from latentline.training.ema import Ema
from latentline.training.loop import Part, Saving, TrainConfig, fit, parts

STAGE = "train_denoiser"
_BATCH = 500
_BUCKETS = 10
_AT = "val_loss@"  # what follows is a time
_PREVIEW = "preview_{:04d}.png"  # of an epoch
_NOISED = 12  # test images in from_the_middle.png


@dataclass(frozen=True)
class Latents:
    """One split: raw latents, in memory where they take little of it, else on disk, and what the denoiser is told of them."""

    raw: Tensor | StoredRows  # (N, *latent_shape)
    condition: Tensor  # (N, F), on the device
    normalizer: Normalizer

    def __len__(self) -> int:
        return len(self.raw)

    def z0(self, rows: Tensor | slice) -> Tensor:
        """Standardised latents (B, *latent_shape) on the device."""
        return self.normalizer.standardise(self.raw[rows].to(self.condition.device))

    def expect(self, rows: Tensor) -> None:
        """These are asked for next: from disk they come meanwhile."""
        if isinstance(self.raw, StoredRows):
            self.raw.expect(rows)


def main() -> None:
    """Read section ``denoiser`` and encoded_img; write checkpoints/denoiser, fig/denoiser and metrics/denoiser.json."""
    knobs, seed, compute = load("denoiser", DenoiserParams)
    device, ranks = join(set_up(compute.device, compute.threads), compute.devices, compute.nodes, compute.strategy)
    stats = read_stats(LATENT_STATS)
    conditions = chosen_conditions(knobs.condition, stats.columns)
    constructor = {
        "latent_shape": list(stats.shape),
        "features": conditions.features,
        **knobs.constructor(),
    }
    require_trainable(lambda: build_denoiser(knobs.name, **constructor), device, "denoiser", knobs.constructor(), ranks)
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    network = place(build_denoiser(knobs.name, **constructor), device)
    process = build_process(knobs.process.path, knobs.process.prediction)
    denoiser = Denoiser(network, process, conditions, stats.shape, device)
    settings = {"condition": conditions.names, "process": {"path": process.path.name, "prediction": process.prediction}}
    trained_on = {"autoencoder": stats.autoencoder, "latents": sha256_file(LATENT_STATS)}
    if knobs.init_from != NO_WEIGHTS:
        trained_on["init_from"] = begin_with(denoiser, knobs, settings, constructor, stats)
    splits = {name: _read(name, stats, denoiser) for name in ("train", "val", "test")}
    untrained = _evaluate(denoiser, splits["test"], seed)[0]

    saving = saving_of(STAGE, knobs.model_dump(exclude={"epochs"}), {"seed": seed, **trained_on}, compute, computed_by=[__name__])
    codec = load_codec(device)
    stats.require_autoencoder(codec.sha256)
    averaged, history = _train(denoiser, knobs, splits, stats, seed, saving, codec, ranks)
    ranks.dismiss()
    trained, choice = _best(averaged, splits["val"], seed)
    save_checkpoint(
        DENOISER,
        kind="denoiser",
        name=knobs.name,
        constructor=constructor,
        trained_on=trained_on,
        tensors=trained.network.state_dict(),
        settings=settings,
    )
    _report(trained, splits["test"], history, {**choice, "untrained": {"test_loss": untrained}}, seed, previews=saving.file.folder)
    shown = slice(_NOISED)
    z0, condition = splits["test"].z0(shown), splits["test"].condition[shown]
    draw_from_the_middle(FIGURES / "denoiser" / "from_the_middle.png", trained, stats, codec, z0, condition, seed)
    saving.file.finish()


def _best(averaged: dict[float, Denoiser], val: Latents, seed: int) -> tuple[Denoiser, dict[str, Any]]:
    """Of the averages by their decay the one with the lowest validation loss, and what metrics/denoiser.json tells of the choice."""
    losses = {decay: _evaluate(denoiser, val, seed)[0] for decay, denoiser in averaged.items()}
    decay = min(losses, key=losses.__getitem__)
    by_decay = {str(decay): loss for decay, loss in losses.items()}
    return averaged[decay], {"ema_decay": decay, "val_loss": losses[decay], "val_loss_by_ema_decay": by_decay}


def _report(denoiser: Denoiser, test: Latents, history: list[dict[str, float]], known: dict[str, Any], seed: int, previews: Path) -> None:
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
    split = read_latents(LATENTS, name)
    condition = denoiser.conditions.encode(split.values).to(denoiser.device)
    return Latents(resident(split.latents, denoiser.device), condition, stats.normalizer)


def _train(
    denoiser: Denoiser,
    knobs: DenoiserParams,
    splits: dict[str, Latents],
    stats: LatentStats,
    seed: int,
    saving: Saving,
    codec: TrainedCodec,
    ranks: Ranks,
) -> tuple[dict[float, Denoiser], list[dict[str, float]]]:
    """The denoiser with each of the averaged weights, by their decay, and one row per epoch, which is about the first of them."""
    train, device = splits["train"], denoiser.device
    scale = denoiser.conditions.guidance(knobs.preview.guidance_scale, "denoiser.preview.guidance_scale")
    preview = knobs.preview.model_copy(update={"guidance_scale": scale})
    order = EpochSampler(len(train), knobs.optimizer.batch_size, derive_seed(seed, STAGE, "order"))

    def loss(step: int) -> Iterator[Part]:
        rows = order.rows(step)
        draw = generator(seed, STAGE, "noise", step)
        z0 = fast_layout(train.z0(rows))
        train.expect(order.rows(step + 1))
        t = draw_times(len(rows), knobs.process.time_sampling, draw).to(device)
        noise = torch.randn(z0.shape, generator=draw).to(z0)
        hidden = (torch.rand(len(rows), generator=draw) < knobs.label_dropout).to(device)
        condition = train.condition[rows.to(device)].masked_fill(hidden[:, None], 0)
        for share, part in parts(len(rows), knobs.optimizer.accumulate, ranks):
            batch = (z0[part], condition[part], t[part], noise[part])
            value = denoising_loss(denoiser.network, denoiser.process, *batch, knobs.process.loss_weighting).mean()
            yield share, value, {"loss": value}

    def on_epoch(averaged: nn.Module, epoch: int) -> dict[str, float]:
        if preview.every_epochs and epoch and epoch % preview.every_epochs == 0:
            # Beside the running state, so that a restart has the pictures drawn before it.
            _preview(saving.file.folder / _PREVIEW.format(epoch), replace(denoiser, network=averaged), preview, stats, seed, codec)
        val_loss, by_time = _evaluate(replace(denoiser, network=averaged), splits["val"], seed)
        return {"val_loss": val_loss, **{f"{_AT}{t}": value for t, value in by_time.items()}}

    if knobs.epochs == 0:
        return {knobs.ema_decays[0]: denoiser}, [{"epoch": 0, "loss": math.nan, **on_epoch(denoiser.network.eval(), 0)}]
    averages = [Ema(denoiser.network, decay) for decay in knobs.ema_decays]
    _, history = fit(
        denoiser.network,
        loss,
        TrainConfig("denoiser", knobs.epochs, order.steps_per_epoch, optimizer_of(knobs.optimizer), saving),
        averages=averages,
        on_epoch=on_epoch,
        ranks=ranks,
    )
    return {average.decay: replace(denoiser, network=average.model) for average in averages}, history


def _preview(path: Path, denoiser: Denoiser, knobs: PreviewParams, stats: LatentStats, seed: int, codec: TrainedCodec) -> None:
    """A row of images per class; rows of anything where there are no classes."""
    kinds = len(stats.classes) or knobs.height
    values = values_in_turn(stats.columns, read_known(LATENT_KNOWN), kinds * knobs.width)[turns_as_rows(kinds, knobs.height, knobs.width)]
    plan = Plan(lambda draw_noise: dpmpp_2m, time_grid(knobs.steps), Guidance(knobs.guidance_scale))
    z0 = draw_latents(denoiser, plan, seed, "preview", torch.arange(len(values)), values)
    save_grid(path, codec.decode(stats.normalizer.restore(z0)), knobs.width, knobs.scale)


@torch.no_grad()
def _evaluate(denoiser: Denoiser, split: Latents, seed: int) -> tuple[float, dict[str, float]]:
    """Mean unweighted loss over a split, with true conditions, uniform times and the same noise every time.

    And the same by time: middle of a slice of t -> loss, where a time fell into the slice.
    """
    t = draw_times(len(split), "uniform", generator(seed, STAGE, "validation"))
    denoiser.network.eval()
    values = []
    for start in range(0, len(split), _BATCH):
        rows = slice(start, start + _BATCH)
        z0 = fast_layout(split.z0(rows))
        noise = torch.randn(z0.shape, generator=generator(seed, STAGE, "validation", start)).to(z0)
        values.append(denoising_loss(denoiser.network, denoiser.process, z0, split.condition[rows], t[rows].to(z0), noise).cpu())
    losses = torch.cat(values)  # (N,)
    means = enumerate(bucket_means(losses, t, _BUCKETS))
    return float(losses.mean()), {f"{(index + 0.5) / _BUCKETS:.2f}": mean for index, mean in means if mean is not None}
