"""Build the network of a feature extractor: images to features, features to logits of the labels."""

from typing import Any

import torch
from torch import Tensor, nn

from latentline.feature_extractors.classifier import ConvClassifier, Head
from latentline.feature_extractors.efficientnet_lite import EfficientNetLite0

FEATURES = 1280
_BATCH = 32  # images, which the network enlarges to 224 x 224: more are no faster and take gigabytes


class PretrainedExtractor(nn.Module):
    """Features of a network pretrained on ImageNet, and a linear head for the labels of these images.

    Args:
        outputs: logits of the head; 0 = the images have no labels.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.network = EfficientNetLite0()
        self.head = Head(FEATURES, outputs)

    def features(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> (B, 1280)."""
        return torch.cat([self.network.features(part) for part in x.split(_BATCH)])


ExtractorNetwork = ConvClassifier | PretrainedExtractor


def build_feature_extractor(name: str, **constructor: Any) -> ExtractorNetwork:
    """Return a new network ``name`` (``classifier`` or ``efficientnet_lite0``) from its constructor's arguments."""
    return ConvClassifier(**constructor) if name == "classifier" else PretrainedExtractor(**constructor)
