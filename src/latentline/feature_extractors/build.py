"""Build the network of a feature extractor: images to features, features to logits of the labels."""

from typing import Any

import torch
from torch import Tensor, nn

from latentline.feature_extractors.classifier import ConvClassifier, Head
from latentline.feature_extractors.efficientnet_lite import EfficientNetLite0
from latentline.feature_extractors.inception import InceptionV3

FEATURES = 1280
INCEPTION_FEATURES = 2048
_BATCH = 32  # images, which the network enlarges to 224 x 224 or more: more are no faster and take gigabytes


class PretrainedExtractor(nn.Module):
    """Features of a network pretrained on ImageNet, and a linear head for the labels of these images.

    Args:
        outputs: logits of the head; 0 = the images have no labels.
        inception: Inception-v3 with 2048 features, instead of EfficientNet-Lite0 with 1280.
    """

    def __init__(self, outputs: int, *, inception: bool = False) -> None:
        super().__init__()
        self.network: EfficientNetLite0 | InceptionV3 = InceptionV3() if inception else EfficientNetLite0()
        self.head = Head(INCEPTION_FEATURES if inception else FEATURES, outputs)

    def features(self, x: Tensor) -> Tensor:
        """X (B, C, H, W) in [-1, 1] -> (B, D)."""
        return torch.cat([self.network.features(part) for part in x.split(_BATCH)])


ExtractorNetwork = ConvClassifier | PretrainedExtractor


def build_feature_extractor(name: str, **constructor: Any) -> ExtractorNetwork:
    """Return a new network from its constructor's arguments; ``name`` is one of ``feature_extractor.name``."""
    if name == "classifier":
        return ConvClassifier(**constructor)
    return PretrainedExtractor(**constructor, inception=name == "inception")
