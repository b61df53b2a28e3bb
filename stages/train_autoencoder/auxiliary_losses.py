"""What looks at the autoencoder's reconstructions in training besides its own loss: a perceptual distance, a discriminator."""

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
from stages.train_autoencoder.adversarial import LOSSES, Adversary, last_layer
from stages.train_autoencoder.adversarial_params import AdversarialParams
from stages.train_autoencoder.discriminator import PatchDiscriminator
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.perceptual import PerceptualDistance

_SECTION = "autoencoder.adversarial"
_BETAS = (
    0.5,
    0.9,
)  # little momentum, since the opponent moves (arXiv 1611.07004, section 3.3; arXiv 2012.09841's code)


@dataclass(frozen=True)
class Critics:
    """Each is None when its weight is 0."""

    perceptual: PerceptualDistance | None
    perceptual_weight: float
    adversary: Adversary | None
    discriminator: DiscriminatorTraining | None
    """The discriminator as ``fit`` takes it."""

    def judge(
        self,
        step: int,
        loss: Tensor,
        terms: dict[str, Tensor],
        reconstruction: Tensor | None,
        x: Tensor,
        share: float = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add their terms to the codec's loss of step ``step`` and to its terms for the log, whose ``loss`` stays the codec's own.

        ``x`` and all that is about it is a ``share`` of the step's batch.
        """
        if reconstruction is None:
            return loss, terms
        if self.perceptual:
            distance = self.perceptual(reconstruction, x).mean()
            loss, terms = loss + self.perceptual_weight * distance, {**terms, "perceptual": distance}
        if self.adversary:
            loss, adversarial = self.adversary.against(step, loss, x, reconstruction, share)
            terms = {**terms, **adversarial}
        return loss, terms


def no_critics() -> Critics:
    """Nobody, for codecs that do not train."""
    return Critics(None, 0.0, None, None)


def build_critics(
    autoencoder: Autoencoder,
    image_channels: int,
    params: AutoencoderParams,
    device: torch.device,
    seed: int,
    total_steps: int,
    ranks: Ranks = SINGLE_PROCESS,
) -> Critics:
    """The critics that ``params`` ask for.

    Raises:
        UserError: the perceptual network is not installed, or the discriminator would never have a say in ``total_steps`` steps.
    """
    perceptual = (
        build_perceptual(f"autoencoder.perceptual_weight: {params.perceptual_weight:g}", device)
        if params.perceptual_weight
        else None
    )
    if not params.adversarial.weight:
        return Critics(perceptual, params.perceptual_weight, None, None)
    adversarial = params.adversarial
    enters_at = adversarial.start_step + adversarial.warmup_steps
    if enters_at >= total_steps:
        raise UserError(
            f"{_SECTION}.start_step: {adversarial.start_step} and {_SECTION}.warmup_steps: {adversarial.warmup_steps} leave the discriminator "
            f"no say in a training of {total_steps} steps; lower them, raise autoencoder.epochs, or set {_SECTION}.weight to 0"
        )
    torch.manual_seed(derive_seed(seed, "train_autoencoder", "discriminator"))
    discriminator = to_device(PatchDiscriminator(**_constructor(image_channels, adversarial)), device)
    adversary = Adversary(
        discriminator,
        last_layer(autoencoder.decoder),
        LOSSES[adversarial.loss],
        weight=adversarial.weight,
        adaptive_max=adversarial.adaptive_max,
        enters_at=enters_at,
        ranks=ranks,
    )
    optimizer = replace(optimizer_of(params.optimizer), lr=adversarial.lr, betas=_BETAS)
    training = DiscriminatorTraining(discriminator, adversary.loss, optimizer, adversarial.start_step, _SECTION)
    return Critics(perceptual, params.perceptual_weight, adversary, training)


def build_perceptual(needed_by: str, device: torch.device) -> PerceptualDistance:
    """The perceptual distance with its published weights. Raises UserError, which names the knob ``needed_by``, when they are not installed."""
    network = PerceptualDistance()
    network.load_published(read_packaged_weights(PERCEPTUAL, needed_by))
    return to_device(network, device).eval()


def save_discriminator(
    path: Path, critics: Critics, image_channels: int, params: AdversarialParams, trained_on: dict[str, str]
) -> None:
    """Write ``path`` and all of its folder; without a discriminator only a note that says so, since the folder is an out of the stage."""
    with replaced_folder(path.parent) as folder:
        if critics.discriminator is None:
            write_json(folder / "off.json", {f"{_SECTION}.weight": 0})
            return
        save_checkpoint(
            folder / path.name,
            kind="discriminator",
            name="patch",
            constructor=_constructor(image_channels, params),
            trained_on=trained_on,
            tensors=critics.discriminator.network.state_dict(),
        )


def _constructor(image_channels: int, params: AdversarialParams) -> dict[str, Any]:
    return {"image_channels": image_channels, "channels": params.channels, "layers": params.layers}
