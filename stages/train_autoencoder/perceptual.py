"""Perceptual distance: LPIPS (Zhang et al., arXiv 1801.03924) on a shift-tolerant AlexNet (arXiv 2207.13686)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SMALLEST_SIDE = 64  # pixels; smaller images are enlarged, since the strides would leave few positions
_MEAN = (-0.030, -0.088, -0.188)  # of natural images in [-1, 1], per colour
_STD = (0.458, 0.448, 0.450)
_EPSILON = 1e-10  # inside the square root, so that features of all zeros have a gradient
_BLOCKS = (  # names in the published weights: convolution, head
    ("net.slice1.0", "lin0.model.1"),
    ("net.slice2.5", "lin1.model.1"),
    ("net.slice3.9", "lin2.model.1"),
    ("net.slice4.11", "lin3.model.1"),
    ("net.slice5.13", "lin4.model.1"),
)


class BlurredStride(nn.Module):
    """Stride 2 after a 3x3 binomial blur against aliasing (Zhang, arXiv 1904.11486), with reflected edges."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", (row[:, None] * row).expand(channels, 1, 3, 3).contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to (B, C, (H + 3) // 2, (W + 3) // 2)."""
        kernel: Tensor = self.get_buffer("kernel")
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


class PerceptualDistance(nn.Module):
    """Distance of two images in the features of five convolutions, weighted to match human ratings.

    :meth:`load_published` sets the weights, which never train.
    """

    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(kernel_size=3, stride=1)  # (H, W) -> (H - 2, W - 2)
        self.blocks = nn.ModuleList(
            [
                # (B, 64, ~H/2, ~W/2)
                nn.Sequential(nn.Conv2d(3, 64, kernel_size=11, padding=2), BlurredStride(64), nn.ReLU()),
                # (B, 192, ~H/4, ~W/4)
                nn.Sequential(pool, BlurredStride(64), nn.Conv2d(64, 192, kernel_size=5, padding=2), nn.ReLU()),
                # (B, 384, ~H/8, ~W/8)
                nn.Sequential(pool, BlurredStride(192), nn.Conv2d(192, 384, kernel_size=3, padding=1), nn.ReLU()),
                # (B, 256, ~H/8, ~W/8) twice
                nn.Sequential(nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU()),
                nn.Sequential(nn.Conv2d(256, 256, kernel_size=3, padding=1), nn.ReLU()),
            ]
        )
        self.heads = nn.ParameterList([torch.ones(channels) for channels in (64, 192, 384, 256, 256)])  # w of eq. 1
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the published weights, under their own names."""
        for block, head, (convolution, linear) in zip(self.blocks, self.heads, _BLOCKS, strict=True):
            (own,) = (layer for layer in block.modules() if isinstance(layer, nn.Conv2d))
            own.load_state_dict({name: weights[f"{convolution}.{name}"] for name in ("weight", "bias")})
            head.copy_(weights[f"{linear}.weight"].flatten())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances (B,) of x and y (B, C, H, W) in [-1, 1], C = 1 or 3; 0 for equal images (eq. 1)."""
        a, b = self._prepared(x), self._prepared(y)
        distance = x.new_zeros(len(x))
        for block, head in zip(self.blocks, self.heads, strict=True):
            a, b = block(a), block(b)
            difference = _unit_length(a) - _unit_length(b)  # (B, C_l, H_l, W_l)
            distance = distance + (head[:, None, None] * difference.square()).sum(dim=1).mean(dim=(1, 2))  # (B,)
        return distance

    def _prepared(self, x: Tensor) -> Tensor:
        """Expand x (B, C, H, W) to three colours and at least 64 pixels on each side, standardised."""
        colours = x.float().expand(-1, 3, -1, -1)  # (B, 3, H, W)
        scale = _SMALLEST_SIDE / min(x.shape[-2:])
        if scale > 1:
            # (B, 3, H * scale, W * scale)
            colours = F.interpolate(colours, scale_factor=scale, mode="bilinear", align_corners=False)
        return (colours - self.get_buffer("mean")) / self.get_buffer("std")


def _unit_length(features: Tensor) -> Tensor:
    """Scale the vector of each position of (B, C, H, W) to length 1."""
    return features * (features.square().sum(dim=1, keepdim=True) + _EPSILON).rsqrt()
