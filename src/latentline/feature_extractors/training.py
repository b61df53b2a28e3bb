"""Train a judge: the one of the pipeline, or another like it that is to learn from other images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentline.core.attributes import Attribute, predict, split_logits
from latentline.core.seeds import derive_seed
from latentline.core.shards import ShardedArray
from latentline.data.batches import EpochSampler
from latentline.data.store import to_unit_range
from latentline.feature_extractors.build import PretrainedExtractor
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.runtime.compute import channels_last
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks
from latentline.training.config import optimizer_of
from latentline.training.loop import Saving, TrainConfig, fit
from latentline.training.micro_batches import MicroBatch, micro_batches
from latentline.training.params import OptimizerParams

_BATCH = 500


@dataclass(frozen=True)
class ClassifierTraining:
    """How a judge is trained; knobs of ``feature_extractor``."""

    epochs: int
    label_smoothing: float
    optimizer: OptimizerParams

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {**vars(self), "optimizer": self.optimizer.model_dump()}

    @classmethod
    def from_json(cls, lessons: dict[str, Any]) -> "ClassifierTraining":
        """The inverse of :meth:`to_json`."""
        return cls(**{**lessons, "optimizer": OptimizerParams(**lessons["optimizer"])})


def train_classifier(
    network: ConvClassifier | PretrainedExtractor,
    columns: Sequence[Attribute],
    images: Tensor | ShardedArray,
    values: Tensor,
    lessons: ClassifierTraining,
    *,
    device: torch.device,
    seed: int,
    name: str,
    saving: Saving,
    on_epoch: Callable[[nn.Module, int], dict[str, float]] = lambda model, epoch: {},
    ranks: Ranks = SINGLE_PROCESS,
) -> list[dict[str, float]]:
    """Train the classifier, or the head of a pretrained network, in place.

    Args:
        network: on its device.
        columns: what its outputs stand for.
        images: uint8 (N, C, H, W).
        values: (N, A) of ``columns``.
        lessons: how.
        device: of the network.
        seed: with ``name``, all that order and dropout depend on.
        name: of this training.
        saving: of the running state.
        on_epoch: see ``training.loop.fit``.
        ranks: the processes that share the work: to see the images with a pretrained network. The first then trains alone, and the others
            end: the networks that learn here are small, and a batch must be whole for BatchNorm.

    Returns:
        One row per epoch.
    """
    values = values.to(device)
    order = EpochSampler(len(images), lessons.optimizer.batch_size, derive_seed(seed, name, "order"))
    learner: nn.Module
    if isinstance(network, PretrainedExtractor):
        learner, seen = network.head, features(network, images, device, ranks).to(device)

        def outputs(rows: Tensor) -> Tensor:
            return network.head(seen[rows.to(device)])

    else:
        learner = network

        def outputs(rows: Tensor) -> Tensor:
            return network(channels_last(to_unit_range(images[rows].to(device))))

    ranks.exit_non_main()

    def loss(step: int) -> Iterator[MicroBatch]:
        torch.manual_seed(derive_seed(seed, name, "dropout", step))
        batch = order.rows(step)
        for weight, part in micro_batches(len(batch), lessons.optimizer.accumulate):
            rows = batch[part]
            told = zip(columns, split_logits(columns, outputs(rows)), values[rows.to(device)].T, strict=True)
            value = torch.stack(
                [column.loss(given, wanted, lessons.label_smoothing) for column, given, wanted in told]
            ).mean()
            yield weight, value, {"loss": value}

    config = TrainConfig(
        "feature_extractor", lessons.epochs, order.steps_per_epoch, optimizer_of(lessons.optimizer), saving
    )
    _, history = fit(learner, loss, config, on_epoch=on_epoch)
    return history


@torch.no_grad()
def features(
    network: ConvClassifier | PretrainedExtractor,
    images: Tensor | ShardedArray,
    device: torch.device,
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """Features (N, D) of uint8 images (N, C, H, W), on the CPU; each process computes its slice, and has all."""
    network.eval()
    own = ranks.slice_of(len(images))
    starts = tqdm(
        range(own.start, own.stop, _BATCH), desc="features", disable=None if ranks.is_main else True, mininterval=1
    )
    batches = (images[start : min(start + _BATCH, own.stop)] for start in starts)
    return ranks.all_gather(
        torch.cat([network.features(to_unit_range(batch).to(device)).cpu() for batch in batches]), len(images)
    )


@torch.no_grad()
def decisions(
    network: ConvClassifier | PretrainedExtractor,
    images: Tensor | ShardedArray,
    columns: Sequence[Attribute],
    device: torch.device,
) -> Tensor:
    """What the network takes uint8 images (N, C, H, W) for: values (N, A)."""
    return predict(columns, network.head(features(network, images, device).to(device)).cpu())
