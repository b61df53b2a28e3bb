"""Settings of sampling, and the sampler that they give for one denoiser.

Stage ``sample``, the explorer and the exports share them.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from functools import partial

from torch import Tensor

from latentline.core.errors import UserError
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import SamplingConfig
from latentline.diffusion.flow_map import FlowMap
from latentline.diffusion.path import NoisePath
from latentline.diffusion.process import Process
from latentline.diffusion.time_grid import build_time_grid
from latentline.samplers.ddpm import Variance
from latentline.samplers.registry import SamplerOptions, build_sampler, require_serves


@dataclass(frozen=True)
class SamplingSettings:
    """The settings of section ``sample`` that one sample depends on; stages/sample/params.py describes each."""

    sampler: str = "dpmpp_2m"
    steps: int = 16
    time_grid: str = "uniform"
    time_shift: float = 1.0
    eta: float = 0.0
    variance: Variance = "posterior"
    sigma_scale: float = 1.0
    diffusion: float = 0.5
    guidance_scale: float = 1.0
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    guidance_rescale: float = 0.0
    guide: str = "own"
    negative_prompt: str = ""

    @classmethod
    def of(cls, section: object) -> "SamplingSettings":
        """Return the settings in section ``sample`` of params.yaml."""
        return cls(**{field.name: getattr(section, field.name) for field in fields(cls)})

    @property
    def options(self) -> SamplerOptions:
        """The options of all samplers."""
        return SamplerOptions(self.eta, self.variance, self.sigma_scale, self.diffusion)

    def times(self, path: NoisePath) -> Tensor:
        """Return the time grid (K + 1,) for a denoiser of this path."""
        return build_time_grid(self.time_grid, self.steps, path, self.time_shift)

    def config(self, denoiser: Denoiser, section: str = "") -> SamplingConfig:
        """Return sampler, grid and guidance.

        Args:
            denoiser: to sample with.
            section: ``sample.`` where messages are about params.yaml.

        Raises:
            UserError: the sampler cannot serve the denoiser's process or does not have this guidance, the denoiser
                takes no captions to guide away from, or one value has no standard deviation to rescale.
        """
        process, conditioning = denoiser.process, denoiser.conditioning
        require_serves(self.sampler, process.path.name, process.prediction, averages=process.flow_map is not None)
        scale = conditioning.guidance(self.guidance_scale, f"{section}guidance_scale")
        if self.guidance_rescale and scale != 1 and math.prod(denoiser.latent_shape) == 1:
            raise UserError(
                f"{section}guidance_rescale ({self.guidance_rescale}) must be 0 for latents of a single value, which "
                "has no standard deviation; set it to 0"
            )
        if self.sampler == "flow_map" and process.flow_map is not None:
            self.require_learnt(process.flow_map, section, guided=conditioning.is_conditional)
        negative = None
        if self.negative_prompt:
            if conditioning.tokenizer is None:
                raise UserError(
                    f"{section}negative_prompt ({self.negative_prompt!r:.40}) must be empty for a denoiser that is not "
                    "conditioned on captions; leave it out"
                )
            negative = conditioning.tokenizer.encode([self.negative_prompt], "prompts")
        return SamplingConfig(
            partial(build_sampler, self.sampler, self.options),
            self.times(process.path),
            Guidance(scale, self.guidance_start, self.guidance_end, self.guidance_rescale, early=self.guide == "early"),
            negative,
        )

    def require_learnt(self, learnt: FlowMap, section: str = "", *, guided: bool = True) -> None:
        """Refuse steps and guidance that sampler ``flow_map`` cannot have, since its network has not learnt them.

        Args:
            learnt: by the network.
            section: ``sample.`` where messages are about params.yaml.
            guided: False where the denoiser is unconditional, so that guidance has no effect.

        Raises:
            UserError: one line with the reason and the remedy.
        """
        if self.steps not in (1, 2):
            raise UserError(f"{section}steps ({self.steps}) must be 1 or 2 with sampler flow_map; set it so")
        if self.time_grid != "uniform":
            raise UserError(f"{section}time_grid ({self.time_grid}) must be uniform with sampler flow_map; set it so")
        guidance = {"guidance_rescale": 0.0, "negative_prompt": "", **asdict(learnt)}
        for name, expected in guidance.items() if guided else ():
            if (value := getattr(self, name)) != expected:
                remedy = f", or denoiser.flow_map.{name} for another training" if hasattr(learnt, name) else ""
                raise UserError(
                    f"{section}{name} ({value}) must be {expected!r} with sampler flow_map, whose network has learnt "
                    f"its guidance; set it so{remedy}"
                )

    def with_learnt_guidance(self, process: Process) -> "SamplingSettings":
        """Return the settings with the guidance that a network has learnt, if sampler ``flow_map`` draws."""
        if self.sampler != "flow_map" or process.flow_map is None:
            return self
        return replace(self, **asdict(process.flow_map), guidance_rescale=0.0)
