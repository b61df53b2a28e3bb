"""Load the judge, and see images with its eyes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.data.store import to_unit_range
from latentline.models.classifier import ConvClassifier
from latentline.pipeline.paths import FEATURE_EXTRACTOR
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import place

_BATCH = 500


@dataclass(frozen=True)
class Judge:
    """A trained classifier of the same data; nothing else trains on it."""

    network: ConvClassifier
    device: torch.device
    name: str

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, C, H, W) -> features (N, D) and predicted classes (N,), on the CPU."""
        features, classes = [], []
        for batch in images.split(_BATCH):
            seen = self.network.features(to_unit_range(batch).to(self.device))
            features.append(seen.cpu())
            classes.append(self.network.head(seen).argmax(dim=1).cpu())
        return torch.cat(features), torch.cat(classes)


def load_judge(device: torch.device) -> Judge:
    """Build the judge that checkpoints/feature_extractor holds. Raises UserError when it is missing or damaged."""
    checkpoint = load_checkpoint(FEATURE_EXTRACTOR, kind="feature_extractor", made_by="train_feature_extractor")
    network = ConvClassifier(**checkpoint.constructor)
    checkpoint.load_into(network)
    place(network.eval().requires_grad_(False), device)
    return Judge(network, device, checkpoint.name)
