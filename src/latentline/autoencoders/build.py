"""Name -> codec."""

from collections.abc import Sequence
from typing import Any

from latentline.autoencoders.ae import AE
from latentline.autoencoders.base import Codec
from latentline.autoencoders.diffae import DiffAE
from latentline.autoencoders.identity import Identity
from latentline.autoencoders.vae import VAE

_KINDS: dict[str, type[Codec]] = {"identity": Identity, "ae": AE, "vae": VAE}


def build_codec(name: str, *, image_shape: Sequence[int], **constructor: Any) -> Codec:
    """A new codec ``name`` (``autoencoder.name``) from its constructor's arguments; ``inner`` of a ``diffae`` is this function's, less the shape."""
    if name == "diffae":
        inner = build_codec(image_shape=image_shape, **constructor.pop("inner"))
        return DiffAE(inner, image_shape=image_shape, **constructor)
    return _KINDS[name](image_shape=image_shape, **constructor)
