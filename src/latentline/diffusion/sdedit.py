"""Noise data up to t and denoise it: what is finer than that noise is drawn anew (SDEdit, Meng et al., arXiv 2108.01073, section 3)."""

from torch import Tensor

from latentline.diffusion.path import add_noise
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Sampler
from latentline.diffusion.time_grid import time_grid


def sdedit(sampler: Sampler, model: DenoiserModel, z0: Tensor, noise: Tensor, t: float, steps: int) -> Tensor:
    """Data (B, ...) near ``z0``, as the model knows data.

    Args:
        sampler: from t to 0.
        model: the network, told what is wanted.
        z0: (B, ...).
        noise: standard normal (B, ...).
        t: in (0, 1): the higher, the more the model makes of what it is told, and the less stays of ``z0``.
        steps: of the sampler, even in t.
    """
    z_t = add_noise(z0, noise, model.path(z0.new_full((len(z0),), t)))
    return sampler(model, z_t, t * time_grid(steps))
