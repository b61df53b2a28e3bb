"""Section ``autoencoder.adversarial``: the patch discriminator and the autoencoder's adversarial loss."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import Count, NonNegative, PositiveFloat, Section, Width


class AdversarialParams(Section):
    """Settings of the adversarial loss (Esser et al., arXiv 2012.09841)."""

    weight: NonNegative = 0.0
    """Weight of the adversarial loss: 1 = as strong as all other losses (0.1 is stable); 0 = no discriminator."""
    loss: Literal["hinge", "non_saturating"] = "hinge"
    """hinge | non_saturating: losses of the discriminator and of the autoencoder."""
    start_step: Count = 1000
    """Step at which the discriminator begins to train."""
    warmup_steps: Count = 200
    """Steps for which the discriminator trains alone, before the autoencoder's loss includes it."""
    adaptive_max: PositiveFloat = 0.05
    """Upper limit of the adaptive weight, which balances the gradients at the decoder's last layer."""
    channels: Width = 32
    """Width of the discriminator's first level; each further level doubles it, up to eight times."""
    layers: Annotated[int, Field(ge=1, le=8)] = 2
    """Halvings of the map. The receptive field is 14 pixels with 1, 28 with 2, 56 with 3."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the discriminator after the warm-up; all else as in autoencoder.optimizer."""
