"""The networks of a judge: images to features, features to what it takes the images for."""

from typing import Any

from torch import Tensor, nn

from latentline.models.classifier import ConvClassifier, Head
from latentline.models.efficientnet_lite import FEATURES, EfficientNetLite0


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
        return self.network.features(x)


def build_judge(name: str, **constructor: Any) -> ConvClassifier | PretrainedJudge:
    """A new judge ``name`` (``classifier`` or ``efficientnet_lite0``) from its constructor's arguments."""
    return ConvClassifier(**constructor) if name == "classifier" else PretrainedJudge(**constructor)
