"""Training of one autoencoder: its first weights, its loss, its validation.

The stage has one such training or, for a diffusion autoencoder, several (``diffae_training.py``). The checkpoint
depends on these two modules, so their import closures are part of the resume key. What draws or scores lies outside.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.build import build_autoencoder
from latentline.autoencoders.load import inference_batch
from latentline.core.compute_params import ComputeParams
from latentline.core.condition import Condition
from latentline.core.params import NO_WEIGHTS
from latentline.core.paths import PREPARED
from latentline.core.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler, mirror
from latentline.data.store import ImageSplit, StoreCard, read_split, to_unit_range
from latentline.nn.blocks import ResBlock
from latentline.nn.gradient_checkpointing import checkpoint_blocks
from latentline.runtime.compile import compiled
from latentline.runtime.compute import channels_last, to_device
from latentline.runtime.memory import ForwardPass, require_trainable
from latentline.runtime.parallel import Ranks
from latentline.runtime.precision import activation_scale
from latentline.training.config import optimizer_of, resident, saving_of
from latentline.training.ema import Ema
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, largest_micro_batch, own_micro_batches
from latentline.training.step_inputs import Inputs, RowSource, StepInputs
from stages.train_autoencoder.auxiliary_losses import AuxiliaryLosses, build_auxiliary_losses
from stages.train_autoencoder.init_from import begin_with
from stages.train_autoencoder.params import AutoencoderParams

STAGE = "train_autoencoder"
COMPUTED_BY = (f"stages.{STAGE}.train", f"stages.{STAGE}.diffae_training")
Preview = Callable[[Autoencoder, ImageSplit, int], None]
"""(network that validation reads, validation split, epoch counted from 1): draws pictures during the training."""


@dataclass(frozen=True)
class TrainingContext:
    """What all trainings of the stage have in common."""

    params: AutoencoderParams
    card: StoreCard
    trained_on: dict[str, str]
    """sha256 of all files that the trainings read."""
    device: torch.device
    seed: int
    compute: ComputeParams
    ranks: Ranks

    def saving(self, part: str) -> Saving:
        """Return where the training ``part`` saves its running state."""
        inputs = {"seed": self.seed, "data": self.trained_on}
        settings = self.params.model_dump(exclude={"figures"})
        return saving_of(STAGE, settings, inputs, self.compute, computed_by=COMPUTED_BY, part=part)


@dataclass(frozen=True)
class TrainingResult:
    """Result of one training."""

    autoencoder: Autoencoder
    """The network to be used: averaged weights where there are any."""
    history: list[dict[str, float]]
    """One row per epoch; a single row of epoch 0 where nothing trained."""
    losses: AuxiliaryLosses


def constructor_of(params: AutoencoderParams, card: StoreCard) -> dict[str, Any]:
    """Return the arguments of :func:`build_autoencoder`, without the name."""
    return {**params.constructor(), "image_shape": list(card.shape)}


def build_initial(
    params: AutoencoderParams,
    card: StoreCard,
    device: torch.device,
    seed: int,
    ranks: Ranks,
    *,
    keeps_activations: bool = True,
) -> tuple[Autoencoder, dict[str, str]]:
    """Build the autoencoder with its first weights: random, or read from ``params.init_from``.

    Args:
        params: of the section.
        card: of the images.
        device: where the network trains.
        seed: of the run.
        ranks: the processes that share the training.
        keeps_activations: False where a training keeps fewer than all activations of a forward pass: compiled, or with
            gradient checkpointing.

    Returns:
        The network on ``device``, and the sha256 of all files that the stage reads.

    Raises:
        UserError: the network is too large for the device, or ``init_from`` does not fit.
    """
    constructor = constructor_of(params, card)

    def build() -> Autoencoder:
        return build_autoencoder(params.name, **constructor)

    def forward(network: Autoencoder, rows: int) -> object:
        if network.noise_shape:  # a diffusion autoencoder: one evaluation of its decoder, whatever its encoder does
            z = Condition(torch.empty(rows, *network.latent_shape))
            return network.decoder(torch.empty(rows, *network.noise_shape), torch.empty(rows), z)
        if params.freeze_encoder:
            network.get_submodule("encoder").requires_grad_(False)
        return network.decode(network.encode(torch.empty(rows, *card.shape)))

    rows = largest_micro_batch(
        min(params.optimizer.batch_size, card.counts["train"]), params.optimizer.accumulate, ranks
    )
    scale = activation_scale(params.optimizer.precision)
    activations = ForwardPass(rows, forward, scale) if params.epochs and keeps_activations else None
    require_trainable(build, device, "autoencoder", params.constructor(), ranks, activations)
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    autoencoder = to_device(build(), device)
    trained_on = dict(card.sha256)
    if params.init_from != NO_WEIGHTS:
        trained_on["init_from"] = begin_with(autoencoder, params, constructor)
    return autoencoder, trained_on


def train_autoencoder(
    autoencoder: Autoencoder, context: TrainingContext, saving: Saving, epochs: int, preview: Preview | None = None
) -> TrainingResult:
    """Train ``autoencoder`` in place for ``epochs`` epochs.

    Every rank calls this; rank 0 alone validates and calls ``preview``, after each epoch.
    """
    params, device, seed, ranks = context.params, context.device, context.seed, context.ranks
    val = read_split(PREPARED, "val")

    def validate(model: nn.Module, epoch: int) -> dict[str, float]:
        network = cast(Autoencoder, model)
        if preview and epoch:
            preview(network, val, epoch)
        return {f"val_{name}": value for name, value in loss_terms(network, val, device, seed).items()}

    if epochs == 0 or not list(autoencoder.parameters()):
        history = [{"epoch": 0, "loss": math.nan, **validate(autoencoder, 0)}]
        return TrainingResult(autoencoder, history, AuxiliaryLosses())
    if params.freeze_encoder:
        autoencoder.get_submodule("encoder").requires_grad_(False)
    if context.compute.gradient_checkpointing:
        checkpoint_blocks(autoencoder)
    images = resident(read_split(PREPARED, "train").images, device)
    order = EpochSampler(len(images), params.optimizer.batch_size, derive_seed(seed, STAGE, "order"))
    auxiliary = build_auxiliary_losses(
        autoencoder, context.card.shape[0], params, device, seed, epochs * order.steps_per_epoch, ranks
    )
    own, parts = own_micro_batches(order.batch_size, params.optimizer.accumulate, ranks)

    inputs_of = _step_inputs(autoencoder, context, images, order, own)

    def loss(step: int) -> Iterator[MicroBatch]:
        inputs = inputs_of(step)
        x = to_unit_range(images.batch(inputs))
        if "mirrored" in inputs:
            x = mirror(x, inputs["mirrored"])
        x = channels_last(x)
        noise = [part for name, part in inputs.items() if name.startswith("noise")]
        for weight, rows in parts:
            own_noise = tuple(part[rows] for part in noise)
            yield weight, *auxiliary.add_to(step, *autoencoder.loss(x[rows], own_noise, step), x[rows], weight)

    optimizer = optimizer_of(params.optimizer)
    once = params.optimizer.accumulate == 1 and auxiliary.discriminator is None
    with compiled(context.compute.compile, device, _graph_modules(autoencoder, auxiliary), walks_graph_once=once):
        used, history = fit(
            autoencoder,
            loss,
            TrainConfig("autoencoder", epochs, order.steps_per_epoch, optimizer, saving, len(parts), order.batch_size),
            averages=[] if params.ema_decay is None else [Ema(autoencoder, params.ema_decay)],
            discriminator=auxiliary.discriminator,
            on_epoch=validate,
            ranks=ranks,
        )
    return TrainingResult(cast(Autoencoder, used), history, auxiliary)


def _step_inputs(
    autoencoder: Autoencoder, context: TrainingContext, images: RowSource, order: EpochSampler, own: slice
) -> StepInputs:
    """Return the inputs of each step: the ``own`` rows of its images, their noise, and which are mirrored."""

    def draw(step: int) -> Inputs:
        rows = order.rows(step)
        images.prefetch(order.rows(step + 1)[own])
        noise = autoencoder.sample_training_noise(len(rows), generator(context.seed, STAGE, "noise", step))
        inputs = {**images.inputs(rows[own]), **{f"noise{index}": part[own] for index, part in enumerate(noise)}}
        if context.card.horizontal_flip:
            numbers = torch.rand(len(rows), generator=generator(context.seed, STAGE, "mirror", step))
            inputs["mirrored"] = (numbers < 0.5)[own]
        return inputs

    return StepInputs(draw, context.device)


def _graph_modules(autoencoder: Autoencoder, auxiliary: AuxiliaryLosses) -> list[nn.Module]:
    """Return the modules that become one compiled graph each.

    With a discriminator these are residual blocks. The adaptive weight needs gradients at the last layer alone, and
    walks back only through the graphs behind it.
    """
    perceptual = [auxiliary.perceptual] if auxiliary.perceptual else []
    if auxiliary.discriminator is None:
        return [*autoencoder.children(), *perceptual]
    blocks = [module for module in autoencoder.modules() if isinstance(module, ResBlock)]
    return [*blocks, auxiliary.discriminator.network, *perceptual]


@torch.no_grad()
def loss_terms(autoencoder: Autoencoder, split: ImageSplit, device: torch.device, seed: int) -> dict[str, float]:
    """Return the means over a split of the loss and of its terms, with the same noise in every call."""
    noise = generator(seed, STAGE, "validation")
    sums: dict[str, float] = {}
    for images in split.images.split(inference_batch(split.images.shape)):
        drawn = tuple(part.to(device) for part in autoencoder.sample_training_noise(len(images), noise))
        for name, value in autoencoder.loss(to_unit_range(images.to(device)), drawn)[1].items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(images)
    return {name: total / len(split) for name, total in sums.items()}
