"""Load the feature extractor that the pipeline has trained, for features and for predicted labels of images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.attributes import predict
from latentline.core.files import refusing_earlier_versions
from latentline.core.labels import Schema, schema_from_json
from latentline.core.paths import FEATURE_EXTRACTOR
from latentline.core.shards import ShardedArray
from latentline.feature_extractors.build import ExtractorNetwork, build_feature_extractor
from latentline.feature_extractors.features import BATCH, extract_features
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import to_device


@dataclass(frozen=True)
class FeatureExtractor:
    """Network whose features are the space of all distances and whose head predicts labels.

    No other network trains on it.
    """

    network: ExtractorNetwork
    device: torch.device
    name: str
    schema: Schema  # of the labels that the head predicts; may be empty

    @torch.no_grad()
    def extract(self, images: Tensor | ShardedArray) -> tuple[Tensor, Tensor]:
        """Return the features (N, D) and the predicted labels (N, A) of uint8 images (N, C, H, W), on the CPU."""
        features = extract_features(self.network, images, self.device)
        logits = (self.network.head(batch.to(self.device)).cpu() for batch in features.split(BATCH))
        return features, torch.cat([predict(self.schema, batch) for batch in logits])


def load_feature_extractor(device: torch.device) -> FeatureExtractor:
    """Build the network of checkpoints/feature_extractor. Raises UserError for a missing, damaged or old file."""
    checkpoint = load_checkpoint(FEATURE_EXTRACTOR, kind="feature_extractor", made_by="train_feature_extractor")
    with refusing_earlier_versions(checkpoint.path, "train_feature_extractor"):
        network = build_feature_extractor(checkpoint.name, **checkpoint.constructor)
        schema = schema_from_json(checkpoint.settings["schema"])
    checkpoint.load_into(network)
    to_device(network.eval().requires_grad_(False), device)
    return FeatureExtractor(network, device, checkpoint.name, schema)
