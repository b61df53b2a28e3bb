"""Build and train the feature extractor: everything that its weights depend on."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentline.core.attributes import num_logits
from latentline.core.compute_params import ComputeParams
from latentline.core.labels import Schema
from latentline.core.seeds import derive_seed
from latentline.data.store import ImageSplit, StoreCard
from latentline.evaluation.agreement import agreement
from latentline.feature_extractors.build import ExtractorNetwork, PretrainedExtractor, build_feature_extractor
from latentline.feature_extractors.features import extract_features
from latentline.feature_extractors.retrieval import caption_retrieval
from latentline.feature_extractors.training import (
    CaptionedTraining,
    ClassifierTraining,
    labels_of_features,
    train_classifier,
)
from latentline.runtime.compute import to_device
from latentline.runtime.memory import ForwardPass, require_trainable
from latentline.runtime.packaged_weights import (
    EFFICIENTNET_LITE0,
    read_packaged_weights,
    read_weights_file,
    require_inception_weights,
)
from latentline.runtime.parallel import Ranks
from latentline.runtime.precision import activation_scale
from latentline.training.config import resident, saving_of
from latentline.training.loop import Saving
from latentline.training.micro_batches import largest_micro_batch
from stages.train_feature_extractor.captions import Captions, NewPair, build_pair
from stages.train_feature_extractor.params import FeatureExtractorParams

STAGE = "train_feature_extractor"


@dataclass(frozen=True)
class NewExtractor:
    """A network on its device, with what the checkpoint needs to build it again."""

    name: str
    constructor: dict[str, Any]
    network: ExtractorNetwork
    pair: NewPair | None = None  # of images with captions

    @property
    def graph_modules(self) -> list[nn.Module]:
        """The modules that training calls, for compilation."""
        return [*self.network.children(), self.pair.model.pair] if self.pair else [self.network]


def build(
    params: FeatureExtractorParams,
    card: StoreCard,
    labels: Tensor,
    seed: int,
    device: torch.device,
    captions: Captions | None = None,
) -> NewExtractor:
    """Return the network before training: new weights for a classifier, published ones below a new head otherwise.

    Args:
        params: section ``feature_extractor``.
        card: of the images.
        labels: of the training images (N, A); ``name: auto`` chooses the classifier where they or captions differ.
        seed: of the weights.
        device: where the network trains.
        captions: of the images, which differ; None = there is nothing to learn from captions.

    Raises:
        UserError: the network exceeds the device's memory, or a package or file of weights is missing.
    """
    lowest, highest = labels.nan_to_num(math.inf).amin(dim=0), labels.nan_to_num(-math.inf).amax(dim=0)  # (A,)
    differ = bool((lowest < highest).any())  # a classifier learns nothing from, for example, a single class
    name = params.name if params.name != "auto" else "classifier" if differ or captions else "efficientnet_lite0"
    sizes = params.model_dump(include={"channels", "features"})
    constructor: dict[str, Any] = {"outputs": num_logits(card.schema)}
    if name == "classifier":
        constructor |= {"shape": list(card.shape), **sizes, "dropout": params.dropout}
    rows = largest_micro_batch(min(params.optimizer.batch_size, len(labels)), params.optimizer.accumulate)
    require_trainable(
        lambda: build_feature_extractor(name, **constructor),
        device,
        "feature_extractor",
        sizes,
        # The network below a pretrained extractor's head keeps nothing.
        forward=ForwardPass(
            rows,
            lambda network, rows: network(torch.empty(rows, *card.shape)),
            activation_scale(params.optimizer.precision),
        )
        if name == "classifier"
        else None,
    )
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    network = build_feature_extractor(name, **constructor)
    if isinstance(network, PretrainedExtractor):
        network.network.load_published(_published_weights(name, params))
    to_device(network, device)
    if captions is None:
        return NewExtractor(name, constructor, network)
    pair = build_pair(params.captions, captions.tokenizer, network.head.weight.shape[1], seed, device)
    return NewExtractor(name, constructor, network, pair)


def _published_weights(name: str, params: FeatureExtractorParams) -> dict[str, Tensor]:
    if name == "inception":
        require_inception_weights(path := Path(params.path), params.sha256)
        return read_weights_file(path)
    return read_packaged_weights(EFFICIENTNET_LITE0, f"feature_extractor.name ({name})")


def training_of(params: FeatureExtractorParams) -> ClassifierTraining:
    """Return the settings that shape a training, whatever the network."""
    return ClassifierTraining(params.epochs, params.label_smoothing, params.optimizer)


def saving_for(params: FeatureExtractorParams, card: StoreCard, seed: int, compute: ComputeParams) -> Saving:
    """Return where the training saves its state. Raises UserError when a tracker's package is missing."""
    settings = params.model_dump(exclude={"epochs"})
    inputs = {"seed": seed, "data": card.sha256, "captions": card.captions}
    return saving_of(STAGE, settings, inputs, compute, computed_by=[f"stages.{STAGE}.train"])


def train(
    extractor: NewExtractor,
    schema: Schema,
    train_split: ImageSplit,
    val_split: ImageSplit,
    training: ClassifierTraining,
    *,
    device: torch.device,
    seed: int,
    saving: Saving,
    ranks: Ranks,
    captions: Captions | None = None,
) -> list[dict[str, float]]:
    """Train the network in place on all labels, with the pair on all captions; return a row for each epoch.

    A row has the loss. Of ``val_split`` it has the mean agreement with labels and the caption retrieval (R@1), where
    there are any. Several processes share a pretrained network's features; rank 0 alone returns, the others exit.
    """
    network, pair = extractor.network, extractor.pair

    def validate(model: nn.Module, epoch: int) -> dict[str, float]:
        features = extract_features(network, val_split.images, device, progress=True)
        predicted = labels_of_features(network, features, schema, device)
        columns = zip(schema, predicted.T, val_split.labels.values.T, strict=True)
        found = [agreement(column, answers, targets) for column, answers, targets in columns]
        scores = [score for score in found if score is not None]
        row = {"val_agreement": sum(scores) / len(scores)} if scores else {}
        if pair and captions:
            retrieval = caption_retrieval(pair.model, {"val": features}, {"val": captions.tokens["val"]}, seed)
            if (recall := retrieval["recall_at_1"]["val"]) is not None:
                row["val_caption_retrieval"] = recall
        return row

    # A pretrained network reads each image once, so they need not stay in memory.
    pretrained = isinstance(network, PretrainedExtractor)
    return train_classifier(
        network,
        schema,
        train_split.images if pretrained else resident(train_split.images, device).array,
        train_split.labels.values,
        training,
        device=device,
        seed=seed,
        name=STAGE,
        saving=saving,
        on_epoch=validate,
        ranks=ranks,
        captioned=CaptionedTraining(pair.model.pair, captions.tokens["train"]) if pair and captions else None,
    )
