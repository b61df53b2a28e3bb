"""Section ``sample``: how images are drawn."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import LARGEST_INTEGER, NO_PROMPTS, Positive, Scale, Section, Steps
from latentline.runtime.precision import Precision


class SampleFiguresParams(Section):
    """Grids in fig/sample."""

    height: Positive = 10
    """Upper limit of the rows of fig/sample/grid.png; with classes, each row is one class."""
    width: Positive = 12
    """Upper limit of the images per row."""
    scale: Positive = 2
    """Enlargement: each pixel is drawn as scale x scale pixels."""


class SampleParams(Section):
    """Settings of stage ``sample``."""

    sampler: Literal["euler", "heun", "dpmpp_2m", "unipc", "ddim", "ddpm", "flow_sde", "flow_map"] = "unipc"
    """euler | heun (2 network evaluations per step) | dpmpp_2m | unipc | ddim | ddpm | flow_sde | flow_map
    (1 or 2 steps of one evaluation; only with denoiser.objective flow_map); see docs/diffusion.md."""
    steps: Steps = 9
    """Solver steps from noise to data."""
    time_grid: Literal["uniform", "shifted", "karras", "discrete"] = "uniform"
    """uniform (in t) | shifted (by time_shift) | karras (denser near data) | discrete (the 1000 times of DDPM)."""
    time_shift: Annotated[float, Field(gt=0)] = 1.0
    """Shift of the time grid: above 1 = more steps near noise; shifted only."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Noise of each step: 0 = none, 1 = as much as ddpm; ddim only."""
    variance: Literal["beta", "posterior"] = "posterior"
    """beta (variance of the forward step) | posterior (variance of the reverse step): noise of each step; ddpm only."""
    sigma_scale: Scale = 1.0
    """Factor of the standard deviation of that noise; ddpm only."""
    diffusion: Scale = 0.5
    """Noise level divided by t; flow_sde only."""
    guidance_scale: Scale = 3.5
    """Scale of classifier-free guidance; 1 = off."""
    guidance_start: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Smallest t with guidance."""
    guidance_end: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Largest t with guidance."""
    guide: Literal["early", "own"] = "early"
    """early (the denoiser as it was after denoiser.guide_epochs, where the checkpoint has that; autoguidance) | own
    (the denoiser itself; classifier-free guidance): whose prediction for no condition guidance leads away from."""
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Rescale guided outputs to the standard deviation of unguided ones: from 0 (off) to 1 (fully)."""
    count: Positive = 10000
    """Images to draw, classes and prompts in turn."""
    moment_samples: Annotated[int, Field(ge=0, le=LARGEST_INTEGER)] = 10000
    """Samples drawn first, with other noise: then each class of samples gets the mean and the covariance of its
    training latents; 0 = off. See docs/diffusion.md."""
    prompts: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    """Captions to draw, such as [a red square, a blue circle]; [] = those of prompts_file, else of the test images."""
    prompts_file: Annotated[str, Field(min_length=1)] = NO_PROMPTS
    """UTF-8 text with one caption per line. DVC depends on this path, so it is never null; an empty file = none."""
    negative_prompt: str = ""
    """Caption that guidance leads away from, for all images; empty = the null condition."""
    batch_size: Positive = 250
    """Images per batch; does not change the images."""
    precision: Precision = "float32"
    """float32 | tf32 | bf16 | fp16: format of products and convolutions, in the denoiser and the decoder. See
    docs/gpu.md."""
    figures: SampleFiguresParams = SampleFiguresParams()

    @property
    def first_prompt(self) -> tuple[str, object]:
        """Name and value of the first setting that gives a prompt; an empty name = none does."""
        default = SampleParams.model_fields
        names = ("prompts", "prompts_file", "negative_prompt")
        given = [(name, getattr(self, name)) for name in names if getattr(self, name) != default[name].default]
        return given[0] if given else ("", None)
