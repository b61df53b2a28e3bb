"""Knobs of the optimizer, the same for everything that trains."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import Count, Fraction, NonNegative, Positive, PositiveFloat, Section


class OptimizerParams(Section):
    """AdamW, and how its learning rate goes. Knobs that a schedule does not use do nothing."""

    batch_size: Positive
    """Images per step."""
    accumulate: Positive
    """Parts that a step's images are computed in, one after the other, where they do not fit into memory at once; 1 = all at once."""
    lr: PositiveFloat
    """Learning rate after the warm-up."""
    weight_decay: NonNegative
    """Decoupled weight decay (AdamW)."""
    schedule: Literal["warmup_stable_decay", "cosine", "milestones"]
    """How the learning rate falls: at the end, all along, or at once after chosen epochs."""
    warmup_steps: Count
    """Steps over which the learning rate rises linearly from 0."""
    decay_fraction: Fraction
    """Share of all steps, at the end, over which the learning rate falls linearly to 0. ``warmup_stable_decay`` only."""
    milestones: list[Positive]
    """Epochs after which the learning rate is multiplied by ``gamma``. ``milestones`` only."""
    gamma: Annotated[float, Field(gt=0, le=1)]
    """What each milestone multiplies the learning rate by. ``milestones`` only."""
    clip_norm: PositiveFloat
    """Gradients are scaled down to this global norm."""
