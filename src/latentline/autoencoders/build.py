"""Registry of the autoencoders: ``autoencoder.name`` -> network."""

from collections.abc import Sequence
from typing import Any

from latentline.autoencoders.ae import AE
from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.diffae import DiffAE
from latentline.autoencoders.identity import Identity
from latentline.autoencoders.vae import VAE

_KINDS: dict[str, type[Autoencoder]] = {"identity": Identity, "ae": AE, "vae": VAE}


def build_autoencoder(name: str, *, image_shape: Sequence[int], **constructor: Any) -> Autoencoder:
    """Build a new autoencoder ``name`` (``autoencoder.name``) from its constructor's arguments.

    The argument ``inner`` of a ``diffae`` holds this function's own arguments, without the shape.
    """
    if name == "diffae":
        inner = build_autoencoder(image_shape=image_shape, **constructor.pop("inner"))
        return DiffAE(inner, image_shape=image_shape, **constructor)
    return _KINDS[name](image_shape=image_shape, **constructor)
