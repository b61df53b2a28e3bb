"""Section ``manipulate``: edits along the latent classifiers' directions."""

from pydantic import Field

from latentline.params.base import Positive, Section


class ManipulateParams(Section):
    """Knobs of stage ``manipulate``."""

    strengths: list[float] = Field(min_length=2)
    """Shifts, in standard deviations of the latents along the direction, ascending."""
    count: Positive
    """Test images that are edited towards each target."""
    targets: Positive
    """Targets (classes, attributes, numbers) that images are edited towards, at most; of more, so many are chosen evenly."""
    strips: Positive
    """Strips drawn per figure, one target each."""
