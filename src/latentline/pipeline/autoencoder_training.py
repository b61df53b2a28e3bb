"""One training of one codec. Stage ``train_autoencoder`` has one or, where a codec is made of parts, several."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from latentline.codecs.base import Codec
from latentline.common.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler, mirror_half
from latentline.data.store import ImageSplit, StoreCard, read_split, to_unit_range
from latentline.figures.grids import alternating_rows, save_grid
from latentline.params.autoencoder import AutoencoderParams
from latentline.params.compute import ComputeParams
from latentline.pipeline.autoencoder_report import losses
from latentline.pipeline.codec import decode_images
from latentline.pipeline.critics import Critics, build_critics, no_critics
from latentline.pipeline.paths import PREPARED
from latentline.pipeline.training import optimizer_of, resident, saving_of
from latentline.runtime.compute import fast_layout
from latentline.runtime.parallel import Ranks
from latentline.training.ema import Ema
from latentline.training.loop import Part, Saving, TrainConfig, fit, parts

STAGE = "train_autoencoder"
_COMPUTED_BY = ("latentline.pipeline.train_autoencoder",)  # which builds what this module trains


@dataclass(frozen=True)
class Setting:
    """What all trainings of the stage have in common."""

    knobs: AutoencoderParams
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
        return saving_of(STAGE, self.knobs.model_dump(exclude={"figures"}), inputs, self.compute, computed_by=_COMPUTED_BY, part=part)


@dataclass(frozen=True)
class Trained:
    """What a training left."""

    codec: Codec
    """To be used."""
    history: list[dict[str, float]]
    """One row per epoch; where there was nothing to train, one of epoch 0."""
    critics: Critics
    """Who else looked on."""


def train_codec(codec: Codec, setting: Setting, saving: Saving, epochs: int, *, preview_every: int = 0) -> Trained:
    """Train ``codec`` in place for ``epochs``, with previews beside its running state after every so many."""
    knobs, device, seed, ranks = setting.knobs, setting.device, setting.seed, setting.ranks
    val = read_split(PREPARED, "val")

    def validate(model: nn.Module, epoch: int) -> dict[str, float]:
        current = cast(Codec, model)
        if preview_every and epoch and epoch % preview_every == 0:
            _preview(saving.file.folder / f"preview_{epoch:04d}.png", current, val, setting)
        return {f"val_{name}": value for name, value in losses(current, val, device, seed).items()}

    if epochs == 0 or not list(codec.parameters()):
        return Trained(codec, [{"epoch": 0, "loss": math.nan, **validate(codec, 0)}], no_critics())
    if knobs.freeze_encoder:
        codec.get_submodule("encoder").requires_grad_(False)
    images = resident(read_split(PREPARED, "train").images, device)
    order = EpochSampler(len(images), knobs.optimizer.batch_size, derive_seed(seed, STAGE, "order"))
    critics = build_critics(codec, images.shape[1], knobs, device, seed, epochs * order.steps_per_epoch, ranks)

    def loss(step: int) -> Iterator[Part]:
        x = to_unit_range(images[order.rows(step)].to(device))
        if setting.card.horizontal_flip:
            x = mirror_half(x, generator(seed, STAGE, "mirror", step))
        x = fast_layout(x)
        noise = generator(seed, STAGE, "noise", step)
        own = list(parts(len(x), knobs.optimizer.accumulate, ranks))
        codec.draws(own[0][1].start, noise)  # of the rows before, which other processes have
        for share, rows in own:
            yield share, *critics.judge(step, *codec.loss(x[rows], noise, step), x[rows], share)

    used, history = fit(
        codec,
        loss,
        TrainConfig("autoencoder", epochs, order.steps_per_epoch, optimizer_of(knobs.optimizer), saving),
        averages=[] if knobs.ema_decay is None else [Ema(codec, knobs.ema_decay)],
        discriminator=critics.rival,
        on_epoch=validate,
        ranks=ranks,
    )
    return Trained(cast(Codec, used), history, critics)


def _preview(path: Path, codec: Codec, val: ImageSplit, setting: Setting) -> None:
    """A row of validation images above their reconstructions. Beside the running state, so that a restart has the pictures drawn before it."""
    figures = setting.knobs.figures
    columns = min(figures.width, len(val))
    images = val.images[:columns]
    latents = codec.encode(to_unit_range(images).to(setting.device)).cpu()
    decoded = decode_images(codec, latents, setting.device, setting.card.shape)
    save_grid(path, alternating_rows([images, decoded], columns), columns, figures.scale)
