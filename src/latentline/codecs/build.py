"""Name -> codec."""

from typing import Any

from latentline.codecs.ae import AE
from latentline.codecs.base import Codec
from latentline.codecs.identity import Identity
from latentline.codecs.vae import VAE

_KINDS: dict[str, type[Codec]] = {"identity": Identity, "ae": AE, "vae": VAE}


def build_codec(name: str, **constructor: Any) -> Codec:
    """A new codec ``name`` (``autoencoder.name``) from its constructor's arguments."""
    return _KINDS[name](**constructor)
