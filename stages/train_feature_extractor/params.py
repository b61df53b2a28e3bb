"""Section ``feature_extractor``: the judge, a network that no other stage trains on."""

from typing import Literal

from latentline.core.params import Fraction, Positive, Section, Width
from latentline.training.params import OptimizerParams


class FeatureExtractorParams(Section):
    """Knobs of stage ``train_feature_extractor``."""

    name: Literal["auto", "classifier", "efficientnet_lite0"]
    """Kind of judge: a small classifier of the same data, or a network pretrained on ImageNet; auto = the first where labels differ."""
    epochs: Positive
    """Passes over the training images."""
    channels: Width
    """Width of the first level; the second has twice as many."""
    features: Positive
    """Length of the feature vector that the distances are measured in."""
    dropout: Fraction
    """Share of features hidden in training."""
    label_smoothing: Fraction
    """Label smoothing of the cross-entropy."""
    optimizer: OptimizerParams
