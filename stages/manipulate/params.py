"""Section ``manipulate``: edits of images through their latents."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import Count, Fraction, Positive, Scale, Section


class ManipulateParams(Section):
    """Settings of stage ``manipulate``."""

    direction: Literal["classifier", "mean_difference"] = "classifier"
    """classifier (normal of the latent classifier's boundary) | mean_difference (mean latent of the target's training
    images minus the mean of all others)."""
    strengths: list[float] = Field(default=[-4.0, -2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0], min_length=2)
    """Shifts in ascending order, in standard deviations of the latents along the direction."""
    files: Annotated[str, Field(min_length=1)] = "data/edit"
    """Folder of images to edit; where it is empty, test images are edited. DVC depends on it, so it is never null."""
    images: Annotated[list[Count], Field(min_length=1)] | None = None
    """Indices of the images to edit, from 0, such as [3, 17]; null = all."""
    source_class: str | None = None
    """Edit images of this class only; null = of any class."""
    count: Positive = 50
    """Upper limit of the images edited towards each target."""
    target_names: list[str] = Field(default=[])
    """Classes and attributes to edit towards, by name, such as [Bag, Sandal]; [] = all."""
    targets: Positive = 20
    """Upper limit of the targets (classes, attributes and numbers); of more, evenly spaced ones are taken."""
    renoise: Fraction = 0.5
    """SDEdit noises an edited latent up to this t, and denoises it conditioned on the target; 0 = off."""
    renoise_steps: Positive = 4
    """SDEdit: DPM-Solver++ steps from t back to 0."""
    renoise_guidance_scale: Scale = 1.0
    """SDEdit: scale of classifier-free guidance; 1 = off."""
    prompts: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    """Two captions, such as [a red circle, a blue circle]: edit from the first towards the second; [] = off."""
    prompt_strengths: Annotated[list[float], Field(min_length=1)] = Field(default=[0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    """Strengths of these edits in ascending order; 1 = the difference that the denoiser makes between both captions."""
    strips: Positive = 10
    """Rows of the figure, one per target."""
