"""Small convolutional classifier; its last features are the space in which distances are measured."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentline.nn.blocks import conv3x3


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
    """Dropout (Srivastava et al., JMLR 15, 2014) by a mask from :meth:`ConvClassifier.draw_mask`; None = keep all."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Features (B, D) -> the same shape and type, with the same expected value."""
        return x if mask is None else x * mask.to(x.dtype)  # float32 would promote what autocast computes in 16 bits


class _Layers(nn.Sequential):
    """Layers one after the other, among them a :class:`_Dropout`."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self:
            x = layer(x, mask) if isinstance(layer, _Dropout) else layer(x)
        return x


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
        self._dropout, self._maps = dropout, 2 * channels * _quarter(height) * _quarter(width)
        self.layers = _Layers(
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
            _Dropout(),
            nn.Linear(self._maps, features),
            nn.ReLU(),
        )
        self.head = Head(features, outputs)

    def draw_mask(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Return the factors (count, D) of the convolutions' outputs in a training step, on the CPU; None = none."""
        kept = 1 - self._dropout
        return None if kept == 1 else torch.empty(count, self._maps).bernoulli_(kept, generator=generator).div_(kept)

    def features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> (B, features). ``mask``: of :meth:`draw_mask`, in training."""
        return self.layers(x, mask)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> (B, outputs). ``mask``: of :meth:`draw_mask`, in training."""
        return self.head(self.features(x, mask))


def _quarter(size: int) -> int:
    return ((size + 1) // 2 + 1) // 2  # each convolution of stride 2 rounds up
