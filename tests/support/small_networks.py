"""Every denoiser and autoencoder, as small as it can be."""

from typing import Any

import torch
from torch import Tensor, nn

from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.build import build_autoencoder
from latentline.core.condition import Condition
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.gaussian_prior import gaussian_prior_of

IMAGE = (1, 8, 8)
MAP = (2, 4, 4)
DENOISERS: dict[str, dict[str, Any]] = {
    "unet": {"latent_shape": MAP, "channels": [8, 8], "blocks": 1, "attention_levels": [1], "patch_size": 1},
    "dit": {"latent_shape": MAP, "patch_size": 2, "width": 8, "depth": 2, "heads": 2},
    "mlp": {"latent_shape": (4,), "width": 8, "depth": 2},
}
ENCODER_DECODER: dict[str, Any] = {
    "latent_channels": 2,
    "encoder_channels": [8, 8],
    "encoder_blocks": [1, 0],
    "decoder_channels": [8, 8],
    "decoder_blocks": [1, 0],
}
AUTOENCODERS: dict[str, dict[str, Any]] = {
    "identity": {},
    "ae": ENCODER_DECODER,
    "ae of vectors": {**ENCODER_DECODER, "latent_dim": 3},
    "vae": {**ENCODER_DECODER, "kl_weight": 0.1, "kl_warmup_steps": 5},
    "vae of stable diffusion": {
        **ENCODER_DECODER, "kl_weight": 0.1, "network": "stable_diffusion", "middle_attention": True
    },
    "diffae": {
        "inner": {"name": "identity"},
        "embedding_dim": 3,
        "encoder_channels": [8, 8],
        "encoder_blocks": [1, 0],
        "channels": [8],
        "blocks": 1,
        "attention_levels": [],
        "patch_size": 2,
        "condition_width": 8,
        "path": "vp_linear",
        "prediction": "v",
        "sample_timesteps": 2,
    },
}  # fmt: skip


def awake(network: Any) -> Any:
    """Return the network without layers of zeros, behind which nothing would be compared, and with random Gaussians."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    if prior := gaussian_prior_of(network):
        for index, mean in enumerate(prior.mean):
            prior.fit(index, torch.randn(50, *mean.shape) + index)
    return network


def small_denoiser(name: str) -> tuple[nn.Module, Tensor, Tensor, Condition]:
    """Return a network, two latents, their times and their conditions."""
    network = awake(build_denoiser(name, cond_dim=3, **DENOISERS[name]))
    return network, torch.randn(2, *DENOISERS[name]["latent_shape"]), torch.rand(2), Condition(torch.eye(3)[:2])


def small_autoencoder(kind: str) -> Autoencoder:
    """Return an autoencoder of the images ``IMAGE``."""
    return awake(build_autoencoder(kind.partition(" ")[0], image_shape=IMAGE, **AUTOENCODERS[kind]))


def distance(one: Tensor, other: Tensor) -> float:
    """Return the relative distance of two tensors, on any devices."""
    return float((one.float().cpu() - other.float().cpu()).norm() / other.float().norm())
