"""Draw latents: the same image for the same (seed, index), whatever the batch size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.labels import LabelTable
from latentline.core.seeds import start_noise
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.denoisers.load import Denoiser
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, NoiseFn, Sampler
from latentline.runtime.compute import channels_last


@dataclass(frozen=True)
class SamplingConfig:
    """How latents are drawn."""

    sampler: Callable[[NoiseFn], Sampler]  # its knobs are filled in; a deterministic one has no use for the noise
    times: Tensor  # (K + 1,)
    guidance: Guidance


@torch.no_grad()
def draw_latents(
    denoiser: Denoiser,
    plan: SamplingConfig,
    seed: int,
    name: str,
    indices: Tensor,
    labels: LabelTable,
    callback: Callback | None = None,
) -> Tensor:
    """Standardised latents (B, *latent_shape), on the denoiser's device.

    Args:
        denoiser: the network and what it was trained for.
        plan: sampler, grid, guidance.
        seed: with ``name`` and an image's index, all that its noise depends on.
        name: of the series of images.
        indices: (B,) of the images.
        labels: of B images, what they are conditioned on.
        callback: sees the state at each grid time.
    """
    noise = start_noise(seed, name, indices, denoiser.latent_shape).to(denoiser.device)

    def noise_fn(step: int) -> Tensor:
        return start_noise(seed, f"{name}/step {step}", indices, denoiser.latent_shape).to(noise)

    return plan.sampler(noise_fn)(
        conditioned_model(denoiser, labels, plan.guidance), channels_last(noise), plan.times, callback
    )


def conditioned_model(denoiser: Denoiser, labels: LabelTable, guidance: Guidance) -> DenoiserModel:
    """Return the denoiser as samplers take it, conditioned on the ``labels`` of B images."""
    condition = denoiser.conditioning.encode(labels).to(denoiser.device)
    return guided_model(denoiser.network, denoiser.process, condition, guidance)
