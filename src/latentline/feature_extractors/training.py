"""Train a classifier or the head of a pretrained network: the pipeline's, or one like it on other images.

Where images have captions, a contrastive pair trains with it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from latentline.core.attributes import Attribute, num_logits, predict, split_logits
from latentline.core.seeds import derive_seed, generator
from latentline.core.shards import ShardedArray
from latentline.data.batches import EpochSampler
from latentline.data.store import to_unit_range
from latentline.feature_extractors.build import ExtractorNetwork, PretrainedExtractor
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.feature_extractors.contrastive import ContrastivePair, caption_groups, contrastive_loss
from latentline.feature_extractors.features import extract_features
from latentline.runtime.compute import channels_last
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks
from latentline.training.config import optimizer_of
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, micro_batches
from latentline.training.params import OptimizerParams
from latentline.training.step_inputs import Inputs, RowSource, StepInputs

_MAX_LOGITS = 1 << 26  # at a time; with 10 classes those of 6.7 million images


@dataclass(frozen=True)
class ClassifierTraining:
    """Settings of section ``feature_extractor`` that shape a training, whatever the network."""

    epochs: int
    label_smoothing: float
    optimizer: OptimizerParams

    def to_json(self) -> dict[str, Any]:
        """Return what the checkpoint stores."""
        return {**vars(self), "optimizer": self.optimizer.model_dump()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "ClassifierTraining":
        """Return the inverse of :meth:`to_json`."""
        return cls(**{**stored, "optimizer": OptimizerParams(**stored["optimizer"])})


@dataclass(frozen=True)
class CaptionedTraining:
    """The pair that trains with the classifier, on its device, and the captions of the training images."""

    pair: ContrastivePair
    tokens: Tensor
    """Ids int32 (N, L), on the CPU."""


class _WithPair(nn.Module):
    """All that trains where images have captions, as one network: from the batch to logits and unit vectors."""

    def __init__(self, network: ExtractorNetwork, pair: ContrastivePair) -> None:
        super().__init__()
        self.layers = nn.Identity() if isinstance(network, PretrainedExtractor) else network.layers
        self.head = network.head
        self.pair = pair

    def forward(self, x: Tensor, tokens: Tensor, *mask: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        features = self.layers(x, *mask)
        return self.head(features), self.pair(features, tokens)


def train_classifier(
    network: ExtractorNetwork,
    columns: Sequence[Attribute],
    images: Tensor | ShardedArray,
    values: Tensor,
    training: ClassifierTraining,
    *,
    device: torch.device,
    seed: int,
    name: str,
    saving: Saving,
    on_epoch: Callable[[nn.Module, int], dict[str, float]] = lambda model, epoch: {},
    ranks: Ranks = SINGLE_PROCESS,
    captioned: CaptionedTraining | None = None,
) -> list[dict[str, float]]:
    """Train the classifier, or the head of a pretrained network, in place.

    Several processes share the features of a pretrained network. Then rank 0 trains alone and the others exit: the
    networks trained here are small, and BatchNorm needs whole batches.

    Args:
        network: on its device.
        columns: attributes that its outputs predict.
        images: uint8 (N, C, H, W).
        values: (N, A) of ``columns``, on the CPU. The loss of a column is the mean over the rows of a batch that have a
            value, whatever the micro-batches; it is 0 where none has one.
        training: epochs, label smoothing and optimizer.
        device: of the network.
        seed: with ``name``, the source of order and dropout.
        name: of this training.
        saving: of the running state.
        on_epoch: see ``training.loop.fit``.
        ranks: the processes of the stage.
        captioned: the pair that trains too, in place; its loss is added. It compares the rows of a micro-batch alone.

    Returns:
        One row per epoch.
    """
    complete = not values.isnan().any()
    order = EpochSampler(len(images), training.optimizer.batch_size, derive_seed(seed, name, "order"))
    source, trained, pretrained = RowSource(images), cast(nn.Module, network), isinstance(network, PretrainedExtractor)
    if isinstance(network, PretrainedExtractor):
        source = RowSource(extract_features(network, images, device, ranks, progress=True).to(device))
        trained = network.head
    if captioned:
        trained, groups = _WithPair(network, captioned.pair), caption_groups(captioned.tokens)
    ranks.exit_non_main()

    def draw(step: int) -> Inputs:
        rows = order.rows(step)
        captions = {"tokens": captioned.tokens[rows], "groups": groups[rows]} if captioned else {}
        random = generator(seed, name, "dropout", step)
        mask = network.draw_mask(len(rows), random) if isinstance(network, ConvClassifier) else None
        masks = {} if mask is None else {"mask": mask}
        return {**source.inputs(rows), "targets": values[rows], **captions, **masks}

    inputs_of = StepInputs(draw, device)

    def loss(step: int) -> Iterator[MicroBatch]:
        inputs = inputs_of(step)
        batch, targets = source.batch(inputs), inputs["targets"]
        vectors: tuple[Tensor, Tensor, Tensor] | None
        for weight, part in micro_batches(len(targets), training.optimizer.accumulate):
            x = batch[part] if pretrained else channels_last(to_unit_range(batch[part]))
            mask = [inputs["mask"][part]] if "mask" in inputs else []
            logits, vectors = trained(x, inputs["tokens"][part], *mask) if captioned else (trained(x, *mask), None)
            logits = logits.float()
            by_column = zip(columns, split_logits(columns, logits), targets[part].T, strict=True)
            smoothing = training.label_smoothing
            if complete:
                losses = [column.complete_loss(own, labels, smoothing) for column, own, labels in by_column]
            else:  # a micro-batch counts by its share of the batch's values
                counts = targets.isnan().logical_not().sum(dim=0).clamp(min=1)  # (A,)
                rows = [column.losses(own, labels, smoothing) for column, own, labels in by_column]
                losses = [row.sum() / count / weight for row, count in zip(rows, counts, strict=True)]
            terms = {"label_loss": torch.stack(losses).mean()} if columns else {}
            if vectors is not None:
                of_images, of_captions, scale = vectors
                terms["caption_loss"] = contrastive_loss(of_images, of_captions, scale, inputs["groups"][part])
            value = torch.stack(list(terms.values())).sum()
            yield weight, value, {"loss": value, **(terms if captioned else {})}

    config = TrainConfig(
        "feature_extractor",
        training.epochs,
        order.steps_per_epoch,
        optimizer_of(training.optimizer),
        saving,
        batch_size=order.batch_size,
    )
    _, history = fit(trained, loss, config, on_epoch=on_epoch)
    return history


@torch.no_grad()
def predict_labels(
    network: ExtractorNetwork,
    images: Tensor | ShardedArray,
    columns: Sequence[Attribute],
    device: torch.device,
) -> Tensor:
    """Return the labels (N, A) that the network predicts for uint8 images (N, C, H, W)."""
    return labels_of_features(network, extract_features(network, images, device, progress=True), columns, device)


@torch.no_grad()
def labels_of_features(
    network: ExtractorNetwork, features: Tensor, columns: Sequence[Attribute], device: torch.device
) -> Tensor:
    """Return the labels (N, A) that the network predicts for images with ``features`` (N, D)."""
    rows = max(_MAX_LOGITS // max(num_logits(columns), 1), 1)
    batches = (network.head(batch.to(device)).cpu() for batch in features.split(rows))
    return torch.cat([predict(columns, logits) for logits in batches])
