"""Load the judge, and see images with its eyes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.attributes import Attribute, predict
from latentline.core.labels import schema_from_json
from latentline.core.paths import FEATURE_EXTRACTOR
from latentline.core.shards import ShardedArray
from latentline.data.store import to_unit_range
from latentline.feature_extractors.build import PretrainedExtractor, build_feature_extractor
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import to_device

_BATCH = 500


@dataclass(frozen=True)
class FeatureExtractor:
    """A network whose features give the space of all distances, and whose head says what it sees; nothing else trains on it."""

    network: ConvClassifier | PretrainedExtractor
    device: torch.device
    name: str
    columns: tuple[Attribute, ...]  # what the head knows; none = it knows nothing

    @torch.no_grad()
    def look(self, images: Tensor | ShardedArray) -> tuple[Tensor, Tensor]:
        """uint8 images (N, C, H, W), read batch by batch -> features (N, D) and the values (N, A) that it takes them for, on the CPU."""
        features, values = [], []
        for batch in images.split(_BATCH):
            seen = self.network.features(to_unit_range(batch).to(self.device))
            features.append(seen.cpu())
            values.append(predict(self.columns, self.network.head(seen).cpu()))
        return torch.cat(features), torch.cat(values)


def load_feature_extractor(device: torch.device) -> FeatureExtractor:
    """Build the judge that checkpoints/feature_extractor holds. Raises UserError when it is missing or damaged."""
    checkpoint = load_checkpoint(FEATURE_EXTRACTOR, kind="feature_extractor", made_by="train_feature_extractor")
    network = build_feature_extractor(checkpoint.name, **checkpoint.constructor)
    checkpoint.load_into(network)
    to_device(network.eval().requires_grad_(False), device)
    return FeatureExtractor(network, device, checkpoint.name, schema_from_json(checkpoint.settings["schema"]))
