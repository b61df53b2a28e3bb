"""The networks of a judge: images to features, features to what it takes the images for."""

from typing import Any

import torch
from torch import Tensor, nn

from latentline.feature_extractors.classifier import ConvClassifier, Head
from latentline.feature_extractors.efficientnet_lite import EfficientNetLite0

FEATURES = 1280
_AT_ONCE = 32  # images, which the network enlarges to 224 x 224: more would not be faster, and take gigabytes


class PretrainedJudge(nn.Module):
    """Features that know ImageNet, and a linear head for what is known of these images.

    Args:
        outputs: of the head; 0 = nothing is known.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.network = EfficientNetLite0()
        self.head = Head(FEATURES, outputs)

    def features(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> (B, 1280)."""
        return torch.cat([self.network.features(part) for part in x.split(_AT_ONCE)])


def build_judge(name: str, **constructor: Any) -> ConvClassifier | PretrainedJudge:
    """A new judge ``name`` (``classifier`` or ``efficientnet_lite0``) from its constructor's arguments."""
    return ConvClassifier(**constructor) if name == "classifier" else PretrainedJudge(**constructor)
