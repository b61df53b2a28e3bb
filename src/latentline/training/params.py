"""Settings of the optimizer, the same for everything that trains."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import Count, Fraction, NonNegative, Positive, PositiveFloat, Section
from latentline.runtime.precision import Precision


class OptimizerParams(Section):
    """AdamW and its learning rate schedule. A setting that the chosen schedule does not use has no effect."""

    batch_size: Positive = 32
    """Images (for the denoiser: latents) per step."""
    accumulate: Positive = 1
    """Micro-batches per step, computed one after the other where memory is short."""
    lr: PositiveFloat = 4e-3
    """Learning rate after the warm-up (AdamW)."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay (AdamW)."""
    schedule: Literal["warmup_stable_decay", "cosine", "milestones"] = "warmup_stable_decay"
    """warmup_stable_decay (falls at the end) | cosine | milestones; see docs/denoisers.md."""
    warmup_steps: Count = 100
    """Steps over which the learning rate rises linearly from 0."""
    decay_fraction: Fraction = 0.8
    """Fraction of all steps, at the end, with a linear fall to 0; warmup_stable_decay only."""
    milestones: list[Positive] = Field(default=[])
    """Epochs after which the learning rate is multiplied by gamma, such as [5, 8]; milestones only."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Factor of the learning rate at each milestone; milestones only."""
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = Field(
        default=[0.9, 0.99]
    )
    """Decay per step of the means of the gradient and of its square (AdamW)."""
    precision: Precision = "float32"
    """float32 | tf32 | bf16 | fp16: format of products and convolutions in training; weights and losses stay float32.
    See docs/gpu.md."""
    clip_norm: PositiveFloat = 1.0
    """Largest global norm of the gradients; larger gradients are scaled down to it."""
