"""Losses of reconstructions besides the autoencoder's own: a perceptual distance and a discriminator."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder
from latentline.core.errors import UserError
from latentline.core.files import replaced_folder, write_json
from latentline.core.seeds import derive_seed
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import to_device
from latentline.runtime.packaged_weights import PERCEPTUAL, read_packaged_weights
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks
from latentline.training.config import optimizer_of
from latentline.training.loop import DiscriminatorTraining
from stages.train_autoencoder.adversarial import LOSSES, AdversarialTerm, last_layer
from stages.train_autoencoder.adversarial_params import AdversarialParams
from stages.train_autoencoder.discriminator import PatchDiscriminator
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.perceptual import PerceptualDistance

_SECTION = "autoencoder.adversarial"
# Little momentum, since the other network changes (arXiv 1611.07004, section 3.3; the code of arXiv 2012.09841)
_BETAS = (0.5, 0.9)


@dataclass(frozen=True)
class AuxiliaryLosses:
    """The auxiliary losses of a training; each is None when its weight is 0."""

    perceptual: PerceptualDistance | None = None
    perceptual_weight: float = 0.0
    adversarial: AdversarialTerm | None = None
    discriminator: DiscriminatorTraining | None = None
    """The discriminator's training, for ``fit``."""

    def add_to(
        self,
        step: int,
        loss: Tensor,
        terms: dict[str, Tensor],
        reconstruction: Tensor | None,
        x: Tensor,
        micro_batch_weight: float = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a micro-batch with the auxiliary losses, and all terms for the log.

        Args:
            step: of the training, counted from 0.
            loss: the autoencoder's own loss (scalar); it stays the term ``loss`` of the log.
            terms: its terms.
            reconstruction: of ``x``; None adds nothing.
            x: images (B, C, H, W).
            micro_batch_weight: fraction of the batch's rows in ``x``.
        """
        if reconstruction is None:
            return loss, terms
        if self.perceptual:
            distance = self.perceptual(reconstruction, x).mean()
            loss, terms = loss + self.perceptual_weight * distance, {**terms, "perceptual": distance}
        if self.adversarial:
            loss, added = self.adversarial.generator_loss(step, loss, x, reconstruction, micro_batch_weight)
            terms = {**terms, **added}
        return loss, terms


def build_auxiliary_losses(
    autoencoder: Autoencoder,
    image_channels: int,
    params: AutoencoderParams,
    device: torch.device,
    seed: int,
    total_steps: int,
    ranks: Ranks = SINGLE_PROCESS,
) -> AuxiliaryLosses:
    """Build the auxiliary losses whose weights in ``params`` are above 0.

    Raises:
        UserError: the perceptual network is not installed, or the adversarial loss would start after ``total_steps``.
    """
    perceptual = (
        build_perceptual(f"autoencoder.perceptual_weight ({params.perceptual_weight:g})", device)
        if params.perceptual_weight
        else None
    )
    term, training = None, None
    if params.adversarial.weight:
        term, training = _build_adversarial(autoencoder, image_channels, params, device, seed, total_steps, ranks)
    return AuxiliaryLosses(perceptual, params.perceptual_weight, term, training)


def _build_adversarial(
    autoencoder: Autoencoder,
    image_channels: int,
    params: AutoencoderParams,
    device: torch.device,
    seed: int,
    total_steps: int,
    ranks: Ranks,
) -> tuple[AdversarialTerm, DiscriminatorTraining]:
    """Return the adversarial loss and the discriminator's training; see :func:`build_auxiliary_losses`."""
    adversarial = params.adversarial
    enters_at = adversarial.start_step + adversarial.warmup_steps
    if enters_at >= total_steps:
        raise UserError(
            f"{_SECTION}.start_step ({adversarial.start_step}) plus {_SECTION}.warmup_steps "
            f"({adversarial.warmup_steps}) must be below the {total_steps} steps of the training; lower them, raise "
            f"autoencoder.epochs, or set {_SECTION}.weight to 0"
        )
    torch.manual_seed(derive_seed(seed, "train_autoencoder", "discriminator"))
    discriminator = to_device(PatchDiscriminator(**_constructor(image_channels, adversarial)), device)
    term = AdversarialTerm(
        discriminator,
        last_layer(autoencoder.decoder),
        LOSSES[adversarial.loss],
        weight=adversarial.weight,
        adaptive_max=adversarial.adaptive_max,
        enters_at=enters_at,
        ranks=ranks,
    )
    optimizer = replace(optimizer_of(params.optimizer), lr=adversarial.lr, betas=_BETAS)
    training = DiscriminatorTraining(
        discriminator, term.discriminator_loss, optimizer, adversarial.start_step, _SECTION, term.on_terms
    )
    return term, training


def build_perceptual(needed_by: str, device: torch.device) -> PerceptualDistance:
    """Return the perceptual distance with its published weights.

    Args:
        needed_by: setting that needs it, with its value, for the error message.
        device: where the network runs.

    Raises:
        UserError: the weights are not installed.
    """
    network = PerceptualDistance()
    network.load_published(read_packaged_weights(PERCEPTUAL, needed_by))
    return to_device(network, device).eval()


def save_discriminator(
    path: Path, losses: AuxiliaryLosses, image_channels: int, params: AdversarialParams, trained_on: dict[str, str]
) -> None:
    """Write ``path`` and replace its folder; without a discriminator write off.json, since the folder is an out."""
    with replaced_folder(path.parent) as folder:
        if losses.discriminator is None:
            write_json(folder / "off.json", {f"{_SECTION}.weight": 0})
            return
        save_checkpoint(
            folder / path.name,
            kind="discriminator",
            name="patch",
            constructor=_constructor(image_channels, params),
            trained_on=trained_on,
            tensors=losses.discriminator.network.state_dict(),
        )


def _constructor(image_channels: int, params: AdversarialParams) -> dict[str, Any]:
    return {"image_channels": image_channels, "channels": params.channels, "layers": params.layers}
