"""Knobs of the optimizer, the same for everything that trains."""

from typing import Annotated

from pydantic import Field

from latentline.params.base import Fraction, NonNegative, Positive, PositiveFloat, Section


class OptimizerParams(Section):
    """AdamW with a warmup-stable-decay learning rate."""

    batch_size: Positive
    """Images per step."""
    lr: PositiveFloat
    """Learning rate of the stable part."""
    weight_decay: NonNegative
    """Decoupled weight decay (AdamW)."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """Steps over which the learning rate rises linearly from 0."""
    decay_fraction: Fraction
    """Share of all steps, at the end, over which the learning rate falls linearly to 0."""
    clip_norm: PositiveFloat
    """Gradients are scaled down to this global norm."""
