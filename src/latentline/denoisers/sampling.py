"""Sampling of latents: the same image for the same (seed, index), whatever the batch size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.core.labels import LabelTable
from latentline.core.seeds import start_noise
from latentline.denoisers.flow_map import with_averages
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.denoisers.load import Denoiser
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, NoiseFn, Sampler
from latentline.runtime.compute import channels_last


@dataclass(frozen=True)
class SamplingConfig:
    """Sampler, time grid and guidance."""

    sampler: Callable[[NoiseFn], Sampler]  # with its options bound; a deterministic one ignores the noise
    times: Tensor  # (K + 1,)
    guidance: Guidance
    negative: Tensor | None = None  # tokens (1, L) of a caption that guidance leads away from; None = null condition


@torch.no_grad()
def draw_latents(
    denoiser: Denoiser,
    config: SamplingConfig,
    seed: int,
    name: str,
    indices: Tensor,
    labels: LabelTable,
    callback: Callback | None = None,
    tokens: Tensor | None = None,
) -> Tensor:
    """Draw standardised latents (B, *latent_shape) on the denoiser's device.

    An image's noise depends on ``seed``, ``name`` and the image's index alone.

    Args:
        denoiser: the network, its process and its conditioning.
        config: sampler, grid, guidance.
        seed: of the run.
        name: of the series of images.
        indices: (B,) of the images.
        labels: of B images, for the condition.
        callback: receives the state at each grid time.
        tokens: of B captions, for the condition: integers (B, L); None = no captions.
    """
    noise = start_noise(seed, name, indices, denoiser.latent_shape).to(denoiser.device)

    def noise_fn(step: int) -> Tensor:
        return start_noise(seed, f"{name}/step {step}", indices, denoiser.latent_shape).to(noise)

    model = conditioned_model(denoiser, labels, config.guidance, tokens, config.negative)
    return config.sampler(noise_fn)(model, channels_last(noise), config.times, callback)


def conditioned_model(
    denoiser: Denoiser,
    labels: LabelTable,
    guidance: Guidance,
    tokens: Tensor | None = None,
    negative: Tensor | None = None,
) -> DenoiserModel:
    """Return the guided denoiser, conditioned on the labels and captions of B images.

    Args:
        denoiser: the network, its process and its conditioning.
        labels: of B images.
        guidance: its settings.
        tokens: of B captions, integers (B, L); None = no captions.
        negative: of the caption that guidance leads away from, (1, L); None = the null condition.
    """
    condition = denoiser.conditioning.encode(labels, tokens).to(denoiser.device)
    away_from = None
    if negative is not None:
        shared = negative.expand(condition.size, -1)
        away_from = denoiser.conditioning.encode(labels, shared).to(denoiser.device)
    return model_under(denoiser, condition, guidance, away_from)


def model_under(
    denoiser: Denoiser, condition: Condition, guidance: Guidance, away_from: Condition | None = None
) -> DenoiserModel:
    """Return the guided denoiser, conditioned on ``condition`` of B examples, on its device.

    ``away_from``, of B examples, is what guidance leads away from; None = the null condition.
    """
    network, guide = denoiser.network, denoiser.guide_for(guidance)
    model = guided_model(network, denoiser.process, condition, guidance, away_from, guide)
    return with_averages(model, network, condition)
