"""Section ``feature_extractor``: the network of the metrics, which no other stage trains on."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from latentline.core.params import Depth, Fraction, Positive, Section, Sha256, Width
from latentline.runtime.packaged_weights import INCEPTION_SHA256
from latentline.training.params import OptimizerParams


class CaptionParams(Section):
    """Tokenizer and text transformer that agreement with captions is measured by; used where images have captions."""

    vocabulary_size: Annotated[int, Field(ge=256, le=65_536)] = 2000
    """Upper limit of the tokenizer's different tokens, as of text.vocabulary_size."""
    length: Annotated[int, Field(ge=1, le=1024)] = 32
    """Tokens of a caption; longer captions are cut, and the log counts them."""
    width: Width = 128
    """Channels of every layer, and length of the unit vectors of images and captions."""
    depth: Depth = 2
    """Blocks."""
    heads: Positive = 4
    """Attention heads; a divisor of the width."""


class FeatureExtractorParams(Section):
    """Settings of stage ``train_feature_extractor``."""

    name: Literal["auto", "classifier", "efficientnet_lite0", "inception"] = "auto"
    """classifier (a small one, trained on these images) | efficientnet_lite0 (pretrained on ImageNet) | inception
    (pretrained on ImageNet; gives FID) | auto (classifier where the images have different labels or captions,
    else efficientnet_lite0)."""
    path: Annotated[str, Field(min_length=1)] = "pretrained/pt_inception-2015-12-05-6726825d.pth"
    """File of the weights, .pth or .safetensors, see docs/evaluation.md; inception only."""
    sha256: Sha256 = INCEPTION_SHA256
    """Expected sha256 of that file; the default is the published file's; inception only."""
    epochs: Positive = 3
    """Passes over the training images, which learn their labels and captions."""
    channels: Width = 32
    """Width of the first level; the second has twice as many channels."""
    features: Positive = 128
    """Length of the feature vectors between which distances are measured."""
    dropout: Fraction = 0.25
    """Fraction of the features set to 0 in training."""
    label_smoothing: Fraction = 0.05
    """Fraction of each label spread over all classes (label smoothing of the cross-entropy)."""
    captions: CaptionParams = CaptionParams()
    """Contrastive pair of images and captions; see docs/evaluation.md."""
    optimizer: OptimizerParams = OptimizerParams(batch_size=128, lr=2e-3, decay_fraction=0.7)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "FeatureExtractorParams":
        width, heads = self.captions.width, self.captions.heads
        if width % heads:
            raise ValueError(
                f"feature_extractor.captions.width ({width}) must be divisible by feature_extractor.captions.heads "
                f"({heads}); change one of them"
            )
        return self
