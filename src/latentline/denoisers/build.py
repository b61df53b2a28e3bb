"""Build a denoiser network by its name."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from latentline.core.errors import UserError
from latentline.denoisers.dit import DiT
from latentline.denoisers.gaussian_prior import GaussianPrior
from latentline.denoisers.mlp import LatentMLP
from latentline.denoisers.text_conditioned import TextConditioned
from latentline.nn.text_encoder import StateProjection, TextEncoder
from latentline.nn.unet import UNet

_OF_MAPS: dict[str, type[nn.Module]] = {"unet": UNet, "dit": DiT}  # latents (C, H, W)
_OF_VECTORS: dict[str, type[nn.Module]] = {"mlp": LatentMLP}  # latents (D,)


def build_denoiser(
    name: str, *, text: dict[str, Any] | None = None, gaussian: dict[str, Any] | None = None, **constructor: Any
) -> nn.Module:
    """Return a new denoiser ``name`` (``denoiser.name``).

    Args:
        name: of the network.
        text: arguments of the text encoder before it, with ``state_width`` those of the projection of a pretrained
            encoder's states; None = the network is not conditioned on captions.
        gaussian: arguments of :class:`GaussianPrior`, which the network corrects; None = it predicts alone.
        constructor: arguments of the network.

    Raises:
        UserError: the network takes latents of another kind than ``latent_shape``.
    """
    shape = tuple(constructor["latent_shape"])
    fitting = _OF_VECTORS if len(shape) == 1 else _OF_MAPS
    if name not in fitting:
        expected = " or ".join(fitting)
        raise UserError(f"denoiser.name ({name}) must be {expected} for latents of shape {shape}; set it to {expected}")
    network = fitting[name](**constructor, **({} if text is None else {"text_dim": text["width"]}))
    if gaussian is not None:
        network = GaussianPrior(network, shape, **gaussian)
    if text is None:
        return network
    encoder = StateProjection if "state_width" in text else TextEncoder
    return TextConditioned(encoder(**text), network)


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Return whether a denoiser's weight is a matrix or a kernel between the first and the last layer.

    Embeddings, of times, conditions, tokens or positions, are first layers.
    """
    first_or_last = ("stem.", "out.", "embedding.", "layers.0.", "text.embedding.", "text.positions")
    return parameter.ndim >= 2 and not name.rpartition("network.")[2].startswith(first_or_last)


def graph_modules(network: nn.Module) -> Sequence[nn.Module]:
    """Return the modules that become one compiled graph each: a DiT's equal blocks, else the whole network.

    Equal blocks share one graph, which takes as long to compile as one block.
    """
    if isinstance(network, TextConditioned):
        return [network.text, *graph_modules(network.network)]
    if isinstance(network, GaussianPrior):
        return graph_modules(network.network)
    return list(network.blocks) if isinstance(network, DiT) else [network]
