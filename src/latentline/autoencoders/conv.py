"""Fast convolutional encoder and decoder between images and latent maps.

Pixels are folded into channels at once (pixel unshuffle), so no convolution runs at full size. On small images, full
size costs most of the time and improves least. Level i works at 1 / 2^(i + 1) of the image's sides.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from latentline.autoencoders.block_config import BlockConfig, pad_to_multiple
from latentline.nn.blocks import conv3x3


class ConvEncoder(nn.Module):
    """Encode images as ``outputs`` channels at 1 / 2^levels of their sides.

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
        layers: list[nn.Module] = []
        width_in = image_channels
        for level, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            layers.append(nn.PixelUnshuffle(2))  # (B, 4 width_in, H / 2^(level + 1), W / 2^(level + 1))
            # (B, 4 width_in, ...) -> (B, width, ...)
            layers.append(conv3x3(4 * width_in, width) if level == 0 else nn.Conv2d(4 * width_in, width, kernel_size=1))
            layers += config.level(level, width, width, count)
            width_in = width
        if config.middle_attention:
            layers.append(config.attention(width_in))
        # (B, width_in, H / factor, W / factor) -> (B, outputs, H / factor, W / factor)
        layers += [config.norm(width_in), nn.SiLU(), nn.Conv2d(width_in, outputs, kernel_size=1)]
        self.layers = nn.Sequential(*layers)
        self.factor = 2 ** len(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Encode x (B, C, H, W) as (B, outputs, ceil(H / factor), ceil(W / factor)).

        Edges are repeated to fill the last position.
        """
        return self.layers(pad_to_multiple(x, self.factor))


class ConvDecoder(nn.Module):
    """Decode latent maps to images, as the mirror of :class:`ConvEncoder`.

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
        layers: list[nn.Module] = [conv3x3(latent_channels, channels[-1])]  # (B, channels[-1], h, w)
        if config.middle_attention:
            layers.append(config.attention(channels[-1]))
        for level in reversed(range(len(channels))):
            width = channels[level]
            layers += config.level(level, width, width, blocks[level])
            if level > 0:
                # (B, 4 channels[level - 1], h, w), then (B, channels[level - 1], 2h, 2w)
                layers += [nn.Conv2d(width, 4 * channels[level - 1], kernel_size=1), nn.PixelShuffle(2)]
            else:
                # (B, 4 C, h, w), then (B, C, 2h, 2w)
                layers += [config.norm(width), nn.SiLU(), conv3x3(width, 4 * image_channels), nn.PixelShuffle(2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Decode z (B, latent_channels, h, w) to (B, C, H, W), cropped to the image's size."""
        return self.layers(z)[..., : self.height, : self.width]
