"""Section ``feature_extractor``: the network of the metrics, which no other stage trains on."""

from typing import Literal

from latentline.core.params import Fraction, Positive, Section, Width
from latentline.training.params import OptimizerParams


class FeatureExtractorParams(Section):
    """Settings of stage ``train_feature_extractor``."""

    name: Literal["auto", "classifier", "efficientnet_lite0"] = "auto"
    """classifier (a small one, trained on these images) | efficientnet_lite0 (pretrained on ImageNet) | auto
    (classifier where the images have different labels, else efficientnet_lite0)."""
    epochs: Positive = 3
    """Passes over the training images; classifier only."""
    channels: Width = 32
    """Width of the first level; the second has twice as many channels."""
    features: Positive = 128
    """Length of the feature vectors between which distances are measured."""
    dropout: Fraction = 0.25
    """Fraction of the features set to 0 in training."""
    label_smoothing: Fraction = 0.05
    """Fraction of each label spread over all classes (label smoothing of the cross-entropy)."""
    optimizer: OptimizerParams = OptimizerParams(batch_size=128, lr=2e-3, decay_fraction=0.7)
