"""Section ``feature_extractor``: the judge, a classifier that no other stage trains on."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.params.base import Fraction, Positive, Section
from latentline.params.optimizer import OptimizerParams


class FeatureExtractorParams(Section):
    """Knobs of stage ``train_feature_extractor``."""

    name: Literal["classifier"]
    """Kind of judge: a small convolutional classifier of the same data."""
    epochs: Positive
    """Passes over the training images."""
    channels: Annotated[int, Field(ge=8, multiple_of=8)]
    """Width of the first level; the second has twice as many."""
    features: Positive
    """Length of the feature vector that the distances are measured in."""
    dropout: Fraction
    """Share of features hidden in training."""
    label_smoothing: Fraction
    """Label smoothing of the cross-entropy."""
    optimizer: OptimizerParams
