"""What of a diffusion autoencoder trains before its decoder: the autoencoder within, and the semantic encoder where that trains alone."""

from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.build import build_autoencoder
from latentline.autoencoders.diffae import DiffAE, plain_autoencoder
from latentline.autoencoders.load import inference_batch
from latentline.core.params import NO_WEIGHTS
from latentline.core.paths import PREPARED
from latentline.core.seeds import derive_seed
from latentline.data.store import read_split, to_unit_range
from latentline.runtime.compute import to_device
from latentline.training.loop import Saving
from stages.train_autoencoder.train import STAGE, Setting, train_codec

_MEASURED = 10_000  # training images whose latents give mean and deviation
C = TypeVar("C", bound=Autoencoder)


@dataclass(frozen=True)
class Part:
    """A training that is over."""

    name: str
    saving: Saving
    """Its running state, kept until the stage has written its outs."""
    history: list[dict[str, float]]


def train_parts(autoencoder: Autoencoder, setting: Setting) -> list[Part]:
    """Train and put into ``autoencoder`` what must be there before it trains itself: nothing, unless it is a :class:`DiffAE`."""
    if not isinstance(autoencoder, DiffAE):
        return []
    params, shape = setting.params.diffae, setting.card.shape
    if setting.params.init_from != NO_WEIGHTS:  # which brought them along
        autoencoder.encoder.requires_grad_(params.encoder_training == "joint")
        return []
    parts = []
    if params.inner != "identity":
        torch.manual_seed(derive_seed(setting.seed, STAGE, "weights", "inner"))
        inner, part = _train(
            "inner",
            build_autoencoder(image_shape=shape, **setting.params.constructor()["inner"]),
            setting,
            params.inner_epochs,
        )
        autoencoder.adopt_inner(inner, _latents(inner, setting))
        parts.append(part)
    if params.encoder_training == "pretrained":
        torch.manual_seed(derive_seed(setting.seed, STAGE, "weights", "encoder"))
        plain = plain_autoencoder(shape, params.embedding_dim, params.encoder_channels, params.encoder_blocks)
        plain, part = _train("encoder", plain, setting, params.pretrain_epochs)
        autoencoder.adopt_encoder(plain)
        parts.append(part)
    return parts


def _train(name: str, autoencoder: C, setting: Setting, epochs: int) -> tuple[C, Part]:
    saving = setting.saving(name)
    trained = train_codec(to_device(autoencoder, setting.device), setting, saving, epochs)
    return cast(C, trained.autoencoder), Part(name, saving, trained.history)


@torch.no_grad()
def _latents(autoencoder: Autoencoder, setting: Setting) -> Tensor:
    """Latents (N, *latent_shape) of the first training images, on the CPU."""
    images = read_split(PREPARED, "train").images[:_MEASURED]
    batches = images.split(inference_batch(setting.card.shape))
    return torch.cat([autoencoder.encode(to_unit_range(batch).to(setting.device)).cpu() for batch in batches])
