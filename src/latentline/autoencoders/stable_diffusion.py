"""Encoder and decoder of Stable Diffusion's first stage (Rombach et al., arXiv 2112.10752; arXiv 2012.09841).

Level 0 works at the image's full size, and every further level at half the size of the one before. Four levels shrink
256x256 to 32x32. The layers have the order of diffusers' ``AutoencoderKL``; ``interop/diffusers_interop.py`` maps them.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from latentline.autoencoders.block_config import BlockConfig, pad_to_multiple
from latentline.nn.blocks import conv3x3


class PaddedDownsample(nn.Module):
    """3x3 convolution of stride 2 that halves even sizes exactly.

    One row and one column of zeros are added before, at the bottom and the right only.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve x (B, C, H, W), H and W even -> (B, C, H / 2, W / 2)."""
        padded = F.pad(x, (0, 1, 0, 1))  # (B, C, H + 1, W + 1)
        return self.conv(padded)  # (B, C, H / 2, W / 2)


class NearestUpsample(nn.Module):
    """Nearest-neighbour enlargement, then a 3x3 convolution, which smooths the steps between positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Double x (B, C, H, W) -> (B, C, 2H, 2W)."""
        doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")  # (B, C, 2H, 2W)
        return self.conv(doubled)


class StableDiffusionEncoder(nn.Module):
    """Encode images as ``outputs`` channels at 1 / 2^(levels - 1) of their sides.

    Args:
        image_channels: C of the images.
        outputs: channels of the result.
        channels: width of each level, from the image down.
        blocks: residual blocks of each level.
        config: normalisation and attention.
    """

    def __init__(
        self, image_channels: int, outputs: int, channels: Sequence[int], blocks: Sequence[int], config: BlockConfig
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv3x3(image_channels, channels[0])]  # (B, channels[0], H, W)
        width_in, last = channels[0], channels[-1]
        for level, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            layers += config.level(level, width_in, width, count)  # (B, width, H / 2^level, W / 2^level)
            if level < len(channels) - 1:
                layers.append(PaddedDownsample(width))  # (B, width, H / 2^(level + 1), W / 2^(level + 1))
            width_in = width
        layers += _middle(last, config)
        layers += [config.norm(last), nn.SiLU(), conv3x3(last, outputs)]  # (B, outputs, h, w)
        layers.append(nn.Conv2d(outputs, outputs, kernel_size=1))  # "quant" convolution: mixes the outputs
        self.layers = nn.Sequential(*layers)
        self.factor = 2 ** (len(channels) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode x (B, C, H, W) as (B, outputs, ceil(H / factor), ceil(W / factor)).

        Edges are repeated to fill the last position.
        """
        return self.layers(pad_to_multiple(x, self.factor))


class StableDiffusionDecoder(nn.Module):
    """Decode latent maps to images, as the mirror of :class:`StableDiffusionEncoder`.

    Args:
        image_shape: (C, H, W) of the images.
        latent_channels: channels of the latent map.
        channels: width of each level, from the image down; the last level comes first in the forward pass.
        blocks: residual blocks of each level.
        config: normalisation and attention.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_channels: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        config: BlockConfig,
    ) -> None:
        super().__init__()
        image_channels, self.height, self.width = image_shape
        width_in = channels[-1]
        # "post-quant" convolution, then (B, channels[-1], h, w)
        layers: list[nn.Module] = [nn.Conv2d(latent_channels, latent_channels, kernel_size=1)]
        layers.append(conv3x3(latent_channels, width_in))
        layers += _middle(width_in, config)
        for level in reversed(range(len(channels))):
            # (B, width_in, H / 2^level, W / 2^level) -> (B, channels[level], H / 2^level, W / 2^level)
            layers += config.level(level, width_in, channels[level], blocks[level])
            width_in = channels[level]
            if level > 0:
                layers.append(NearestUpsample(width_in))  # (B, channels[level], H / 2^(level - 1), W / 2^(level - 1))
        layers += [config.norm(width_in), nn.SiLU(), conv3x3(width_in, image_channels)]  # (B, C, H, W), with padding
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Decode z (B, latent_channels, h, w) to (B, C, H, W), cropped to the image's size."""
        return self.layers(z)[..., : self.height, : self.width]


def _middle(channels: int, config: BlockConfig) -> list[nn.Module]:
    """Return a residual block, attention if it is on, and a residual block, for the smallest map."""
    attention = [config.attention(channels)] if config.middle_attention else []
    return [config.residual(channels, channels), *attention, config.residual(channels, channels)]
