"""The patch discriminator: one logit per patch, real image or reconstruction."""

from typing import cast

from torch import Tensor, nn

from latentline.autoencoders.block_config import pad_to_multiple
from latentline.nn.blocks import conv3x3, group_norm

_SLOPE = 0.2  # of the leaky ReLU
_STD = 0.02  # of new weights
_WIDEST = 8  # times ``channels``


class PatchDiscriminator(nn.Module):
    """Convolutions with one logit per patch (Isola et al., arXiv 1611.07004, section 3.2 and appendix 6.1.2).

    Two differences from the paper. Pixels are folded into channels first (pixel unshuffle), so no convolution runs at
    full size, and every pixel has the same influence on a logit. GroupNorm replaces BatchNorm: a logit must not depend
    on the rest of the batch, and the statistics of real and reconstructed batches differ, which would reveal them.

    Args:
        image_channels: C of the images.
        channels: width of the first level, a multiple of 8; each further level doubles it, up to eight times.
        layers: halvings of the map. The receptive field is 14 pixels with 1, 28 with 2, 56 with 3.
    """

    def __init__(self, image_channels: int, channels: int, layers: int) -> None:
        super().__init__()
        # (B, 4 image_channels, H/2, W/2), then (B, channels, H/2, W/2)
        modules: list[nn.Module] = [nn.PixelUnshuffle(2), conv3x3(4 * image_channels, channels), nn.LeakyReLU(_SLOPE)]
        width = channels
        for level in range(1, layers + 1):
            wider = min(2**level, _WIDEST) * channels
            # (B, wider, H/2^(level+1), W/2^(level+1)), but the last level keeps the map's size, as in the paper
            conv = (
                conv3x3(width, wider)
                if level == layers
                else nn.Conv2d(width, wider, kernel_size=4, stride=2, padding=1)
            )
            modules += [conv, group_norm(wider), nn.LeakyReLU(_SLOPE)]
            width = wider
        modules.append(conv3x3(width, 1))  # (B, 1, H/2^layers, W/2^layers)
        self.layers = nn.Sequential(*modules)
        self.factor = 2**layers
        for module in self.layers:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=_STD)  # the paper's section 6.2
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) in [-1, 1] to logits (B, 1, ceil(H / factor), ceil(W / factor)).

        Edges are repeated to fill the last patch.
        """
        return self.layers(pad_to_multiple(x, self.factor))
