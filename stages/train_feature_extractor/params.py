"""Section ``feature_extractor``: the network of the metrics, which no other stage trains on."""

from typing import Annotated, Literal

from pydantic import Field

from latentline.core.params import Fraction, Positive, Section, Sha256, Width
from latentline.runtime.packaged_weights import INCEPTION_SHA256
from latentline.training.params import OptimizerParams


class FeatureExtractorParams(Section):
    """Settings of stage ``train_feature_extractor``."""

    name: Literal["auto", "classifier", "efficientnet_lite0", "inception"] = "auto"
    """classifier (a small one, trained on these images) | efficientnet_lite0 (pretrained on ImageNet) | inception
    (pretrained on ImageNet; gives FID) | auto (classifier where the images have different labels, else
    efficientnet_lite0)."""
    path: Annotated[str, Field(min_length=1)] = "pretrained/pt_inception-2015-12-05-6726825d.pth"
    """File of the weights, .pth or .safetensors, see docs/evaluation.md; inception only."""
    sha256: Sha256 = INCEPTION_SHA256
    """Expected sha256 of that file; the default is the published file's; inception only."""
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
