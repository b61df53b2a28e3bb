"""Load the feature extractor that the pipeline has trained, for features and for predicted labels of images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from latentline.core.attributes import predict
from latentline.core.files import refusing_earlier_versions
from latentline.core.labels import Schema, schema_from_json
from latentline.core.paths import FEATURE_EXTRACTOR
from latentline.core.shards import ShardedArray
from latentline.feature_extractors.build import ExtractorNetwork, build_feature_extractor
from latentline.feature_extractors.contrastive import CaptionModel, ContrastivePair
from latentline.feature_extractors.features import BATCH, extract_features
from latentline.latents.tokenizer import CaptionTokenizer
from latentline.runtime.checkpoint import Checkpoint, load_checkpoint
from latentline.runtime.compute import to_device

_PAIR = "captions."  # before the names of the pair's weights
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class FeatureExtractor:
    """Network whose features are the space of all distances and whose head predicts labels.

    No other network trains on it.
    """

    network: ExtractorNetwork
    device: torch.device
    name: str
    schema: Schema  # of the labels that the head predicts; may be empty
    captions: CaptionModel | None = None  # of images with captions

    @torch.no_grad()
    def extract(self, images: Tensor | ShardedArray) -> tuple[Tensor, Tensor]:
        """Return the features (N, D) and the predicted labels (N, A) of uint8 images (N, C, H, W), on the CPU."""
        features = extract_features(self.network, images, self.device)
        logits = (self.network.head(batch.to(self.device)).cpu() for batch in features.split(BATCH))
        return features, torch.cat([predict(self.schema, batch) for batch in logits])


def load_feature_extractor(device: torch.device, root: Path = Path()) -> FeatureExtractor:
    """Build the network of ``root``/checkpoints/feature_extractor.

    Raises:
        UserError: the file is missing, damaged or of an earlier version.
    """
    checkpoint = load_checkpoint(root / FEATURE_EXTRACTOR, kind="feature_extractor", made_by="train_feature_extractor")
    with refusing_earlier_versions(checkpoint.path, "train_feature_extractor"):
        network = build_feature_extractor(checkpoint.name, **checkpoint.constructor)
        schema = schema_from_json(checkpoint.settings["schema"])
        text = checkpoint.settings.get("captions")
        pair = None if text is None else ContrastivePair(**text["constructor"])
        tokenizer = None if text is None else CaptionTokenizer(text["tokenizer"], text["constructor"]["length"])
    of_network(checkpoint).load_into(network)
    captions = None
    if pair and tokenizer:
        _of_pair(checkpoint).load_into(pair)
        captions = CaptionModel(_frozen(pair, device), tokenizer, device)
    return FeatureExtractor(_frozen(network, device), device, checkpoint.name, schema, captions)


def with_pair(tensors: Mapping[str, Tensor], pair: ContrastivePair) -> dict[str, Tensor]:
    """Return the weights of a checkpoint: those of the network, ``tensors``, and those of the pair."""
    return {**tensors, **{f"{_PAIR}{name}": tensor for name, tensor in pair.state_dict().items()}}


def of_network(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint without the pair's weights."""
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(_PAIR)}
    return replace(checkpoint, tensors=tensors)


def _of_pair(checkpoint: Checkpoint) -> Checkpoint:
    tensors = {
        name.removeprefix(_PAIR): tensor for name, tensor in checkpoint.tensors.items() if name.startswith(_PAIR)
    }
    return replace(checkpoint, tensors=tensors)


def _frozen(network: N, device: torch.device) -> N:
    to_device(network.eval().requires_grad_(False), device)
    return network
