"""The figure of denoising from the middle."""

from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.condition import Condition
from latentline.core.seeds import generator
from latentline.denoisers.load import Denoiser
from latentline.diffusion.partial_denoising import denoise, estimate, noised
from latentline.diffusion.process import conditional_model
from latentline.figures.grids import save_grid
from latentline.latents.cache import LatentStats

_TIMES = (0.2, 0.4, 0.6, 0.8, 1.0)
_STEPS = 16


@torch.no_grad()
def draw_from_the_middle(
    path: Path,
    denoiser: Denoiser,
    stats: LatentStats,
    autoencoder: TrainedAutoencoder,
    z0: Tensor,
    condition: Condition,
    seed: int,
) -> None:
    """One image per column: itself, then for t = 0.2, 0.4, ... 1 three rows: noised, the network's estimate of z0, denoised in 16 steps.

    Args:
        path: ends in ``.png``.
        denoiser: what is shown.
        stats: of the latents.
        autoencoder: decodes every panel, the first row too.
        z0: standardised latents (N, *latent_shape).
        condition: of their images.
        seed: of the noise; each image has the same at every t.
    """
    model = conditional_model(denoiser.network, denoiser.process, condition)
    noise = torch.randn(z0.shape, generator=generator(seed, "from the middle")).to(z0)
    rows = [z0]
    for t in _TIMES:
        z_t = noised(model, z0, noise, t)
        rows += [z_t, estimate(model, z_t, t), denoise(model, z_t, t, _STEPS)]
    save_grid(path, autoencoder.decode(stats.normalizer.restore(torch.cat(rows))), columns=len(z0), scale=2)
