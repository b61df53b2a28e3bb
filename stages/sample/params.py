"""Section ``sample``: how images are drawn."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import NonNegative, Positive, Section, Steps


class SampleFiguresParams(Section):
    """Grids in fig/sample."""

    height: Positive
    """Rows of images in the grid at most: one per class, where there are classes."""
    width: Positive
    """Images per row at most."""
    scale: Positive
    """Each pixel becomes ``scale`` x ``scale``."""


class SampleParams(Section):
    """Knobs of stage ``sample``."""

    sampler: Literal["euler", "heun", "dpmpp_2m", "unipc", "ddim", "ddpm", "flow_sde"]
    """How the steps are made."""
    steps: Steps
    """Solver steps from noise to data."""
    time_grid: Literal["uniform", "shifted", "karras", "discrete"]
    """Where the steps lie: evenly in t, more of them at one end, or on the 1000 discrete times of DDPM."""
    time_shift: Annotated[float, Field(gt=0)]
    """Of the shifted grid: above 1 = more steps near noise."""
    eta: Annotated[float, Field(ge=0, le=1)]
    """Noise of ``ddim``: 0 = none, 1 = as much as ``ddpm``."""
    variance: Literal["beta", "posterior"]
    """Noise of ``ddpm``: the forward step's variance, or that of its reversal."""
    sigma_scale: NonNegative
    """Noise of ``ddpm``: multiplies its standard deviation."""
    diffusion: NonNegative
    """Noise of ``flow_sde``: its level is diffusion * t."""
    guidance_scale: NonNegative
    """Classifier-free guidance; 1 = off."""
    guidance_start: Annotated[float, Field(ge=0, le=1)]
    """Smallest t that is guided."""
    guidance_end: Annotated[float, Field(ge=0, le=1)]
    """Largest t that is guided."""
    guidance_rescale: Annotated[float, Field(ge=0, le=1)]
    """How far guided outputs are brought back to the standard deviation of unguided ones."""
    count: Positive
    """Images to draw, classes in turn."""
    batch_size: Positive
    """Images per batch; has no influence on the images."""
    figures: SampleFiguresParams
