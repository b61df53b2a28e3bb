"""The patch discriminator: one verdict per patch, real image or reconstruction."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from latentline.nn.blocks import conv3x3, group_norm

_SLOPE = 0.2  # of the leaky ReLU
_STD = 0.02  # of new weights
_WIDEST = 8  # times ``channels``


class PatchDiscriminator(nn.Module):
    """Convolutions whose every output sees one patch (Isola et al., arXiv 1611.07004, section 3.2 and appendix 6.1.2).

    Differences from the paper: pixels are folded into channels first (pixel unshuffle), so that no convolution runs at full size
    and every pixel has the same share in a verdict; and GroupNorm in place of BatchNorm, which would make an image's verdict depend
    on its batch mates, give itself away by the different statistics of real and reconstructed batches, and behave otherwise in evaluation.

    Args:
        image_channels: C of the images.
        channels: width of the first level, a multiple of 8; each further level doubles it, up to eight times.
        layers: how often the map is halved. A verdict sees a patch of 14 pixels' side with 1, 28 with 2, 56 with 3.
    """

    def __init__(self, image_channels: int, channels: int, layers: int) -> None:
        super().__init__()
        # (B, 4 image_channels, H/2, W/2), then (B, channels, H/2, W/2)
        parts: list[nn.Module] = [nn.PixelUnshuffle(2), conv3x3(4 * image_channels, channels), nn.LeakyReLU(_SLOPE)]
        width = channels
        for level in range(1, layers + 1):
            wider = min(2**level, _WIDEST) * channels
            # The last level keeps the map's size, as in the paper; those before it halve it: (B, wider, H/2^(level+1), W/2^(level+1))
            conv = conv3x3(width, wider) if level == layers else nn.Conv2d(width, wider, kernel_size=4, stride=2, padding=1)
            parts += [conv, group_norm(wider), nn.LeakyReLU(_SLOPE)]
            width = wider
        parts.append(conv3x3(width, 1))  # (B, 1, H/2^layers, W/2^layers)
        self.layers = nn.Sequential(*parts)
        self.factor = 2**layers
        for module in self.layers:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=_STD)  # the paper's section 6.2
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> logits (B, 1, ceil(H / factor), ceil(W / factor)); edges are repeated to fill the last patch."""
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.factor, 0, -height % self.factor), mode="replicate")
        return self.layers(padded)
