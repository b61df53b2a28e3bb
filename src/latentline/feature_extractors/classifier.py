"""Small convolutional classifier; its last features are the space in which distances are measured."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentline.nn.blocks import conv3x3
from latentline.runtime.compute import pinned


class Head(nn.Module):
    """Linear layer that may have no outputs; nn.Linear would warn.

    Args:
        features: D, length of a feature vector.
        outputs: K, logits; may be 0.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        bound = features**-0.5
        self.weight = nn.Parameter(torch.empty(outputs, features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) -> (B, K)."""
        return nn.functional.linear(features, self.weight, self.bias)


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that takes its running statistics where a channel has one value, which has no variance.

    That happens with the last image of an epoch alone in its batch, if the image is tiny.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) -> the same shape."""
        if self.training and x.numel() == x.shape[1]:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class _Dropout(nn.Module):
    """Dropout (Srivastava et al., JMLR 15, 2014) whose mask torch's generator of the CPU draws, whatever the device.

    On the CPU it computes the bytes of nn.Dropout.

    Args:
        fraction: of the inputs that are set to 0 in training, in [0, 1).
    """

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, D) -> the same shape, with the same expected value."""
        if not self.training or self.fraction == 0:
            return x
        kept = 1 - self.fraction
        mask = torch.empty(x.shape, dtype=x.dtype, device="cpu").bernoulli_(kept).div_(kept)
        return x * pinned(mask, x.device).to(x.device, non_blocking=True)


class ConvClassifier(nn.Module):
    """Two levels of convolutions, then one hidden layer of features and a linear head.

    The first convolution has stride 2: a 3x3 convolution of one channel at full size costs more than all other layers.

    Args:
        shape: (C, H, W) of the images.
        outputs: logits of the head, for all labels; may be 0.
        channels: width of the first level; the second has twice as many.
        features: D, length of the feature vector.
        dropout: fraction of the convolutions' outputs set to 0 in training.
    """

    def __init__(self, shape: Sequence[int], outputs: int, channels: int, features: int, dropout: float) -> None:
        super().__init__()
        image_channels, height, width = shape
        positions = _quarter(height) * _quarter(width)
        self.layers = nn.Sequential(
            nn.Conv2d(image_channels, channels, kernel_size=5, stride=2, padding=2),  # (B, channels, H/2, W/2)
            _BatchNorm(channels),
            nn.ReLU(),
            conv3x3(channels, channels),
            _BatchNorm(channels),
            nn.ReLU(),
            conv3x3(channels, 2 * channels, stride=2),  # (B, 2 channels, H/4, W/4)
            _BatchNorm(2 * channels),
            nn.ReLU(),
            conv3x3(2 * channels, 2 * channels),
            _BatchNorm(2 * channels),
            nn.ReLU(),
            nn.Flatten(),
            _Dropout(dropout),
            nn.Linear(2 * channels * positions, features),
            nn.ReLU(),
        )
        self.head = Head(features, outputs)

    def features(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> (B, features)."""
        return self.layers(x)

    def forward(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> (B, outputs)."""
        return self.head(self.features(x))


def _quarter(size: int) -> int:
    return ((size + 1) // 2 + 1) // 2  # each convolution of stride 2 rounds up
