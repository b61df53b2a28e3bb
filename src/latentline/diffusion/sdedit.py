"""SDEdit (Meng et al., arXiv 2108.01073, section 3): noise data up to t, then denoise them."""

from torch import Tensor

from latentline.diffusion.path import add_noise_at
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Sampler
from latentline.diffusion.time_grid import time_grid


def sdedit(sampler: Sampler, model: DenoiserModel, z0: Tensor, noise: Tensor, t: float, steps: int) -> Tensor:
    """Return samples (B, ...) of the model near ``z0``.

    Args:
        sampler: goes from t to 0.
        model: the network, conditioned on the target.
        z0: (B, ...).
        noise: standard normal (B, ...).
        t: in (0, 1). The higher, the more the result follows the condition, and the less it keeps of ``z0``.
        steps: of the sampler, even in t.
    """
    return sampler(model, add_noise_at(model.path, z0, noise, t), t * time_grid(steps))
