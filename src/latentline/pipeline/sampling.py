"""Draw latents: the same image for the same (seed, index), whatever the batch size."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from latentline.common.seeds import generator
from latentline.diffusion.guidance import guided_velocity
from latentline.runtime.compute import fast_layout


def start_noise(seed: int, name: str, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (len(indices), *shape), row i from (seed, name, indices[i]) alone."""
    return torch.stack([torch.randn(shape, generator=generator(seed, name, index)) for index in indices.tolist()])


@torch.no_grad()
def draw_latents(
    network: nn.Module,
    sampler: Callable[..., Tensor],
    noise: Tensor,
    condition: Tensor,
    *,
    times: Tensor,
    guidance_scale: float,
    on_step: Callable[[float, Tensor], None] | None = None,
) -> Tensor:
    """Integrate from ``noise`` (B, *latent_shape) at times[0] to standardised latents (B, *latent_shape) at times[-1].

    Args:
        network: velocity network on the device of ``noise``.
        sampler: one of ``diffusion.samplers``.
        noise: the start.
        condition: (B, F).
        times: (K + 1,).
        guidance_scale: 1 = off.
        on_step: sees the state at each grid time.
    """
    velocity = guided_velocity(network, condition, guidance_scale)
    return sampler(velocity, fast_layout(noise), times, on_step)
