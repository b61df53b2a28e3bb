"""What looks at the autoencoder's reconstructions in training besides its own loss: a perceptual distance, a discriminator."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.base import Codec
from latentline.core.errors import UserError
from latentline.core.files import replaced_folder, write_json
from latentline.core.seeds import derive_seed
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import place
from latentline.runtime.parallel import ALONE, Ranks
from latentline.runtime.wheels import PERCEPTUAL, read_wheel_weights
from latentline.training.config import optimizer_of
from latentline.training.loop import Rival
from stages.train_autoencoder.adversarial import LOSSES, Adversary, last_layer
from stages.train_autoencoder.adversarial_params import AdversarialParams
from stages.train_autoencoder.discriminator import PatchDiscriminator
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.perceptual import PerceptualDistance

_SECTION = "autoencoder.adversarial"
_BETAS = (0.5, 0.9)  # little momentum, since the opponent moves (arXiv 1611.07004, section 3.3; arXiv 2012.09841's code)


@dataclass(frozen=True)
class Critics:
    """Each is None when its weight is 0."""

    perceptual: PerceptualDistance | None
    perceptual_weight: float
    adversary: Adversary | None
    rival: Rival | None
    """The discriminator as ``fit`` takes it."""

    def judge(
        self, step: int, loss: Tensor, terms: dict[str, Tensor], reconstruction: Tensor | None, x: Tensor, share: float = 1.0
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
    codec: Codec, image_channels: int, knobs: AutoencoderParams, device: torch.device, seed: int, total_steps: int, ranks: Ranks = ALONE
) -> Critics:
    """The critics that ``knobs`` ask for.

    Raises:
        UserError: the perceptual network is not installed, or the discriminator would never have a say in ``total_steps`` steps.
    """
    perceptual = build_perceptual(f"autoencoder.perceptual_weight: {knobs.perceptual_weight:g}", device) if knobs.perceptual_weight else None
    if not knobs.adversarial.weight:
        return Critics(perceptual, knobs.perceptual_weight, None, None)
    adversarial = knobs.adversarial
    enters_at = adversarial.start_step + adversarial.warmup_steps
    if enters_at >= total_steps:
        raise UserError(
            f"{_SECTION}.start_step: {adversarial.start_step} and {_SECTION}.warmup_steps: {adversarial.warmup_steps} leave the discriminator "
            f"no say in a training of {total_steps} steps; lower them, raise autoencoder.epochs, or set {_SECTION}.weight to 0"
        )
    torch.manual_seed(derive_seed(seed, "train_autoencoder", "discriminator"))
    discriminator = place(PatchDiscriminator(**_constructor(image_channels, adversarial)), device)
    adversary = Adversary(
        discriminator,
        last_layer(codec.decoder),
        LOSSES[adversarial.loss],
        weight=adversarial.weight,
        adaptive_max=adversarial.adaptive_max,
        enters_at=enters_at,
        ranks=ranks,
    )
    optimizer = replace(optimizer_of(knobs.optimizer), lr=adversarial.lr, betas=_BETAS)
    rival = Rival(discriminator, adversary.loss, optimizer, adversarial.start_step, _SECTION)
    return Critics(perceptual, knobs.perceptual_weight, adversary, rival)


def build_perceptual(needed_by: str, device: torch.device) -> PerceptualDistance:
    """The perceptual distance with its published weights. Raises UserError, which names the knob ``needed_by``, when they are not installed."""
    network = PerceptualDistance()
    network.load_published(read_wheel_weights(PERCEPTUAL, needed_by))
    return place(network, device).eval()


def save_discriminator(path: Path, critics: Critics, image_channels: int, knobs: AdversarialParams, trained_on: dict[str, str]) -> None:
    """Write ``path`` and all of its folder; without a discriminator only a note that says so, since the folder is an out of the stage."""
    with replaced_folder(path.parent) as folder:
        if critics.rival is None:
            write_json(folder / "off.json", {f"{_SECTION}.weight": 0})
            return
        save_checkpoint(
            folder / path.name,
            kind="discriminator",
            name="patch",
            constructor=_constructor(image_channels, knobs),
            trained_on=trained_on,
            tensors=critics.rival.network.state_dict(),
        )


def _constructor(image_channels: int, knobs: AdversarialParams) -> dict[str, Any]:
    return {"image_channels": image_channels, "channels": knobs.channels, "layers": knobs.layers}
