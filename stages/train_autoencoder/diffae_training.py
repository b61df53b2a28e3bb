"""What of a diffusion autoencoder trains before its decoder: the autoencoder within, and the semantic encoder where that trains alone."""

from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor

from latentline.autoencoders.base import Codec
from latentline.autoencoders.build import build_codec
from latentline.autoencoders.diffae import DiffAE, plain_autoencoder
from latentline.autoencoders.load import inference_batch
from latentline.core.params import NO_WEIGHTS
from latentline.core.paths import PREPARED
from latentline.core.seeds import derive_seed
from latentline.data.store import read_split, to_unit_range
from latentline.runtime.compute import place
from latentline.training.loop import Saving
from stages.train_autoencoder.train import STAGE, Setting, train_codec

_MEASURED = 10_000  # training images whose latents give mean and deviation
C = TypeVar("C", bound=Codec)


@dataclass(frozen=True)
class Part:
    """A training that is over."""

    name: str
    saving: Saving
    """Its running state, kept until the stage has written its outs."""
    history: list[dict[str, float]]


def train_parts(codec: Codec, setting: Setting) -> list[Part]:
    """Train and put into ``codec`` what must be there before it trains itself: nothing, unless it is a :class:`DiffAE`."""
    if not isinstance(codec, DiffAE):
        return []
    knobs, shape = setting.knobs.diffae, setting.card.shape
    if setting.knobs.init_from != NO_WEIGHTS:  # which brought them along
        codec.encoder.requires_grad_(knobs.encoder_training == "joint")
        return []
    parts = []
    if knobs.inner != "identity":
        torch.manual_seed(derive_seed(setting.seed, STAGE, "weights", "inner"))
        inner, part = _train("inner", build_codec(image_shape=shape, **setting.knobs.constructor()["inner"]), setting, knobs.inner_epochs)
        codec.adopt_inner(inner, _latents(inner, setting))
        parts.append(part)
    if knobs.encoder_training == "pretrained":
        torch.manual_seed(derive_seed(setting.seed, STAGE, "weights", "encoder"))
        plain = plain_autoencoder(shape, knobs.embedding_dim, knobs.encoder_channels, knobs.encoder_blocks)
        plain, part = _train("encoder", plain, setting, knobs.pretrain_epochs)
        codec.adopt_encoder(plain)
        parts.append(part)
    return parts


def _train(name: str, codec: C, setting: Setting, epochs: int) -> tuple[C, Part]:
    saving = setting.saving(name)
    trained = train_codec(place(codec, setting.device), setting, saving, epochs)
    return cast(C, trained.codec), Part(name, saving, trained.history)


@torch.no_grad()
def _latents(codec: Codec, setting: Setting) -> Tensor:
    """Latents (N, *latent_shape) of the first training images, on the CPU."""
    images = read_split(PREPARED, "train").images[:_MEASURED]
    batches = images.split(inference_batch(setting.card.shape))
    return torch.cat([codec.encode(to_unit_range(batch).to(setting.device)).cpu() for batch in batches])
