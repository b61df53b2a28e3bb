"""Bring edited latents back to where the data are, by the denoiser."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.labels import LabelTable
from latentline.core.seeds import start_noise
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import conditioned_model
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.sdedit import sdedit
from latentline.runtime.compute import channels_last

_BATCH = 250  # latents at a time; has no influence on them


@dataclass(frozen=True)
class Renoiser:
    """A denoiser, and how far up and how back.

    Args:
        denoiser: of these latents.
        t: see :func:`sdedit`.
        steps: of DPM-Solver++, one evaluation each.
        guidance_scale: 1 = off.
        seed: of the noise.
    """

    denoiser: Denoiser
    t: float
    steps: int
    guidance_scale: float
    seed: int

    @torch.no_grad()
    def __call__(self, z0: Tensor, labels: LabelTable, numbers: Tensor) -> Tensor:
        """Standardised latents (N, *latent_shape), conditioned on ``labels`` -> others on the CPU; equal ``numbers`` (N,) mean equal noise."""
        device, guidance = self.denoiser.device, Guidance(self.guidance_scale)
        parts = []
        for rows in torch.arange(len(z0)).split(_BATCH):
            noise = start_noise(self.seed, "renoise", numbers[rows], self.denoiser.latent_shape)
            model = conditioned_model(self.denoiser, labels[rows], guidance)
            clean, noise = (channels_last(part.to(device)) for part in (z0[rows], noise))
            parts.append(sdedit(dpmpp_2m, model, clean, noise, self.t, self.steps).cpu())
        return torch.cat(parts)
