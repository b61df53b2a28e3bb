"""Section ``manipulate``: edits of images by their latents."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import Count, Fraction, NonNegative, Positive, Section


class ManipulateParams(Section):
    """Knobs of stage ``manipulate``."""

    direction: Literal["classifier", "mean_difference"]
    """The normal of the latent classifier's boundary, or the mean latent of the target's training images minus that of the others."""
    strengths: list[float] = Field(min_length=2)
    """Shifts, in standard deviations of the latents along the direction, ascending."""
    files: Annotated[str, Field(min_length=1)]
    """Folder of images to edit; without any, as in the tracked placeholder, images of the test split are. Never null: DVC watches it."""
    images: Annotated[list[Count], Field(min_length=1)] | None
    """Numbers of the images to edit, from 0; None = all."""
    source_class: str | None
    """Edit only images of this class; None = of any."""
    count: Positive
    """Images that are edited towards each target, at most."""
    target_names: list[str]
    """Classes and attributes to edit towards, by name; empty = all."""
    targets: Positive
    """Targets (classes, attributes, numbers) that images are edited towards, at most; of more, so many are chosen evenly."""
    renoise: Fraction
    """t up to which an edited latent is noised, for the denoiser to bring it back, told the target; 0 = off."""
    renoise_steps: Positive
    """Steps of DPM-Solver++ back from there."""
    renoise_guidance_scale: NonNegative
    """Classifier-free guidance on the way back; 1 = off."""
    strips: Positive
    """Strips drawn per figure, one target each."""
