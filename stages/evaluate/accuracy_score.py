"""Train on samples, test on real images: the classification accuracy score (Ravuri and Vinyals, arXiv 1905.10887)."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.attributes import CLASS
from latentline.core.compute_params import ComputeParams
from latentline.core.errors import UserError
from latentline.core.paths import FEATURE_EXTRACTOR
from latentline.core.seeds import derive_seed, generator
from latentline.core.shards import ShardedArray
from latentline.core.timing import record_timing
from latentline.data.store import ImageSplit
from latentline.evaluation.agreement import accuracy
from latentline.feature_extractors.build import PretrainedExtractor, build_feature_extractor
from latentline.feature_extractors.load import FeatureExtractor, of_network
from latentline.feature_extractors.training import ClassifierTraining, predict_labels, train_classifier
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import to_device
from latentline.training.config import saving_of

_STREAM = "classification accuracy score"
_HASH_BATCH = 1024  # images


@dataclass(frozen=True)
class Labelled:
    """Images uint8 (N, C, H, W) and their classes (N,)."""

    images: Tensor | ShardedArray
    labels: Tensor

    def sha256(self) -> str:
        """Return the digest of the images and labels."""
        digest = hashlib.sha256()
        for part in self.images.split(_HASH_BATCH):
            digest.update(part.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def require_classes(names: Sequence[str]) -> None:
    """Raise UserError unless samples are conditioned on a class; ``names`` are the attributes of their conditions."""
    if CLASS not in names:
        raise UserError(
            "evaluate.classification_accuracy_score (true) must be false for samples that are conditioned on no class; "
            "set it to false, or train on labelled images with denoiser.condition class or all"
        )


def accuracy_scores(
    extractor: FeatureExtractor,
    samples: ImageSplit,
    train: ImageSplit,
    test: ImageSplit,
    seed: int,
    compute: ComputeParams,
) -> dict[str, float]:
    """Return the accuracy on ``test`` of a classifier trained on ``samples``, and of one trained on real images.

    The second one trains on as many images of ``train`` as there are samples, or on all if there are fewer.
    """
    started = time.monotonic()
    rows = torch.randperm(len(train), generator=generator(seed, "evaluate", "lesson"))[: len(samples)]
    training_sets = {
        "classification_accuracy_score": Labelled(samples.images, samples.labels.column(CLASS)),
        "classification_accuracy_score_of_real_train": Labelled(train.images[rows], train.labels[rows].column(CLASS)),
    }
    real = Labelled(test.images, test.labels.column(CLASS))
    scores = {name: accuracy_on_real(extractor, given, real, seed, compute) for name, given in training_sets.items()}
    record_timing("evaluate", classification_accuracy_score_seconds=time.monotonic() - started)
    return scores


def accuracy_on_real(
    extractor: FeatureExtractor, training_set: Labelled, test: Labelled, seed: int, compute: ComputeParams
) -> float:
    """Train a new classifier as the pipeline's feature extractor was trained; return its accuracy on ``test``.

    Of a pretrained network only a new head is trained. Initial weights and order are the same for every training set.

    Args:
        extractor: the pipeline's, which stays as it is.
        training_set: what the new classifier trains on.
        test: real images.
        seed: of weights, order and dropout.
        compute: how often to save, and the trackers.
    """
    checkpoint = load_checkpoint(FEATURE_EXTRACTOR, kind="feature_extractor", made_by="train_feature_extractor")
    column = next(column for column in extractor.schema if column.name == CLASS)
    torch.manual_seed(derive_seed(seed, _STREAM, "weights"))
    network = build_feature_extractor(checkpoint.name, **{**checkpoint.constructor, "outputs": column.num_logits})
    if isinstance(network, PretrainedExtractor):
        new_head = {f"head.{name}": value for name, value in network.head.state_dict().items()}
        network.load_state_dict({**of_network(checkpoint).tensors, **new_head})
    to_device(network, extractor.device)
    training = checkpoint.settings["training"]
    saving = saving_of(
        "evaluate",
        training,
        {"seed": seed, "feature_extractor": checkpoint.sha256, "images": training_set.sha256()},
        compute,
        computed_by=["stages.evaluate.accuracy_score"],
        part="accuracy",
    )
    train_classifier(
        network,
        [column],
        training_set.images,
        training_set.labels[:, None].float(),
        ClassifierTraining.from_json(training),
        device=extractor.device,
        seed=seed,
        name=_STREAM,
        saving=saving,
    )
    saving.file.finish()
    predicted = predict_labels(network, test.images, [column], extractor.device)
    return accuracy(predicted[:, 0], test.labels)
