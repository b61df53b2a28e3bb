"""Section ``autoencoder.adversarial``: the discriminator that reconstructions train against."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import Count, NonNegative, PositiveFloat, Section, Width


class AdversarialParams(Section):
    """Knobs of the adversarial term (Esser et al., arXiv 2012.09841)."""

    weight: NonNegative
    """Of the adversarial term, times the adaptive weight that makes it as strong as all other terms; 0 = no discriminator."""
    loss: Literal["hinge", "non_saturating"]
    """Which losses the two play with."""
    start_step: Count
    """Step at which the discriminator begins to train."""
    warmup_steps: Count
    """Steps that it trains alone, before its term enters the autoencoder's loss."""
    adaptive_max: PositiveFloat
    """Upper limit of the adaptive weight."""
    channels: Width
    """Width of the discriminator's first level; each further one is twice as wide, up to eight times."""
    layers: Annotated[int, Field(ge=1, le=8)]
    """How often the discriminator halves the map."""
    lr: PositiveFloat
    """Its learning rate after the warm-up; the rest of its optimizer is as autoencoder.optimizer says."""
