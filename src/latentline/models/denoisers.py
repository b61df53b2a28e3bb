"""Name -> denoiser network."""

from typing import Any

from torch import nn

from latentline.models.unet import UNet

_KINDS: dict[str, type[nn.Module]] = {"unet": UNet}


def build_denoiser(name: str, **constructor: Any) -> nn.Module:
    """A new denoiser ``name`` (``denoiser.name``) from its constructor's arguments."""
    return _KINDS[name](**constructor)
