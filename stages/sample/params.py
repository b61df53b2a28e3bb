"""Section ``sample``: how images are drawn."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.errors import UserError
from latentline.core.params import NO_PROMPTS, Positive, Scale, Section, Steps
from latentline.diffusion.mean_flow import MeanFlow
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

    sampler: Literal["euler", "heun", "dpmpp_2m", "unipc", "ddim", "ddpm", "flow_sde", "mean_flow"] = "unipc"
    """euler | heun (2 network evaluations per step) | dpmpp_2m | unipc | ddim | ddpm | flow_sde | mean_flow
    (1 step is enough; only with denoiser.objective mean_flow); see docs/diffusion.md."""
    steps: Steps = 8
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
    guidance_scale: Scale = 2.8
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

    def require_learnt(self, field: MeanFlow, scale: float) -> None:
        """Refuse guidance that sampler ``mean_flow`` cannot have, since its network guides itself.

        Args:
            field: whose averages the network has learnt.
            scale: of guidance; 1 where the denoiser is unconditional.

        Raises:
            UserError: one line with the reason and the remedy.
        """
        if not (scale == 0 or 1 <= scale <= field.max_guidance_scale):
            raise UserError(
                f"sample.guidance_scale ({scale}) must be 0 or from 1 to {field.max_guidance_scale:g} with sampler "
                "mean_flow; change it, or denoiser.mean_flow.max_guidance_scale"
            )
        for name, value, learnt in (
            ("guidance_rescale", self.guidance_rescale, 0.0),
            ("negative_prompt", self.negative_prompt, ""),
            ("guidance_start", self.guidance_start, field.guidance_start),
            ("guidance_end", self.guidance_end, field.guidance_end),
        ):
            if value != learnt and scale not in (0, 1):
                remedy = f", or denoiser.mean_flow.{name}" if name in ("guidance_start", "guidance_end") else ""
                raise UserError(
                    f"sample.{name} ({value}) must be {learnt!r} with sampler mean_flow, whose network has learnt its "
                    f"guidance; set it so{remedy}"
                )
