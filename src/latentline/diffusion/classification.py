"""Which condition explains an image best: a conditional denoiser as a classifier (Li et al., arXiv 2303.16203)."""

import torch
from torch import Tensor

from latentline.diffusion.path import add_noise
from latentline.diffusion.process import Network, Process, conditional_model


@torch.no_grad()
def denoising_errors(network: Network, process: Process, z0: Tensor, conditions: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the noise estimate under each condition (arXiv 2303.16203, section 3.2): minus an ELBO, up to its weights.

    All conditions see the same (t, noise) pairs, which takes out most of the variance of their differences (section 3.3 there).

    Args:
        network: predicts what ``process`` says.
        process: path and prediction.
        z0: standardised latents (B, ...).
        conditions: (K, F), the candidates.
        t: (M,) times.
        noise: (M, ...) standard normal, one per time and the same for all images.

    Returns:
        (B, K), in units of noise variance; the smallest of a row is the class, and softmax(-errors * D) weighs all, D values per image.
    """
    errors = z0.new_zeros(len(z0), len(conditions))
    for time, draw in zip(t.tolist(), noise, strict=True):
        z_t = add_noise(z0, draw.expand_as(z0), process.path(z0.new_full((len(z0),), time)))
        for index, condition in enumerate(conditions):
            model = conditional_model(network, process, condition.expand(len(z0), -1))
            errors[:, index] += (model.at(z_t, time).noise - draw).square().flatten(1).mean(dim=1)
    return errors / len(t)
