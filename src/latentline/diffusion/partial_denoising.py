"""Denoising from the middle: add noise up to some t, and go back from there, in one leap or step by step. All latents are standardised."""

from torch import Tensor

from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.path import add_noise
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.time_grid import time_grid


def noised(model: DenoiserModel, z0: Tensor, noise: Tensor, t: float) -> Tensor:
    """z_t (B, ...) of z0 and standard normal noise (B, ...), on the model's path."""
    return add_noise(z0, noise, model.path(z0.new_full((len(z0),), t)))


def estimate(model: DenoiserModel, z_t: Tensor, t: float) -> Tensor:
    """The mean (B, ...) of all z0 that could have become z_t (B, ...), as the network sees it: one evaluation."""
    return model.predict_at(z_t, t).z0


def denoise(model: DenoiserModel, z_t: Tensor, t: float, steps: int) -> Tensor:
    """One z0 (B, ...) that could have become z_t (B, ...), t in (0, 1]: ``steps`` even steps of DPM-Solver++, one evaluation each."""
    return dpmpp_2m(model, z_t, t * time_grid(steps))
