"""Section ``sample``: how images are drawn."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.params.base import NonNegative, Positive, Section


class SampleParams(Section):
    """Knobs of stage ``sample``."""

    sampler: Literal["heun", "euler"]
    """ODE solver."""
    steps: Positive
    """Solver steps from noise to data."""
    time_shift: Annotated[float, Field(gt=0)]
    """Where the steps lie: 1 = uniform in t, above 1 = more of them near noise."""
    guidance_scale: NonNegative
    """Classifier-free guidance; 1 = off."""
    count: Positive
    """Images to draw, classes in turn."""
    batch_size: Positive
    """Images per batch; has no influence on the images."""
    grid_per_class: Positive
    """Images per class in the grid."""
