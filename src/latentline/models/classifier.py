"""The judge: a small convolutional classifier whose last features give the space that distances are measured in."""

from collections.abc import Sequence

from torch import Tensor, nn

from latentline.nn.blocks import conv3x3


class ConvClassifier(nn.Module):
    """Two levels of convolutions, then one hidden layer of features and a linear head.

    Its first convolution has stride 2: a 3x3 convolution of a single channel at full size costs more than all the rest.

    Args:
        shape: (C, H, W) of the images.
        classes: number of classes.
        channels: width of the first level; the second has twice as many.
        features: length of the feature vector.
        dropout: share of features hidden in training.
    """

    def __init__(self, shape: Sequence[int], classes: int, channels: int, features: int, dropout: float) -> None:
        super().__init__()
        image_channels, height, width = shape
        positions = _quarter(height) * _quarter(width)
        self.features = nn.Sequential(
            nn.Conv2d(image_channels, channels, kernel_size=5, stride=2, padding=2),  # (B, channels, H/2, W/2)
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv3x3(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv3x3(channels, 2 * channels, stride=2),  # (B, 2 channels, H/4, W/4)
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            conv3x3(2 * channels, 2 * channels),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * positions, features),
            nn.ReLU(),
        )
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> logits (B, classes)."""
        return self.head(self.features(x))


def _quarter(size: int) -> int:
    return ((size + 1) // 2 + 1) // 2  # rounded up twice: what two convolutions of stride 2 leave
