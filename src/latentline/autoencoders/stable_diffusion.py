"""The encoder and decoder of Stable Diffusion's first stage (Rombach et al., arXiv 2112.10752; Esser et al., arXiv 2012.09841).

Level 0 works at the image's full size and every further level at half the size of the one before it, so that four levels shrink
256x256 to 32x32. The layers stand in the order of diffusers' ``AutoencoderKL``, to which ``codecs/exchange.py`` maps them.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from latentline.autoencoders.block_config import CoderStyle, pad_to_multiple
from latentline.nn.blocks import conv3x3


class PaddedDownsample(nn.Module):
    """3x3 convolution of stride 2 after one row and one column of zeros, at the bottom and the right only: even sizes are halved exactly."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """X (B, C, H, W), H and W even -> (B, C, H / 2, W / 2)."""
        padded = F.pad(x, (0, 1, 0, 1))  # (B, C, H + 1, W + 1)
        return self.conv(padded)  # (B, C, H / 2, W / 2)


class NearestUpsample(nn.Module):
    """Each position four times, then a 3x3 convolution, which smooths the steps between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) -> (B, C, 2H, 2W)."""
        doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")  # (B, C, 2H, 2W)
        return self.conv(doubled)


class StableDiffusionEncoder(nn.Module):
    """Images -> ``outputs`` channels at 1 / 2^(levels - 1) of their sides.

    Args:
        image_channels: C of the images.
        outputs: channels of the result.
        channels: width of each level, from the image down.
        blocks: residual blocks of each level.
        style: normalisation and attention.
    """

    def __init__(self, image_channels: int, outputs: int, channels: Sequence[int], blocks: Sequence[int], style: CoderStyle) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv3x3(image_channels, channels[0])]  # (B, channels[0], H, W)
        width_in, last = channels[0], channels[-1]
        for level, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            layers += style.level(level, width_in, width, count)  # (B, width, H / 2^level, W / 2^level)
            if level < len(channels) - 1:
                layers.append(PaddedDownsample(width))  # (B, width, H / 2^(level + 1), W / 2^(level + 1))
            width_in = width
        layers += _middle(last, style)
        layers += [style.norm(last), nn.SiLU(), conv3x3(last, outputs)]  # (B, outputs, h, w)
        layers.append(nn.Conv2d(outputs, outputs, kernel_size=1))  # "quant" convolution: mixes the outputs at each position
        self.layers = nn.Sequential(*layers)
        self.factor = 2 ** (len(channels) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) -> (B, outputs, ceil(H / factor), ceil(W / factor)); edges are repeated to fill the last position."""
        return self.layers(pad_to_multiple(x, self.factor))


class StableDiffusionDecoder(nn.Module):
    """The mirror of :class:`StableDiffusionEncoder`: latent maps -> images.

    Args:
        image_shape: (C, H, W) of the images.
        latent_channels: channels of the latent map.
        channels: width of each level, from the image down (the last is the first to work).
        blocks: residual blocks of each level.
        style: normalisation and attention.
    """

    def __init__(self, image_shape: Sequence[int], latent_channels: int, channels: Sequence[int], blocks: Sequence[int], style: CoderStyle) -> None:
        super().__init__()
        image_channels, self.height, self.width = image_shape
        width_in = channels[-1]
        layers: list[nn.Module] = [nn.Conv2d(latent_channels, latent_channels, kernel_size=1)]  # "post-quant" convolution
        layers.append(conv3x3(latent_channels, width_in))  # (B, channels[-1], h, w)
        layers += _middle(width_in, style)
        for level in reversed(range(len(channels))):
            layers += style.level(level, width_in, channels[level], blocks[level])  # (B, channels[level], H / 2^level, W / 2^level)
            width_in = channels[level]
            if level > 0:
                layers.append(NearestUpsample(width_in))  # (B, channels[level], H / 2^(level - 1), W / 2^(level - 1))
        layers += [style.norm(width_in), nn.SiLU(), conv3x3(width_in, image_channels)]  # (B, C, H, W), but for the padding
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Z (B, latent_channels, h, w) -> (B, C, H, W), cropped to the image's size."""
        return self.layers(z)[..., : self.height, : self.width]


def _middle(channels: int, style: CoderStyle) -> list[nn.Module]:
    """Residual block, attention where asked for, residual block: the only place where every position sees every other."""
    attention = [style.attention(channels)] if style.middle_attention else []
    return [style.residual(channels, channels), *attention, style.residual(channels, channels)]
