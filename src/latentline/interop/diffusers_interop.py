"""Conversion of weights between :class:`VAE` and diffusers' ``AutoencoderKL``, which are the same network."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from latentline.autoencoders.stable_diffusion import NearestUpsample, PaddedDownsample
from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from latentline.nn.blocks import ResBlock, SelfAttention2d

# Our name within a layer -> theirs; several names = our tensor is theirs, concatenated
_INNER: dict[type[nn.Module], dict[str, list[str]]] = {
    ResBlock: {
        "norm_in": ["norm1"],
        "conv_in": ["conv1"],
        "norm_out": ["norm2"],
        "conv_out": ["conv2"],
        "skip": ["conv_shortcut"],
    },
    SelfAttention2d: {"norm": ["group_norm"], "qkv": ["to_q", "to_k", "to_v"], "out": ["to_out.0"]},
    PaddedDownsample: {"conv": ["conv"]},
    NearestUpsample: {"conv": ["conv"]},
    nn.Conv2d: {"": [""]},
    nn.GroupNorm: {"": [""]},
}
_OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # names of attention in older files
SETTINGS = {  # entry of config.json -> our setting
    "in_channels": "data.channels",
    "out_channels": "data.channels",
    "latent_channels": "autoencoder.latent_channels",
    "block_out_channels": "autoencoder.encoder_channels",
    "layers_per_block": "autoencoder.encoder_blocks",
    "norm_num_groups": "autoencoder.groups",
    "down_block_types": "autoencoder.attention_levels",
    "up_block_types": "autoencoder.attention_levels",
    "mid_block_add_attention": "autoencoder.middle_attention",
}


def diffusers_config(constructor: dict[str, Any]) -> dict[str, Any]:
    """Return the ``config.json`` of the same network, without its scaling, from the arguments of a :class:`VAE`.

    Raises:
        UserError: diffusers has no such network.
    """
    channels, blocks = list(constructor["encoder_channels"]), list(constructor["encoder_blocks"])
    required = {
        "network": "stable_diffusion",
        "latent_dim": None,
        "decoder_channels": channels,
        "encoder_blocks": [blocks[0]] * len(blocks),
        "decoder_blocks": [blocks[0] + 1] * len(blocks),
        "attention_heads": 1,
        "causal_attention": False,
    }
    for setting, value in required.items():
        if constructor[setting] != value:
            raise UserError(
                f"autoencoder.{setting} ({constructor[setting]}) must be {value}, as diffusers' AutoencoderKL has it; "
                "change it and train again"
            )
    attention = ["Attn" if level in constructor["attention_levels"] else "" for level in range(len(channels))]
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": constructor["image_shape"][0],
        "out_channels": constructor["image_shape"][0],
        "latent_channels": constructor["latent_channels"],
        "block_out_channels": channels,
        "layers_per_block": blocks[0],
        "norm_num_groups": constructor["groups"],
        "down_block_types": [f"{kind}DownEncoderBlock2D" for kind in attention],
        "up_block_types": [f"{kind}UpDecoderBlock2D" for kind in reversed(attention)],
        "mid_block_add_attention": constructor["middle_attention"],
        "act_fn": "silu",
        "use_quant_conv": True,
        "use_post_quant_conv": True,
    }


def to_diffusers(vae: VAE, constructor: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights under diffusers' names. 1x1 convolutions of attention become matrices."""
    own = vae.state_dict()
    theirs: dict[str, Tensor] = {}
    for name, others in _names(vae, constructor):
        value = own[name]
        if ".attentions." in others[0] and value.ndim > 1:
            value = value.flatten(1)  # (out, in, 1, 1) -> (out, in)
        theirs |= {other: part.clone() for other, part in zip(others, value.chunk(len(others)), strict=True)}
    return theirs


def from_diffusers(vae: VAE, constructor: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Copy diffusers' weights into ``vae``.

    Raises:
        ValueError: a tensor is missing, left over or of another size; nothing is copied.
    """
    given = {_newer(name): value for name, value in tensors.items()}
    own = vae.state_dict()
    copied = {}
    for name, others in _names(vae, constructor):
        copied[name] = torch.cat([_part(given, other, own[name], len(others)) for other in others])
    if given:
        raise ValueError(f"{min(given)} belongs to no layer of this network")
    vae.load_state_dict(copied)


def _part(given: dict[str, Tensor], name: str, like: Tensor, parts: int) -> Tensor:
    """Take tensor ``name`` out of ``given``, as one of ``parts`` equal parts of ``like``.

    A matrix becomes a 1x1 convolution: (out, in) -> (out, in, 1, 1).
    """
    if name not in given:
        raise ValueError(f"{name} is missing")
    value = given.pop(name)
    shaped = value.reshape(*value.shape, *[1] * (like.ndim - value.ndim))
    expected = (len(like) // parts, *like.shape[1:])
    if shaped.shape != expected:
        raise ValueError(f"the shape of {name}, {tuple(shaped.shape)}, must be {expected}")
    return shaped


def _names(vae: VAE, constructor: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield our name and their names of every tensor; the order of the layers is the same on both sides."""
    for half, prefixes in (("encoder", _encoder_prefixes(constructor)), ("decoder", _decoder_prefixes(constructor))):
        layers = cast(nn.Sequential, vae.get_submodule(f"{half}.layers"))
        with_weights = [(index, layer) for index, layer in enumerate(layers) if list(layer.parameters())]
        for (index, layer), prefix in zip(with_weights, prefixes, strict=True):
            for own in layer.state_dict():
                inner, _, leaf = own.rpartition(".")
                yield (
                    f"{half}.layers.{index}.{own}",
                    [".".join(filter(None, (prefix, other, leaf))) for other in _INNER[type(layer)][inner]],
                )


def _encoder_prefixes(constructor: dict[str, Any]) -> list[str]:
    """Return their name of each layer of the encoder, in our order."""
    names = ["encoder.conv_in"]
    for level, count in enumerate(constructor["encoder_blocks"]):
        block = f"encoder.down_blocks.{level}"
        names += _level_prefixes(block, count, level in constructor["attention_levels"])
        names += [f"{block}.downsamplers.0"] if level < len(constructor["encoder_blocks"]) - 1 else []
    return [
        *names,
        *_middle_prefixes("encoder", constructor),
        "encoder.conv_norm_out",
        "encoder.conv_out",
        "quant_conv",
    ]


def _decoder_prefixes(constructor: dict[str, Any]) -> list[str]:
    """Return their name of each layer of the decoder, in our order; they count its levels from the latent up."""
    names = ["post_quant_conv", "decoder.conv_in", *_middle_prefixes("decoder", constructor)]
    for position, (level, count) in enumerate(reversed(list(enumerate(constructor["decoder_blocks"])))):
        block = f"decoder.up_blocks.{position}"
        names += _level_prefixes(block, count, level in constructor["attention_levels"])
        names += [f"{block}.upsamplers.0"] if level > 0 else []
    return [*names, "decoder.conv_norm_out", "decoder.conv_out"]


def _level_prefixes(block: str, count: int, attention: bool) -> list[str]:
    kinds = ("resnets", "attentions") if attention else ("resnets",)
    return [f"{block}.{kind}.{index}" for index in range(count) for kind in kinds]


def _middle_prefixes(half: str, constructor: dict[str, Any]) -> list[str]:
    attention = [f"{half}.mid_block.attentions.0"] if constructor["middle_attention"] else []
    return [f"{half}.mid_block.resnets.0", *attention, f"{half}.mid_block.resnets.1"]


def _newer(name: str) -> str:
    return ".".join(_OLDER.get(part, part) for part in name.split(".")) if ".attentions." in name else name
