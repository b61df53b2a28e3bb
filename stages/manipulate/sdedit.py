"""SDEdit of edited latents by the denoiser (Meng et al., arXiv 2108.01073)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.finite import require_finite
from latentline.core.labels import LabelTable
from latentline.core.seeds import start_noise
from latentline.denoisers.guidance import Guidance
from latentline.denoisers.load import Denoiser
from latentline.denoisers.sampling import conditioned_model
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.sdedit import sdedit
from latentline.runtime.compute import channels_last

_BATCH = 250  # latents at a time; does not change the result


@dataclass(frozen=True)
class SDEdit:
    """Noise latents up to t, and denoise them conditioned on labels.

    Args:
        denoiser: of these latents.
        t: in (0, 1), see :func:`latentline.diffusion.sdedit.sdedit`.
        steps: of DPM-Solver++, one network evaluation each.
        guidance_scale: 1 = off.
        seed: of the noise.
    """

    denoiser: Denoiser
    t: float
    steps: int
    guidance_scale: float
    seed: int

    @torch.no_grad()
    def __call__(self, z0: Tensor, labels: LabelTable, indices: Tensor) -> Tensor:
        """Edit standardised latents.

        Args:
            z0: (N, *latent_shape).
            labels: of N images; the denoiser is conditioned on them.
            indices: (N,) of the images; equal indices mean equal noise.

        Returns:
            (N, *latent_shape) on the CPU.

        Raises:
            UserError: a result is NaN or infinite.
        """
        setting = f"manipulate.renoise_guidance_scale ({self.guidance_scale})"
        device, guidance = self.denoiser.device, Guidance(self.guidance_scale)
        batches = []
        for rows in torch.arange(len(z0)).split(_BATCH):
            noise = start_noise(self.seed, "renoise", indices[rows], self.denoiser.latent_shape)
            model = conditioned_model(self.denoiser, labels[rows], guidance)
            start, noise = (channels_last(tensor.to(device)) for tensor in (z0[rows], noise))
            batches.append(sdedit(dpmpp_2m, model, start, noise, self.t, self.steps).cpu())
        return require_finite(torch.cat(batches), setting, "lower it, or the manipulate.strengths")
