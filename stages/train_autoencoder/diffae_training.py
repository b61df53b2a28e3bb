"""Trainings that a diffusion autoencoder needs before its own: of the inner autoencoder and the semantic encoder."""

from dataclasses import dataclass
from typing import TypeVar, cast

import torch

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.build import build_autoencoder
from latentline.autoencoders.diffae import DiffAE, plain_autoencoder
from latentline.autoencoders.load import encode_images
from latentline.core.params import NO_WEIGHTS
from latentline.core.paths import PREPARED
from latentline.core.seeds import derive_seed
from latentline.data.store import read_split
from latentline.runtime.compute import to_device
from latentline.training.loop import Saving
from stages.train_autoencoder.train import STAGE, TrainingContext, train_autoencoder

_MEASURED = 10_000  # training images whose latents give mean and standard deviation
A = TypeVar("A", bound=Autoencoder)


@dataclass(frozen=True)
class ComponentTraining:
    """The finished training of a component of a diffusion autoencoder."""

    name: str
    """``inner`` or ``encoder``."""
    saving: Saving
    """Its state, kept until the stage has written its outs."""
    history: list[dict[str, float]]
    """One row per epoch."""


def train_components(autoencoder: Autoencoder, context: TrainingContext) -> list[ComponentTraining]:
    """Train the components that ``autoencoder`` needs before its own training, and copy them into it.

    Only a :class:`DiffAE` without ``init_from`` has any.
    """
    if not isinstance(autoencoder, DiffAE):
        return []
    params, shape = context.params.diffae, context.card.shape
    if context.params.init_from != NO_WEIGHTS:  # these weights include the components
        autoencoder.encoder.requires_grad_(params.encoder_training == "joint")
        return []
    finished = []
    if params.inner != "identity":
        torch.manual_seed(derive_seed(context.seed, STAGE, "weights", "inner"))
        inner = build_autoencoder(image_shape=shape, **context.params.constructor()["inner"])
        inner, training = _train("inner", inner, context, params.inner_epochs)
        measured = read_split(PREPARED, "train").images[:_MEASURED]
        autoencoder.adopt_inner(inner, encode_images(inner, measured, context.device))
        finished.append(training)
    if params.encoder_training == "pretrained":
        torch.manual_seed(derive_seed(context.seed, STAGE, "weights", "encoder"))
        plain = plain_autoencoder(shape, params.embedding_dim, params.encoder_channels, params.encoder_blocks)
        plain, training = _train("encoder", plain, context, params.pretrain_epochs)
        autoencoder.adopt_encoder(plain)
        finished.append(training)
    return finished


def _train(name: str, autoencoder: A, context: TrainingContext, epochs: int) -> tuple[A, ComponentTraining]:
    saving = context.saving(name)
    result = train_autoencoder(to_device(autoencoder, context.device), context, saving, epochs)
    return cast(A, result.autoencoder), ComponentTraining(name, saving, result.history)
