"""Section ``denoiser``: the diffusion model of the latents."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.params.base import Count, Fraction, Positive, Section, Widths
from latentline.params.optimizer import OptimizerParams


class ProcessParams(Section):
    """The noise path and what the network predicts."""

    path: Literal["flow"]
    """Noise path: rectified flow."""
    prediction: Literal["velocity"]
    """What the network predicts."""
    time_sampling: Literal["uniform", "logit_normal"]
    """How training draws t."""


class PreviewParams(Section):
    """Sample grids drawn while training."""

    every_epochs: Count
    """Draw one grid after every so many epochs; 0 = never."""
    per_class: Positive
    """Images per class in a grid; rows of ten such where there are no classes."""
    steps: Positive
    """Heun steps of a preview."""
    guidance_scale: Annotated[float, Field(ge=0)]
    """Guidance of a preview; 1 = off."""


class DenoiserParams(Section):
    """Knobs of stage ``train_denoiser``."""

    name: Literal["unet"]
    """Kind of network."""
    epochs: Positive
    """Passes over the cached latents."""
    channels: Widths
    """Width of each level, from the latent's own size down; each further level halves the map."""
    blocks: Positive
    """Residual blocks per level, on the way down; one more on the way up."""
    attention_levels: list[Count]
    """Levels (0 = the latent's own size) with self-attention."""
    condition: Literal["all", "class", "none"]
    """What the network is told of an image: all that is known (class and attributes), the class alone, or nothing."""
    label_dropout: Fraction
    """Share of training examples of which nothing is told, for classifier-free guidance."""
    ema_decay: Fraction
    """Decay per step of the averaged weights that sampling uses, after warm-up."""
    process: ProcessParams
    preview: PreviewParams
    optimizer: OptimizerParams
