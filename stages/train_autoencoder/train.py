"""One training of one codec. Stage ``train_autoencoder`` has one or, where a codec is made of parts, several."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.load import decode_images
from latentline.core.compute_params import ComputeParams
from latentline.core.paths import PREPARED
from latentline.core.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler, mirror_half
from latentline.data.store import ImageSplit, StoreCard, read_split, to_unit_range
from latentline.figures.grids import alternating_rows, save_grid
from latentline.runtime.compute import channels_last
from latentline.runtime.parallel import Ranks
from latentline.training.config import optimizer_of, resident, saving_of
from latentline.training.ema import Ema
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, micro_batches
from stages.train_autoencoder.auxiliary_losses import Critics, build_critics, no_critics
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.report import losses

STAGE = "train_autoencoder"
_COMPUTED_BY = ("latentline.pipeline.train_autoencoder",)  # which builds what this module trains


@dataclass(frozen=True)
class Setting:
    """What all trainings of the stage have in common."""

    params: AutoencoderParams
    card: StoreCard
    trained_on: dict[str, str]
    """sha256 of all that is read."""
    device: torch.device
    seed: int
    compute: ComputeParams
    ranks: Ranks

    def saving(self, part: str) -> Saving:
        """Where the training of ``part`` keeps its running state."""
        inputs = {"seed": self.seed, "data": self.trained_on}
        settings = self.params.model_dump(exclude={"figures"})
        computed_by = [f"stages.{STAGE}.__main__"]
        return saving_of(STAGE, settings, inputs, self.compute, computed_by=computed_by, part=part)


@dataclass(frozen=True)
class Trained:
    """What a training left."""

    autoencoder: Autoencoder
    """To be used."""
    history: list[dict[str, float]]
    """One row per epoch; where there was nothing to train, one of epoch 0."""
    critics: Critics
    """Who else looked on."""


def train_codec(
    autoencoder: Autoencoder, setting: Setting, saving: Saving, epochs: int, *, preview_every: int = 0
) -> Trained:
    """Train ``autoencoder`` in place for ``epochs``, with previews beside its running state after every so many."""
    params, device, seed, ranks = setting.params, setting.device, setting.seed, setting.ranks
    val = read_split(PREPARED, "val")

    def validate(model: nn.Module, epoch: int) -> dict[str, float]:
        current = cast(Autoencoder, model)
        if preview_every and epoch and epoch % preview_every == 0:
            _preview(saving.file.folder / f"preview_{epoch:04d}.png", current, val, setting)
        return {f"val_{name}": value for name, value in losses(current, val, device, seed).items()}

    if epochs == 0 or not list(autoencoder.parameters()):
        return Trained(autoencoder, [{"epoch": 0, "loss": math.nan, **validate(autoencoder, 0)}], no_critics())
    if params.freeze_encoder:
        autoencoder.get_submodule("encoder").requires_grad_(False)
    images = resident(read_split(PREPARED, "train").images, device)
    order = EpochSampler(len(images), params.optimizer.batch_size, derive_seed(seed, STAGE, "order"))
    critics = build_critics(autoencoder, images.shape[1], params, device, seed, epochs * order.steps_per_epoch, ranks)

    def loss(step: int) -> Iterator[MicroBatch]:
        x = to_unit_range(images[order.rows(step)].to(device))
        if setting.card.horizontal_flip:
            x = mirror_half(x, generator(seed, STAGE, "mirror", step))
        x = channels_last(x)
        noise = generator(seed, STAGE, "noise", step)
        own = list(micro_batches(len(x), params.optimizer.accumulate, ranks))
        autoencoder.sample_training_noise(own[0][1].start, noise)  # of the rows before, which other processes have
        for weight, rows in own:
            yield weight, *critics.judge(step, *autoencoder.loss(x[rows], noise, step), x[rows], weight)

    used, history = fit(
        autoencoder,
        loss,
        TrainConfig("autoencoder", epochs, order.steps_per_epoch, optimizer_of(params.optimizer), saving),
        averages=[] if params.ema_decay is None else [Ema(autoencoder, params.ema_decay)],
        discriminator=critics.discriminator,
        on_epoch=validate,
        ranks=ranks,
    )
    return Trained(cast(Autoencoder, used), history, critics)


def _preview(path: Path, autoencoder: Autoencoder, val: ImageSplit, setting: Setting) -> None:
    """A row of validation images above their reconstructions. Beside the running state, so that a restart has the pictures drawn before it."""
    figures = setting.params.figures
    columns = min(figures.width, len(val))
    images = val.images[:columns]
    latents = autoencoder.encode(to_unit_range(images).to(setting.device)).cpu()
    decoded = decode_images(autoencoder, latents, setting.device, setting.card.shape)
    save_grid(path, alternating_rows([images, decoded], columns), columns, figures.scale)
