"""Denoising from any t: add noise up to t, and go back in one evaluation or step by step. Latents are standardised."""

from torch import Tensor

from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.time_grid import time_grid


def estimate(model: DenoiserModel, z_t: Tensor, t: float) -> Tensor:
    """Return the network's estimate of E[z0 | z_t] (B, ...) for z_t (B, ...): one evaluation."""
    return model.predict_at(z_t, t).z0


def denoise(model: DenoiserModel, z_t: Tensor, t: float, steps: int) -> Tensor:
    """Return a sample of z0 (B, ...) given z_t (B, ...), t in (0, 1].

    It takes ``steps`` even steps of DPM-Solver++ from t to 0, one evaluation each.
    """
    return dpmpp_2m(model, z_t, t * time_grid(steps))
