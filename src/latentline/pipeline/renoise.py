"""Bring latents back to where the data are: noise them up to t, denoise them (SDEdit, Meng et al., arXiv 2108.01073)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.common.seeds import start_noise
from latentline.diffusion.guidance import Guidance
from latentline.diffusion.path import add_noise
from latentline.diffusion.samplers.dpmpp_2m import dpmpp_2m
from latentline.diffusion.time_grid import time_grid
from latentline.pipeline.denoiser import Denoiser
from latentline.pipeline.sampling import told_model
from latentline.runtime.compute import fast_layout

_BATCH = 250  # latents at a time; has no influence on them


@dataclass(frozen=True)
class Renoiser:
    """A denoiser, and how far up and how back.

    Args:
        denoiser: of these latents.
        t: in (0, 1): the higher, the more the denoiser makes of what it is told, and the less stays of the latent.
        steps: of DPM-Solver++ from t to 0, one evaluation each.
        guidance_scale: 1 = off.
        seed: of the noise.
    """

    denoiser: Denoiser
    t: float
    steps: int
    guidance_scale: float
    seed: int

    @torch.no_grad()
    def __call__(self, z0: Tensor, values: Tensor, numbers: Tensor) -> Tensor:
        """Standardised latents (N, *latent_shape), told ``values`` (N, A) -> others on the CPU; equal ``numbers`` (N,) mean equal noise."""
        device, guidance = self.denoiser.device, Guidance(self.guidance_scale)
        times = self.t * time_grid(self.steps)  # (steps + 1,), from t to 0
        parts = []
        for rows in torch.arange(len(z0)).split(_BATCH):
            noise = start_noise(self.seed, "renoise", numbers[rows], self.denoiser.latent_shape)
            t = torch.full((len(rows),), self.t)
            z_t = add_noise(z0[rows], noise, self.denoiser.process.path(t)).to(device)
            parts.append(dpmpp_2m(told_model(self.denoiser, values[rows], guidance), fast_layout(z_t), times).cpu())
        return torch.cat(parts)
